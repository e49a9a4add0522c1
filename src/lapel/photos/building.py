"""Decodes the photos of a data set once, on all cores, into a file that any number of runs map into memory.

    pixels.npy        uint8 [photos, channels, height, width]; zeros where a photo cannot be read
    sizes.npy         int32 [photos, 2]: height and width of the photo itself
    fingerprints.npy  uint8 [photos, 16]: equal where two photos have the same pixels
    about.json        what went in, and which photos cannot be read, and why

Needs no torch.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.filesize import decimal

from lapel.config.data import Resize
from lapel.errors import LapelError
from lapel.files.cache import built_once
from lapel.machine.console import progress
from lapel.machine.cores import available_cores
from lapel.photos.decoding import Box, channels_first, cut, fingerprint, fit, open_photo, to_grey

FORMAT = 1
FINGERPRINT_BYTES = 16

# Photos that a worker decodes between two reports; a set of fewer than two such parts is decoded in this process.
PART = 128

PIXELS_FILE = "pixels.npy"
SIZES_FILE = "sizes.npy"
FINGERPRINTS_FILE = "fingerprints.npy"
ABOUT_FILE = "about.json"


class Readable(Protocol):
    """A file's content: `Location` of `lapel.photos.archive`."""

    def read(self) -> bytes:
        """All of it; LapelError where it cannot be had."""
        ...


class Files(Protocol):
    """Files by number: `LocatedFiles` of `lapel.photos.tree`."""

    def __getitem__(self, row: int) -> Readable: ...


@dataclass(frozen=True)
class Photos:
    """Where the photos of a data set are, and what they are to become.

    Args:
        names: path of each, as the catalogue has it.
        files: how to read each.
        stamps: int64 `[photos, 2]`: size and time of change of each file; another value means another photo.
        boxes: int32 `[photos, 4]`: left, top, right, bottom of what is kept of each; None for all of it.
        height, width, channels, resize: as in `DataConfig`.
        keep_pixels: False for the sizes and fingerprints alone.
    """

    names: list[str]
    files: Files
    stamps: np.ndarray
    boxes: np.ndarray | None
    height: int
    width: int
    channels: int
    resize: Resize
    keep_pixels: bool = True

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the pixels."""
        return len(self.names), self.channels, self.height, self.width

    @property
    def become(self) -> str:
        """What they are decoded to, in words: `80 x 60 (height x width), in colour`."""
        return f"{self.height} x {self.width} (height x width), {'in colour' if self.channels == 3 else 'in grey'}"

    def key(self) -> str:
        """sha256 over everything that the result depends on."""
        about = [FORMAT, self.shape, self.resize.name, self.keep_pixels, self.boxes is not None]
        digest = hashlib.sha256(json.dumps(about).encode())
        digest.update("\0".join(self.names).encode())
        digest.update(self.stamps.tobytes())
        if self.boxes is not None:
            digest.update(self.boxes.tobytes())
        return digest.hexdigest()

    def box(self, row: int) -> Box | None:
        """What is kept of a photo."""
        return None if self.boxes is None else tuple(self.boxes[row].tolist())

    def decode(self, row: int) -> np.ndarray:
        """uint8 `[channels, height, width]` of one photo; LapelError where it cannot be read."""
        return channels_first(self._fitted(open_photo(self.files[row].read(), self.channels), row))

    def whole(self, row: int) -> np.ndarray:
        """uint8 `[height, width, 3]` of one photo's box, in its own proportions; LapelError where it cannot be read."""
        picture, box = open_photo(self.files[row].read(), 3), self.box(row)
        return picture if box is None else cut(picture, box)

    def _fitted(self, picture: np.ndarray, row: int) -> np.ndarray:
        return fit(picture, self.height, self.width, self.resize, self.box(row))

    def inspect(self, row: int) -> tuple[np.ndarray | None, tuple[int, int], bytes]:
        """As `decode`, with the photo's height and width, and its fingerprint."""
        whole = open_photo(self.files[row].read(), 3)
        size, mark = (whole.shape[0], whole.shape[1]), fingerprint(whole)
        if not self.keep_pixels:
            return None, size, mark
        fitted = self._fitted(whole if self.channels == 3 else to_grey(whole), row)
        return fitted[None] if fitted.ndim == 2 else fitted.transpose(2, 0, 1), size, mark


@dataclass(frozen=True)
class BuiltStore:
    """A finished store.

    Args:
        folder: where it lies.
        sizes: int32 `[photos, 2]`.
        fingerprints: uint8 `[photos, 16]`.
        bad: row -> why that photo cannot be read.
    """

    folder: Path
    sizes: np.ndarray
    fingerprints: np.ndarray
    bad: dict[int, str]

    def pixels(self) -> np.ndarray:
        """uint8 `[photos, channels, height, width]`, mapped into memory."""
        # Copy-on-write, though nobody writes: torch warns of arrays that are read-only.
        return np.load(self.folder / PIXELS_FILE, mmap_mode="c")


@dataclass(frozen=True)
class PhotoSource:
    """The photos behind the rows of a catalogue.

    Args:
        photos: where they are.
        built: what was found when they were decoded.
        positions: int64 `[rows]`, of each catalogue row in them.
    """

    photos: Photos
    built: BuiltStore
    positions: np.ndarray


def build_store(photos: Photos, name: str, cache: Path) -> BuiltStore:
    """The store of photos, decoded where that has not been done before.

    Args:
        photos: what is wanted.
        name: of the data set; the store's folder begins with it.
        cache: lapel's cache folder.

    Raises:
        LapelError: the disk has no room, or a worker was killed. Photos that cannot be read are told in `bad`.
    """
    shape = f"{photos.height}x{photos.width}x{photos.channels}" if photos.keep_pixels else "facts"
    folder = cache / "stores" / f"{name}-{shape}-{photos.key()[:16]}"
    built_once(folder, partial(_fill, photos, name), partial(_is_whole, photos))
    about = json.loads((folder / ABOUT_FILE).read_text())
    bad = {int(row): reason for row, reason in about["bad"].items()}
    return BuiltStore(folder, np.load(folder / SIZES_FILE), np.load(folder / FINGERPRINTS_FILE), bad)


def _is_whole(photos: Photos, folder: Path) -> bool:
    """Whether the files of a store are there, readable and as long as they should be."""
    count = len(photos.names)
    try:
        about = json.loads((folder / ABOUT_FILE).read_text())
        if not isinstance(about, dict) or not isinstance(about.get("bad"), dict):
            return False
        pixels = np.load(folder / PIXELS_FILE, mmap_mode="r") if photos.keep_pixels else None
        shapes = [np.load(folder / name).shape for name in (SIZES_FILE, FINGERPRINTS_FILE)]
    except (OSError, ValueError, EOFError):
        return False
    return shapes == [(count, 2), (count, FINGERPRINT_BYTES)] and (pixels is None or pixels.shape == photos.shape)


def _fill(photos: Photos, name: str, folder: Path) -> None:
    """Decode all photos into a folder."""
    count = len(photos.names)
    offset = _allocate(folder / PIXELS_FILE, photos.shape) if photos.keep_pixels else 0
    sizes = np.zeros((count, 2), np.int32)
    fingerprints = np.zeros((count, FINGERPRINT_BYTES), np.uint8)
    bad: dict[int, str] = {}
    with progress() as bar:
        task = bar.add_task(f"decoding {name}", total=count)
        for part in _decode_all(photos, folder / PIXELS_FILE, offset):
            rows = slice(part.start, part.start + len(part.sizes))
            sizes[rows], fingerprints[rows] = part.sizes, part.fingerprints
            bad |= part.bad
            bar.advance(task, len(part.sizes))
    np.save(folder / SIZES_FILE, sizes)
    np.save(folder / FINGERPRINTS_FILE, fingerprints)
    about = {
        "format": FORMAT,
        "data": name,
        "photos": count,
        "shape": photos.shape,
        "resize": photos.resize.name,
        "key": photos.key(),
        "bad": dict(sorted(bad.items())),
    }
    (folder / ABOUT_FILE).write_text(json.dumps(about, indent=2) + "\n")


def _allocate(path: Path, shape: tuple[int, ...]) -> int:
    """Make an NPY file of zeros, with its space taken on the disk; the offset of its first value."""
    needed, free = int(np.prod(shape)), shutil.disk_usage(path.parent).free
    if needed > free:
        raise LapelError(f"{path.parent.parent}: {decimal(needed)} are needed, {decimal(free)} are free")
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(file, header)
        offset = file.tell()
        if hasattr(os, "posix_fallocate") and needed:
            os.posix_fallocate(file.fileno(), offset, needed)
        else:
            file.truncate(offset + needed)
    return offset


# ---------------------------------------------------------------------------------------------- workers


@dataclass(frozen=True)
class Part:
    """What was found of the photos from `start` on; see `BuiltStore`. Their pixels are in the file already."""

    start: int
    sizes: np.ndarray
    fingerprints: np.ndarray
    bad: dict[int, str]


def _decode_part(photos: Photos, start: int, handle: int, offset: int, buffer: np.ndarray) -> Part:
    """Decode the photos from `start` on into the file; `buffer` is room for their pixels, used again for each part."""
    rows = range(start, min(start + PART, len(photos.names)))
    sizes = np.zeros((len(rows), 2), np.int32)
    fingerprints = np.zeros((len(rows), FINGERPRINT_BYTES), np.uint8)
    bad = {}
    for number, row in enumerate(rows):
        try:
            pixels, sizes[number], mark = photos.inspect(row)
        except Exception as error:  # whatever it is, it is this photo's alone
            bad[row] = str(error) if isinstance(error, LapelError) else f"{type(error).__name__}: {error}"
            if photos.keep_pixels:
                buffer[number] = 0
            continue
        fingerprints[number] = np.frombuffer(mark, np.uint8)
        if pixels is not None:
            buffer[number] = pixels
    if photos.keep_pixels:
        # Not through a memory map: its pages would count as this process's memory.
        _write_at(handle, buffer[: len(rows)].data.cast("B"), offset + start * int(np.prod(photos.shape[1:])))
    return Part(start, sizes, fingerprints, bad)


def _write_at(handle: int, content: memoryview, offset: int) -> None:
    rest = content
    while rest:
        written = os.pwrite(handle, rest, offset)
        rest, offset = rest[written:], offset + written


def _decode_all(photos: Photos, path: Path, offset: int) -> Iterator[Part]:
    """All parts, in any order."""
    parts = -(-len(photos.names) // PART)
    workers = min(available_cores(), parts)
    if workers < 2:
        yield from _decode_share(photos, path, offset, range(parts))
        return
    # A fork shares what is loaded, and does not run the caller's main again; on macOS it is not safe.
    context = multiprocessing.get_context("fork" if os.uname().sysname == "Linux" else "spawn")
    readers, processes = [], []
    try:
        for number in range(workers):
            reader, writer = context.Pipe(duplex=False)
            share = range(number, parts, workers)
            processes.append(_start(context, (photos, path, offset, share, writer, os.getpid())))
            writer.close()
            readers.append(reader)
        yield from _receive(readers)
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.kill()


def _start(context: BaseContext, arguments: tuple[Any, ...]) -> BaseProcess:
    process = context.Process(target=_work, args=arguments, daemon=True)  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        # Python warns of forks beside threads, which torch's are; the workers never touch torch.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    return process


def _receive(readers: list[Connection]) -> Iterator[Part]:
    """Parts as they come, until every worker has said that it is done."""
    while readers:
        for reader in wait(readers):
            assert isinstance(reader, Connection)
            try:
                message = reader.recv()
            except EOFError:
                raise LapelError("a process that decoded photos was killed (is there enough memory?)") from None
            if message is None:
                readers.remove(reader)
            elif isinstance(message, Part):
                yield message
            else:
                raise LapelError(message)


def _work(photos: Photos, path: Path, offset: int, share: range, writer: Connection, parent: int) -> None:
    """What a worker process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    for number in (signal.SIGTERM, signal.SIGUSR1):  # a fork has the parent's handlers
        signal.signal(number, signal.SIG_DFL)
    try:
        for part in _decode_share(photos, path, offset, share):
            writer.send(part)
            if os.getppid() != parent:  # killed: nobody would end this process
                return
        writer.send(None)
    except OSError as error:
        writer.send(f"{path}: {error.strerror or error}")


def _decode_share(photos: Photos, path: Path, offset: int, share: range) -> Iterator[Part]:
    handle = os.open(path, os.O_WRONLY) if photos.keep_pixels else -1
    buffer = np.zeros((PART, *photos.shape[1:]) if photos.keep_pixels else 0, np.uint8)
    try:
        for number in share:
            yield _decode_part(photos, number * PART, handle, offset, buffer)
    finally:
        if photos.keep_pixels:
            os.close(handle)
