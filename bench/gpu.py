"""Fashion-MNIST on one GPU: the recall@1 on the test part that half a minute of training allows, and how fast it is.

    python bench/gpu.py [overrides of train.py]

The recipe is `fashion_mnist_gpu`; it gets as many epochs as fit into the time at the speed that is measured first. Then
mixed precision, torch.compile and a process group of one process over NCCL are checked against plain fp32 steps. Each
figure is one JSON object a line. Without a GPU it says so, and exits with 0.
"""

import json
import logging
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from training import ready_batches

import lapel
from lapel.commands.hydra_app import quoted_arguments
from lapel.config.composing import compose
from lapel.config.evaluation import EvaluateConfig
from lapel.config.train import TrainConfig
from lapel.config.trainer import Precision
from lapel.training.exchange import GatherRows
from lapel.training.process import prepare
from lapel.training.steps import run_steps

SECONDS = 30.0
GOAL = 0.93

# Share of the time that is planned for: training is somewhat slower than steps on ready batches, and must not overrun.
PLANNED = 0.75

# Steps that are timed to find the speed, and steps that are compared.
TRIED = 60
COMPARED = 3

# Largest relative differences of losses: bf16 has 8 bits of precision, compiled fp32 sums in another order.
BF16_TOLERANCE, FP32_TOLERANCE = 0.05, 1e-3


def main() -> None:
    """Measure, check, print."""
    if not torch.cuda.is_available():
        print("bench/gpu.py: there is no GPU here, and nothing to measure")
        return
    logging.basicConfig(level=logging.WARNING)
    config: TrainConfig = compose("train", quoted_arguments(["recipe=fashion_mnist_gpu", *sys.argv[1:]], "train"))
    device = torch.device("cuda", 0)
    name = torch.cuda.get_device_name(device)
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # training moves the link latest of the working directory
        ceiling = ready_batches(config, device, TRIED)
        measure(config, Path(scratch) / "run", ceiling, name)
        check(config)
        os.chdir("/")


def tell(name: str, value: float, unit: str, peer: str, peer_value: float, ratio: float) -> None:
    """One line."""
    figures = {"value": round(value, 4), "unit": unit, "peer": peer, "peer_value": round(peer_value, 4)}
    print(json.dumps({"name": name, **figures, "ratio": round(ratio, 3)}), flush=True)


def measure(config: TrainConfig, folder: Path, ceiling: float, device: str) -> None:
    """Train for the time, score, and tell."""
    images = config.data.batch_size * prepare(config)[0].course.steps_per_epoch
    epochs = max(1, int(PLANNED * SECONDS * ceiling / images))
    config = replace(config, trainer=replace(config.trainer, max_epochs=epochs))
    torch.cuda.reset_peak_memory_stats()
    lapel.train(config, folder)
    memory = torch.cuda.max_memory_allocated() / 1e6
    whole = torch.cuda.get_device_properties(0).total_memory / 1e6
    summary = json.loads((folder / "train.json").read_text())
    recall = lapel.evaluate(EvaluateConfig(run=str(folder)))["recall@1"]
    tell(f"gpu/{device}/recall@1 on test, {epochs} epochs", recall, "share of queries", "goal", GOAL, recall / GOAL)
    seconds = summary["training_seconds"]
    tell(f"gpu/{device}/first step to last", seconds, "s", "limit", SECONDS, SECONDS / seconds)
    speed = summary["images_per_second"]
    tell(f"gpu/{device}/training", speed, "images/s", "ready batches", ceiling, speed / ceiling)
    tell(f"gpu/{device}/peak memory", memory, "MB", "memory of the GPU", whole, whole / memory)


def check(config: TrainConfig) -> None:
    """Compare the losses of some steps, and a gather over NCCL, with plain fp32."""
    plain = losses(config, Precision.fp32, compiled=False)
    for name, found, tolerance in (
        ("bf16", losses(config, Precision.bf16, compiled=False), BF16_TOLERANCE),
        ("torch.compile", losses(config, Precision.fp32, compiled=True), FP32_TOLERANCE),
    ):
        difference = max(abs(one - other) / abs(other) for one, other in zip(found, plain, strict=True))
        fits = float(difference < tolerance)
        tell(f"gpu/{name}, difference of losses", difference, "relative", "allowed", tolerance, fits)
    difference = gather_over_nccl()
    fits = float(difference == 0)
    tell("gpu/NCCL, one process, difference of gradients", difference, "absolute", "allowed", 0.0, fits)


def losses(config: TrainConfig, precision: Precision, compiled: bool) -> list[float]:
    """Of the first steps."""
    trainer = replace(config.trainer, precision=precision, compile=compiled, max_steps=COMPARED)
    module, device = prepare(replace(config, trainer=trainer))
    noted = Losses()
    run_steps(module, device, [noted])
    return noted.found


class Losses(Callback):
    """Notes the loss of each step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """See above."""
        del trainer
        self.found.append(float(pl_module.step_values.loss.detach()))


def gather_over_nccl() -> float:
    """Greatest difference between the gradients of rows that went through the gather, and of those that did not."""
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    dist.init_process_group("nccl")
    try:
        rows = torch.randn(64, 16, device="cuda", requires_grad=True)
        gathered: Tensor = GatherRows.apply(rows, [64], 0)
        (through,) = torch.autograd.grad((gathered @ gathered.T).square().sum(), rows)
        (plain,) = torch.autograd.grad((rows @ rows.T).square().sum(), rows)
        return float((through - plain).abs().max())
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
