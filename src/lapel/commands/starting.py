"""How every command begins: its modules are imported, for half a second or more, when Ctrl-C is one line already.

For this the modules of the commands import next to nothing themselves.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lapel.errors import AWAITED, SignalledError

EXIT_SIGNALLED = 128  # plus the number of the signal, as shells have it


@contextmanager
def ended_at_once(program: str) -> Iterator[None]:
    """A signal of AWAITED ends the process with one line: for as long as nothing is made that is to be cleaned up.

    As an exception it can come out of an import, or of a `finally`, as another one, and is lost where it arrives in
    what Python calls by itself. A signal that is ignored, or that somebody else minds, stays so.
    """

    def end(number: int, _: object) -> None:
        os.write(2, f"{program}: interrupted\n".encode())
        os._exit(EXIT_SIGNALLED + number)

    with _minded_by(end, [number for number in AWAITED if _is_nobodys(signal.getsignal(number))]):
        yield


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
