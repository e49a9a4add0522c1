"""TensorBoard's event files, which a resume takes back to where its checkpoint was written."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger

from lapel.files.writing import write_json

# Key of a checkpoint under which the files' names and sizes stand.
EVENTS_KEY = "lapel_events"

PATTERN = "events.out.tfevents.*"
PROJECTOR = "projector_config.pbtxt"

# Of which checkpoint, by its steps, the pictures are drawn, and how long the event files are since.
DRAWN_FILE = "drawn.json"


class EventFiles(Callback):
    """Notes in each checkpoint how long the event files are: they are only ever appended to.

    Args:
        logger: that writes them.
        folder: where they lie.
    """

    def __init__(self, logger: TensorBoardLogger, folder: Path) -> None:
        self.logger = logger
        self.folder = folder

    def note(self, steps: int) -> None:
        """Write down how long the files are once the pictures of an epoch that ended after so many steps are in them.

        They follow the checkpoint, which has noted less.
        """
        write_json(self.folder / DRAWN_FILE, {"steps": steps, "events": self._sizes()})

    def _sizes(self) -> dict[str, int]:
        self.logger.experiment.flush()
        return {each.name: each.stat().st_size for each in sorted(self.folder.glob(PATTERN))}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write what waits, and note the sizes. Where that fails, weights are kept all the same."""
        del pl_module
        if trainer.is_global_zero:
            try:
                checkpoint[EVENTS_KEY] = self._sizes()
            except OSError:  # of a full disk, which the next curve tells
                checkpoint[EVENTS_KEY] = {}


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
