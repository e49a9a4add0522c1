"""TensorBoard's event files, which a resume takes back to where its checkpoint was written."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Callback
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from lapel.config.choices import choices_of
from lapel.config.composing import flat, how_keys, to_plain
from lapel.config.train import TrainConfig
from lapel.files.writing import write_json
from lapel.training.callbacks.projector import PROJECTOR
from lapel.training.callbacks.tags import described

# Key of a checkpoint under which the files' names and sizes stand.
EVENTS_KEY = "lapel_events"

PATTERN = "events.out.tfevents.*"

# What belongs to TensorBoard besides: it lists a run by the folder of its event files, which is therefore the run's.
TENSORBOARD = "tensorboard"

# Of which checkpoint, by its steps, the pictures are drawn, and how long the event files are since.
DRAWN_FILE = "drawn.json"


class EventFiles(Callback):
    """What the first process writes for TensorBoard; each checkpoint notes how long the files are: they only grow.

    A file is begun by what is first written: a training that ends ahead of its first point leaves none.

    Args:
        folder: of the run.
        config: which a new run shows.
    """

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self.folder = folder
        self.config = config
        self.opened: SummaryWriter | None = None

    @property
    def writer(self) -> SummaryWriter:
        """Of the event file, which in a new run begins with the config."""
        if self.opened is None:
            goes_on = any(self.folder.glob(PATTERN))
            self.opened = SummaryWriter(os.fspath(self.folder))
            if not goes_on:
                self._begin()
        return self.opened

    def _begin(self) -> None:
        text = OmegaConf.to_yaml(OmegaConf.create(to_plain(self.config)))
        self.writer.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()), 0)
        # The first of them would list options and scores for all runs, and keep TensorBoard from putting those options
        # first in which runs differ.
        _, start, _ = hparams(chosen_options(self.config), {})
        self._add(start)

    def add_scalars(self, scalars: dict[str, float], step: int) -> None:
        """Points of curves, by their tags."""
        for tag, value in scalars.items():
            self._add(described(tag, value), step)

    def end(self) -> None:
        """Say that the run has come to its end."""
        *_, end = hparams({}, {})
        self._add(end)

    def _add(self, summary: Summary, step: int | None = None) -> None:
        self.writer._get_file_writer().add_summary(summary, step)  # add_scalar takes no sentence

    def note(self, steps: int) -> None:
        """Write down how long the files are once the pictures of an epoch that ended after so many steps are in them.

        They follow the checkpoint, which has noted less.
        """
        folder = self.folder / TENSORBOARD
        folder.mkdir(exist_ok=True)
        write_json(folder / DRAWN_FILE, {"steps": steps, "events": self._sizes()})

    def _sizes(self) -> dict[str, int]:
        if self.opened is not None:
            self.opened.flush()
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

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the file, also after an error."""
        del trainer, pl_module, stage
        if self.opened is not None:
            with suppress(OSError):  # of a full disk: an epoch's end has told it, or another error is about to
                self.opened.close()
            self.opened = None


def chosen_options(config: TrainConfig) -> dict[str, bool | int | float | str]:
    """Every option of a run by its key on the command line, but those that only say how it is computed.

    A choice stands under the name of its group, as `optim`; what is none or a list is a text.
    """
    told: dict[str, bool | int | float | str] = {}
    for key, value in flat(to_plain(config)).items():
        if key in how_keys():
            continue
        if key.endswith(".kind"):
            group, _, name = value.partition("/")
            if len(choices_of(group)) > 1:  # else it says nothing: augment=light and strong are of one kind
                told[key.removesuffix(".kind")] = name
        elif isinstance(value, bool | int | float | str):
            told[key] = value
        else:
            told[key] = "none" if value is None else json.dumps(value)
    return told


def cut_events(run: Path, sizes: dict[str, int]) -> None:
    """Make event files what they were when a checkpoint was written; later ones, and what comes at the end, go.

    Args:
        run: folder in which they lie.
        sizes: name -> bytes, as the checkpoint has them.
    """
    (run / PROJECTOR).unlink(missing_ok=True)
    for file in run.glob(PATTERN):
        size = sizes.get(file.name)
        if size is None:
            file.unlink()
        elif file.stat().st_size > size:
            with file.open("r+b") as opened:
                opened.truncate(size)
