"""Tables as csv, RFC 4180: whatever a name holds, its row is read again as it was."""

import csv
from typing import Any


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
