"""Fashion-MNIST on one GPU: the recall@1 on the test part that some seconds of training allow, and how fast it is.

    python bench/gpu.py [--seconds S] [overrides of train.py]

The recipe is `fashion_mnist_gpu`; it gets as many epochs as fit into the seconds, 5 by default, at the speed that is
measured first. What compiles and warms up ahead of the first step, on made-up images, is timed apart. Beside the speed
stand ready batches, compiled likewise, and the floor of a step: its operations at the speed of this GPU's largest
products, and its bytes at that of its copies.

Then steps are made in which nothing may wait for the device, and mixed precision, compilation and a process group of
one process over NCCL are checked against plain fp32. Each figure is one JSON object a line. Without a GPU it says so,
and exits with 0.
"""

import argparse
import json
import logging
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from training import ready_batches

import lapel
from lapel.commands.hydra_app import quoted_arguments
from lapel.config.composing import compose
from lapel.config.evaluation import EvaluateConfig
from lapel.config.train import TrainConfig
from lapel.config.trainer import Precision
from lapel.encoders.encoder import build
from lapel.training.exchange import GatherRows
from lapel.training.process import prepare
from lapel.training.steps import run_steps

GOAL = 0.93

# Share of the time that is planned for: training is somewhat slower than steps on ready batches, and must not overrun.
PLANNED = 0.9

# Steps that are timed to find the speed, and steps that are compared.
TRIED = 200
COMPARED = 3

# Sides of the product, and numbers of the copy, that this GPU is timed at; how often.
PRODUCT, COPY, TIMES = 8192, 2**28, 20

# Largest relative differences of losses: bf16 has 8 bits of precision, compiled fp32 sums in another order.
BF16_TOLERANCE, FP32_TOLERANCE = 0.05, 1e-3


def main() -> None:
    """Measure, check, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="of training")
    parser.add_argument("overrides", nargs="*", help="of train.py")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("bench/gpu.py: there is no GPU here, and nothing to measure")
        return
    logging.basicConfig(level=logging.WARNING)
    options = quoted_arguments(["recipe=fashion_mnist_gpu", *given.overrides], "train")
    config: TrainConfig = compose("train", options)
    device = torch.device("cuda", 0)
    name = f"gpu/{torch.cuda.get_device_name(device)}"
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # training moves the link latest of the working directory
        ceiling = ready_batches(config, device, TRIED)
        measure(config, Path(scratch) / "run", ceiling, given.seconds, name)
        floor(config, device, ceiling, name)
        check_that_nothing_waits(config)
        check(config)
        os.chdir("/")


def tell(name: str, value: float, unit: str, peer: str, peer_value: float, ratio: float) -> None:
    """One line."""
    figures = {"value": round(value, 4), "unit": unit, "peer": peer, "peer_value": round(peer_value, 4)}
    print(json.dumps({"name": name, **figures, "ratio": round(ratio, 3)}), flush=True)


def measure(config: TrainConfig, folder: Path, ceiling: float, seconds: float, name: str) -> None:
    """Train for the time, score, and tell."""
    images = config.data.batch_size * prepare(config)[0].course.steps_per_epoch
    epochs = max(1, int(PLANNED * seconds * ceiling / images))
    config = replace(config, trainer=replace(config.trainer, max_epochs=epochs))
    torch.cuda.reset_peak_memory_stats()
    lapel.train(config, folder)
    memory = torch.cuda.max_memory_allocated() / 1e6
    whole = torch.cuda.get_device_properties(0).total_memory / 1e6
    summary = json.loads((folder / "train.json").read_text())
    recall = lapel.evaluate(EvaluateConfig(run=str(folder)))["recall@1"]
    tell(f"{name}/recall@1 on test, {epochs} epochs", recall, "share of queries", "goal", GOAL, recall / GOAL)
    taken, warm_up = summary["training_seconds"], summary["warm_up_seconds"]
    tell(f"{name}/first step to last", taken, "s", "limit", seconds, seconds / taken)
    tell(f"{name}/warm-up", warm_up, "s", "first step to last", taken, taken / max(warm_up, 1e-9))
    speed = summary["images_per_second"]
    tell(f"{name}/training", speed, "images/s", "ready batches", ceiling, speed / ceiling)
    tell(f"{name}/peak memory", memory, "MB", "memory of the GPU", whole, whole / memory)


def floor(config: TrainConfig, device: torch.device, ceiling: float, name: str) -> None:
    """What a step on ready batches could take at least, by its operations and by its bytes, and what it takes."""
    operations, bytes_moved = work_of_a_step(config, device)
    step = config.data.batch_size / ceiling
    for what, least in (
        ("operations", operations / products_a_second(device)),
        ("bytes", bytes_moved / bytes_a_second(device)),
    ):
        figure = f"{name}/floor of a step by its {what}"
        tell(figure, least * 1e3, "ms", "a step on ready batches", step * 1e3, step / least)


def work_of_a_step(config: TrainConfig, device: torch.device) -> tuple[float, float]:
    """Operations of forward and backward, and bytes that must move: activations once there and back, weights thrice."""
    data = config.data
    encoder = build(config.encoder, data, config.variant.metric).to(device).train()
    batch = torch.randint(256, (data.batch_size, data.channels, data.height, data.width), device=device)
    held: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        held[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autocast("cuda", torch.bfloat16):
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = encoder.raw(batch.to(torch.uint8)).float().mean()
        loss.backward()
    weights = sum(each.numel() * each.element_size() for each in encoder.parameters())
    return float(counter.get_total_flops()), 2.0 * sum(held.values()) + 6.0 * weights  # with gradient and momentum


def products_a_second(device: torch.device) -> float:
    """Operations a second of a large product in bf16."""
    one = torch.randn(PRODUCT, PRODUCT, device=device, dtype=torch.bfloat16)
    return 2 * PRODUCT**3 / seconds_of(lambda: one @ one)


def bytes_a_second(device: torch.device) -> float:
    """Bytes a second that a large copy reads and writes."""
    one = torch.zeros(COPY, device=device, dtype=torch.uint8)
    other = torch.empty_like(one)
    return 2 * COPY / seconds_of(lambda: other.copy_(one))


def seconds_of(work: Any) -> float:
    """Of one call, of several in a row."""
    work()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(TIMES):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / TIMES


class Unwaiting(Callback):
    """Lets nothing wait for the device between a batch's start and its end."""

    def on_train_batch_start(self, *_: Any) -> None:
        """From here on."""
        torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, *_: Any) -> None:
        """To here; what follows may look at the losses."""
        torch.cuda.set_sync_debug_mode("default")


def check_that_nothing_waits(config: TrainConfig) -> None:
    """Make some steps; a wait ends the bench with an error that names it."""
    for compiled in (False, True):
        trainer = replace(config.trainer, compile=compiled, max_steps=COMPARED)
        module, device = prepare(replace(config, trainer=trainer))
        try:
            run_steps(module, device, [Unwaiting()])
        finally:
            torch.cuda.set_sync_debug_mode("default")
        tell(f"gpu/steps without a wait, compile={str(compiled).lower()}", COMPARED, "steps", "made", COMPARED, 1.0)


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
