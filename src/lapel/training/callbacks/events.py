"""TensorBoard's event files, which a resume takes back to where its checkpoint was written."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger

# Key of a checkpoint under which the files' names and sizes stand.
EVENTS_KEY = "lapel_events"

PATTERN = "events.out.tfevents.*"
PROJECTOR = "projector_config.pbtxt"


class EventFiles(Callback):
    """Notes in each checkpoint how long the event files are: they are only ever appended to.

    Args:
        logger: that writes them.
        folder: where they lie.
    """

    def __init__(self, logger: TensorBoardLogger, folder: Path) -> None:
        self.logger = logger
        self.folder = folder

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write what waits, and note the sizes."""
        del pl_module
        if trainer.is_global_zero:
            self.logger.experiment.flush()
            checkpoint[EVENTS_KEY] = {each.name: each.stat().st_size for each in sorted(self.folder.glob(PATTERN))}


def cut_events(folder: Path, sizes: dict[str, int]) -> None:
    """Make event files what they were when a checkpoint was written; later ones, and what comes at the end, go.

    Args:
        folder: where they lie.
        sizes: name -> bytes, as the checkpoint has them.
    """
    (folder / PROJECTOR).unlink(missing_ok=True)
    for file in folder.glob(PATTERN):
        size = sizes.get(file.name)
        if size is None:
            file.unlink()
        elif file.stat().st_size > size:
            with file.open("r+b") as opened:
                opened.truncate(size)
