"""What happens around the steps of a training: curves, validation, checkpoints, a progress bar, a clean interrupt."""

import logging
import math
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from lapel.errors import InterruptedTrainingError, LapelError
from lapel.losses import root, same_label, squared_distances
from lapel.sampling import Batch
from lapel.training.module import SimilarityModule, StepValues

logger = logging.getLogger(__name__)

MONITORED = "map@r"

# Seconds after which another Ctrl-C means that waiting for the end of the step takes too long.
IMPATIENCE = 2.0


class Speed(Callback):
    """Counts the images and the seconds of the steps, validation and checkpoints left out.

    It must come before the callbacks that validate, so that its clock has stopped when they begin.
    """

    def __init__(self) -> None:
        self.images = 0
        self.seconds = 0.0
        self.resumed_at = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock with the first step after a pause."""
        del trainer, pl_module, batch, batch_idx
        if not self.resumed_at:
            self.resumed_at = time.perf_counter()

    def pause(self) -> None:
        """Stop the clock until the next step."""
        if self.resumed_at:
            self.seconds += time.perf_counter() - self.resumed_at
            self.resumed_at = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count the global batch."""
        del trainer, pl_module, outputs, batch_idx
        self.images += len(batch.rows)

    def elapsed(self) -> float:
        """Seconds of the steps so far."""
        return self.seconds + (time.perf_counter() - self.resumed_at if self.resumed_at else 0.0)

    def images_per_second(self) -> float:
        """Over the whole training so far."""
        return self.images / max(self.elapsed(), 1e-9)


class Curves(Callback):
    """TensorBoard scalars every `every` steps and at the end of each epoch: the mean of each loss since the last point,
    and the state at the point.
    """

    def __init__(self, every: int, speed: Speed) -> None:
        self.every = every
        self.speed = speed
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.last_point = (0, 0.0)
        self.latest_loss = float("nan")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add a step; write a point when one is due."""
        del outputs, batch_idx
        assert isinstance(pl_module, SimilarityModule)
        values = pl_module.step_values
        assert values is not None
        for name, value in {"total": values.loss.detach(), **values.parts}.items():
            self.sums[name] = self.sums.get(name, 0) + value
        self.count += 1
        step = batch.step + 1
        if step % self.every == 0 or step % len(pl_module.sampler) == 0 or step == pl_module.total_steps:
            self._write(trainer, values, step)

    def _write(self, trainer: pl.Trainer, values: StepValues, step: int) -> None:
        means = {f"loss/{name}": float(total) / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        _check_finite(means, step)
        self.latest_loss = means["loss/total"]
        images, seconds = self.speed.images, self.speed.elapsed()
        point, self.last_point = self.last_point, (images, seconds)
        scalars = {**means, **_pair_distances(values), "optim/lr": trainer.optimizers[0].param_groups[0]["lr"]}
        if point[1]:
            scalars["speed/images_per_second"] = (images - point[0]) / (seconds - point[1])
        write_scalars(trainer, scalars, step)


def _check_finite(means: dict[str, float], step: int) -> None:
    for name, value in means.items():
        if not math.isfinite(value):
            raise LapelError(f"training diverged: {name} is {value} at step {step}; a lower optim.lr may help")


def _pair_distances(values: StepValues) -> dict[str, float]:
    """Mean euclidean distance of the batch's positive and negative pairs."""
    distances = root(squared_distances(values.embeddings.float()))
    positive, negative = same_label(values.items)
    pairs = {"distance/positive": positive, "distance/negative": negative}
    return {name: float(distances[mask].mean()) for name, mask in pairs.items() if mask.any()}


def write_scalars(trainer: pl.Trainer, scalars: dict[str, float], step: int) -> None:
    """Points of TensorBoard curves, by the first process."""
    if isinstance(trainer.logger, TensorBoardLogger) and trainer.is_global_zero:
        for name, value in scalars.items():
            trainer.logger.experiment.add_scalar(name, value, step)


class Keeper(Callback):
    """Validates at the end of each epoch and of training, and keeps the best and the last checkpoint.

    An interrupt is obeyed here, between two steps: `last.ckpt` is then a whole and usable state.
    """

    def __init__(self, folder: Path, every: int | None, speed: Speed, curves: Curves) -> None:
        self.folder = folder
        self.every = every
        self.speed = speed
        self.curves = curves
        self.best = -1.0
        self.history: list[dict[str, float]] = []
        self.signal: int | None = None
        self.signalled_at = 0.0
        self.previous_handlers: dict[int, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """The validation history, which goes into checkpoints."""
        return {"best": self.best, "history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a checkpoint's validation history."""
        self.best, self.history = state_dict["best"], state_dict["history"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From now on Ctrl-C and SIGTERM wait for the end of the step; a second one does not."""
        del trainer, pl_module
        if threading.current_thread() is not threading.main_thread():  # Python allows handlers there alone
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            self.previous_handlers[number] = signal.signal(number, self._note_signal)

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        """Remember the signal. A terminal and a launcher may both send it: only a later one is a second one."""
        del frame
        now = time.monotonic()
        if self.signal is None:
            self.signal, self.signalled_at = number, now
        elif now - self.signalled_at > IMPATIENCE:
            self._restore_handlers()
            signal.raise_signal(number)

    def _restore_handlers(self) -> None:
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)
        self.previous_handlers = {}

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        del trainer, pl_module, stage
        self._restore_handlers()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Validate and save where the step was the last of an epoch or of training; save where one is due."""
        del outputs, batch_idx
        assert isinstance(pl_module, SimilarityModule)
        step = batch.step + 1
        stopping = self._stopping(pl_module)
        if step % len(pl_module.sampler) == 0 or step == pl_module.total_steps:
            self.speed.pause()
            self._validate(trainer, pl_module, step)
        elif stopping or (self.every and step % self.every == 0):
            self.speed.pause()
            trainer.save_checkpoint(self.folder / "last.ckpt")
        if stopping and step < pl_module.total_steps:
            raise InterruptedTrainingError(
                f"stopped by a signal after step {step}; {self.folder / 'last.ckpt'} holds the state"
            )

    def _stopping(self, module: SimilarityModule) -> bool:
        """Whether any process got a signal: all of them must stop after the same step."""
        if module.trainer.world_size == 1:
            return self.signal is not None
        signals = torch.tensor(self.signal or 0, device=module.device)
        dist.all_reduce(signals, dist.ReduceOp.MAX)
        return bool(signals)

    def _validate(self, trainer: pl.Trainer, module: SimilarityModule, step: int) -> None:
        means = module.validate().means()
        write_scalars(trainer, {f"val/{name}": value for name, value in means.items()}, step)
        epoch = step / len(module.sampler)
        self.history.append(
            {"step": step, "epoch": epoch, "images_per_second": self.speed.images_per_second(), **means}
        )
        improved = means[MONITORED] > self.best
        self.best = max(self.best, means[MONITORED])
        logger.info(
            "epoch %.3g: loss %.4f, val recall@1 %.4f, val map@r %.4f%s, %.0f images/s",
            epoch, self.curves.latest_loss, means["recall@1"], means[MONITORED], " (best)" if improved else "",
            self.speed.images_per_second(),
        )  # fmt: skip
        if improved:
            trainer.save_checkpoint(self.folder / "best.ckpt")
        trainer.save_checkpoint(self.folder / "last.ckpt")


class ProgressBar(Callback):
    """One bar over the whole training, with the time left; nothing where the output is no terminal."""

    def __init__(self, speed: Speed, curves: Curves, console: Console) -> None:
        self.speed = speed
        self.curves = curves
        self.progress = Progress(
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task("training", state="")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        assert isinstance(pl_module, SimilarityModule)
        if trainer.is_global_zero:
            self.progress.update(self.task, total=pl_module.total_steps, completed=trainer.global_step)
            self.progress.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """One step further."""
        del trainer, outputs, batch_idx
        del pl_module
        state = f"loss {self.curves.latest_loss:.3f}, {self.speed.images_per_second():.0f} images/s"
        self.progress.update(self.task, completed=batch.step + 1, state=state)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take the bar away, also after an error."""
        del trainer, pl_module, stage
        self.progress.stop()
