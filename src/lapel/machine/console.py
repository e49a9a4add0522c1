"""The terminal: whatever a user's names hold is shown as text, and obeyed by nothing.

rich reads `[red]`, `:smile:` and numbers as its own signs, and a terminal obeys escape sequences; here neither does.
What goes to a file or a pipe has no frames, no colours and no bars, and is cut nowhere.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

from lapel.errors import printable

__all__ = [
    "CurrentStderr",
    "PlainConsole",
    "broken",
    "console",
    "for_stderr",
    "keep_quiet",
    "plain_table",
    "printable",
    "printable_lines",
    "progress",
    "show",
    "show_whole",
    "tracked",
]

Part = TypeVar("Part")

# Columns that are room enough for every table, where nothing has to fit a terminal.
UNBOUNDED = 100_000


class _Wishes:
    """What the user of this process wants to see."""

    quiet = False


def keep_quiet(quiet: bool) -> None:
    """Whether from now on nothing is shown but results, warnings and errors: no messages, and no bars."""
    _Wishes.quiet = quiet
    for each in logging.getLogger().handlers:
        if isinstance(each, CurrentStderr):
            each.setLevel(logging.WARNING if quiet else logging.NOTSET)


def is_quiet() -> bool:
    """Whether results, warnings and errors alone are wanted."""
    return _Wishes.quiet


def printable_lines(text: object) -> str:
    """As `printable`, of a text of several lines."""
    return "\n".join(printable(line) for line in str(text).split("\n"))


class CurrentStderr(logging.StreamHandler):
    """Logs to what sys.stderr is at the moment: a progress bar puts itself there, and prints the lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        self.stream = sys.stderr
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """As a text that a terminal shows, and does not obey."""
        return for_stderr(super().format(record))


class PlainConsole(Console):
    """A console to which every text is nothing but that."""

    def render_str(self, text: str, **options: Any) -> Text:  # rich's own
        """See rich's."""
        return super().render_str(printable_lines(text), **options)


def console(*, stderr: bool = False) -> Console:
    """A console for texts that hold names, on stdout or on stderr."""
    return PlainConsole(stderr=stderr, markup=False, emoji=False, highlight=False)


def for_stderr(text: str) -> str:
    """A text that may hold names as stderr shows it: on a terminal broken between words."""
    told = printable_lines(text)
    return broken(told, console(stderr=True).width) if sys.stderr.isatty() else told


def broken(text: str, width: int) -> str:
    """A text with its lines broken at blanks, each with the indent that it had; a longer word, as a path, stays whole.

    >>> print(broken("  one two three", 9))
      one two
      three
    """
    return "\n".join(_broken(line, width) for line in text.split("\n"))


def _broken(line: str, width: int) -> str:
    if cell_len(line) <= width:
        return line
    indent = line[: len(line) - len(line.lstrip(" "))]
    first, *words = line.lstrip(" ").split(" ")
    lines = [indent + first]
    for word in words:
        if cell_len(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(indent + word)
    return "\n".join(lines)


def show(*parts: Table | str) -> None:
    """Print tables and lines, which may hold names, on stdout; none wider than the terminal, but for words that are."""
    on = console()
    for part in parts:
        if isinstance(part, str):
            _show_text(on, part)
            continue
        if part.title is not None:  # which would be broken at the table's own width, however narrow
            _show_text(on, str(part.title), part.title_style)
            part.title = None
        if not on.is_terminal:
            part.box, part.padding = None, (0, 2, 0, 0)
            on.width = UNBOUNDED
            on.width = Measurement.get(on, on.options, part).maximum
        on.print(part)


def _show_text(on: Console, text: str, style: StyleType | None = None) -> None:
    on.print(broken(printable_lines(text), on.width) if on.is_terminal else text, style=style, soft_wrap=True)


def show_whole(line: str) -> None:
    """Print a line, which may hold names, on stdout, broken nowhere: what is to be copied, as a path or a command."""
    console().print(line, soft_wrap=True)


def plain_table(*columns: str, title: str | None = None, right: Sequence[str] = ()) -> Table:
    """A table for `show`, without the frames that take the room of its columns.

    Args:
        columns: their headings.
        title: above it.
        right: headings of columns that are flush right, as numbers are.
    """
    made = Table(title=title, title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for each in columns:
        made.add_column(each, justify="right" if each in right else "left")
    return made


def progress(*columns: ProgressColumn) -> Progress:
    """A progress bar on stderr, gone once it is full; nothing where that is no terminal, or it is to be quiet.

    Args:
        columns: by default what is done, the bar, the numbers, and the time that is left.
    """
    usual = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    on = console(stderr=True)
    shown = on.is_terminal and not on.is_dumb_terminal and not is_quiet()
    return Progress(*(columns or usual), console=on, transient=True, disable=not shown)


def tracked(parts: Sequence[Part], what: str) -> Iterator[Part]:
    """Some parts, one after the other, with a progress bar over them.

    Args:
        parts: of the work.
        what: is done.
    """
    with progress() as bar:
        task = bar.add_task(what, total=len(parts))
        for part in parts:
            yield part
            bar.advance(task)
