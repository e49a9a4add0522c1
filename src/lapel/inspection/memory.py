"""What `lapel-data prepare` said before, for as long as nothing that it looked at has changed.

Loading a large data set to find that nothing is to be done takes seconds; comparing sizes and times of files does not.
"""

import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path

from lapel.files.cache import cache_folder
from lapel.files.writing import written_whole


def remembered(overrides: list[str]) -> str | None:
    """What was said for these overrides, where the data and its store are as they were; else None."""
    try:
        known = json.loads(_file(overrides).read_text())
        same = all(_stamp(Path(path)) == stamp for path, stamp in known["watched"].items())
        return known["told"] if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or damaged: it is made again
        return None


def remember(overrides: list[str], told: str, watched: list[Path], made: list[Path]) -> None:
    """Keep what was said.

    Args:
        overrides: of the command line.
        told: what was said.
        watched: files and folders of the data on which it depends, there or not.
        made: files and folders that were made of it.
    """
    if not watched:
        return
    content = {
        "told": told,
        "watched": {str(path): _stamp(path) for path in map(Path.absolute, [*watched, *made])},
    }
    with written_whole(_file(overrides)) as temporary:
        temporary.write_text(json.dumps(content))


def _file(overrides: list[str]) -> Path:
    """The file for these overrides, given in this folder, to this version."""
    key = json.dumps([version("lapel"), str(Path.cwd()), *overrides])
    return cache_folder() / "prepared" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def _stamp(path: Path) -> str | None:
    """Changes with the size or time of a file, or of any file below a folder; None where there is none."""
    digest = hashlib.sha256()
    try:
        if not path.is_dir():
            state = path.stat()
            return f"{state.st_size} {state.st_mtime_ns}"
        folders, seen = [str(path)], set()
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    state = entry.stat()
                    if entry.is_dir():
                        if (state.st_dev, state.st_ino) not in seen:  # links may lead in circles
                            seen.add((state.st_dev, state.st_ino))
                            folders.append(entry.path)
                    else:
                        digest.update(f"{entry.path}\0{state.st_size}\0{state.st_mtime_ns}\0".encode())
    except OSError:
        return None
    return digest.hexdigest()
