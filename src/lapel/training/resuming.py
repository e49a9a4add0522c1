"""Resume: a training that goes on exactly where its last checkpoint was written."""

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lapel.catalog import Catalog
from lapel.config.composing import flat, how_keys, to_plain
from lapel.config.train import TrainConfig
from lapel.errors import LapelError
from lapel.runs.checkpoint import LAPEL_KEY, load_checkpoint, seen_by
from lapel.training.callbacks.events import DRAWN_FILE, EVENTS_KEY, TENSORBOARD, cut_events
from lapel.training.callbacks.keeper import Keeper

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restored:
    """What a checkpoint says before it is loaded.

    Args:
        steps: optimizer steps made.
        best: MAP@R on val.
        ended: whether training was over.
        undrawn: whether the pictures of the epoch that it ended are missing.
        callbacks: name of the class -> its state.
    """

    steps: int
    best: float
    ended: bool
    undrawn: bool
    callbacks: dict[str, Any]


def restored(config: TrainConfig, catalog: Catalog, path: Path, folder: Path, rank: int) -> Restored | None:
    """Take a run folder back to its last checkpoint; None where it has none, and training begins anew.

    Args:
        config: with which training goes on.
        catalog: that it is trained on.
        path: of the checkpoint.
        folder: of the run.
        rank: of this process; the first one alone changes files.

    Raises:
        LapelError: the checkpoint is damaged, of another config, or of other data.
    """
    if not path.is_file():
        logger.info("%s is not there yet: training begins anew", path)
        if rank == 0:
            cut_events(folder, {})
            _remove_halves(path.parent)
        return None
    checkpoint = load_checkpoint(path)
    own = checkpoint[LAPEL_KEY]
    _check_config(own["config"], to_plain(replace(config, resume=None)), path)
    if own["catalog"] != catalog.name or not seen_by(own).is_training_part_of(catalog):
        raise LapelError(f"{path}: was trained on other images of {own['catalog']}: the data has changed since")
    keeper, steps = checkpoint["callbacks"][Keeper.__qualname__], own["steps"]
    drawn = _drawn(folder / TENSORBOARD / DRAWN_FILE, steps)
    undrawn = drawn is None and any(each["step"] == steps for each in keeper["history"])
    if rank == 0 and (undrawn or not keeper["ended"]):
        cut_events(folder, checkpoint[EVENTS_KEY] if drawn is None else drawn)
        _remove_halves(path.parent)
    logger.info("going on after step %d", steps)
    return Restored(steps, keeper["best"], keeper["ended"], undrawn, checkpoint["callbacks"])


def _drawn(note: Path, steps: int) -> dict[str, int] | None:
    """Sizes of the event files with the pictures of the epoch that ended after so many steps, where they were drawn."""
    try:
        told = json.loads(note.read_text())
        return told["events"] if told["steps"] == steps else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_config(before: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    """Raise where the checkpoint was made with another config than the run's, where it is computed aside."""
    earlier, how = flat(before), how_keys()
    for key, value in flat(now).items():
        had = earlier.get(key)
        if had != value and key not in how:
            raise LapelError(f"{path}: is of another config: {key} is {had} there, and {value} in this run")


def _remove_halves(folder: Path) -> None:
    """Remove checkpoints that a killed process had not finished."""
    for each in folder.glob(".*.ckpt-*"):
        each.unlink()
