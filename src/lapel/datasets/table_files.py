"""Tables as people save them: csv and parquet files."""

import csv
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from lapel.errors import LapelError

# What counts as a number in a csv: no leading zeros, which codes have.
NUMBER = re.compile(r"[+-]?(0|[1-9]\d{0,17})(\.\d+)?")

# What separates fields where it is no comma.
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}

# Characters of the longest field that is read.
LONGEST_FIELD = 2**24


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
        table = read_csv(path) if is_csv else _read_parquet(path)
    except UnicodeDecodeError as error:
        raise LapelError(f"{path}: is not UTF-8 text (byte {error.start}); convert it") from error
    except (pa.ArrowException, ValueError, OSError) as error:
        raise LapelError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    _check_names(path, table.columns.tolist())
    if table.empty:
        raise LapelError(f"{path}: has no rows")
    values = {str(column): [_plain(value) for value in table[column]] for column in table}
    return pd.DataFrame({name: as_numbers(each, exactly=name in labels and is_csv) for name, each in values.items()})


def _read_parquet(path: Path) -> pd.DataFrame:
    """A parquet file; what pandas has saved as an index of a name is a column like the others."""
    table = pd.read_parquet(path)
    named = [each for each in table.index.names if each is not None and each not in table]
    return table.reset_index(named) if named else table


def read_csv(path: Path) -> pd.DataFrame:
    """A csv file, all of it as texts. Empty lines are passed over, and so is an empty field at the end of every line.

    Raises:
        LapelError: it is empty, a quote is not closed, or a line has more or fewer fields than the first.
    """
    lines = _parsed(path)
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


def _parsed(path: Path) -> list[tuple[int, list[str]]]:
    """Number and fields of each line that is not empty."""
    csv.field_size_limit(LONGEST_FIELD)
    lines: list[tuple[int, list[str]]] = []
    try:
        with path.open(encoding="utf-8-sig", errors="strict", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines += ((reader.line_num, fields) for fields in reader if fields)
    except csv.Error as error:
        _check_separators(path)
        raise LapelError(f"{path}, line {lines[-1][0] + 1 if lines else 1}: cannot be read ({error})") from error
    if lines and lines[0][1] == ["sep=", ""]:  # a spreadsheet's word to itself, of commas
        del lines[0]
    if lines and len(lines[0][1]) == 1:
        _check_separators(path)
    return lines


def _check_separators(path: Path) -> None:
    """Raise where something else than commas separates the fields."""
    if separators := _other_separators(path):
        raise LapelError(f"{path}: looks separated by {separators}; save it with commas")


def _other_separators(path: Path) -> str:
    """What separates the fields of a csv, where by it all lines have as many, two at least; empty where none does."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    lines = [line for line in lines if line and not line.startswith("sep=")]
    for mark, name in SEPARATORS.items():
        counts = {len(fields) for fields in csv.reader(lines, delimiter=mark)}
        if len(counts) == 1 and counts.pop() > 1:
            return name
    return ""


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
