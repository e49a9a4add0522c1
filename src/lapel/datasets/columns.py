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
    return not _holds_numbers(column) and any(isinstance(each, str) for each in column)


def spelled_otherwise(table: pd.DataFrame) -> dict[str, str]:
    """Column that lapel reads -> the user's of that name in other case, which can be meant so, where there is no other.

    Args:
        table: the user's.
    """
    meant = {"split": _names_parts, "role": _names_roles, **dict.fromkeys(BOX_COLUMNS, _holds_numbers)}
    found: dict[str, str] = {}
    for name, is_meant in meant.items():
        alike = [column for column in table if column.strip().casefold() == name]
        if name not in table and len(alike) == 1 and is_meant(table[alike[0]]):
            found[name] = alike[0]
    whole_boxes = {*BOX_COLUMNS} <= {*table, *found}
    return {name: column for name, column in found.items() if whole_boxes or name not in BOX_COLUMNS}


def _names_parts(column: Any) -> bool:
    return is_division(column) and all(text == "" or split_of(text) for text in _texts(column))


def _names_roles(column: Any) -> bool:
    return is_division(column) and all(text == "" or text.casefold() in ROLES for text in _texts(column))


def lacks_of_boxes(table: pd.DataFrame) -> str:
    """Why a table's columns left, top, right, bottom are no boxes, though most are there; empty where all is well."""
    there = [name for name in BOX_COLUMNS if name in table]
    if len(there) == len(BOX_COLUMNS) - 1:
        (missing,) = set(BOX_COLUMNS) - set(there)
        return f"columns {', '.join(there)} are no box without {missing}"
    if len(there) < len(BOX_COLUMNS):
        return ""
    for name in there:
        if not _holds_numbers(table[name]):
            other = next((repr(each) for each in table[name] if not _is_number(each)), "nothing")
            return f"column {name} must hold numbers, as 12 or 12.5; it holds {other}"
    return ""


def _is_number(value: Any) -> bool:
    """Whether a value is a number, or a text of one."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _holds_numbers(column: Any) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype)


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
    return set(BOX_COLUMNS) <= set(table) and all(_holds_numbers(table[column]) for column in BOX_COLUMNS)


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
