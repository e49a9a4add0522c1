"""The progress bar of a training."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lapel.sampling import Batch
from lapel.training.callbacks.curves import Curves
from lapel.training.callbacks.speed import Speed
from lapel.training.module import SimilarityModule


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
            self.progress.update(self.task, total=pl_module.course.total_steps, completed=pl_module.steps_done)
            self.progress.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """One step further."""
        del trainer, outputs, batch, batch_idx
        assert isinstance(pl_module, SimilarityModule)
        state = f"loss {self.curves.latest_loss:.3f}, {self.speed.images_per_second():.0f} images/s"
        self.progress.update(self.task, completed=pl_module.steps_done, state=state)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take the bar away, also after an error."""
        del trainer, pl_module, stage
        self.progress.stop()
