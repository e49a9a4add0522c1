"""Zip archives of many small photos: where each member lies, and its bytes.

Not by zipfile: what it makes of each of 44,000 entries takes several times as long as to read them, and its checks and
locks take as long as decoding a small photo. Format: PKWARE's APPNOTE.TXT, 4.3.
"""

import os
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from lapel.errors import LapelError

STORED, DEFLATED = 0, 8
ENCRYPTED = 1

LOCAL_HEADER = 30

# End of the central directory: signature, four numbers of disks and entries, size and offset of the directory, comment.
END = struct.Struct("<4s4H2LH")
END_MARK = b"PK\5\6"
LONGEST_COMMENT = 65535

# Its 64-bit form, and what says where that is.
END64 = struct.Struct("<4sQ2H2L4Q")
END64_MARK = b"PK\6\6"
LOCATOR64 = struct.Struct("<4sLQL")
LOCATOR64_MARK = b"PK\6\7"

# An entry of the directory: signature, versions, flags, method, time, date, checksum, stored and whole size, lengths of
# name, extra field and comment, disk, attributes, offset of the local header.
ENTRY = struct.Struct("<4s6H3L5H2L")
ENTRY_MARK = b"PK\1\2"
EXTRA64 = 1
IN_EXTRA = 0xFFFFFFFF


class Location(NamedTuple):
    """Where the bytes of one file are; small, so that lists of them travel to other processes.

    Args:
        path: file on disk, or archive that holds it.
        header: offset of its local header in the archive; -1 for a file on disk.
        stored: bytes that it takes in the archive.
        size: bytes of its content.
        method: of its compression.
        checksum: CRC-32 of its content.
        encrypted: whether a password is needed.
    """

    path: str
    header: int = -1
    stored: int = 0
    size: int = 0
    method: int = STORED
    checksum: int = 0
    encrypted: bool = False

    def read(self) -> bytes:
        """The file's content.

        Raises:
            LapelError: it cannot be read, or is damaged.
        """
        try:
            return Path(self.path).read_bytes() if self.header < 0 else self._from_archive()
        except (OSError, zlib.error) as error:
            raise LapelError(getattr(error, "strerror", None) or str(error)) from error

    def _from_archive(self) -> bytes:
        handle = _opened(self.path)
        header = os.pread(handle, LOCAL_HEADER, self.header)
        names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        content = os.pread(handle, self.stored, self.header + LOCAL_HEADER + names)
        if self.method == DEFLATED:
            content = zlib.decompress(content, wbits=-15)
        if zlib.crc32(content) != self.checksum:
            raise LapelError("damaged in its archive (checksum differs)")
        return content


@lru_cache(maxsize=8)
def _opened(archive: str) -> int:
    return os.open(archive, os.O_RDONLY | os.O_CLOEXEC)


def read_directory(archive: Path) -> dict[str, Location]:
    """The files of an archive by their names, in its order; folders are left out.

    Raises:
        LapelError: it is no zip archive, or a damaged one.
    """
    try:
        with archive.open("rb") as file:
            start, size, before = _find_directory(file)
            file.seek(start)
            directory = file.read(size)
            if len(directory) < size:
                raise LapelError("it ends within its directory")
            return _entries(str(archive), directory, before)
    except (OSError, struct.error, UnicodeDecodeError, LapelError) as error:
        raise LapelError(f"{archive}: not a readable zip archive ({error}); get it again") from error


def _find_directory(file: BinaryIO) -> tuple[int, int, int]:
    """Offset and size of the directory, and how many bytes stand before the archive proper."""
    length = file.seek(0, os.SEEK_END)
    tail_start = max(0, length - END.size - LONGEST_COMMENT)
    file.seek(tail_start)
    tail = file.read()
    at = tail.rfind(END_MARK)
    if at < 0 or len(tail) - at < END.size:
        raise LapelError("it has no directory")
    *_, size, offset, _ = END.unpack_from(tail, at)
    end = tail_start + at
    if end >= LOCATOR64.size:
        file.seek(end - LOCATOR64.size)
        mark, _, _, _ = LOCATOR64.unpack(file.read(LOCATOR64.size))
        if mark == LOCATOR64_MARK:
            end -= LOCATOR64.size + END64.size
            file.seek(end)
            mark64, *_, size, offset = END64.unpack(file.read(END64.size))
            if mark64 != END64_MARK:
                raise LapelError("its 64-bit directory is not where it should be")
    start = end - size  # and not `offset`, where something stands before the archive
    if start < offset:
        raise LapelError("its directory does not fit")
    return start, size, start - offset


def _entries(archive: str, directory: bytes, before: int) -> dict[str, Location]:
    found: dict[str, Location] = {}
    at, unpack, header = 0, ENTRY.unpack_from, ENTRY.size
    while at < len(directory):
        (
            mark, _, _, flags, method, _, _, checksum, stored, size, name_length, extra_length, comment_length, _, _, _,
            offset,
        ) = unpack(directory, at)  # fmt: skip
        if mark != ENTRY_MARK:
            raise LapelError("its directory is damaged")
        name_end = at + header + name_length
        raw = directory[at + header : name_end]
        if IN_EXTRA in (size, stored, offset):
            extra = directory[name_end : name_end + extra_length]
            size, stored, offset = _wide(extra, size, stored, offset)
        at = name_end + extra_length + comment_length
        if not raw.endswith(b"/"):
            name = _decoded(raw).partition("\0")[0]
            header_at = offset + before
            found.setdefault(
                name, Location(archive, header_at, stored, size, method, checksum, bool(flags & ENCRYPTED))
            )
    return found


def _decoded(name: bytes) -> str:
    """A member's name. Many programs write UTF-8 without saying so, and no text of cp437 is UTF-8 by chance."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("cp437")


def _wide(extra: bytes, *values: int) -> list[int]:
    """Sizes and offset, those that do not fit into 32 bits from the extra field (APPNOTE 4.5.3)."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == EXTRA64:
            numbers = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            return [next(numbers) if value == IN_EXTRA else value for value in values]
        at += 4 + length
    return list(values)
