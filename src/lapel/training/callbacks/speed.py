"""Images a second."""

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from lapel.sampling import Batch


class Speed(Callback):
    """Counts the images and the seconds of the steps, validation and checkpoints left out.

    It must come before the callbacks that validate, so that its clock has stopped when they begin.
    """

    def __init__(self) -> None:
        self.images = 0
        self.seconds = 0.0
        self.resumed_at = 0.0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training goes on counting from."""
        return {"images": self.images, "seconds": self.elapsed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""
        self.images, self.seconds = state_dict["images"], state_dict["seconds"]

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
