"""Your own photos, listed in a csv or parquet file."""

import csv
import logging
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from lapel.catalog import Catalog
from lapel.config.data import TableConfig
from lapel.datasets.columns import ADDED, given_names, is_division, read_roles, read_splits
from lapel.datasets.photos import Listing, to_catalog
from lapel.datasets.splits import missing_parts
from lapel.errors import LapelError
from lapel.files.paths import user_path
from lapel.photos.tree import Tree

logger = logging.getLogger(__name__)

# What counts as a number in a csv: no leading zeros, which codes have.
NUMBER = re.compile(r"[+-]?(0|[1-9]\d{0,17})(\.\d+)?")

# What separates fields where it is no comma.
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}

# Options that name columns of labels.
LABELS = ("item", "category", "group")

# Characters of the longest field that is read.
LONGEST_FIELD = 2**24


def load(config: TableConfig) -> Catalog:
    """The catalogue of a table; its columns `split`, `role` and left, top, right, bottom (a box) are obeyed.

    Raises:
        LapelError: no table is named, or it cannot be read; see also `photos.to_catalog`.
    """
    if config.table is None:
        raise LapelError("data.table: must name a csv or parquet file")
    path = user_path(config.table)
    if config.root is not None and not path.is_absolute() and not path.exists():
        path = user_path(config.root) / path
    table = read_table(path, labels={*config.item, *config.category, *config.group})
    if config.image not in table:
        raise LapelError(f"data.image={config.image}: {path} has no such column; it has {_listed(table)}")
    listing = Listing(path.stem, Tree(config.root or path.parent), "", table)
    config = _rename(listing, config, path)
    if "split" in listing.table:
        listing.table["split"] = read_splits(listing.table["split"], str(path))
        listing.drop("no split named", (listing.table["split"] == "").to_numpy())
        if listing.table.empty:
            raise LapelError(f"{path}: column split names none for any row")
        if missing := missing_parts(listing.table["split"]):
            logger.warning("%s: column split names no row for %s", path, missing)
    if "role" in listing.table:
        listing.table["role"] = read_roles(listing.table["role"], str(path))
    return to_catalog(listing, config)


def _listed(table: pd.DataFrame) -> str:
    """The columns of a table, and what may be wrong where it has one alone."""
    (first, *others) = table.columns
    for mark, name in SEPARATORS.items():
        if not others and mark in first:
            return f"{first}: it looks separated by {name}; save it with commas"
    return ", ".join(table.columns)


def _rename(listing: Listing, config: TableConfig, path: Path) -> TableConfig:
    """Keep the user's columns whose names lapel needs under other names; the config that speaks of them."""
    table = listing.table
    needed: set[str] = {*ADDED} | ({"image"} if config.image != "image" else set())
    needed |= {name for name in ("item", "category") if getattr(config, name) != [name]}
    needed |= {name for name in ("split", "role") if name in table and not is_division(table[name])}
    listing.renamed = given_names(table, needed)
    if listing.renamed:
        told = ", ".join(f"{old} as {new}" for old, new in listing.renamed.items())
        hint = "; data.category=category takes it for the category" if "category" in listing.renamed else ""
        logger.info("%s: kept, since lapel has columns of these names: %s%s", path, told, hint)
        listing.table = table.set_axis([listing.renamed.get(each, each) for each in table], axis=1)
    listing.table["image"] = listing.table[listing.renamed.get(config.image, config.image)]
    now = {name: [listing.renamed.get(each, each) for each in getattr(config, name)] for name in LABELS}
    return replace(config, item=now["item"], category=now["category"], group=now["group"])


def read_table(path: Path, labels: Collection[str] = ()) -> pd.DataFrame:
    """A csv or parquet file. Of a csv, `NA` and the like are texts, and columns of numbers are numbers.

    Args:
        path: of the file.
        labels: columns that name something: there 1.10 and 1.1 are two names, and no numbers.

    Raises:
        LapelError: it is missing, empty, not UTF-8, or cannot be parsed.
    """
    if not path.is_file():
        raise LapelError(f"{path}: {'is a folder, must be a file' if path.is_dir() else 'no such file'}")
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise LapelError(f"{path}: must end in .csv or .parquet")
    is_csv = path.suffix.lower() == ".csv"
    try:
        table = read_csv(path) if is_csv else pd.read_parquet(path)
    except UnicodeDecodeError as error:
        raise LapelError(f"{path}: is not UTF-8 text (byte {error.start}); convert it") from error
    except (csv.Error, pa.ArrowException, ValueError, OSError) as error:
        raise LapelError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    _check_names(path, table.columns.tolist())
    if table.empty:
        raise LapelError(f"{path}: has no rows")
    values = {str(column): [_plain(value) for value in table[column]] for column in table}
    return pd.DataFrame({name: as_numbers(each, exactly=name in labels and is_csv) for name, each in values.items()})


def read_csv(path: Path) -> pd.DataFrame:
    """A csv file, all of it as texts. Empty lines are passed over, and so is an empty field at the end of every line.

    Raises:
        LapelError: it is empty, or a line has more or fewer fields than the first.
        csv.Error: a quote is not closed.
    """
    csv.field_size_limit(LONGEST_FIELD)
    with path.open(encoding="utf-8-sig", errors="strict", newline="") as file:
        reader = csv.reader(file, strict=True)
        lines = [(reader.line_num, fields) for fields in reader if fields]
    if not lines:
        raise LapelError(f"{path}: is empty")
    (_, names), *rows = lines
    while names and names[-1].strip() == "" and all(len(fields) < len(names) or not fields[-1] for _, fields in rows):
        names = names[:-1]
        rows = [(number, fields[: len(names)]) for number, fields in rows]
    for number, fields in rows:
        if not any(fields[len(names) :]):
            del fields[len(names) :]
        if len(fields) != len(names):
            raise LapelError(f"{path}, line {number}: has {len(fields)} fields, must have {len(names)}")
    return pd.DataFrame([fields for _, fields in rows], columns=names, dtype=object)


def _check_names(path: Path, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise LapelError(f"{path}: names the column {twice[0]} twice")


def _plain(value: Any) -> Any:
    """A value of a cell; of an array, which parquet may hold, its values as a list."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def as_numbers(values: list[Any], exactly: bool = False) -> Any:
    """Texts that are all numbers, or empty, as numbers; anything else, `007` for instance, as it is.

    Args:
        values: of a column.
        exactly: whether each must be written as its number is.
    """
    filled = [value for value in values if not isinstance(value, str) or value != ""]
    if not filled or not all(isinstance(value, str) and NUMBER.fullmatch(value) for value in filled):
        return values
    whole = not any("." in value for value in filled)
    numbers = [None if value == "" else int(value) if whole else float(value) for value in values]
    if exactly and any(value != "" and str(number) != value for number, value in zip(numbers, values, strict=True)):
        return values
    return pd.array(numbers, dtype="Int64" if whole else "Float64")
