"""The learning-rate finder (Smith, "Cyclical learning rates for training neural networks", WACV 2017)."""

import csv
import logging
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from lapel.config.composing import to_plain
from lapel.config.optim import MuonConfig
from lapel.config.train import TrainConfig
from lapel.errors import InterruptedTrainingError, LapelError
from lapel.files.writing import write_yaml, written_whole
from lapel.machine.console import progress
from lapel.pictures.charts import curve
from lapel.runs.folder import RATES_FILE, claim_folder, new_folder, undone_on_error
from lapel.sampling import Batch
from lapel.training.callbacks.interrupt import Interrupt
from lapel.training.module import SimilarityModule
from lapel.training.optimizers import schedule
from lapel.training.process import prepare
from lapel.training.steps import run_steps

logger = logging.getLogger(__name__)

# The sweep: its rates, and the lowest and the highest as factors of optim.lr.
RATES = 100
LOWEST, HIGHEST = 1e-4, 1e2

# The sweep ends where the running mean of the losses, of which the latest has so large a share, is so many times its
# lowest.
LATEST_SHARE = 0.1
DIVERGED = 4.0

# Half-widths of the windows that losses are fitted in, in decades of the rate: noise asks for a wide one, a sudden fall
# for a narrow one.
WINDOWS = (0.5, 1.0, 2.0)

# Rates ahead of the lowest loss, at least: half of the narrowest window.
FEWEST = 8

# By how many of its standard errors a fall counts as less steep than it looks: of sweeps that are noise alone, 4% fall
# by more somewhere.
CAUTION = 4.0


@dataclass(frozen=True)
class Fit:
    """What parabolas, fitted about each rate, tell of the losses there.

    Args:
        losses: smoothed.
        slopes: of the loss over the logarithm (to base 10) of the rate.
        errors: standard errors of the slopes.
        left_out: of each loss, how far it lies from what the others tell of it.
    """

    losses: np.ndarray
    slopes: np.ndarray
    errors: np.ndarray
    left_out: np.ndarray


def fit(rates: np.ndarray, losses: np.ndarray, window: float) -> Fit:
    """Local quadratic regression of losses on the logarithm of the rate, with a tricube kernel.

    Cleveland, "Robust locally weighted regression and smoothing scatterplots", JASA 1979, without its robust steps, and
    of the second degree, as a first derivative asks for (Fan & Gijbels, "Local polynomial modelling and its
    applications", 1996, section 3.3). Noise may differ from rate to rate: a loss's variance is told from its residual,
    without bias where all are alike (as in HC2 of MacKinnon & White, Journal of Econometrics 1985).

    Args:
        rates: ascending, at least three within the window about each.
        losses: one of each.
        window: its half-width, in decades.
    """
    steps = (np.log10(rates)[None] - np.log10(rates)[:, None]) / window
    weights = (1 - np.abs(steps) ** 3).clip(0) ** 3
    powers = np.array([np.ones_like(steps), steps, steps**2])
    weighted = weights * powers
    moments = np.einsum("kij,lij->ikl", weighted, powers)
    of_loss, of_slope = np.einsum("ikl,lij->kij", np.linalg.inv(moments)[:, :2], weighted)
    of_slope = of_slope / window
    smooth, own = of_loss @ losses, of_loss.diagonal()
    variances = (losses - smooth) ** 2 / (1 - 2 * own + np.square(of_loss).sum(1))
    errors = np.sqrt(np.square(of_slope) @ variances)
    return Fit(smooth, of_slope @ losses, errors, (losses - smooth) / (1 - own))


def widest_fit(rates: np.ndarray, losses: np.ndarray) -> Fit:
    """The fit with the widest window that tells losses it leaves out as well as the best does, within a standard error.

    The rule of one standard error of Breiman, Friedman, Olshen & Stone, "Classification and regression trees", 1984.
    """
    fits = [fit(rates, losses, window) for window in WINDOWS]
    misses = [np.square(each.left_out) for each in fits]
    best = min(misses, key=np.mean)
    excess = [each - best for each in misses]
    as_good = [each.mean() <= each.std() / math.sqrt(len(losses)) for each in excess]
    return [found for found, good in zip(fits, as_good, strict=True) if good][-1]


@dataclass(frozen=True)
class Sweep:
    """Losses over learning rates.

    Args:
        rates: ascending.
        losses: of the batch that was trained on at each rate.
    """

    rates: np.ndarray
    losses: np.ndarray

    @property
    def smooth(self) -> np.ndarray:
        """The losses without their noise."""
        return fit(self.rates, self.losses, WINDOWS[0]).losses

    def suggestion(self) -> float:
        """The rate at which the loss falls fastest, over the logarithm of the rate, ahead of its lowest.

        A slope counts by what is sure of it: at the ends, where few losses tell it, the noise of some would win.

        Raises:
            LapelError: the loss falls at no rate, or by no more than its noise.
        """
        if len(self.rates) < FEWEST or (ahead := int(self.smooth.argmin()) + 1) < FEWEST:
            raise LapelError("find_lr: the loss only rises: even the lowest rate tried is too high; lower optim.lr")
        found = widest_fit(self.rates[:ahead], self.losses[:ahead])
        at_most = found.slopes + CAUTION * found.errors
        if at_most.min() >= 0:
            raise LapelError(
                "find_lr: the loss falls at no rate by more than its noise; a larger data.batch_size may help, or "
                "another optim.lr, about which rates are tried"
            )
        return float(self.rates[int(at_most.argmin())])


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
    lowest, highest = config.optim.lr * LOWEST, config.optim.lr * HIGHEST
    logger.info(
        "find_lr: at most %d steps, at rates from %.2g to %.2g; nothing that is trained is kept", RATES, lowest, highest
    )
    with undone_on_error(folder):
        swept = sweep(config)
        suggested = swept.suggestion()
        write_yaml(folder / "config.yaml", to_plain(config))
        _write(swept, suggested, folder)
    options = f"optim.lr={suggested:.2g}"
    if isinstance(config.optim, MuonConfig):  # both rates were changed by the same factor
        options += f" optim.matrix_lr={config.optim.matrix_lr * suggested / config.optim.lr:.2g}"
    logger.info("suggested: %s; the curve is in %s", options, folder / "lr.png")
    return suggested


def sweep(config: TrainConfig) -> Sweep:
    """The losses of one optimizer step at each rate, from low to high, until they grow without bound."""
    module, device = prepare(_of_steps(config, RATES))
    interrupt = Interrupt()
    rising = RisingRates(config.optim.lr, interrupt)
    run_steps(module, device, [interrupt, rising])
    return Sweep(rising.wanted[: len(rising.losses)], np.array(rising.losses))


def _of_steps(config: TrainConfig, steps: int) -> TrainConfig:
    """The same training with so many steps, whatever its length, all of them in its first stage."""
    stages = [replace(stage, epochs=steps) for stage in config.stages[:1]]
    trainer = replace(config.trainer, max_steps=steps, max_epochs=steps)
    return replace(config, stages=stages, trainer=trainer)


class RisingRates(Callback):
    """Gives each step a higher rate than the one before, and notes its loss; ends training where that diverges.

    Args:
        rate: `optim.lr`.
        interrupt: a signal that it notes ends the sweep.
    """

    def __init__(self, rate: float, interrupt: Interrupt) -> None:
        self.rate = rate
        self.interrupt = interrupt
        self.wanted = rate * np.geomspace(LOWEST, HIGHEST, RATES)
        self.factors: list[float] = []  # of each group of weights, beside `optim.lr`
        self.parts: list[float] = []  # losses of the batches of a step so far
        self.losses: list[float] = []
        self.mean, self.lowest = 0.0, math.inf
        self.progress = progress()
        self.task = self.progress.add_task("trying out rates", total=RATES)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note how fast each group of weights learns beside `optim.lr`, whose schedule has begun."""
        assert isinstance(pl_module, SimilarityModule)
        first = pl_module.course.phases[0]
        begun = self.rate * schedule(pl_module.config.optim, first.end - first.first)(0)
        self.factors = [group["lr"] / begun for group in trainer.optimizers[0].param_groups]
        self.progress.start()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Set the rate of the step."""
        del batch_idx
        assert isinstance(pl_module, SimilarityModule)
        wanted = float(self.wanted[pl_module.course.step(batch.number)])
        for group, factor in zip(trainer.optimizers[0].param_groups, self.factors, strict=True):
            group["lr"] = wanted * factor

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Note the loss, after the last batch of a step."""
        del outputs, batch_idx
        assert isinstance(pl_module, SimilarityModule)
        assert pl_module.step_values is not None
        self.parts.append(float(pl_module.step_values.loss.detach()))
        if not pl_module.course.ends_step(batch.number):
            return
        if signal := self.interrupt.signal:
            raise InterruptedTrainingError("stopped by a signal: nothing is kept of what was tried", signal)
        value, self.parts = sum(self.parts) / len(self.parts), []
        trainer.should_stop = not math.isfinite(value) or self._diverges_with(value)
        self.progress.advance(self.task)

    def _diverges_with(self, value: float) -> bool:
        self.losses.append(value)
        self.mean += LATEST_SHARE * (value - self.mean)
        unbiased = self.mean / (1 - (1 - LATEST_SHARE) ** len(self.losses))
        self.lowest = min(self.lowest, unbiased)
        return unbiased > DIVERGED * self.lowest

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take the bar away, also after an error."""
        del trainer, pl_module, stage
        self.progress.stop()


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
    with written_whole(folder / RATES_FILE) as temporary, temporary.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["lr", "loss", "smoothed"])
        rows.writerows(zip(swept.rates.tolist(), swept.losses.tolist(), swept.smooth.tolist(), strict=True))
    with SummaryWriter(os.fspath(folder)) as writer:
        for number, (rate, loss, mean) in enumerate(zip(swept.rates, swept.losses, swept.smooth, strict=True)):
            writer.add_scalar("find_lr/lr", rate, number)
            writer.add_scalar("find_lr/loss", loss, number)
            writer.add_scalar("find_lr/smoothed", mean, number)
        writer.add_image("find_lr/curve", np.asarray(picture), 0, dataformats="HWC")
