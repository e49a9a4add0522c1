"""How every command begins: what is asked of help is answered, or something is said, before anything slow is imported.

The modules of a command are imported, for half a second or more, when Ctrl-C is one line already. For this the modules
of the commands import next to nothing themselves.
"""

import gc
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from lapel.errors import AWAITED, SignalledError

EXIT_SIGNALLED = 128  # plus the number of the signal, as shells have it

HELP = ("-h", "--help")

# Where one of these is among the arguments nothing is begun, but something is shown.
SHOWN = (*HELP, "--version", "--cfg", "-c", "--info", "-i", "--hydra-help", "--shell-completion", "-sc")

QUIET = "quiet=true"

# Commands that stand in a clone's top folder, too.
_SCRIPTS = ("train.py", "evaluate.py", "export.py")


def asks_for_help() -> bool:
    """Whether the arguments of this process ask for help."""
    return bool(set(HELP) & {each.partition("=")[0] for each in sys.argv[1:]})


def typed(program: str) -> str:
    """A command as it is typed by who has typed this one: `python evaluate.py` after `python train.py`.

    Args:
        program: as it is installed.
    """
    script = f"{program.removeprefix('lapel-')}.py"
    called = os.path.basename(sys.argv[0])  # noqa: PTH119 - pathlib is imported later
    return f"python {script}" if called in _SCRIPTS and script in _SCRIPTS else program


def say_at_once(what: str) -> None:
    """A line on stdout about what begins: to import torch alone takes seconds, and more on a cold disk.

    Nothing where something is only shown, where the user wants it quiet, in all but one of several processes, and where
    stdout is a file, in which it would stand before the results. Not on stderr, where an error is the only line.
    """
    others = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) != "0"
    shown = set(SHOWN) & {each.partition("=")[0] for each in sys.argv[1:]}
    if not others and not shown and QUIET not in sys.argv[1:] and not _is_file(sys.stdout):
        print(what, flush=True)


def _is_file(stream: TextIO) -> bool:
    """Whether what is written goes to a file, and to no terminal, pipe or whatever else."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # it is closed, or stands for no descriptor
        return False


@contextmanager
def ended_at_once(program: str) -> Iterator[None]:
    """A signal of AWAITED ends the process with one line: for as long as nothing is made that is to be cleaned up.

    As an exception it can come out of an import, or of a `finally`, as another one, and is lost where it arrives in
    what Python calls by itself. A signal that is ignored, or that somebody else minds, stays so.

    Nor is anything made that becomes garbage: looking for it among what is imported would take a tenth of the time.
    """

    def end(number: int, _: object) -> None:
        os.write(2, f"{program}: interrupted\n".encode())
        os._exit(EXIT_SIGNALLED + number)

    collects = gc.isenabled()
    gc.disable()
    try:
        with _minded_by(end, [number for number in AWAITED if _is_nobodys(signal.getsignal(number))]):
            yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def _minded_by(handler: Callable[[int, object], None], numbers: list[signal.Signals]) -> Iterator[None]:
    """Signals go to a handler inside, and afterwards to whom they went before."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _is_nobodys(handler: object) -> bool:
    """Whether a signal's handler is the one that there is without anybody's doing, or a command's own."""
    return handler in (signal.SIG_DFL, signal.default_int_handler, _interrupt)


def _interrupt(number: int, _: object) -> None:
    raise SignalledError(number)


@contextmanager
def raised_as_interrupts() -> Iterator[None]:
    """SIGTERM and SIGUSR1 come as Ctrl-C does, as an exception out of what is being done, where nobody minds them."""
    minded = [number for number in AWAITED if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():  # Python allows handlers there alone
        minded = []
    with _minded_by(_interrupt, minded):
        yield
