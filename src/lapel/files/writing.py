"""The one way to write: whole or not at all, whatever ends the process, and on the disk before it gets its name.

A file, a folder, or several files of which one, renamed last, is the sign that all are there. Everything is written
under a temporary name beside its own, synced (the folders, too: a name is lost with the folder it was written to), and
renamed. A process that is killed meanwhile leaves what was there before.
"""

import ctypes
import errno
import fcntl
import io
import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from lapel.errors import LapelError

# rename(2): relative to the working directory, and two names exchanged; the latter as Linux and macOS have it.
AT_FDCWD = -100
RENAME_EXCHANGE, RENAME_SWAP = 2, 2

# What a system says that cannot exchange two names.
CANNOT = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


# ------------------------------------------------------------------------------------------------- files


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it at the end; nothing stays behind where the block fails."""
    with together(path.parent, path.name) as staged:
        yield staged.file(path.name)


class Staged:
    """Files that are to appear together in a folder.

    Args:
        folder: where they go.
        stack: what removes a file that did not get its name.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.temporary: dict[str, Path] = {}
        self.outdated: list[str] = []

    def file(self, name: str) -> Path:
        """The temporary path to which the file `name`, which may lie in folders below, is to be written."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_orphans(path)
        self.temporary[name] = self.stack.enter_context(_temporary(path))
        return self.temporary[name]

    def remove(self, name: str) -> None:
        """Have a file of before taken away when the others appear, if none of its name is among them."""
        self.outdated.append(name)

    def name_all(self, last: str) -> None:
        """Sync all files, then give them their names, `last` after the others."""
        for temporary in self.temporary.values():
            sync(temporary)
        names = [*(name for name in self.temporary if name != last), last]
        for name in names:
            if name == last:
                for old in set(self.outdated) - set(names):
                    (self.folder / old).unlink(missing_ok=True)
                self._sync_folders([*names[:-1], *self.outdated])  # what it points to must be there before it is
            self.temporary[name].replace(self.folder / name)
        self._sync_folders([last])

    def _sync_folders(self, names: list[str]) -> None:
        for folder in sorted({(self.folder / name).parent for name in names}):
            if folder.is_dir():
                sync(folder)


@contextmanager
def together(folder: Path, pointer: str) -> Iterator[Staged]:
    """Several files of one folder, renamed when all are written, the file `pointer` last; where the block fails, none.

    Who reads the pointer first finds everything that it speaks of, if the others have names of their own; files whose
    names were there before are exchanged one by one, right before the pointer.
    """
    with _told_where(folder), ExitStack() as stack:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            stack.callback(_remove_empty, folder)
        staged = Staged(folder, stack)
        yield staged
        staged.name_all(pointer)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A new file beside `path`, with the permissions that every new file has, and gone at the end if not renamed.

    It is locked meanwhile: an unlocked one is what a process left that was killed.
    """
    while True:
        temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if _is_still(handle, temporary):
            break
        os.close(handle)  # another process took it for what a killed one left, before it was locked
    try:
        yield temporary
    finally:
        if _is_still(handle, temporary):
            temporary.unlink()
        os.close(handle)


def _remove_orphans(path: Path) -> None:
    """Take away the temporary files of a name whose process is gone."""
    own = re.compile(rf"\.{re.escape(path.name)}-[0-9a-z_]{{8}}")
    for name in os.listdir(path.parent):  # noqa: PTH208  # names alone: a Path for each takes several times as long
        if own.fullmatch(name) and not (path.parent / name).is_dir():
            _remove_if_orphan(path.with_name(name))


def _remove_if_orphan(temporary: Path) -> None:
    try:
        handle = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # gone meanwhile, or another user's
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_still(handle, temporary):
            temporary.unlink()
    except BlockingIOError:  # being written
        pass
    finally:
        os.close(handle)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def _told_where(path: Path) -> Iterator[None]:
    """Have an error of the system, as that of a full disk, name a path where it names none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file for a library with errors of its own: where the system refused to write, that is raised, with the path.

    Given a path, torch ends the process where the disk is full.
    """
    raw = _Noting(path, "wb")
    try:
        with io.BufferedWriter(raw) as file:
            yield file
    except (OSError, RuntimeError) as error:
        raise raw.refused or error from error


class _Noting(io.FileIO):
    """A file that remembers the first error in writing it."""

    refused: OSError | None = None

    def write(self, data: Any) -> int | None:
        """Write bytes."""
        try:
            return super().write(data)
        except OSError as error:
            self.refused = self.refused or OSError(error.errno, error.strerror, os.fspath(self.name))
            raise self.refused from None


def write_json(path: Path, content: Any) -> None:
    """A readable json file."""
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def write_yaml(path: Path, content: Any) -> None:
    """A yaml file of plain containers."""
    from omegaconf import OmegaConf  # here: what must start quickly writes other files

    with written_whole(path) as temporary:
        temporary.write_text(OmegaConf.to_yaml(OmegaConf.create(content)))


def read_yaml(path: Path) -> Any:
    """The plain containers of a yaml file.

    Raises:
        LapelError: the file is missing or damaged.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        return OmegaConf.to_container(OmegaConf.load(path))
    except (YAMLError, OmegaConfBaseException, ValueError, OSError) as error:
        raise LapelError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from error


def link_to(link: Path, target: Path) -> None:
    """Make or move a link, in one step."""
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name.lstrip('.')}-{os.getpid()}-{time.monotonic_ns()}")
    temporary.symlink_to(os.path.relpath(target.resolve(), link.parent.resolve()))
    temporary.replace(link)
    sync(link.parent)


# ----------------------------------------------------------------------------------------------- folders


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """A temporary folder, put in the place of `folder`, or of the link of that name, at the end; one writer at a time.

    Nothing new stays behind where the block fails.
    """
    with sole_writer(folder), replaced(folder) as partial:
        yield partial


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Wait until no other process writes a folder, and keep others from it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f".{folder.name}.lock")):
        _tidy(folder)
        yield


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """As `folder_written_whole`, for its sole writer.

    The new folder and the old one are exchanged in one step, where the file system can; elsewhere the old one is set
    aside first, and `standing` finds it there.
    """
    partial = _partial(folder)
    try:
        with _told_where(folder):
            partial.mkdir()
            yield partial
            sync_below(partial)
            _put(partial, folder)
            sync(folder.parent)
    finally:
        _remove(partial)
        if _exists(folder):
            _remove(_aside(folder))


def standing(folder: Path) -> Path:
    """Where a folder is to be read: under its name or, where a writer was stopped amid its two renames, set aside."""
    return _aside(folder) if not _exists(folder) and _exists(_aside(folder)) else folder


def _put(partial: Path, folder: Path) -> None:
    if not _exists(folder):
        partial.rename(folder)
    elif not exchange(partial, folder):
        folder.rename(_aside(folder))
        partial.rename(folder)


def _tidy(folder: Path) -> None:
    """Take away what a writer left that was killed: this process holds the lock."""
    _remove(_partial(folder))
    if not _exists(folder) and _exists(_aside(folder)):
        _aside(folder).rename(folder)
    _remove(_aside(folder))


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.aside")


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def _remove(path: Path) -> None:
    """A folder with everything in it, a file or a link; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "linux" and hasattr(libc, "renameat2"):
        failed = libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE)
    elif sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(*names, RENAME_SWAP)
    else:
        return False
    if failed and (number := ctypes.get_errno()) not in CANNOT:
        raise OSError(number, os.strerror(number), str(other))
    return not failed


# --------------------------------------------------------------------------------------- syncing, locking


def sync(path: Path) -> None:
    """Have the disk hold a file's content, or a folder's names."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_below(folder: Path) -> None:
    """Sync every file and folder in a folder, and itself last."""
    for where, _, files in os.walk(folder, topdown=False):
        for name in files:
            if not (Path(where) / name).is_symlink():
                sync(Path(where) / name)
        sync(Path(where))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that the system gives back when the process ends, however it ends; the file goes with it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if _is_still(handle, path):
            break
        os.close(handle)  # the one before took it away with it: this lock nobody else would see
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _is_still(handle: int, path: Path) -> bool:
    """Whether an open file is the one that goes by a path."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
