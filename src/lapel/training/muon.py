"""Muon: filters and matrices are changed by orthogonalised momentum, everything else by AdamW.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; for filters as in Jordan, "94% on
CIFAR-10 in 3.29 seconds on a single GPU", 2024 (airbench), which also holds the weights at one length.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from lapel.config.optim import MuonConfig

# Of the quintic a X + b X X^T X + c (X X^T)^2 X, which takes singular values above 0 to about 1: Jordan et al. 2024.
QUINTIC = (3.4445, -4.7750, 2.0315)

# Iterations that are made on the matrix times itself: each multiplies what float32 rounds off it by twelve.
TOGETHER = 4

# Of AdamW, as torch's own has them.
BETAS, EPSILON = (0.9, 0.999), 1e-8

# Of lengths that are divided by: a gradient of zeros has none.
LEAST = 1e-12


@dataclass(frozen=True)
class Matrices:
    """A weight that holds matrices, one below the other.

    Args:
        weight: of a layer.
        count: of its matrices: the groups of a convolution, or the three projections of an attention.
    """

    weight: Tensor
    count: int

    def of(self, values: Tensor) -> Tensor:
        """What belongs to a weight, a gradient for one, as `[count, rows, columns]`."""
        return values.reshape(self.count, len(values) // self.count, -1)


def matrices_in(module: nn.Module) -> dict[int, Matrices]:
    """`id` of a weight -> its matrices, of all linear layers, convolutions and attentions.

    A filter is a row. Filters of one channel in, as those of a depthwise convolution, are left out: a matrix of one row
    or column has nothing to be orthogonal to.
    """
    found: dict[int, Matrices] = {}
    for layer in module.modules():
        match layer:
            case nn.Linear():
                candidate = Matrices(layer.weight, 1)
            case nn.Conv1d() | nn.Conv2d():
                candidate = Matrices(layer.weight, layer.groups)
            case nn.MultiheadAttention() if layer.in_proj_weight is not None:
                candidate = Matrices(layer.in_proj_weight, 3)
            case _:
                continue
        if min(candidate.of(candidate.weight).shape[1:]) > 1:
            found[id(candidate.weight)] = candidate
    return found


def orthogonalised(matrices: Tensor, iterations: int) -> Tensor:
    """Matrices with the same singular vectors, whose singular values are all near 1.

    By the Newton-Schulz iteration with `QUINTIC`; where it ends, they lie between about 0.7 and 1.2 if they began above
    a thousandth of the matrix's length, fewer iterations leave small ones smaller.

    Args:
        matrices: `[count, rows, columns]`.
        iterations: of the quintic.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    found = matrices.mT if tall else matrices
    found = found / found.norm(dim=(1, 2), keepdim=True).clamp(min=LEAST)
    for done in range(0, iterations, TOGETHER):
        gram = found @ found.mT
        found = _factor(gram, min(TOGETHER, iterations - done)) @ found
    return found.mT if tall else found


def _factor(gram: Tensor, iterations: int) -> Tensor:
    """What some iterations multiply a matrix X by, all of it polynomials of `gram`, X X^T: square, and X is seldom."""
    first, second, third = QUINTIC
    one = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device).expand_as(gram)
    product = None
    for left in reversed(range(iterations)):
        factor = torch.baddbmm(gram, gram, gram, beta=second, alpha=third) + first * one
        product = factor if product is None else factor @ product
        if left:
            gram = factor @ gram @ factor
    assert product is not None
    return product


class Muon(Optimizer):
    """Muon for groups of weights with `matrices`, AdamW for the others.

    A step of a matrix is its momentum, orthogonalised. With `renorm` it is `lr` of the weight's length long, and the
    weight is then brought back to the length that it began with: what a normalisation follows does not feel its length,
    and steps turn it by the same angle all along. Without, as torch's own Muon has it: `max(1, rows / columns) ** 0.5`
    times `lr`, and decay apart from the gradient; so are, but for the decay, steps of a weight that begins with zeros,
    which would stay zeros at their length.

    Args:
        groups: as torch has them; those with `matrices`, a `Matrices` for each of their `params`, are Muon's.
        config: of the optimizer.
        fused: whether AdamW's part of a step is one kernel.
    """

    def __init__(self, groups: list[dict[str, Any]], config: MuonConfig, fused: bool) -> None:
        self.config = config
        self.fused = fused
        # Apart from the groups, which checkpoints hold.
        self.matrices = [each.get("matrices") for each in groups]
        super().__init__(
            [{key: value for key, value in each.items() if key != "matrices"} for each in groups],
            {"lr": config.lr, "weight_decay": config.weight_decay},
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """See torch's."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group, matrices in zip(self.param_groups, self.matrices, strict=True):
            if matrices is None:
                self._step_by_adamw(group)
            else:
                self._step_by_muon(group, matrices)
        return loss

    def _step_by_adamw(self, group: dict[str, Any]) -> None:
        weights = [each for each in group["params"] if each.grad is not None]
        states = [self.state[each] for each in weights]
        for weight, state in zip(weights, states, strict=True):
            if not state:
                state["step"] = torch.zeros((), device=weight.device)
                state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
        first, second = BETAS
        adamw(
            weights, [each.grad for each in weights], [each["mean"] for each in states],
            [each["square"] for each in states], [], [each["step"] for each in states], fused=self.fused,
            amsgrad=False, beta1=first, beta2=second, lr=group["lr"], weight_decay=group["weight_decay"],
            eps=EPSILON, maximize=False,
        )  # fmt: skip

    def _step_by_muon(self, group: dict[str, Any], matrices: list[Matrices]) -> None:
        """Change the weights of a group; those of one shape together."""
        alike: dict[tuple[int, ...], list[Matrices]] = {}
        for each in matrices:
            if each.weight.grad is not None:
                alike.setdefault(tuple(each.of(each.weight).shape[1:]), []).append(each)
        for members in alike.values():
            moved = torch.cat([each.of(self._direction(each.weight)) for each in members])
            updates = orthogonalised(moved, self.config.iterations).split([each.count for each in members])
            for each, update in zip(members, updates, strict=True):
                self._change(each.weight, update, group)

    def _direction(self, weight: Tensor) -> Tensor:
        """The momentum of a weight, which takes in its gradient."""
        assert weight.grad is not None
        state, share = self.state[weight], self.config.momentum
        if not state:
            state["momentum"] = torch.zeros_like(weight)
            if self.config.renorm:
                state["length"] = weight.norm()
        momentum = state["momentum"].lerp_(weight.grad, 1 - share)
        return torch.lerp(weight.grad, momentum, share) if self.config.nesterov else momentum

    def _change(self, weight: Tensor, update: Tensor, group: dict[str, Any]) -> None:
        """Take a step of one weight.

        Args:
            weight: that is changed.
            update: `[count, rows, columns]`, orthogonal.
            group: that it belongs to.
        """
        count, rows, columns = update.shape
        update = update.reshape(weight.shape)
        plain = max(1.0, rows / columns) ** 0.5
        if self.config.renorm:
            length = self.state[weight]["length"]
            began = length > 0
            weight.sub_(
                update * (group["lr"] * torch.where(began, length / (count * min(rows, columns)) ** 0.5, plain))
            )
            weight.mul_(torch.where(began, length / weight.norm().clamp(min=LEAST), 1.0))
        else:
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(update, alpha=-group["lr"] * plain)
