"""Fashion Product Images (Param Aggarwal, Kaggle): `styles.csv` and `images/<id>.jpg`, small (80x60) or large."""

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from lapel.catalog import Catalog
from lapel.config.data import FashionProductConfig
from lapel.datasets.origins import find_tree
from lapel.datasets.photos import Listing, to_catalog
from lapel.errors import LapelError

STYLES = "styles.csv"
IMAGES = "images/"
LAST_COLUMN = "productDisplayName"

# A whole number as pandas writes it where one of the column is missing.
WHOLE = re.compile(r"^\s*(\d+)\.0*\s*$")


def load(config: FashionProductConfig) -> Catalog:
    """The catalogue, leave-one-out; rows without an image are dropped and reported.

    Raises:
        LapelError: the data is not there or damaged; see also `photos.to_catalog`.
    """
    tree, base = find_tree("fashion_product", config.root, STYLES)
    table = parse_styles(tree.text(base + STYLES), str(tree.root / (base + STYLES)))
    table.insert(0, "image", IMAGES + table["id"].astype(str) + ".jpg")
    return to_catalog(Listing("fashion_product", tree, base, table), config)


def parse_styles(text: str, origin: str) -> pd.DataFrame:
    """The table of styles.csv, in which `NA` is a value like others.

    As it is published, its last field may hold commas without quotes. Saved again by pandas or a spreadsheet, it is a
    csv file like others: fields that need it are quoted, columns may follow the name, and years may end in `.0`.

    Args:
        text: of the file.
        origin: of messages.

    Raises:
        LapelError: a column is missing, or a line has too few or too many fields.
    """
    names, *rows = _fields(text)
    columns = [name.strip() for name in names]
    for needed in ("id", LAST_COLUMN):
        if needed not in columns:
            raise LapelError(f"{origin}: has no column {needed}; it has {', '.join(columns)}")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            raise LapelError(f"{origin}, line {number}: has {len(row)} fields, must have {len(columns)}")
    if not rows:
        raise LapelError(f"{origin}: has no rows")
    values: dict[str, Any] = dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))
    for name in {"id", "year"} & set(columns):
        values[name] = _numbers(values[name], f"{origin}, column {name}")
    return pd.DataFrame(values)


def _fields(text: str) -> list[list[str]]:
    """The fields of each line but empty ones, quoted or as they were published."""
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error:  # a quote that stands for inches, for instance
        rows = []
    if rows and all(len(row) == len(rows[0]) for row in rows):
        return rows
    header, *lines = (line for line in text.replace("\r\n", "\n").split("\n") if line)  # splitlines knows rarer ends
    columns = header.split(",")
    return [columns, *(_fields_of_line(line, columns) for line in lines)]


def _fields_of_line(line: str, columns: list[str]) -> list[str]:
    """Those that quotes make, if they are as many as there are columns; else the rest of the line is the name."""
    try:
        quoted = next(csv.reader([line], strict=True))
    except csv.Error:
        quoted = []
    return quoted if len(quoted) == len(columns) else line.split(",", _most_commas(columns))


def _most_commas(columns: list[str]) -> int:
    """Commas that divide a line: where the name is not last, all of them do."""
    return len(columns) - 1 if columns[-1].strip() == LAST_COLUMN else -1


def _numbers(texts: Sequence[str], origin: str) -> Any:
    """Whole numbers; a missing one is NA."""
    try:
        found = [int(WHOLE.sub(r"\1", text)) if text.strip() else None for text in texts]
        return pd.array(found, dtype="Int64")
    except ValueError as error:
        raise LapelError(f"{origin}: must hold whole numbers ({error})") from error
