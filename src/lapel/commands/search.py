"""lapel-search: look-alikes of an image, or of a row of a bundle, as a table, json or csv."""

import datetime
import json
import math
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from lapel.commands.literal import literal_command
from lapel.config.search import SearchConfig, TableFormat
from lapel.files.tables import csv_text
from lapel.machine.console import console

# What a table of search results shows (json and csv have every column), and the least width of its numbers in a narrow
# terminal, where only names are cut.
TABLE_COLUMNS = ["rank", "row", "score", "item", "category", "image"]
NARROWEST = {"rank": 4, "row": 5, "score": 7}


def _search(config: SearchConfig) -> None:
    from lapel.bundle import load

    bundle = load(config.bundle)
    row = config.row
    found = bundle.search(config.image, config.k) if row is None else bundle.search_row(row, config.k)
    _print_found(found.drop(columns="query"), config.format)


def _print_found(found: Any, form: TableFormat) -> None:
    if form is TableFormat.json:
        records = found.drop(columns="rank").astype(object).to_dict("records")
        print(json.dumps([_plain(each) for each in records], indent=2, ensure_ascii=False))
    elif form is TableFormat.csv:
        print(csv_text(found), end="")
    else:
        table = Table()
        for name in TABLE_COLUMNS:
            table.add_column(name, min_width=NARROWEST.get(name))
        for row in found[TABLE_COLUMNS].itertuples(index=False):
            table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row))
        console().print(table)


def _plain(value: Any) -> Any:
    """A value of a table as JSON has it: numbers and texts as what they are, moments as ISO 8601, gaps as null."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value if isinstance(value, bool | int | float | str) else str(value)


main = literal_command("search", _search)
