"""Folders that options name: what is not there is told before what would read it is imported, which is slow."""

import os
from pathlib import Path

from lapel.errors import LapelError
from lapel.files.paths import run_folder, run_path, user_path
from lapel.files.writing import standing

# What makes a folder a bundle.
MANIFEST_FILE = "manifest.json"


def bundle_folder(given: str | Path) -> Path:
    """The folder of a bundle, as a person names it.

    Raises:
        LapelError: there is none.
    """
    if not isinstance(given, str | os.PathLike):
        raise LapelError(f"bundle={given}: must be the name of a folder")
    path = standing(run_path(given))
    if not path.is_dir():
        raise LapelError(f"bundle={given}: no such folder; make one with: lapel-export run=RUN")
    return path


def check_run_or_bundle(key: str, given: str) -> None:
    """Raise where an option names neither a run nor a bundle."""
    if not (run_path(given) / MANIFEST_FILE).is_file():
        run_folder(key, given)


def check_data_root(given: str | None) -> None:
    """Raise where data are to be read from a folder, or an archive, that is not there."""
    if given is not None and not user_path(given).exists():
        raise LapelError(f"data.root={given}: no such folder or archive")
