"""The catalogue: one table, one row an image, that every data source becomes and every other part reads.

    image     path relative to the root, or row number in an array
    item      int64 code of the label that makes two images a match
    category  int64 code of the coarser class; equals `item` where a source has only one level
    split     "train", "val" or "test"
    role      "query", "gallery" or "both" (leave-one-out)

Other columns are kept as they are.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lapel.errors import LapelError, counted

if TYPE_CHECKING:
    from lapel.photos.building import PhotoSource

REQUIRED_COLUMNS = ("image", "item", "category", "split", "role")
SPLITS = ("train", "val", "test")
ROLES = ("query", "gallery", "both")

# Optional column: int64, equal for images of the same pixels, which never count as each other's find.
SAME_PIXELS = "same_pixels"

# Column of a bundle's rows: whether the model was trained on that very photo.
TRAINED_ON = "trained_on"

# Optional columns of images that stand for several items, or in several splits: lists of codes, and of names. `item`
# and `split` are then the first of each list.
SEVERAL_ITEMS = "items"
SEVERAL_SPLITS = "splits"


@dataclass(frozen=True)
class Dropped:
    """Images that a source lists and the catalogue leaves out.

    Args:
        reason: why, in words that fit all of them.
        names: of the images, each perhaps with more about it.
    """

    reason: str
    names: list[str]


@dataclass(frozen=True, repr=False)
class Catalog:
    """A checked table of images, with the names of its items and categories.

    Args:
        name: of the data set, for messages and manifests.
        table: columns as above; its index is 0, 1, 2, … A row's position is how samplers and stores speak of an image.
        item_names: name of each item code; `item` holds positions in it.
        category_names: likewise for `category`.
        pixels: uint8 `[rows of the source, height, width]` or `[…, 3]`, where `image` is a row number in it.
        photos: the files and their decoded pixels, where `image` is a path.
        dropped: what the source lists and the table leaves out.
        split_file: where the split is kept, where it is lapel's own.

    Raises:
        LapelError: a column is missing, a code has no name, a split or role has another value, or no row is there.
    """

    name: str
    table: pd.DataFrame
    item_names: list[str]
    category_names: list[str]
    pixels: np.ndarray | None = field(default=None, repr=False)
    photos: "PhotoSource | None" = field(default=None, repr=False)
    dropped: list[Dropped] = field(default_factory=list, repr=False)
    split_file: Path | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        missing = [column for column in REQUIRED_COLUMNS if column not in self.table]
        if missing:
            raise LapelError(f"catalogue {self.name}: columns {missing} are missing")
        if self.table.empty:
            raise LapelError(f"catalogue {self.name}: holds no image")
        _check_codes(self.name, self.table, "item", len(self.item_names))
        _check_codes(self.name, self.table, "category", len(self.category_names))
        _check_values(self.name, self.table, "split", SPLITS)
        _check_values(self.name, self.table, "role", ROLES)
        if not self.table.index.equals(pd.RangeIndex(len(self.table))):
            raise LapelError(f"catalogue {self.name}: the index must be 0, 1, 2, …; use reset_index(drop=True)")

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return (
            f"<Catalog {self.name}: {counted(len(self), 'image')}, {counted(len(self.item_names), 'item')}, "
            f"{counted(len(self.category_names), 'category', 'categories')}>"
        )

    @property
    def items(self) -> np.ndarray:
        """int64 `[rows]`."""
        return self.table["item"].to_numpy(copy=True)

    @property
    def categories(self) -> np.ndarray:
        """int64 `[rows]`."""
        return self.table["category"].to_numpy(copy=True)

    @property
    def item_sets(self) -> np.ndarray:
        """int64 `[rows, most]`: every item that a row stands for, filled up with -1."""
        if SEVERAL_ITEMS not in self.table:
            return self.items[:, None]
        lists = self.table[SEVERAL_ITEMS].tolist()
        sets = np.full((len(lists), max(map(len, lists))), -1, dtype=np.int64)
        for row, codes in enumerate(lists):
            sets[row, : len(codes)] = codes
        return sets

    @property
    def linked_items(self) -> np.ndarray:
        """int64 `[rows]`: equal for rows of items that share an image, directly or through others.

        What is trained on: an image of two items is a negative of neither.
        """
        if SEVERAL_ITEMS not in self.table:
            return self.items
        head = linked(len(self.item_names), self.table[SEVERAL_ITEMS].tolist())
        return head[self.items]

    @property
    def look_alikes(self) -> np.ndarray:
        """int64 `[rows]`: equal for images of the same pixels, and different for all others."""
        if SAME_PIXELS in self.table:
            return self.table[SAME_PIXELS].to_numpy(copy=True)
        return np.arange(len(self.table))

    def items_of(self, rows: np.ndarray) -> set[str]:
        """Names of the items that some rows stand for."""
        return {self.item_names[code] for code in np.unique(self.item_sets[rows]) if code >= 0}

    def rows(self, split: str) -> np.ndarray:
        """int64 rows of a split, ascending.

        Raises:
            LapelError: the split has no row.
        """
        found = np.flatnonzero(self._stand_in(split))
        if not len(found):
            raise LapelError(f"catalogue {self.name}: split {split} has no image")
        return found

    def has(self, split: str) -> bool:
        """Whether a split has a row."""
        return bool(self._stand_in(split).any())

    def _stand_in(self, split: str) -> np.ndarray:
        """bool `[rows]`: which rows are of a split."""
        if SEVERAL_SPLITS in self.table:
            return np.array([split in each for each in self.table[SEVERAL_SPLITS]], dtype=bool)
        return (self.table["split"] == split).to_numpy()

    def queries(self, split: str) -> np.ndarray:
        """int64 rows of a split that are searched with, ascending."""
        return self._rows_with_role(split, "query")

    def gallery(self, split: str) -> np.ndarray:
        """int64 rows of a split that are searched in, ascending."""
        return self._rows_with_role(split, "gallery")

    def _rows_with_role(self, split: str, role: str) -> np.ndarray:
        rows = self.rows(split)
        found = rows[self.table["role"].iloc[rows].isin([role, "both"]).to_numpy()]
        if not len(found):
            raise LapelError(f"catalogue {self.name}: split {split} has no image with role {role} or both")
        return found

    def described(self, rows: np.ndarray) -> pd.DataFrame:
        """The table's `rows`, with names in place of codes for `item` and `category`, and without codes of pixels."""
        table = self.table.iloc[rows].drop(columns=SAME_PIXELS, errors="ignore").reset_index(drop=True)
        table["item"] = np.asarray(self.item_names, dtype=object)[table["item"].to_numpy()]
        table["category"] = np.asarray(self.category_names, dtype=object)[table["category"].to_numpy()]
        if SEVERAL_ITEMS in table:
            table[SEVERAL_ITEMS] = [[self.item_names[code] for code in codes] for codes in table[SEVERAL_ITEMS]]
        return table

    def split_hash(self, split: str) -> str:
        """sha256 over image, item name and role of each row of a split: equal where two evaluations saw the same."""
        rows = self.rows(split)
        images, roles = (self.table[column].to_numpy(dtype=object)[rows] for column in ("image", "role"))
        if SEVERAL_ITEMS in self.table:
            lists = self.table[SEVERAL_ITEMS].tolist()
            items = ["\x1d".join(self.item_names[code] for code in lists[row]) for row in rows]
        else:
            items = [self.item_names[code] for code in self.items[rows]]
        told = (f"{image}\x1f{item}\x1f{role}\x1e" for image, item, role in zip(images, items, roles, strict=True))
        return hashlib.sha256("".join(told).encode()).hexdigest()


def _check_codes(name: str, table: pd.DataFrame, column: str, names: int) -> None:
    codes = table[column].to_numpy()
    if codes.dtype != np.int64:
        raise LapelError(f"catalogue {name}: column {column} is {codes.dtype}, must be int64")
    if codes.min() < 0 or codes.max() >= names:
        raise LapelError(
            f"catalogue {name}: column {column} goes from {codes.min()} to {codes.max()}, has {names} names"
        )


def _check_values(name: str, table: pd.DataFrame, column: str, allowed: tuple[str, ...]) -> None:
    found = set(table[column].unique()) - set(allowed)
    if found:
        raise LapelError(
            f"catalogue {name}: column {column} holds {sorted(map(str, found))}, allowed are {list(allowed)}"
        )


def linked(count: int, sets: Iterable[Iterable[int]]) -> np.ndarray:
    """int64 `[count]`: for each code the lowest one that it is linked to by codes standing in one set."""
    head = np.arange(count)

    def find(code: int) -> int:
        while head[code] != code:
            code = int(head[code])
        return code

    for first, *others in sets:
        for other in others:
            low, high = sorted((find(first), find(other)))
            head[high] = low
    return np.array([find(code) for code in range(count)], dtype=np.int64)


def stratified(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Rows of a part that holds about the same share of each label, ascending.

    Args:
        labels: int64 `[rows]`.
        count: rows to take in all; each label gives its share of it, rounded down, and the largest remainders one more.
        seed: of the draw within each label.
    """
    names, sizes = np.unique(labels, return_counts=True)
    wanted = sizes * count / len(labels)
    takes = np.floor(wanted).astype(np.int64)
    by_remainder = np.argsort(-(wanted - takes), kind="stable")
    takes[by_remainder[: count - takes.sum()]] += 1
    generator = np.random.default_rng(seed)
    parts = [
        generator.permutation(np.flatnonzero(labels == name))[:take] for name, take in zip(names, takes, strict=True)
    ]
    return np.sort(np.concatenate(parts))
