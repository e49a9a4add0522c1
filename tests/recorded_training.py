"""One process of a training whose losses and gradients are kept: `recorded_training.py FOLDER OUT overrides…`.

Started several times with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set, as torchrun does, they train together.
"""

import sys
from pathlib import Path
from typing import Any

import torch

import lapel
from lapel.machine.launchers import outer_rank
from lapel.training import join
from lapel.training.module import SimilarityModule

RECORDED: list[dict[str, Any]] = []


def record(module: SimilarityModule, optimizer: Any) -> None:
    """Lightning calls this ahead of each optimizer step, when the gradients of all processes have been averaged."""
    del optimizer
    assert module.step_values is not None
    gradients = {name: each.grad.clone() for name, each in module.named_parameters() if each.grad is not None}
    RECORDED.append({"loss": module.step_values.loss.detach().clone(), "gradients": gradients})


def main() -> None:
    folder, out, *overrides = sys.argv[1:]
    SimilarityModule.on_before_optimizer_step = record  # type: ignore[method-assign]
    if outer_rank():
        join()
        return
    lapel.train(lapel.compose("train", overrides), folder)
    torch.save(RECORDED, Path(out))


if __name__ == "__main__":
    main()
