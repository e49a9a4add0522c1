"""Paths as people give them. Imports nothing, so that what must start quickly can use it."""

from pathlib import Path


def user_path(text: str | Path) -> Path:
    """A path as a person gives it: `~` and `~name` stand for home folders that exist, and for themselves else."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)
