"""How a training ended: the last line of its `train.log`, and the fields `end` and `why` of its `train.json`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lapel.config.train import TrainConfig
from lapel.errors import InterruptedTrainingError, LapelError, why
from lapel.files.writing import write_json
from lapel.runs.folder import INTERRUPTED, SUMMARY_FILE, is_started, read_train_summary

FAILED = "failed"


def end_of(error: BaseException) -> str:
    """`interrupted` where somebody asked for it, else `failed`."""
    asked = isinstance(error, InterruptedTrainingError | KeyboardInterrupt | SystemExit)
    return INTERRUPTED if asked else FAILED


@contextmanager
def end_noted(config: TrainConfig, folder: Path, log: logging.Handler) -> Iterator[None]:
    """Note why a training failed, or who stopped it, where it had begun; what ends well says so itself.

    Args:
        config: of the run.
        folder: of the run.
        log: of `train.log`: the terminal is told by the command.
    """
    try:
        yield
    except BaseException as error:
        said = {"end": end_of(error), "why": why(error)}
        level = logging.WARNING if said["end"] == INTERRUPTED else logging.ERROR
        record = logging.LogRecord(__name__, level, __file__, 0, "%(end)s: %(why)s", (said,), None)
        log.handle(record)
        with suppress(OSError, LapelError):  # a full disk is what is told, not that it is full for this, too
            if is_started(folder):
                write_json(folder / SUMMARY_FILE, _before(config, folder) | said)
        raise


def _before(config: TrainConfig, folder: Path) -> dict[str, Any]:
    """What is known of a training that ended early: its epochs, where it came to the end of one."""
    return read_train_summary(folder) or {"name": config.name, "seed": config.seed, "history": []}
