"""lapel's folder in the user's cache, and entries in it that are built once, whole, and shared by concurrent runs."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from lapel.files.paths import user_path
from lapel.files.writing import replaced, sole_writer

logger = logging.getLogger(__name__)


def cache_folder(given: str | None = None) -> Path:
    """The folder `given`, or `lapel` in the user's cache (`XDG_CACHE_HOME`, else `~/.cache`)."""
    if given:
        return user_path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lapel"


def built_once(folder: Path, build: Callable[[Path], None], is_whole: Callable[[Path], bool] = Path.is_dir) -> Path:
    """A folder that `build` fills, where it is not there yet; whoever sees it sees it whole.

    Other processes that want it wait.

    Args:
        folder: of the entry.
        build: fills the folder that it is given.
        is_whole: whether a folder is as it was built; one that somebody has damaged is built again.
    """
    if folder.is_dir() and is_whole(folder):
        return folder
    with sole_writer(folder):
        if folder.is_dir():
            if is_whole(folder):
                return folder
            logger.warning("%s: is damaged, and is made again", folder)
            shutil.rmtree(folder)  # now: there may not be room for both
        with replaced(folder) as partial:
            build(partial)
    return folder
