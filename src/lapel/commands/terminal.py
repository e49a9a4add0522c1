"""What every command shares: plain messages on stderr, and errors told in one line with an exit code."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lapel.commands.starting import EXIT_SIGNALLED, raised_as_interrupts
from lapel.errors import InterruptedTrainingError, LapelError, printable, signal_of, why
from lapel.machine.messages import CurrentStderr, for_stderr, is_quiet

# Says that HYDRA_FULL_ERROR was set by a command of lapel's, to have errors from Hydra as they are.
FOR_HYDRA = "LAPEL_ASKS_HYDRA"

# Whether the user asked, by HYDRA_FULL_ERROR=1, for tracebacks in place of one line.
FULL_ERRORS = os.environ.get("HYDRA_FULL_ERROR") == "1" and FOR_HYDRA not in os.environ

EXIT_BAD_INPUT = 2


@contextmanager
def told_in_one_line(program: str) -> Iterator[None]:
    """Print an error that the user can mend as one line and exit with 2; a signal with 128 and its number.

    HYDRA_FULL_ERROR=1 shows where it came from instead.
    """
    if FULL_ERRORS:
        with raised_as_interrupts():
            yield
        return
    try:
        with raised_as_interrupts():
            yield
    except InterruptedTrainingError as error:
        tell(program, error)
        raise SystemExit(EXIT_SIGNALLED + error.signal) from None
    except KeyboardInterrupt as error:
        tell(program, "interrupted")
        raise SystemExit(EXIT_SIGNALLED + signal_of(error)) from None
    except BrokenPipeError:  # the reader, `head` for instance, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except LapelError as error:
        tell(program, f"error: {error}")
        raise SystemExit(EXIT_BAD_INPUT) from None
    except OSError as error:  # a full disk, a folder that may not be written
        tell(program, f"error: {why(error)}")
        raise SystemExit(EXIT_BAD_INPUT) from None


def tell(program: str, what: object) -> None:
    """One line on stderr, with nothing in it that a terminal would obey: names of a user's may hold anything."""
    print(for_stderr(f"{program}: {printable(what)}"), file=sys.stderr)


def say_next(command: str) -> None:
    """The command that comes next, on stdout."""
    if not is_quiet():
        print(f"next: {printable(command)}")


def print_version() -> None:
    """lapel's version, on stdout."""
    from importlib.metadata import version  # slow to import

    print(f"lapel {version('lapel')}")


def log_to_terminal() -> None:
    """lapel's own messages, plain; of others only warnings."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[CurrentStderr()])
    logging.getLogger("lapel").setLevel(logging.INFO)
