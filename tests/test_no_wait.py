"""No step waits for the device: made on stand-ins for a GPU's tensors, which have shapes and no values.

A value that Python asked for (`.item()`, `int(...)`, a mask as index) raises, as does a tensor that is still in the
machine's memory beside one of the GPU; a copy from there that is waited for raises by `OnTheirWay`. The backward pass
asks for a real GPU, so it is made on stand-ins for a CPU's tensors, where values may not be asked for either.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from lapel.config.composing import compose
from lapel.images.store import HeldStore
from lapel.losses import triplet_sums
from lapel.sampling import Batch
from lapel.training import optimizers
from lapel.training.module import SimilarityModule
from lapel.training.process import prepare

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


class OnTheirWay(TorchDispatchMode):
    """Raises where a copy between devices is waited for."""

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        if function is torch.ops.aten._to_copy.default:
            self.check(args[0], kwargs.get("device") or args[0].device, kwargs.get("non_blocking", False))
        if function is torch.ops.aten.copy_.default:
            self.check(args[1], args[0].device, kwargs.get("non_blocking", len(args) > 2 and args[2]))
        return function(*args, **kwargs)

    def check(self, source: Tensor, target: torch.device, non_blocking: bool) -> None:
        """Of one copy."""
        if source.device.type != target.type and not non_blocking:
            raise AssertionError(f"a copy from {source.device} to {target} is waited for")


def exchange(module: nn.Module, stand_in_for: Callable[[Tensor], Tensor]) -> None:
    """Exchange all weights and statistics for stand-ins."""
    for each in module.modules():
        for name, weight in each._parameters.items():
            if weight is not None:
                each._parameters[name] = nn.Parameter(stand_in_for(weight), weight.requires_grad)
        for name, buffer in each._buffers.items():
            if buffer is not None:
                each._buffers[name] = stand_in_for(buffer)


def standing_in(options: list[str], device: torch.device, mode: FakeTensorMode) -> tuple[SimilarityModule, list[Batch]]:
    """A module as on a device, and batches that it is given."""
    module, _ = prepare(compose("train", [*TINY, *options]))
    batches = [batch for batch, _ in zip(module.train_dataloader(), range(3), strict=False)]
    pixels = module.store.gather(np.arange(len(module.store)))

    def moved_there(real: Tensor) -> Tensor:
        return mode.from_tensor(real).detach().to(device)

    with mode:
        exchange(module, moved_there)
        for owner, names in (
            (module.batch_loss, ("items", "categories")),
            (module.batch_loss.augmentation, ("luma", "to_yiq", "from_yiq")),
        ):
            for name in names:
                setattr(owner, name, moved_there(getattr(owner, name)))
        module.store = HeldStore(moved_there(pixels))
    return module, batches


def make_steps(module: SimilarityModule, batches: list[Batch], device: torch.device) -> None:
    """What Lightning does with batches: forward in mixed precision, backward, step, schedule, running means."""
    optimizer, scheduler = optimizers.build(module.config, module.course, module.encoder, module._losses())
    for number, batch in enumerate(batches, 1):
        module.on_train_batch_start(batch, 0)
        with torch.autocast(device.type, torch.bfloat16):
            loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        if device == CPU:
            loss.backward()
        else:
            for weight in module.parameters():
                weight.grad = torch.zeros_like(weight) if weight.requires_grad else None
        optimizer.step()
        scheduler.step()
        if module.averaged is not None:
            module.averaged.update(module.encoder, module._losses(), number)


@pytest.mark.parametrize(
    "options",
    [
        ["optim=adamw"],
        ["optim=muon", "optim.ema=0.9", "optim.norm_bias_lr=4"],
        ["optim=muon", "optim.renorm=false", "optim.nesterov=false"],
        ["augment=strong", "augment.alternate=true", "variant=triplet"],
        ["augment=photo", "augment.hue=0.1", "data.channels=3", "variant=supcon_cat"],
        ["variant=siam", "sampler=pairs", "variant.objectives.pair.reduction=mean"],
        ["variant=triplet", "sampler=triplets"],
        ["variant=siam_cat", "encoder.head=bn", "encoder.pool=gem"],
        ["variant=triplet", "variant.objectives.triplet.triplets=hard"],
        ["variant=triplet", "variant.objectives.triplet.triplets=semi_hard"],
        ["loss=supcon", "loss.memory=64"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("device", [GPU, CPU], ids=str)
def test_a_step_never_waits(options: list[str], device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(triplet_sums, "positives_of", triplet_sums.Positives)  # on CPUs, where it may, it looks
    mode = FakeTensorMode()
    module, batches = standing_in(options, device, mode)
    with mode, OnTheirWay():
        make_steps(module, batches, device)
    assert module.step_values is not None
    assert module.step_values.loss.device == device


def test_the_stand_ins_know_a_wait_when_they_see_one() -> None:
    with FakeTensorMode(), OnTheirWay():
        values = torch.zeros(3, device=GPU)
        with pytest.raises(DataDependentOutputException):
            values.sum().item()
        with pytest.raises(AssertionError, match="is waited for"):
            torch.from_numpy(np.arange(3)).to(GPU)


def test_a_step_that_is_not_compiled_does_not_import_the_compiler(tmp_path: Path) -> None:
    """That would cost seconds ahead of the first step."""
    program = (
        "import sys, lapel\nfrom conftest import TINY\nlapel.train(lapel.compose('train', TINY), 'run')\n"
        "print([name for name in sys.modules if name.startswith('torch._inductor.cudagraph_trees')])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines()[-1] == "[]"
