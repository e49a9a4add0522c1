"""Paths as people give them. Imports nothing, so that what must start quickly can use it."""

from pathlib import Path

# The link to the newest run, and the folder beside which it stands.
LATEST = "latest"
RUNS = Path("runs")


def user_path(text: str | Path) -> Path:
    """A path as a person gives it: `~` and `~name` stand for home folders that exist, and for themselves else."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def run_path(text: str | Path) -> Path:
    """A path of a run, or of something in one, as a person gives it.

    `runs/latest` is where the link to the newest run once was: it stands for `latest` beside `runs`, and `latest` for
    it where only that is there.
    """
    path = user_path(text)
    parts = path.parts
    for number in range(len(parts)):
        if parts[number] != LATEST:
            continue
        before, rest = Path(*parts[:number]), parts[number + 1 :]
        inside = number > 0 and parts[number - 1] == RUNS.name
        beside = before.parent / LATEST if inside else before / LATEST
        within = before / LATEST if inside else before / RUNS / LATEST
        found = within if within.is_symlink() and not beside.is_symlink() else beside
        if found.is_symlink():
            return found.joinpath(*rest)
    return path
