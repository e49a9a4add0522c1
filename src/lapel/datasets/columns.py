"""The columns of a table of a user's: what lapel reads in some of them, and what becomes of others that have its names.

A column of the user's whose name lapel needs for something else is kept as `given_<name>`. Filters and `data.item` know
it by its own name all the same.
"""

from typing import Any

import numpy as np
import pandas as pd

from lapel.catalog import ROLES, SAME_PIXELS, SEVERAL_ITEMS, SEVERAL_SPLITS, TRAINED_ON
from lapel.datasets.splits import SPELLINGS, split_of
from lapel.errors import LapelError

# What lapel adds to a catalogue, to the rows of a bundle, and to those that a search finds.
ADDED = (SEVERAL_ITEMS, SEVERAL_SPLITS, SAME_PIXELS, TRAINED_ON, "query", "rank", "row", "score")

BOX_COLUMNS = ["left", "top", "right", "bottom"]

# A box's end where the whole photo is meant: what lies outside of a photo is ignored.
WHOLE = np.iinfo(np.int32).max


def given_names(table: pd.DataFrame, needed: set[str]) -> dict[str, str]:
    """Column -> the name under which it is kept, for those that lapel needs for something else.

    Args:
        table: the user's.
        needed: names that lapel gives to columns of its own.
    """
    renamed: dict[str, str] = {}
    for column in table.columns:
        if column in needed:
            name = f"given_{column}"
            while name in table or name in renamed.values():
                name = f"given_{name}"
            renamed[column] = name
    return renamed


def is_division(column: Any) -> bool:
    """Whether a column `split` or `role` can be meant as lapel reads it: it holds names, and no numbers."""
    return not pd.api.types.is_numeric_dtype(column.dtype) and any(isinstance(each, str) for each in column)


def read_splits(column: Any, where: str) -> pd.Series:
    """train, val and test in place of the spellings in use; empty where the table names none.

    Args:
        column: of names, or nothing.
        where: what messages call the table.

    Raises:
        LapelError: it holds other names.
    """
    texts = _texts(column)
    parts = texts.map(lambda text: split_of(text) or "")
    if other := sorted(set(texts[(parts == "") & (texts != "")])):
        spellings = ", ".join(each for several in SPELLINGS.values() for each in several)
        raise LapelError(
            f"{where}: column split holds {', '.join(other[:3])}{', …' if len(other) > 3 else ''}; allowed are "
            f"{spellings}; give a column that means something else another name"
        )
    return parts


def read_roles(column: Any, where: str) -> pd.Series:
    """query, gallery and both, in whatever case they are written; both where the table names none.

    Raises:
        LapelError: it holds other names.
    """
    texts = _texts(column).str.casefold().replace("", "both")
    if other := sorted(set(texts) - set(ROLES)):
        raise LapelError(
            f"{where}: column role holds {', '.join(other[:3])}; allowed are {', '.join(ROLES)}; give a column that "
            "means something else another name"
        )
    return texts


def _texts(column: Any) -> pd.Series:
    return column.astype(object).where(column.notna(), "").astype(str).str.strip()


def hold_boxes(table: pd.DataFrame) -> bool:
    """Whether the columns left, top, right, bottom are all there, and hold numbers alone."""
    return set(BOX_COLUMNS) <= set(table) and all(
        pd.api.types.is_numeric_dtype(table[column].dtype) for column in BOX_COLUMNS
    )


def read_boxes(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The boxes of a table's photos, in pixels: fractions widen them to whole ones; without any number, all of it.

    Returns:
        int32 `[rows, 4]`: left, top, right, bottom; and bool `[rows]`, where only some of the four are told.
    """
    numbers = table[BOX_COLUMNS].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    missing = ~np.isfinite(numbers)
    whole = np.concatenate([np.floor(numbers[:, :2]), np.ceil(numbers[:, 2:])], axis=1)
    boxes = np.where(missing, [0, 0, WHOLE, WHOLE], whole).clip(-WHOLE, WHOLE)
    return boxes.astype(np.int32), np.asarray(missing.any(1) & ~missing.all(1))
