"""Tables as csv (RFC 4180) and JSON: whatever a name holds, its row is read again as it was."""

import csv
import datetime
import json
import math
from typing import Any

import numpy as np
import pandas as pd


def csv_text(table: Any, index: bool = False) -> str:
    """A pandas table as csv text, its lines ended by a line feed.

    Fields are quoted where they must be. A carriage return is no end of a line here, and is left without quotes for it,
    but many readers take it for one: then all texts are quoted.

    Args:
        table: the table.
        index: whether its index is a column, too.
    """
    text = table.to_csv(index=index, lineterminator="\n")
    return table.to_csv(index=index, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC) if "\r" in text else text


def json_text(table: pd.DataFrame) -> str:
    """A table as JSON: a list with an object a row."""
    records = table.astype(object).to_dict("records")
    return json.dumps([_plain(each) for each in records], indent=2, ensure_ascii=False)


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
