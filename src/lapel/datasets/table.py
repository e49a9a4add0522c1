"""Your own photos, listed in a csv or parquet file."""

import csv
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from lapel.catalog import Catalog
from lapel.config.data import TableConfig
from lapel.datasets.photos import Listing, to_catalog
from lapel.errors import LapelError
from lapel.files.paths import user_path
from lapel.photos.tree import Tree

# What counts as a number in a csv: no leading zeros, which codes have.
NUMBER = re.compile(r"[+-]?(0|[1-9]\d{0,17})(\.\d+)?")


def load(config: TableConfig) -> Catalog:
    """The catalogue of a table; its columns `split` (train, val, test) and `role` (query, gallery, both) are obeyed.

    Raises:
        LapelError: no table is named, or it cannot be read; see also `photos.to_catalog`.
    """
    if config.table is None:
        raise LapelError("data.table: must name a csv or parquet file")
    path = user_path(config.table)
    if config.root is not None and not path.is_absolute() and not path.exists():
        path = user_path(config.root) / path
    table = read_table(path)
    if config.image not in table:
        raise LapelError(f"data.image={config.image}: {path} has no such column; it has {', '.join(table.columns)}")
    table["image"] = table[config.image]
    return to_catalog(Listing(path.stem, Tree(config.root or path.parent), "", table), config)


def read_table(path: Path) -> pd.DataFrame:
    """A csv or parquet file. Of a csv, `NA` and the like are texts, and columns of numbers are numbers.

    Raises:
        LapelError: it is missing, empty, not UTF-8, or cannot be parsed.
    """
    if not path.is_file():
        raise LapelError(f"{path}: {'is a folder, must be a file' if path.is_dir() else 'no such file'}")
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise LapelError(f"{path}: must end in .csv or .parquet")
    try:
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path)
            _check_names(path, table.columns.tolist())
        else:
            _check_names(path, _header(path))
            table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", encoding_errors="strict")
    except UnicodeDecodeError as error:
        raise LapelError(f"{path}: is not UTF-8 text (byte {error.start}); convert it") from error
    except pd.errors.EmptyDataError as error:
        raise LapelError(f"{path}: is empty") from error
    except (pd.errors.ParserError, pa.ArrowException, ValueError, OSError) as error:
        raise LapelError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if table.empty:
        raise LapelError(f"{path}: has no rows")
    return pd.DataFrame({str(column): as_numbers([_plain(value) for value in table[column]]) for column in table})


def _header(path: Path) -> list[str]:
    """The columns of a csv, as it has them: pandas calls the second one of a name by another."""
    with path.open(encoding="utf-8-sig", errors="strict", newline="") as file:
        return next(csv.reader(file), [])


def _check_names(path: Path, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise LapelError(f"{path}: names the column {twice[0]} twice")


def _plain(value: Any) -> Any:
    """A value of a cell; of an array, which parquet may hold, its values as a list."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def as_numbers(values: list[Any]) -> Any:
    """Texts that are all numbers, or empty, as numbers; anything else, `007` for instance, as it is."""
    filled = [value for value in values if not isinstance(value, str) or value != ""]
    if not filled or not all(isinstance(value, str) and NUMBER.fullmatch(value) for value in filled):
        return values
    whole = not any("." in value for value in filled)
    numbers = [None if value == "" else int(value) if whole else float(value) for value in values]
    return pd.array(numbers, dtype="Int64" if whole else "Float64")
