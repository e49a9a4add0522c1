"""The running mean of the weights (EMA), which is validated and exported in their place."""

import copy

import torch
from torch import Tensor, nn

from lapel.encoders.encoder import Encoder


class AveragedWeights(nn.Module):
    """Exponential running means of an encoder, its statistics included, and of what losses learn.

    After each step the mean keeps `decay` of its old value (Polyak & Juditsky 1992; Tarvainen & Valpola, "Mean
    teachers", NeurIPS 2017).

    Args:
        encoder, losses: whose weights are averaged.
        decay: share of the old value.
    """

    def __init__(self, encoder: Encoder, losses: nn.ModuleDict, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.means = nn.ModuleDict({"module": copy.deepcopy(_together(encoder, losses))})
        self.means.requires_grad_(requires_grad=False)

    @property
    def encoder(self) -> Encoder:
        """With the averaged weights."""
        return self.means.get_submodule("module.encoder")  # type: ignore[return-value]

    @torch.no_grad()
    def update(self, encoder: Encoder, losses: nn.ModuleDict, steps: int) -> None:
        """Take in the weights after a step.

        Args:
            encoder, losses: that have them.
            steps: made so far. After the first there is nothing but its weights; torch's own `AveragedModel` counts on
                the device, and waits for it.
        """
        means, latest = _floats(self.means["module"]), _floats(_together(encoder, losses))
        share = 1.0 if steps == 1 else 1 - self.decay
        torch._foreach_lerp_(means, latest, share)  # type: ignore[reportPrivateImportUsage]


def _floats(module: nn.Module) -> list[Tensor]:
    """Weights and statistics; a normalisation's count of batches, which nothing reads, is left as it is."""
    return [each.detach() for each in (*module.parameters(), *module.buffers()) if each.is_floating_point()]


def _together(encoder: Encoder, losses: nn.ModuleDict) -> nn.ModuleDict:
    return nn.ModuleDict({"encoder": encoder, "losses": losses})
