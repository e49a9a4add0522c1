"""The one exception for what the user can mend: a command prints it as one line and exits with code 2."""

import signal
import unicodedata

# Ctrl-C, and what schedulers and supervisors end a process with. SLURM sends SIGUSR1 where it is asked to
# (`--signal=USR1@120`), ahead of a job's end.
AWAITED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def printable(text: object) -> str:
    """A text with nothing in it that ends a line or that a terminal obeys: that is written as Python writes it."""
    return "".join(each if each.isprintable() else _escaped(each) for each in str(text))


def _escaped(letter: str) -> str:
    """A letter that is not shown as it stands, as Python writes it; blanks of other kinds are."""
    return letter if unicodedata.category(letter) == "Zs" else ascii(letter)[1:-1]


def counted(count: int, one: str, several: str = "") -> str:
    """How many of something: `counted(1, "image") == "1 image"`, `counted(2000, "image") == "2,000 images"`.

    Args:
        count: of them.
        one: what it is called where there is one.
        several: and where there are several; by default with an s.
    """
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


class LapelError(Exception):
    """Bad input: the message is one line that names the thing, where it is, and what is allowed.

    Names in it may hold anything, and are escaped.
    """

    def __init__(self, told: str) -> None:
        super().__init__(printable(told))


class InterruptedTrainingError(LapelError):
    """Training was asked to stop, and did so between two steps, with `last.ckpt` written.

    Args:
        told: as for every error.
        signal: that asked for it: SIGINT (Ctrl-C), SIGTERM or SIGUSR1.
    """

    def __init__(self, told: str, signal: int) -> None:
        super().__init__(told)
        self.signal = signal


class SignalledError(KeyboardInterrupt):
    """Another signal that asks a command to end, SIGTERM for one: as Ctrl-C out of what is being done, and cleaned up.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def signal_of(error: KeyboardInterrupt) -> int:
    """The signal that an interruption came from."""
    return error.number if isinstance(error, SignalledError) else signal.SIGINT


class NothingToScoreError(LapelError):
    """No query has a match in the gallery."""


class DataNotFoundError(LapelError):
    """A data set is nowhere to be had; what is there but damaged is another error."""


def why(error: BaseException) -> str:
    """What an exception says, in one line: files that fail by name, what is unforeseen by kind."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    said = " ".join(str(error).split())
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or said
    return said if isinstance(error, LapelError) else f"{type(error).__name__}: {said}".rstrip(": ")
