"""Zip archives as Python's zipfile writes and reads them: the same names, the same bytes, the same refusals."""

import io
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapel.errors import LapelError
from lapel.photos.archive import Location, read_directory

LETTERS = st.characters(codec="utf-8", exclude_characters="\0/\\", exclude_categories=["Cc"])
NAMES = st.text(LETTERS, min_size=1, max_size=9)
MEMBERS = st.dictionaries(NAMES.map(lambda name: f"a/{name}") | NAMES, st.binary(max_size=300), max_size=8)


def write(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.mkdir("folder")
        for name, content in members.items():
            archive.writestr(name, content)
        archive.comment = comment


@settings(max_examples=60, deadline=None)
@given(
    members=MEMBERS,
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    comment=st.binary(max_size=40),
    before=st.binary(max_size=40),
)
def test_members_are_those_that_zipfile_finds(
    tmp_path_factory: pytest.TempPathFactory, members: dict[str, bytes], method: int, comment: bytes, before: bytes
) -> None:
    path = tmp_path_factory.mktemp("zip") / "photos.zip"
    if b"PK\5\6" in comment:
        return
    write(path, members, method, comment)
    path.write_bytes(before + path.read_bytes())  # as a self-extracting archive has something before it
    found = read_directory(path)
    assert {name: location.read() for name, location in found.items()} == members
    with zipfile.ZipFile(path) as theirs:
        for entry in theirs.infolist():
            if not entry.is_dir():
                own = found[entry.filename]
                assert (own.size, own.stored, own.checksum) == (entry.file_size, entry.compress_size, entry.CRC)


def test_a_64_bit_archive_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    members = {f"{number}.bin": bytes([number]) * (60 + 30 * number) for number in range(6)}
    write(tmp_path / "large.zip", members, comment=b"a comment")
    assert b"PK\6\6" in (tmp_path / "large.zip").read_bytes()
    assert {name: each.read() for name, each in read_directory(tmp_path / "large.zip").items()} == members


def test_names_of_old_archives_are_code_page_437(tmp_path: Path) -> None:
    write(tmp_path / "old.zip", {"A.jpg": b"1"})
    content = (tmp_path / "old.zip").read_bytes().replace(b"A.jpg", b"\x82.jpg")
    (tmp_path / "old.zip").write_bytes(content)
    assert list(read_directory(tmp_path / "old.zip")) == ["é.jpg"]


def test_of_two_members_of_one_name_the_first_counts(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("a", b"first")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", b"second")
    assert read_directory(tmp_path / "twice.zip")["a"].read() == b"first"


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "directory", "sizes"])
def test_what_is_no_archive_is_told(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "photos.zip"
    write(path, {f"{number}.jpg": bytes(50) for number in range(20)})
    content = path.read_bytes()
    place = content.index(b"PK\1\2")
    end = content.index(b"PK\5\6")
    changed = {
        "cut": content[: len(content) // 2],
        "text": b"not an archive",
        "empty": b"",
        "directory": content[: place + 60] + bytes(40) + content[place + 100 :],
        "sizes": content[: end + 12] + struct.pack("<2L", 2**31, 2**31) + content[end + 20 :],
    }[damage]
    path.write_bytes(changed)
    with pytest.raises(LapelError, match=r"photos\.zip: not a readable zip archive \(.*\); get it again"):
        read_directory(path)


def test_damaged_content_is_told(tmp_path: Path) -> None:
    write(tmp_path / "photos.zip", {"a": b"0123456789" * 9})
    content = (tmp_path / "photos.zip").read_bytes().replace(b"0123456789", b"0123456780", 1)
    (tmp_path / "photos.zip").write_bytes(content)
    with pytest.raises(LapelError, match="checksum"):
        read_directory(tmp_path / "photos.zip")["a"].read()


def test_an_encrypted_member_says_so(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"secret")
    content = bytearray(buffer.getvalue())
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "photos.zip").write_bytes(content)
    assert read_directory(tmp_path / "photos.zip")["a"].encrypted
    assert not Location("a").encrypted
