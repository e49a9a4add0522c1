"""Random photos, tables, trees and archives: never a traceback, never a wrong row, nothing lost without a word.

A short run is part of the slow tests; `make fuzz` makes as many as the numbers below. Everything is drawn from seeds.
"""

import csv
import io
import os
import struct
import unicodedata
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image

from lapel.catalog import Catalog
from lapel.config.composing import compose
from lapel.config.data import DataConfig
from lapel.datasets import load as load_data
from lapel.datasets.folder import is_unicode
from lapel.datasets.photos import label_text
from lapel.datasets.splits import split_of
from lapel.errors import LapelError
from lapel.photos.decoding import decode, open_photo
from lapel.photos.formats import is_readable, know_heic
from lapel.photos.tree import Tree

pytestmark = pytest.mark.slow

FULL = os.environ.get("LAPEL_FUZZ") == "full"


def seeds(full: int, short: int) -> range:
    return range(full if FULL else short)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


Made = TypeVar("Made")


def told_by(work: Callable[[], Made]) -> tuple[Made | None, str]:
    """What comes of something, or why nothing does."""
    try:
        return work(), ""
    except LapelError as error:
        return None, str(error)


def load(*overrides: str) -> Catalog:
    config = compose("catalog", [*overrides, "data.size=8", "data.max_bad=1", "data.store=ram"])
    assert isinstance(config.data, DataConfig)
    return load_data(config.data)


# ------------------------------------------------------------------------------------------------------------ photos


def test_exif_blocks_never_harm_a_photo() -> None:
    generator = np.random.default_rng(1)
    buffer = io.BytesIO()
    pixels = np.arange(4 * 8 * 3, dtype=np.uint8).reshape(4, 8, 3)
    Image.fromarray(pixels).save(buffer, "JPEG")
    plain = buffer.getvalue()
    tags = [0x0112, 296, 282, 34665, 34853, 40965, 37500, 700]
    for _ in seeds(20_000, 1000):
        if generator.random() < 0.2:
            body = generator.bytes(int(generator.integers(0, 80)))
        else:
            entries = b"".join(
                struct.pack("<HHL", int(generator.choice(tags)), int(generator.integers(0, 16)), int(count))
                + generator.bytes(4)
                for count in generator.choice([0, 1, 2, 8, 65_535, 2**31, 2**32 - 1], int(generator.integers(1, 7)))
            )
            body = struct.pack("<H", len(entries) // 12) + entries + generator.bytes(int(generator.integers(0, 40)))
            body = bytes(generator.choice([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II*\0\xff\xff\0\0"])) + body
        block = b"Exif\0\0" + body[: int(generator.integers(0, len(body) + 1))]
        photo = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:]
        assert open_photo(photo, 3).shape in ((4, 8, 3), (8, 4, 3))
        with Image.open(io.BytesIO(photo)) as image:
            assert decode(image, 3).shape in ((3, 4, 8), (3, 8, 4))


FORMATS = ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF"]


def damaged(content: bytes, generator: np.random.Generator) -> bytes:
    """With some bytes changed, cut out, put in, or the end gone."""
    changed = bytearray(content)
    for _ in range(int(generator.integers(1, 8))):
        at = int(generator.integers(0, len(changed) + 1))
        match int(generator.integers(0, 4)):
            case 0:
                changed[at : at + 1] = generator.bytes(1)
            case 1:
                del changed[at : at + int(generator.integers(1, 30))]
            case 2:
                changed[at:at] = generator.bytes(int(generator.integers(1, 30)))
            case _:
                del changed[at:]
        if not changed:
            break
    return bytes(changed)


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files_are_photos_or_told(kind: str) -> None:
    know_heic()
    generator = np.random.default_rng(FORMATS.index(kind))
    buffer = io.BytesIO()
    Image.fromarray(generator.integers(0, 256, (16, 12, 3), dtype=np.uint8)).save(buffer, kind)
    for _ in seeds(200, 20):
        content = damaged(buffer.getvalue(), generator)
        found, told = told_by(partial(open_photo, content, 3))
        assert told.isprintable()
        assert (found is None) == bool(told)
        if found is not None:
            assert found.dtype == np.uint8
            assert found.ndim == 3
            assert found.shape[2] == 3


# --------------------------------------------------------------------------------------------------- tables and trees

WORDS = [
    "", " ", "a", "A", "a ", "Größe", unicodedata.normalize("NFD", "Größe"), "007", "1.10", "1.1", "1e5", "NA", "null",
    "x,y", 'say "hi"', "two\nlines", "tab\there", "[red]", "_x", "$x^", "=1+1", "服", "\u202eback", "-", "3", "4",
]  # fmt: skip
COLUMNS = ["item", "category", "split", "role", "items", "row", "score", "same_pixels", "colour", "price", "left",
           "trained_on", "query", "Größe", "a b", "image"]  # fmt: skip
SPELLED = ["train", "Training", "VAL", "valid", "dev", "test", "Testing", ""]


def write_csv(path: Path, names: list[str], rows: list[list[str]], generator: np.random.Generator) -> None:
    """In one of the ways in which programs write it."""
    quoting: Any = [csv.QUOTE_MINIMAL, csv.QUOTE_ALL][int(generator.integers(0, 2))]
    ending = ["\n", "\r\n"][int(generator.integers(0, 2))]
    trailing = [""] if generator.random() < 0.2 else []
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting, lineterminator=ending)
    for row in [names, *rows]:
        writer.writerow([*row, *trailing])
        if generator.random() < 0.05:
            text.write(ending)
    path.write_bytes((b"\xef\xbb\xbf" if generator.random() < 0.3 else b"") + text.getvalue().encode())


def spelled(name: str, generator: np.random.Generator, root: Path) -> str:
    """A path of a photo in one of the ways in which people write it."""
    ways = [name, name, name, name.upper(), name.replace("/", "\\"), f"./{name}", str(root / name)]
    return ways[int(generator.integers(0, len(ways)))]


def test_tables_give_their_rows_or_say_why(tmp_path: Path) -> None:
    root = tmp_path / "shop"
    (root / "img").mkdir(parents=True)
    generator = np.random.default_rng(2)
    for row in range(12):
        Image.fromarray(generator.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(root / "img" / f"P {row}.png")
    loaded = 0
    for _ in seeds(700, 40):
        chosen = generator.permutation(COLUMNS[:-1])[: int(generator.integers(1, 7))].tolist()
        names = ["image", *dict.fromkeys(["item", *chosen])]
        rows = []
        for row in range(12):
            values = [SPELLED[int(generator.integers(0, 8))] if name == "split" and generator.random() < 0.9
                      else WORDS[int(generator.integers(0, len(WORDS)))] for name in names[1:]]  # fmt: skip
            rows.append([spelled(f"img/P {row}.png", generator, root), *values])
        write_csv(root / "shop.csv", names, rows, generator)
        catalog, told = told_by(partial(load, "data=table", f"data.table={root / 'shop.csv'}"))
        assert told.isprintable()
        if catalog is None:
            continue
        loaded += 1
        assert len(catalog) + sum(len(each.names) for each in catalog.dropped) == 12, catalog.dropped
        assert_rows_as_given(catalog, names, rows)
    assert loaded > len(seeds(700, 40)) // 4


def assert_rows_as_given(catalog: Catalog, names: list[str], rows: list[list[str]]) -> None:
    """Every row of a catalogue has what the csv's row of its photo has."""
    kept = {name: f"given_{name}" for name in ("row", "score", "query", "trained_on", "items", "same_pixels")}
    kept |= {name: name for name in ("colour", "Größe", "a b")}
    for position, image in enumerate(catalog.table["image"]):
        row = int(image.removeprefix("img/P ").removesuffix(".png"))
        given = dict(zip(names, rows[row], strict=True))
        assert catalog.item_names[catalog.items[position]] == label_text(given["item"])
        for name in kept.keys() & given.keys():
            value = catalog.table[kept[name]].iloc[position]
            assert str(value) == given[name] or float(value) == float(given[name])
        if "split" in given and "split" in catalog.table and "given_split" not in catalog.table:
            part = split_of(given["split"])
            assert catalog.table["split"].iloc[position] in ({part} | ({"val"} if part == "train" else set()))


def test_trees_give_their_photos_or_say_why(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(buffer, "PNG")
    tops = ["train", "Test", "valid", "shirts", "Größe", "a b", "[red]", "x"]
    files = ["1.png", "2.PNG", "3.jpg", "note.txt", "4.svg", ".hidden.png", "noend", "5.cr2", "Ä.png", "6.png"]
    for number in seeds(300, 20):
        root = tmp_path / f"tree{number}"
        written = []
        for _ in range(int(generator.integers(1, 14))):
            depth = int(generator.integers(0, 4))
            folders = [tops[int(generator.integers(0, len(tops)))] for _ in range(depth)]
            name = "/".join([*folders, files[int(generator.integers(0, len(files)))]])
            path = root / name
            if path.exists() or any(each.is_file() for each in path.parents):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(buffer.getvalue() + generator.bytes(3) if generator.random() < 0.9 else b"no photo")
            written.append(name)
        catalog, why = told_by(partial(load, "data=folder", f"data.root={root}"))
        assert why.isprintable()
        if catalog is None:
            continue
        photos = [name for name in written if is_readable(name) and not name.rpartition("/")[2].startswith(".")]
        told = [name for each in catalog.dropped for name in each.names]
        found = catalog.table["image"].tolist()
        for photo in photos:
            assert is_unicode(photo)
            assert (photo in found) or any(name.startswith(photo) for name in told), (photo, written)
        for position, image in enumerate(found):
            assert image in photos
            item = catalog.item_names[catalog.items[position]]
            assert unicodedata.normalize("NFC", image).find(f"{item}/") >= 0


# ---------------------------------------------------------------------------------------------------------- archives


def test_archives_give_what_was_packed_or_say_why(tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    for number in seeds(200, 30):
        path = tmp_path / f"{number}.zip"
        packed = {}
        with zipfile.ZipFile(path, "w") as archive:
            for member in range(int(generator.integers(1, 8))):
                name = f"{WORDS[2 + int(generator.integers(0, 9))]}/{member} ä.png"
                content = generator.bytes(int(generator.integers(0, 400)))
                method = zipfile.ZIP_DEFLATED if generator.random() < 0.5 else zipfile.ZIP_STORED
                archive.writestr(name, content, method)
                packed[name] = content
            if generator.random() < 0.3:
                archive.comment = generator.bytes(int(generator.integers(1, 60)))
        whole = generator.random() < 0.3
        if not whole:
            path.write_bytes(damaged(path.read_bytes(), generator) or b"x")
        tree, told = told_by(partial(Tree, path))
        names, told = (None, told) if tree is None else told_by(tree.names)
        assert told.isprintable()
        assert not (whole and told)
        for name in names or []:
            assert tree is not None
            content, told = told_by(lambda tree=tree, name=name: tree.locate(name).read())
            assert told.isprintable()
            assert not (whole and told)
            assert content is None or name not in packed or content == packed[name]
        assert not whole or set(names or []) == set(packed)
