"""Fashion Product Images (Param Aggarwal, Kaggle): `styles.csv` and `images/<id>.jpg`, small (80x60) or large."""

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
    """The table of styles.csv, in which the last field may hold commas without quotes, and `NA` is a value like others.

    Args:
        text: of the file.
        origin: of messages.

    Raises:
        LapelError: a column is missing, or a line has too few fields.
    """
    header, *lines = text.replace("\r\n", "\n").split("\n")  # not splitlines, which knows rarer line ends
    columns = header.split(",")
    for needed in ("id", LAST_COLUMN):
        if needed not in columns:
            raise LapelError(f"{origin}: has no column {needed}; it has {', '.join(columns)}")
    rows = [line.split(",", len(columns) - 1) for line in lines]
    for number, row in enumerate(rows, start=2):
        if len(row) < len(columns) and row != [""]:
            raise LapelError(f"{origin}, line {number}: has {len(row)} fields, must have {len(columns)}")
    values = dict(zip(columns, zip(*(row for row in rows if row != [""]), strict=True), strict=False))
    if not values:
        raise LapelError(f"{origin}: has no rows")
    for name in {"id", "year"} & set(columns):
        values[name] = _numbers(values[name], f"{origin}, column {name}")
    return pd.DataFrame(values)


def _numbers(texts: Sequence[str], origin: str) -> Any:
    """Whole numbers; a missing one is NA."""
    try:
        return pd.array([int(text) if text else None for text in texts], dtype="Int64")
    except ValueError as error:
        raise LapelError(f"{origin}: must hold whole numbers ({error})") from error
