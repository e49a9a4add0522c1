"""lapel-search: look-alikes of an image, or of a row of a bundle, as a table, json or csv."""

from typing import TYPE_CHECKING, Any

from lapel.commands.starting import asks_for_help, ended_at_once

if TYPE_CHECKING:
    from lapel.config.search import SearchConfig, TableFormat

# What a table of search results shows (json and csv have every column), and the least width of its numbers in a narrow
# terminal, where only names are cut.
TABLE_COLUMNS = ["rank", "row", "score", "item", "category", "image"]
NARROWEST = {"rank": 4, "row": 5, "score": 7}


def _search(config: "SearchConfig") -> None:
    from lapel.bundle import load

    bundle = load(config.bundle)
    row = config.row
    found = bundle.search(config.image, config.k) if row is None else bundle.search_row(row, config.k)
    _print_found(found.drop(columns="query"), config.format)


def _print_found(found: Any, form: "TableFormat") -> None:
    from rich.table import Table

    from lapel.config.search import TableFormat
    from lapel.files.tables import csv_text, json_text
    from lapel.machine.console import console

    if form is TableFormat.json:
        print(json_text(found.drop(columns="rank")))
    elif form is TableFormat.csv:
        print(csv_text(found), end="")
    else:
        table = Table()
        for name in TABLE_COLUMNS:
            table.add_column(name, min_width=NARROWEST.get(name))
        for row in found[TABLE_COLUMNS].itertuples(index=False):
            table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row))
        console().print(table)


def main() -> None:
    """`lapel-search`."""
    with ended_at_once("lapel-search"):
        if asks_for_help():
            from lapel.commands.help import print_help

            print_help("search")
            return
        from lapel.commands.literal import run_literal

        run_literal("search", _search)
