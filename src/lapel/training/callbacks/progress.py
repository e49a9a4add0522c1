"""What a training shows on the terminal while it goes on: a bar, and once, from its first steps, what it will take."""

import logging
import math
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.progress import BarColumn, TextColumn

from lapel.errors import counted
from lapel.machine.console import progress
from lapel.sampling import Batch
from lapel.training.callbacks.curves import Curves
from lapel.training.callbacks.speed import Speed
from lapel.training.course import Course
from lapel.training.module import SimilarityModule

logger = logging.getLogger(__name__)

# Steps that are not counted: the first ones also wait for memory, and for the first batches.
WARM_UP = 3

# What a training will take is told after so many more steps and seconds, where so much of it is left.
RECKONED_STEPS, RECKONED_SECONDS = 10, 3.0
WORTH_TELLING = 20.0


class Reckoning:
    """How long the rest of a training takes: its steps at the pace so far, and what stands between epochs.

    Args:
        course: of the training.
        speed: whose clock stops while an epoch is scored.
    """

    def __init__(self, course: Course, speed: Speed) -> None:
        self.course = course
        self.speed = speed
        self.began: tuple[int, float, float] | None = None  # step, seconds of steps, and time of the clock
        self.epochs = 0

    def step(self, steps: int) -> None:
        """Note that so many steps are made, the last one now."""
        if self.began is None:
            self.began = steps, self.speed.elapsed(), time.perf_counter()
        elif self.course.ends_epoch(steps):
            self.epochs += 1

    def step_seconds(self, steps: int) -> float | None:
        """Of one step; None as long as there is nothing to go by."""
        if self.began is None or steps <= self.began[0]:
            return None
        return (self.speed.elapsed() - self.began[1]) / (steps - self.began[0])

    def left(self, steps: int) -> float | None:
        """Seconds until the end, after so many steps; None as long as there is nothing to go by."""
        each = self.step_seconds(steps)
        if each is None or self.began is None:
            return None
        between = time.perf_counter() - self.began[2] - (self.speed.elapsed() - self.began[1])
        of_an_epoch = between / self.epochs if self.epochs else 0.0
        epochs = math.ceil((self.course.total_steps - steps) / self.course.steps_per_epoch)
        return each * (self.course.total_steps - steps) + of_an_epoch * epochs


def clock(seconds: float) -> str:
    """Seconds as a clock shows them.

    >>> clock(51), clock(754), clock(5000)
    ('0:51', '12:34', '1:23:20')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class ProgressBar(Callback):
    """One bar over the whole training, with the time left; nothing where the output is no terminal."""

    def __init__(self, speed: Speed, curves: Curves) -> None:
        self.speed = speed
        self.curves = curves
        self.reckoning: Reckoning | None = None
        self.told = False
        self.first = 0
        self.progress = progress(BarColumn(bar_width=16), TextColumn("{task.description}"))
        self.task = self.progress.add_task("the first step")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        assert isinstance(pl_module, SimilarityModule)
        if trainer.is_global_zero:
            self.reckoning = Reckoning(pl_module.course, self.speed)
            self.first = pl_module.steps_done
            self.progress.update(self.task, total=pl_module.course.total_steps, completed=self.first)
            self.progress.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """One step further."""
        del trainer, outputs, batch_idx
        assert isinstance(pl_module, SimilarityModule)
        if self.reckoning is None or not pl_module.course.ends_step(batch.number):
            return
        steps = pl_module.steps_done
        if steps - self.first > WARM_UP:
            self.reckoning.step(steps)
        self.progress.update(self.task, completed=steps, description=self._state(pl_module.course, steps))
        self._tell_once(pl_module.course, steps)

    def _state(self, course: Course, steps: int) -> str:
        assert self.reckoning is not None
        each, epochs = course.steps_per_epoch, math.ceil(course.total_steps / course.steps_per_epoch)
        epoch = min((steps - 1) // each, epochs - 1)
        of_epoch = min(each, course.total_steps - epoch * each)
        left = self.reckoning.left(steps)
        time_left = f"{clock(left)} left, " if left is not None else ""
        return f"epoch {epoch + 1}/{epochs}, step {steps - epoch * each}/{of_epoch}, {time_left}loss {self._loss()}"

    def _loss(self) -> str:
        loss = self.curves.loss_so_far()
        return "…" if loss is None else f"{loss:.3f}"

    def _tell_once(self, course: Course, steps: int) -> None:
        """Say what the training will take, also where no bar is shown."""
        assert self.reckoning is not None
        began, each, left = self.reckoning.began, self.reckoning.step_seconds(steps), self.reckoning.left(steps)
        if self.told or began is None or each is None or left is None or steps - began[0] < RECKONED_STEPS:
            return
        if each * (steps - began[0]) < RECKONED_SECONDS:
            return
        self.told = True
        if left > WORTH_TELLING:
            logger.info(
                "about %s to go, and the scoring of each epoch: %s at %.2g s each",
                clock(left), counted(course.total_steps - steps, "step"), each,
            )  # fmt: skip

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take the bar away, also after an error."""
        del trainer, pl_module, stage
        self.progress.stop()
