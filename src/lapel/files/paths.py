"""Paths as people give them. Imports next to nothing, so that what must start quickly can use it."""

from pathlib import Path

from lapel.errors import LapelError

# The link to the newest run, and the folder beside which it stands.
LATEST = "latest"
RUNS = Path("runs")

# What a run folder has; and how many runs are named where one is not found.
CONFIG_FILE, CHECKPOINTS = "config.yaml", "checkpoints"
SHOWN = 5


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


def from_here(path: Path) -> Path:
    """A path as a person would write it: relative where it lies below the working folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def run_folder(key: str | None, given: str | Path) -> Path:
    """The folder of a run, as a person gives it.

    Args:
        key: of the option that names it; None where it is named without one.
        given: its value.

    Raises:
        LapelError: there is no such folder, or it is none of a run's.
    """
    path = run_path(given)
    told = given if key is None else f"{key}={given}"
    if not path.is_dir():
        raise LapelError(f"{told}: no such run folder{_known_runs(path.parent)}")
    if not is_run(path):
        trials = sorted(each.name for each in path.glob("*") if is_run(each))
        hint = f"; it is a sweep with the trials {', '.join(trials)}" if trials else _known_runs(path)
        raise LapelError(f"{told}: is no run folder: it has no {CONFIG_FILE}{hint}")
    return path


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, or what somebody has kept of one."""
    return (folder / CONFIG_FILE).is_file() or (folder / CHECKPOINTS).is_dir()


def _known_runs(parent: Path) -> str:
    runs = sorted(str(each) for each in parent.glob("*") if is_run(each)) if parent.is_dir() else []
    return f"; there is {', '.join(runs[-SHOWN:])}" if runs else ""
