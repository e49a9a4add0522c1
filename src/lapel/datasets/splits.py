"""Splits for data without an official one: functions of names and pixels alone, the same on every machine.

Images of the same pixels form a group, and a group is never divided. A name's hash places it on [0, 1): the first part
of that line is the test, the next val, the rest train, so that new images never move old ones.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lapel.catalog import linked
from lapel.config.data import SplitRule
from lapel.files.writing import written_whole

# How the parts are spelled where others made them.
SPELLINGS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_PARTS = {spelling: part for part, spellings in SPELLINGS.items() for spelling in spellings}

# What may stand around them: `0_train`, `train_set`, `Test images`.
_PART = re.compile(r"(?:\d+[\W_]*)?([a-z]+?)s?(?:[\W_]*(?:set|split|part|data|images|photos))?")


def split_of(name: str) -> str | None:
    """train, val or test, of a name for it in any case and any spelling in use; None of any other name."""
    meant = _PART.fullmatch(name.strip().casefold())
    return _PARTS.get(meant[1]) if meant else None


def missing_parts(splits: Iterable[str]) -> str:
    """Which of train and test no row is in, as one says it; val is taken from train where there is none."""
    found = set(splits)
    return " and ".join(part for part in ("train", "test") if part not in found)


def identical_groups(fingerprints: np.ndarray) -> np.ndarray:
    """int64 `[rows]`: equal where two rows of uint8 `[rows, bytes]` are; a row of zeros is a group alone."""
    _, codes = np.unique(fingerprints, axis=0, return_inverse=True)
    codes = codes.reshape(-1).astype(np.int64)
    unknown = np.flatnonzero(~fingerprints.any(axis=1))
    codes[unknown] = len(codes) + np.arange(len(unknown))
    return codes


def hashed(names: list[str]) -> np.ndarray:
    """float64 in [0, 1) `[names]`: where sha256 places each name."""
    heads = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 11 for name in names]
    return np.array(heads, dtype=np.float64) / 2**53


def divide(
    rule: SplitRule, names: list[str], items: np.ndarray, groups: np.ndarray, val_share: float, test_share: float
) -> np.ndarray:
    """The split of each row, object `[rows]`.

    Args:
        rule: see `SplitRule`.
        names: of the images, which identify them.
        items: str `[rows]`, names of the items.
        groups: int64 `[rows]`, equal for images of the same pixels.
        val_share, test_share: of the line that the hashes fill.
    """
    first = _first_of_group(names, groups)
    if rule is SplitRule.unseen:
        points = hashed(_linked(items, groups))
    else:
        points = hashed([names[row] for row in first])
        if rule is SplitRule.stratified:
            points = _ranked_within(items[first], points, first)
    split = np.full(len(names), "train", dtype=object)
    split[points < test_share + val_share] = "val"
    split[points < test_share] = "test"
    return split


def save_division(folder: Path, data: str, names: list[str], division: np.ndarray) -> Path:
    """Keep a split in a csv file, which has the hash of its content in its name; the file.

    Args:
        folder: lapel's cache folder.
        data: name of the data set.
        names: of the images.
        division: as from `divide`.
    """
    lines = [f"{name},{split}" for name, split in zip(map(_quoted, names), division.tolist(), strict=True)]
    content = ("\n".join(["image,split", *lines]) + "\n").encode()
    file = folder / "splits" / f"{data}-{hashlib.sha256(content).hexdigest()[:16]}.csv"
    if not file.is_file():
        with written_whole(file) as temporary:
            temporary.write_bytes(content)
    return file


def _quoted(name: str) -> str:
    """A name as a csv field."""
    return '"' + name.replace('"', '""') + '"' if any(mark in name for mark in ',"\r\n') else name


def _first_of_group(names: list[str], groups: np.ndarray) -> np.ndarray:
    """int64 `[rows]`: the row of each group's first name; shorter names come first, so that 9.jpg is before 10.jpg."""
    order = np.array(sorted(range(len(names)), key=lambda row: (len(names[row]), names[row])), dtype=np.int64)
    _, where, inverse = np.unique(groups[order], return_index=True, return_inverse=True)
    first = np.empty(len(names), np.int64)
    first[order] = order[where][inverse.reshape(-1)]
    return first


def _ranked_within(items: np.ndarray, points: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The points of groups, spread evenly over [0, 1) within each item."""
    rows = np.unique(first)
    _, codes = np.unique(items[rows], return_inverse=True)
    order = np.lexsort((points[rows], codes))
    sizes = np.bincount(codes)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    even = np.empty(len(rows))
    even[order] = (np.arange(len(rows)) - starts + 0.5) / np.repeat(sizes, sizes)
    return even[np.searchsorted(rows, first)]


def _linked(items: np.ndarray, groups: np.ndarray) -> list[str]:
    """For each row the first name among the items that share pixels with its item, directly or through others."""
    names, codes = np.unique(items.astype(str), return_inverse=True)
    order = np.argsort(groups, kind="stable")
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    mixed = (np.unique(codes[rows]).tolist() for rows in np.split(order, cuts) if len(rows) > 1)
    return names[linked(len(names), mixed)[codes]].tolist()  # names are sorted: the lowest code is the first name
