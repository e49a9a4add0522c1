"""The learning-rate finder (Smith, "Cyclical learning rates for training neural networks", WACV 2017)."""

import csv
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from lapel.config.composing import to_plain
from lapel.config.train import TrainConfig
from lapel.config.trainer import Precision
from lapel.errors import LapelError
from lapel.files.writing import write_yaml, written_whole
from lapel.machine.devices import choose_precision
from lapel.pictures.charts import curve
from lapel.runs.folder import claim_folder, new_folder, undone_on_error
from lapel.training.process import prepare

logger = logging.getLogger(__name__)

# The sweep: its rates, the lowest and the highest as factors of optim.lr, and a loss's share in the smoothed curve.
RATES = 100
LOWEST, HIGHEST = 1e-4, 1e2
SMOOTHING = 0.1

# The sweep ends where the smoothed loss is so many times its lowest.
DIVERGED = 4.0


@dataclass(frozen=True)
class Sweep:
    """Losses over learning rates.

    Args:
        rates: ascending.
        losses: of the batch that was trained on at each rate.
        smooth: running mean of them, without bias to the first.
    """

    rates: np.ndarray
    losses: np.ndarray
    smooth: np.ndarray

    def suggestion(self) -> float:
        """The rate at which the smoothed loss falls fastest, over the logarithm of the rate, ahead of its lowest."""
        lowest = int(self.smooth.argmin())
        if lowest < 2:
            raise LapelError("find_lr: the loss only rises: even the lowest rate tried is too high; lower optim.lr")
        slopes = np.gradient(self.smooth[: lowest + 1], np.log(self.rates[: lowest + 1]))
        return float(self.rates[int(slopes.argmin())])


def find_lr(config: TrainConfig, folder: Path | None = None) -> float:
    """Train for some steps at ever higher rates, and draw the loss over them; nothing that is trained is kept.

    Writes `lr.png`, `lr.csv` and TensorBoard's curve `find_lr/loss` (its steps are those of the sweep) into the folder.

    Args:
        config: of the run for which a rate is sought.
        folder: new or empty; by default a new one in `runs/`.

    Returns:
        The suggested `optim.lr`.

    Raises:
        LapelError: as in training; or the loss does not fall at any rate.
    """
    if config.trainer.devices > 1:
        raise LapelError("find_lr: looks on one device; leave out trainer.devices")
    folder = new_folder(f"{config.name}-find_lr") if folder is None else folder
    claim_folder(folder)
    with undone_on_error(folder):
        swept = sweep(config)
        suggested = swept.suggestion()
        write_yaml(folder / "config.yaml", to_plain(config))
        _write(swept, suggested, folder)
    logger.info("suggested: optim.lr=%.2g; the curve is in %s", suggested, folder / "lr.png")
    return suggested


def sweep(config: TrainConfig) -> Sweep:
    """The losses of one step at each rate, from low to high, until they grow without bound."""
    module, device = prepare(config)
    module.to(device).train()
    optimizer = module.configure_optimizers()[0][0]
    relative = [group["lr"] / config.optim.lr for group in optimizer.param_groups]
    highest = max(relative)
    bf16 = choose_precision(config.trainer.precision, device) is Precision.bf16
    wanted = config.optim.lr * np.geomspace(LOWEST, HIGHEST, RATES)
    losses: list[float] = []
    smooth: list[float] = []
    mean = 0.0
    console = Console(stderr=True)
    batches = module.store.loader(module.sampler.batches(0, RATES))
    for number, batch in enumerate(
        track(batches, "trying out rates", RATES, console=console, transient=True, disable=not console.is_terminal)
    ):
        for group, factor in zip(optimizer.param_groups, relative, strict=True):
            group["lr"] = float(wanted[number]) * factor / highest
        module.on_train_batch_start(batch, number)
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = module.training_step(batch, number)
        value = float(loss.detach())
        if not math.isfinite(value):
            break
        losses.append(value)
        mean += SMOOTHING * (value - mean)
        smooth.append(mean / (1 - (1 - SMOOTHING) ** (number + 1)))
        if smooth[-1] > DIVERGED * min(smooth):
            break
        loss.backward()
        optimizer.step()
    return Sweep(wanted[: len(losses)], np.array(losses), np.array(smooth))


def _write(swept: Sweep, suggested: float, folder: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    picture = curve(
        swept.rates,
        {"loss": swept.losses, "smoothed": swept.smooth},
        "learning rate",
        mark=suggested,
        caption="suggested",
    )
    with written_whole(folder / "lr.png") as temporary:
        picture.save(temporary, format="PNG")
    with written_whole(folder / "lr.csv") as temporary, temporary.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["lr", "loss", "smoothed"])
        rows.writerows(zip(swept.rates.tolist(), swept.losses.tolist(), swept.smooth.tolist(), strict=True))
    with SummaryWriter(os.fspath(folder / "tensorboard")) as writer:
        for number, (rate, loss, mean) in enumerate(zip(swept.rates, swept.losses, swept.smooth, strict=True)):
            writer.add_scalar("find_lr/lr", rate, number)
            writer.add_scalar("find_lr/loss", loss, number)
            writer.add_scalar("find_lr/smoothed", mean, number)
        writer.add_image("find_lr/curve", np.asarray(picture), 0, dataformats="HWC")
