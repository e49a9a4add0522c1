"""Validation, and which checkpoints are kept."""

import logging
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from lapel.config.trainer import TrainerConfig
from lapel.errors import InterruptedTrainingError
from lapel.machine.launchers import slurm_job
from lapel.retrieval import Scores
from lapel.sampling import Batch
from lapel.training.callbacks.curves import Curves
from lapel.training.callbacks.events import EventFiles
from lapel.training.callbacks.interrupt import Interrupt
from lapel.training.callbacks.pictures import Pictures
from lapel.training.callbacks.speed import Speed
from lapel.training.callbacks.tags import MONITORED
from lapel.training.exchange import Agreement
from lapel.training.module import SimilarityModule

logger = logging.getLogger(__name__)


class Keeper(Callback):
    """Validates at the end of each epoch and of training, and keeps the best and the last checkpoint.

    A checkpoint of an epoch's end is written after its validation, so that a resume neither skips nor repeats one. An
    interrupt is obeyed here, between two steps: `last.ckpt` is then a whole and usable state.

    Args:
        folder: of the checkpoints.
        config: how often they are written, and when training ends early.
        speed, curves, interrupt, pictures, events: what else happens around the steps.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainerConfig,
        speed: Speed,
        curves: Curves,
        interrupt: Interrupt,
        pictures: Pictures,
        events: EventFiles,
    ) -> None:
        self.folder = folder
        self.config = config
        self.speed = speed
        self.curves = curves
        self.interrupt = interrupt
        self.pictures = pictures
        self.events = events
        self.best = -1.0
        self.history: list[dict[str, float]] = []
        self.ended = False
        self.stuck = False  # ended before its last step, for want of a better score
        self.saved_at = time.monotonic()
        self.agreement = Agreement()
        self.signalled = 0  # a signal that some process has had, to be obeyed after the next step

    def state_dict(self) -> dict[str, Any]:
        """The validation history, which goes into checkpoints."""
        return {"best": self.best, "history": self.history, "ended": self.ended, "stuck": self.stuck}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a checkpoint's validation history."""
        self.best, self.history, self.ended = state_dict["best"], state_dict["history"], state_dict["ended"]
        self.stuck = state_dict.get("stuck", False)  # of checkpoints from before nobody asks

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Validate and save where the step was the last of an epoch or of training; save where one is due."""
        del outputs, batch_idx
        assert isinstance(pl_module, SimilarityModule)
        if not pl_module.course.ends_step(batch.number):
            return
        steps = pl_module.steps_done
        told, due = self.agreement.highest([self.interrupt.signal or 0, int(self._is_due())])
        signalled = max(told, self.signalled)
        if pl_module.course.ends_epoch(steps):
            self.speed.pause()
            self._end_epoch(trainer, pl_module, steps)
        elif signalled or due or (self.config.checkpoint_every and steps % self.config.checkpoint_every == 0):
            self.speed.pause()
            self._save(trainer, "last.ckpt")
        if signalled and not self.ended:
            self._leave(signalled, steps)

    def _is_due(self) -> bool:
        """Whether so many minutes have passed that a checkpoint is to be written."""
        minutes = self.config.checkpoint_minutes
        return minutes is not None and time.monotonic() - self.saved_at >= minutes * 60

    def _save(self, trainer: pl.Trainer, name: str) -> None:
        self.curves.settle()  # what is not finite must not be kept
        trainer.save_checkpoint(self.folder / name)
        self.saved_at = time.monotonic()
        # The open question was whether this was due, which it no longer is; and whether a signal had come.
        self.signalled = max([self.signalled, *self.agreement.settled()[:1]])

    def _end_epoch(self, trainer: pl.Trainer, module: SimilarityModule, steps: int) -> None:
        self.curves.settle()  # a loss that is not finite tells more than the embeddings that come of it
        scores, queries, gallery = module.validated()
        means = scores.means()
        epoch = steps / module.course.steps_per_epoch
        improved = means[MONITORED] > self.best
        self.best = max(self.best, means[MONITORED])
        speed, loss = self.speed.images_per_second(), self.curves.end_epoch()
        self.history.append({"step": steps, "epoch": epoch, "images_per_second": speed, "loss": loss, **means})
        logger.info(
            "epoch %.3g: loss %.4f, val recall@1 %.4f, val map@r %.4f%s, %.0f images/s",
            epoch, loss, means["recall@1"], means[MONITORED], " (best)" if improved else "", speed,
        )  # fmt: skip
        self.ended = steps == module.course.total_steps or self._is_stuck()
        self.stuck = self.ended and steps < module.course.total_steps
        if improved:
            self._save(trainer, "best.ckpt")
        self._save(trainer, "last.ckpt")
        if trainer.is_global_zero:  # after the weights: whatever fails here, they are kept
            self.draw(module, scores, queries, gallery)
        if self.stuck:
            logger.info("no better map@r on val for %d epochs: training ends", self.config.patience)
            trainer.should_stop = True

    def draw(self, module: SimilarityModule, scores: Scores, queries: Tensor, gallery: Tensor) -> None:
        """The scores and pictures of an epoch that was validated; and that they are there.

        Args:
            module: that was validated.
            scores, queries, gallery: as from `module.validated()`.
        """
        best = max(self.history, key=lambda each: each[MONITORED]) if self.ended else None
        final = None if best is None else {name: best[name] for name in scores.means()}
        self.pictures.after_validation(module, scores, (queries, gallery), len(self.history), final)
        self.events.note(module.steps_done)

    def _is_stuck(self) -> bool:
        """Whether so many epochs have passed without a better score that training ends early."""
        scores = [each[MONITORED] for each in self.history]
        patience = self.config.patience
        return patience is not None and len(scores) - 1 - scores.index(max(scores)) >= patience

    def _leave(self, number: int, steps: int) -> None:
        """End the process after a signal; what SLURM has announced, it is asked to start again."""
        checkpoint = self.folder / "last.ckpt"
        job = slurm_job()
        again = f"; python train.py {shlex.quote(f'resume={self.folder.parent}')} goes on"
        if job is not None and number == signal.SIGUSR1:
            asked = subprocess.run(["scontrol", "requeue", job], check=False, capture_output=True, text=True)
            again = "; SLURM will start it again" if asked.returncode == 0 else f"; scontrol: {asked.stderr.strip()}"
        told = f"stopped by a signal after step {steps}; {checkpoint} holds the state{again}"
        raise InterruptedTrainingError(told, number)
