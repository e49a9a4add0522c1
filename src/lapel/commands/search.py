"""lapel-search: look-alikes of an image, or of a row of a bundle, as a table, json or csv."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from lapel.commands.literal import literal_command
from lapel.config.search import SearchConfig, TableFormat

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
        records = json.loads(found.drop(columns="rank").to_json(orient="records", double_precision=10))
        print(json.dumps(records, indent=2, ensure_ascii=False))
    elif form is TableFormat.csv:
        print(found.to_csv(index=False), end="")
    else:
        table = Table()
        for name in TABLE_COLUMNS:
            table.add_column(name, min_width=NARROWEST.get(name))
        for row in found[TABLE_COLUMNS].itertuples(index=False):
            table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row))
        Console().print(table)


main = literal_command("search", _search)
