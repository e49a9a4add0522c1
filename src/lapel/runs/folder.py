"""The run folder: its name, its link `latest`, its log file, and what lies in it.

runs/<data>-<variant>-<encoder>-<time>/
    config.yaml  train.log  train.json
    events.out.tfevents.*  projector_config.pbtxt      where TensorBoard lists a run by this folder's name
    checkpoints/best.ckpt  checkpoints/last.ckpt
    tensorboard/  evaluation/  bundle/
latest -> the newest of them; beside runs/, since in it TensorBoard would show that run twice
"""

import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lapel.config.evaluation import Checkpoint, EvaluateConfig, Split
from lapel.errors import LapelError
from lapel.files.paths import CHECKPOINTS, CONFIG_FILE, LATEST, RUNS, run_folder, run_path
from lapel.files.writing import link_to
from lapel.machine.messages import printable_lines

logger = logging.getLogger(__name__)

# What is known of a training, with how it ended: by its last step, for want of a better score, or before, asked or not.
SUMMARY_FILE = "train.json"
FINISHED, STUCK, INTERRUPTED = "finished", "no better score", "interrupted"

# What the rate finder leaves in its folder, which is no run.
RATES_FILE = "lr.csv"


def latest(root: Path = RUNS) -> Path:
    """Where the link to the newest run stands."""
    return root.parent / LATEST


def check_latest(root: Path = RUNS) -> None:
    """Raise if something else stands where the link to the newest run goes."""
    link = latest(root)
    if link.exists() and not link.is_symlink():
        raise LapelError(f"{link}: is a folder or file, must be a link or absent; move it away")


def new_folder(name: str, root: Path = RUNS) -> Path:
    """Create `<root>/<name>-<time>`; where another process took that name, a number makes it its own."""
    check_latest(root)
    root.mkdir(parents=True, exist_ok=True)
    base = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    number = 1
    while True:
        folder = root / (base if number == 1 else f"{base}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def claim_folder(folder: Path) -> None:
    """Make a run folder, or take an empty one: nothing that lies there is overwritten, or removed after an error."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise LapelError(f"run folder {folder}: is not empty; name a new one")


def point_latest(folder: Path, root: Path = RUNS) -> None:
    """Move the link to the newest run to a run folder, in one step."""
    check_latest(root)
    link_to(latest(root), folder)
    if (root / LATEST).is_symlink():  # of a version that had it there
        (root / LATEST).unlink()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a run folder; the system lets go when the process ends, however it ends.

    Raises:
        LapelError: another process trains there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LapelError(f"run folder {folder}: another process is training there") from None
        yield
    finally:
        os.close(handle)


def is_started(folder: Path) -> bool:
    """Whether training has begun in a run folder; before, there is nothing in it to keep."""
    return (folder / CHECKPOINTS).is_dir()


@contextmanager
def undone_on_error(folder: Path, root: Path = RUNS) -> Iterator[None]:
    """After an error, empty and remove a claimed folder in which training has not begun.

    Where it had begun but written no checkpoint, the folder stays for its curves, and the link `latest` goes back to
    the run that it showed before.
    """
    link = latest(root)
    before = next((each.resolve() for each in (link, root / LATEST) if each.is_symlink()), None)
    try:
        yield
    except BaseException:
        if not is_started(folder):
            shutil.rmtree(folder, ignore_errors=True)
        elif (
            not any((folder / CHECKPOINTS).glob("*.ckpt")) and link.is_symlink() and link.resolve() == folder.resolve()
        ):
            if before and before.is_dir():
                point_latest(before, root)
            else:
                link.unlink()
        raise


def called(folder: Path) -> str:
    """What a run is called by its folder: of a trial, which is a number, with that of its sweep."""
    return f"{folder.parent.name}/{folder.name}" if folder.name.isdigit() else folder.name


def runs_in(name: str) -> list[Path]:
    """A run folder itself, or those below a folder, the trials of sweeps included.

    Raises:
        LapelError: there is none.
    """
    folder = run_path(name)
    if (folder / RATES_FILE).is_file():
        raise LapelError(f"{name}: has tried out rates (find_lr), and trained nothing")
    if (folder / CONFIG_FILE).is_file():
        return [folder]
    right_below = {each.parent for each in folder.glob(f"*/{CONFIG_FILE}")}
    trials = {each.parent for each in folder.glob(f"*/*/{CONFIG_FILE}")}
    real = {each for each in right_below | trials if not (each.is_symlink() or each.parent.is_symlink())}
    below = sorted(each for each in real if each.parent not in right_below)
    found = [each for each in below if not (each / RATES_FILE).is_file()]
    return found or [run_folder(None, name)]  # which tells that it is none


def evaluation_name(config: EvaluateConfig, data: str | None = None) -> str:
    """What tells an evaluation of a run from its others; empty for the plain one.

    Args:
        config: what is scored; the plain one: the test part, by the best checkpoint, in the whole gallery.
        data: name of a catalogue that is not the run's own.
    """
    names = [
        None if config.bundle is None else "bundle",
        data,
        None if config.split is Split.test else config.split.name,
        None if config.checkpoint is Checkpoint.best else config.checkpoint.name,
        config.within and f"within-{config.within}",
        config.across and f"across-{config.across}",
        config.post.label,
    ]
    return "-".join(name for name in names if name)


def evaluation_folder(run: Path, config: EvaluateConfig, data: str | None = None) -> Path:
    """Where an evaluation's files go: the plain one directly in `evaluation`, others below it by name.

    Args:
        run: run folder.
        config, data: as of `evaluation_name`.

    Raises:
        LapelError: something else has that name.
    """
    folder = run / "evaluation" / evaluation_name(config, data)
    for each in (folder.parent, folder):
        if each.exists() and not each.is_dir():
            raise LapelError(f"{each}: is a file, must be a folder or absent; move it away")
    return folder


# Of an evaluation: its scores and their protocol; and a line a query, with its row and its scores.
METRICS_FILE = "metrics.json"
QUERIES_FILE = "queries.parquet"


class _LogFile(logging.FileHandler):
    """A log whose own failure, on a full disk, is not another error."""

    def format(self, record: logging.LogRecord) -> str:
        """As a text that a terminal shows, and does not obey, when somebody looks at the file."""
        return printable_lines(super().format(record))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Nothing: what fills the disk fails, and is told."""


@contextmanager
def logged_to(path: Path) -> Iterator[logging.Handler]:
    """What lapel logs, also in a file with the time of each line; its handler."""
    handler = _LogFile(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("lapel")
    level = root.level
    root.setLevel(min(root.getEffectiveLevel(), logging.INFO))  # also where the caller has not asked for messages
    root.addHandler(handler)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        with suppress(OSError):
            handler.close()


def has_ended(summary: dict[str, Any]) -> bool:
    """Whether a training came to its end, and was not stopped, asked or not, before. Older ones wrote no other."""
    return summary.get("end", FINISHED) in (FINISHED, STUCK)


def read_train_summary(run: Path) -> dict[str, Any]:
    """What a run's `train.json` says; empty where training goes on, or was killed.

    Raises:
        LapelError: it is damaged.
    """
    path = run / SUMMARY_FILE
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise LapelError(f"{path}: is damaged ({error})") from error


def best_finished(folder: Path) -> Path | None:
    """The finished trial of a sweep folder with the highest score on val; None where none finished."""
    scores = {}
    for summary in folder.glob(f"*/{SUMMARY_FILE}"):
        try:
            told = json.loads(summary.read_text())
            if has_ended(told):
                scores[summary.parent] = float(told["monitored"])
        except (ValueError, KeyError, TypeError):
            logger.warning("%s: cannot be read, its trial is left out", summary)
    return max(scores, key=lambda trial: scores[trial]) if scores else None
