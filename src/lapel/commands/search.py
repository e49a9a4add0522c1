"""lapel-search: look-alikes of an image, or of a row of a bundle, as a table, json or csv."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lapel.commands.asked import helped
from lapel.commands.starting import ended_at_once

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame

    from lapel.bundle import Bundle
    from lapel.config.search import SearchConfig

# What a table of search results shows (json and csv have every column), and the least width of its numbers in a narrow
# terminal, where only names are cut.
TABLE_COLUMNS = ["rank", "row", "score", "item", "category", "image"]
NARROWEST = {"rank": 4, "row": 5, "score": 6}

# Digits of a score after the point; a float32 near 1 has seven or eight.
FEWEST_DIGITS, MOST_DIGITS = 4, 8


def _search(config: "SearchConfig") -> None:
    with ended_at_once("lapel-search"):
        from lapel.config.search import PICTURES

    if config.format in PICTURES:
        _show_pictures(config)
    else:
        _show_text(config)


def _found(config: "SearchConfig") -> tuple["DataFrame", "Bundle"]:
    """What is found, best first, and in what."""
    from lapel.errors import printable
    from lapel.machine.messages import is_quiet

    if sys.stderr.isatty() and not is_quiet():
        print(f"opening {printable(config.bundle)}", file=sys.stderr)
    from lapel.bundle import load

    bundle = load(config.bundle)
    row = config.row
    found = bundle.search(config.image, config.k) if row is None else bundle.search_row(row, config.k)
    return found.drop(columns="query"), bundle


def _show_text(config: "SearchConfig") -> None:
    """What was found, on stdout."""
    from lapel.config.search import TableFormat
    from lapel.files.named import bundle_folder

    bundle_folder(config.bundle)  # raises where there is none, before what reads it is imported
    with ended_at_once("lapel-search"):
        import lapel.bundle  # noqa: F401 - slow
        from lapel.files.tables import csv_text, json_text

    found, bundle = _found(config)
    if config.format is TableFormat.json:
        print(json_text(found.drop(columns="rank")))
    elif config.format is TableFormat.csv:
        print(csv_text(found), end="")
    else:
        _show(found, bundle, config)


def _show(found: "DataFrame", bundle: "Bundle", config: "SearchConfig") -> None:
    """What was searched with, and a table of what was found."""
    from lapel.machine.console import plain_table, show

    if not config.quiet:
        show(asked(bundle, config))
    table = plain_table(*TABLE_COLUMNS, right=["rank", "row", "score"])
    for column in table.columns:
        column.min_width = NARROWEST.get(str(column.header))
    digits = telling_digits(found["score"].tolist())
    for row in found[TABLE_COLUMNS].itertuples(index=False):
        table.add_row(*(f"{value:.{digits}f}" if isinstance(value, float) else str(value) for value in row))
    show(table)


def _show_pictures(config: "SearchConfig") -> None:
    """What was searched with and what was found, as pictures in a file, which is named at the end."""
    from lapel.config.search import TableFormat
    from lapel.errors import printable
    from lapel.files.paths import user_path

    with ended_at_once("lapel-search"):  # not where a file is begun, which would stay
        import lapel.bundle  # noqa: F401 - slow
        from lapel.commands.sheet import finds_of
        from lapel.pictures.finds import as_page, as_sheet

    path = user_path(config.out or f"finds.{config.format.name}")
    with _writable(path) as temporary:
        found, bundle = _found(config)
        digits = telling_digits(found["score"].tolist())
        finds = finds_of(found, digits, bundle, config, asked(bundle, config).splitlines())
        if config.format is TableFormat.png:
            as_sheet(finds).save(temporary, format="PNG")
        else:
            temporary.write_text(as_page(finds), encoding="utf-8")
    print(printable(path))


@contextmanager
def _writable(path: "Path") -> Iterator["Path"]:
    """As `written_whole`; what cannot be written is told at once, and not when all is searched.

    Raises:
        LapelError: a folder has the name, or the file cannot be made.
    """
    from contextlib import ExitStack

    from lapel.errors import LapelError
    from lapel.files.writing import written_whole

    if path.is_dir():
        raise LapelError(f"out={path}: is a folder, must name a file")
    with ExitStack() as stack:
        try:
            temporary = stack.enter_context(written_whole(path))
        except OSError as error:
            reason = f"{path.parent} is no folder" if path.parent.is_file() else error.strerror
            raise LapelError(f"out={path}: cannot be written: {reason}") from error
        yield temporary


def asked(bundle: "Bundle", config: "SearchConfig") -> str:
    """What was searched with, in what, and by which measure, in three lines."""
    from lapel.errors import counted

    subject = str(config.image)
    if config.row is not None:
        described = bundle.items.iloc[config.row]
        subject = f"row {config.row} ({described['item']}, image {described['image']})"
    model = f"{bundle.manifest['name']}, {counted(len(bundle.items), 'image')}"
    measure = "cosine, 1 at most" if bundle.metric.name == "cosine" else "minus the euclidean distance, 0 at most"
    return f"Look-alikes of {subject}\nin {bundle.folder}\n{model}; score: {measure}"


def telling_digits(scores: list[float]) -> int:
    """Digits after the point that tell apart all scores that differ; four at least, and as many as float32 has at most.

    >>> telling_digits([0.9, 0.8]), telling_digits([0.99999, 0.99998]), telling_digits([1.0, 1.0])
    (4, 5, 4)
    """
    from lapel.retrieval.words import telling_decimals

    return telling_decimals(scores, FEWEST_DIGITS, MOST_DIGITS)


def main() -> None:
    """`lapel-search`."""
    with ended_at_once("lapel-search"):
        if helped("search"):
            return
        from lapel.commands.literal import run_literal
    run_literal("search", _search)
