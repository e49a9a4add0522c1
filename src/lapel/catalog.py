"""The catalogue: one table, one row an image, that every data source becomes and every other part reads.

    image     path relative to the root, or row number in an array
    item      int64 code of the label that makes two images a match
    category  int64 code of the coarser class; equals `item` where a source has only one level
    split     "train", "val" or "test"
    role      "query", "gallery" or "both" (leave-one-out)

Other columns are kept as they are.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lapel.errors import LapelError

REQUIRED_COLUMNS = ("image", "item", "category", "split", "role")
SPLITS = ("train", "val", "test")
ROLES = ("query", "gallery", "both")


@dataclass(frozen=True)
class Catalog:
    """A checked table of images, with the names of its items and categories.

    Args:
        name: of the data set, for messages and manifests.
        table: columns as above; its index is 0, 1, 2, … A row's position is how samplers and stores speak of an image.
        item_names: name of each item code; `item` holds positions in it.
        category_names: likewise for `category`.
        pixels: uint8 `[rows of the source, height, width]` or `[…, 3]`, where `image` is a row number in it.

    Raises:
        LapelError: a column is missing, a code has no name, a split or role has another value, or no row is there.
    """

    name: str
    table: pd.DataFrame
    item_names: list[str]
    category_names: list[str]
    pixels: np.ndarray | None = field(default=None, repr=False)

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

    @property
    def items(self) -> np.ndarray:
        """int64 `[rows]`."""
        return self.table["item"].to_numpy(copy=True)

    @property
    def categories(self) -> np.ndarray:
        """int64 `[rows]`."""
        return self.table["category"].to_numpy(copy=True)

    def rows(self, split: str) -> np.ndarray:
        """int64 rows of a split, ascending.

        Raises:
            LapelError: the split has no row.
        """
        found = np.flatnonzero((self.table["split"] == split).to_numpy())
        if not len(found):
            raise LapelError(f"catalogue {self.name}: split {split} has no image")
        return found

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
        """The table's `rows`, with names in place of codes for `item` and `category`."""
        table = self.table.iloc[rows].reset_index(drop=True)
        table["item"] = np.asarray(self.item_names, dtype=object)[table["item"].to_numpy()]
        table["category"] = np.asarray(self.category_names, dtype=object)[table["category"].to_numpy()]
        return table

    def split_hash(self, split: str) -> str:
        """sha256 over image, item name and role of each row of a split: equal where two evaluations saw the same."""
        described = self.described(self.rows(split))
        digest = hashlib.sha256()
        for image, item, role in zip(described["image"], described["item"], described["role"], strict=True):
            digest.update(f"{image}\x1f{item}\x1f{role}\x1e".encode())
        return digest.hexdigest()


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
