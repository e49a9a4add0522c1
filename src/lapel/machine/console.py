"""The terminal: whatever a user's names hold is shown as text, and obeyed by nothing.

rich reads `[red]`, `:smile:` and numbers as its own signs, and a terminal obeys escape sequences; here neither does.
"""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from lapel.errors import printable

__all__ = ["PlainConsole", "console", "printable", "printable_lines", "progress"]


def printable_lines(text: object) -> str:
    """As `printable`, of a text of several lines."""
    return "\n".join(printable(line) for line in str(text).split("\n"))


class PlainConsole(Console):
    """A console to which every text is nothing but that."""

    def render_str(self, text: str, **options: Any) -> Text:  # rich's own
        """See rich's."""
        return super().render_str(printable_lines(text), **options)


def console(*, stderr: bool = False, least_width: int = 0) -> Console:
    """A console for texts that hold names.

    Args:
        stderr: whether it writes there, and not to stdout.
        least_width: columns that it takes at least, where the terminal has fewer.
    """
    made = PlainConsole(stderr=stderr, markup=False, emoji=False, highlight=False)
    if made.width < least_width:
        made.width = least_width
    return made


def progress(*columns: ProgressColumn) -> Progress:
    """A progress bar on stderr, gone once it is full; nothing where that is no terminal.

    Args:
        columns: by default what is done, the bar, the numbers, and the time that is left.
    """
    usual = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    on = console(stderr=True)
    return Progress(*(columns or usual), console=on, transient=True, disable=not on.is_terminal)
