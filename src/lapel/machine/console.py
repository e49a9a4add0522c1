"""The terminal: whatever a user's names hold is shown as text, and obeyed by nothing.

rich reads `[red]`, `:smile:` and numbers as its own signs, and a terminal obeys escape sequences; here neither does.
What goes to a file or a pipe has no frames, no colours and no bars, and is cut nowhere.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

from lapel.machine.messages import broken, is_quiet, printable_lines

Part = TypeVar("Part")

# Columns that are room enough for every table, where nothing has to fit a terminal.
UNBOUNDED = 100_000


class PlainConsole(Console):
    """A console to which every text is nothing but that."""

    def render_str(self, text: str, **options: Any) -> Text:  # rich's own
        """See rich's."""
        return super().render_str(printable_lines(text), **options)


def console(*, stderr: bool = False) -> Console:
    """A console for texts that hold names, on stdout or on stderr."""
    return PlainConsole(stderr=stderr, markup=False, emoji=False, highlight=False)


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
        if on.is_terminal:
            on.print(part)
        else:
            _print_unbounded(on, part)


def _print_unbounded(on: Console, table: Table) -> None:
    """A table for a file or a pipe: as wide as it is, without frames, nor blanks at the ends of its lines."""
    table.box, table.padding = None, (0, 2, 0, 0)
    on.width = UNBOUNDED
    on.width = Measurement.get(on, on.options, table).maximum
    with on.capture() as captured:
        on.print(table)
    for line in captured.get().splitlines():
        on.print(line.rstrip(), soft_wrap=True)


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
