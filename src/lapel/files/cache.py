"""lapel's folder in the user's cache, and entries in it that are built once, whole, and shared by concurrent runs."""

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lapel.paths import user_path

logger = logging.getLogger(__name__)


def cache_folder(given: str | None = None) -> Path:
    """The folder `given`, or `lapel` in the user's cache (`XDG_CACHE_HOME`, else `~/.cache`)."""
    if given:
        return user_path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lapel"


def built_once(folder: Path, build: Callable[[Path], None], is_whole: Callable[[Path], bool] = Path.is_dir) -> Path:
    """A folder that `build` fills, where it is not there yet.

    It is filled under a temporary name and renamed: whoever sees the folder sees it whole, and a builder that is killed
    leaves nothing that counts. Other processes that want it wait.

    Args:
        folder: of the entry.
        build: fills the folder that it is given.
        is_whole: whether a folder is as it was built; one that somebody has damaged is built again.
    """
    if folder.is_dir() and is_whole(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir():
            if is_whole(folder):
                return folder
            logger.warning("%s: is damaged, and is made again", folder)
            shutil.rmtree(folder)
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a builder that was killed: this process holds the lock
        partial.mkdir()
        try:
            build(partial)
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that the operating system gives back when the process ends, however it ends."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
