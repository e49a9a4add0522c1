"""The files of a data set as it was downloaded: a folder, in which zip archives count as unpacked where they lie."""

import os
import stat
import zipfile
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from lapel.errors import LapelError
from lapel.files.paths import user_path
from lapel.photos.archive import DEFLATED, STORED, Location, read_directory

# How deep below the root archives are looked for: DeepFashion has Img/img.zip in a folder of the benchmark's name.
ARCHIVE_DEPTH = 3

# Folders in which systems keep thumbnails, deleted files and the like.
OF_SYSTEMS = {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}


class Tree:
    """Files by their path relative to a root, with `/` between folders.

    Args:
        root: a folder, or a zip archive. A file on disk goes before one of the same path in an archive.

    Raises:
        LapelError: there is no such folder or archive, or an archive is damaged.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = user_path(root)
        if not self.root.exists():
            raise LapelError(f"{root}: no such folder or archive")
        self.is_folder = self.root.is_dir()
        if not self.is_folder and not zipfile.is_zipfile(self.root):
            raise LapelError(f"{root}: is a file, must be a folder or a zip archive")

    @cached_property
    def archives(self) -> list[Path]:
        """The zip archives that count as unpacked."""
        if not self.is_folder:
            return [self.root]
        patterns = ("/".join(["*"] * depth) + ".zip" for depth in range(1, ARCHIVE_DEPTH + 1))
        return sorted(found for pattern in patterns for found in self.root.glob(pattern) if found.is_file())

    @cached_property
    def members(self) -> dict[str, Location]:
        """Path -> place, of every file in an archive; of two with one path the first archive's."""
        found: dict[str, Location] = {}
        for archive in self.archives:
            where = "" if archive == self.root else archive.parent.relative_to(self.root).as_posix() + "/"
            where = where.removeprefix("./")
            inside = read_directory(archive)
            if where:
                inside = {where + name: location for name, location in inside.items()}
            found |= {name: location for name, location in inside.items() if name not in found}
        return found

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return self._on_disk(name) or name in self.members

    def _on_disk(self, name: str) -> bool:
        return self._holds_folders and os.path.isfile(f"{self.root}/{name}")  # noqa: PTH113  # called for each photo; a Path takes several times as long

    def locate(self, name: str) -> Location:
        """Where a file is.

        Raises:
            LapelError: there is none, or its archive has it encrypted or packed in an unknown way.
        """
        if self._on_disk(name):
            return Location(str(self.root / name))
        location = self.members.get(name)
        if location is None:
            raise LapelError(f"{self.root / name}: no such file")
        if location.encrypted:
            raise LapelError(f"{location.path}: is encrypted; unpack it there, with the password that its owners give")
        if location.method not in (STORED, DEFLATED):
            raise LapelError(f"{location.path}: is compressed in a way that is not read here; unpack it there")
        return location

    def why_missing(self, name: str) -> str:
        """In a few words, why there is no such file; empty where nothing at all goes by that name."""
        path = self.root / name
        if path.is_dir():
            return "is a folder"
        return "a link to nothing" if path.is_symlink() else ""

    def text(self, name: str) -> str:
        """A text file's content.

        Raises:
            LapelError: it is missing, empty or not UTF-8; names it.
        """
        path = self.root / name
        try:
            content = self.locate(name).read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise LapelError(f"{path}: is not UTF-8 text (byte {error.start}); convert it") from error
        if not content.strip():
            raise LapelError(f"{path}: is empty")
        return content

    def names(self) -> list[str]:
        """Every file but hidden ones, archives and what systems keep for themselves; those of archives come last.

        Raises:
            LapelError: a folder may not be read.
        """
        on_disk = self._names_on_disk() if self.is_folder else []
        packed = (name for name in self.members if not any(map(is_hidden, name.split("/"))))
        return list(dict.fromkeys([*on_disk, *packed]))

    def _names_on_disk(self) -> list[str]:
        """Files of the root and of all folders below; links to folders are followed, but not in circles."""
        found: list[str] = []
        pending: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(self.root),))]
        while pending:
            below, above = pending.pop()
            try:
                entries = [each for each in os.scandir(self.root / below) if not is_hidden(each.name)]
            except OSError as error:
                raise LapelError(f"{self.root / below}: cannot be read ({error.strerror})") from error
            for entry in entries:
                if not entry.is_dir():
                    found.append(below + entry.name)
                    continue
                real = os.path.realpath(entry.path) if entry.is_symlink() else f"{above[-1]}/{entry.name}"
                if real not in above and not above[0].startswith(real.rstrip("/") + "/"):
                    pending.append((f"{below}{entry.name}/", (*above, real)))
        return [name for name in found if not name.endswith(".zip")]

    def base(self, marker: str) -> str | None:
        """The shallowest folder that holds the file `marker`, `""` or with a `/` at its end; None where none does.

        Archives often hold everything in one more folder.
        """
        found = [name.removesuffix(marker) for name in self.members if name == marker or name.endswith("/" + marker)]
        if self.root.is_dir():
            patterns = ("*/" * depth + marker for depth in range(ARCHIVE_DEPTH))
            on_disk = (path for pattern in patterns for path in self.root.glob(pattern) if path.is_file())
            found += [path.relative_to(self.root).as_posix().removesuffix(marker) for path in on_disk]
        return min(found, key=lambda each: (each.count("/"), each), default=None)

    def stamps(self, names: list[str]) -> np.ndarray:
        """int64 `[names, 2]`: size, and time of change in nanoseconds, of files; -1 where there is none.

        An archive's member has the time of the archive.
        """
        times = {str(archive): archive.stat().st_mtime_ns for archive in self.archives}
        stamp = self._stamp if self._holds_folders else self._packed_stamp
        return np.array([stamp(name, times) for name in names], dtype=np.int64).reshape(-1, 2)

    def _stamp(self, name: str, times: dict[str, int]) -> tuple[int, int]:
        try:
            state = os.stat(f"{self.root}/{name}")  # noqa: PTH116  # a Path for each takes several times as long
            if stat.S_ISREG(state.st_mode):
                return state.st_size, state.st_mtime_ns
        except OSError:  # missing, or in an archive
            pass
        return self._packed_stamp(name, times)

    def _packed_stamp(self, name: str, times: dict[str, int]) -> tuple[int, int]:
        location = self.members.get(name)
        return (-1, -1) if location is None else (location.size, times[location.path])

    @cached_property
    def _holds_folders(self) -> bool:
        """Whether there is more than archives, so that the system has to be asked for each file."""
        return self.is_folder and any(each.is_dir() or each.suffix != ".zip" for each in self.root.iterdir())


class LocatedFiles:
    """Files of a tree by number, each looked up when it is read.

    Args:
        tree: that holds them.
        base: folder that names are relative to, `""` or ending in `/`.
        names: of the files.
    """

    def __init__(self, tree: Tree, base: str, names: list[str]) -> None:
        self.tree = tree
        self.base = base
        self.names = names

    def __getitem__(self, row: int) -> Location:
        return self.tree.locate(self.base + self.names[row])


def is_hidden(name: str) -> bool:
    """Whether a file or folder is nothing that a person has put there to be looked at."""
    return name.startswith(".") or name in OF_SYSTEMS


def leaves_root(name: str) -> bool:
    """Whether a relative path would lead out of its root: `../x`, `/x`, `a/../../x`."""
    if ".." not in name and name[:1] != "/" and "\\" not in name:
        return False
    depth = 0
    for part in PurePosixPath(name.replace("\\", "/")).parts:
        depth += -1 if part == ".." else part != "."
        if depth < 0 or part.startswith("/"):
            return True
    return False
