"""How near training comes to its ceiling: images/s of `fit` against a loop that only steps the net on ready batches.

    python bench/training.py [overrides of train.py]

Both run in this process, in turns, on the same network, batch shape, precision, optimizer and number of threads, both
compiled where `trainer.compile=true`; the medians are printed as one JSON object. `fit` includes sampling, gathering,
augmentation, losses, logging and the progress bar. A turn has as many steps as take about a quarter of a minute; the
val part, which is not timed, is kept small.
"""

import json
import logging
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lapel.commands.hydra_app import quoted_arguments
from lapel.config.composing import compose
from lapel.config.data import PhotosConfig
from lapel.config.train import TrainConfig
from lapel.config.trainer import Precision
from lapel.encoders.encoder import build
from lapel.machine.cores import available_cores
from lapel.machine.devices import choose_device, choose_precision
from lapel.training import fit, optimizers
from lapel.training.course import Course

ROUNDS = 5
SECONDS = 15.0
FEWEST, MOST = 6, 60
WARM_UP = 3
VAL_SHARE = 0.01


def main() -> None:
    """Measure, then print."""
    config: TrainConfig = compose("train", quoted_arguments(sys.argv[1:], "train"))
    if isinstance(config.data, PhotosConfig):
        config = replace(config, data=replace(config.data, val_share=VAL_SHARE))
    device = choose_device(config.trainer.accelerator)
    torch.set_num_threads(config.trainer.threads or available_cores())
    logging.basicConfig(level=logging.WARNING)
    one_step = config.data.batch_size / ready_batches(config, device, 1)
    steps = max(FEWEST, min(MOST, round(SECONDS / one_step)))
    config = replace(config, trainer=replace(config.trainer, max_steps=steps))
    ceiling, reached = [], []
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # training moves the link latest of the working directory
        for number in range(ROUNDS):
            ceiling.append(ready_batches(config, device, steps))
            reached.append(training(config, Path(scratch) / str(number)))
        os.chdir("/")
    value, peer_value = statistics.median(reached), statistics.median(ceiling)
    shape = f"{config.data.batch_size}x{config.data.channels}x{config.data.height}x{config.data.width}"
    if isinstance(config.data, PhotosConfig):
        shape += f"/{config.data.store.name}"
    print(
        json.dumps(
            {
                "name": f"training/{config.name}/{shape}",
                "value": round(value, 1),
                "unit": "images/s",
                "peer": "ready batches",
                "peer_value": round(peer_value, 1),
                "ratio": round(value / peer_value, 3),
            }
        )
    )


def ready_batches(config: TrainConfig, device: torch.device, steps: int) -> float:
    """Images/s of forward, a mean loss, backward and step on one batch that lies ready on the device."""
    data = config.data
    encoder = build(config.encoder, data, config.variant.metric).to(device).train()
    optimizer, _ = optimizers.build(config, Course(config, WARM_UP + steps), encoder, nn.ModuleDict())
    batch = torch.randn(data.batch_size, data.channels, data.height, data.width, device=device)
    autocast = choose_precision(config.trainer.precision, device) is Precision.bf16

    def loss_of(images: Tensor) -> Tensor:
        features = encoder.trunk(images)
        pooled = encoder.pool(features) if features.dim() == 4 else features
        return encoder.head(pooled).float().mean()

    graphs = config.trainer.compile and device.type == "cuda"
    if config.trainer.compile:
        loss_of = torch.compile(loss_of, mode="reduce-overhead" if graphs else None)
    started = 0.0
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            synchronize(device)
            started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            if graphs:
                torch.compiler.cudagraph_mark_step_begin()
            loss = loss_of(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    synchronize(device)
    return steps * data.batch_size / (time.perf_counter() - started)


def training(config: TrainConfig, folder: Path) -> float:
    """Images/s of a real training."""
    folder.mkdir()
    fit(config, folder)
    return json.loads((folder / "train.json").read_text())["images_per_second"]


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
