"""What is said on stderr, and whether: lines that hold names, broken between words, and quiet where that is wanted.

Without tables and bars, which take longer to import than to compose a run's options.
"""

import logging
import sys

from rich.cells import cell_len

from lapel.errors import printable


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


def for_stderr(text: str) -> str:
    """A text that may hold names as stderr shows it: on a terminal broken between words."""
    told = printable_lines(text)
    if not sys.stderr.isatty():
        return told
    from rich.console import Console  # slow to import, and seldom needed

    return broken(told, Console(stderr=True).width)


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
