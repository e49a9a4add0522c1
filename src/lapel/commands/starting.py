"""How every command begins: its modules are imported, for half a second or more, when Ctrl-C is one line already.

For this the modules of the commands import next to nothing themselves.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_SIGNALLED = 128  # plus the number of the signal, as shells have it


@contextmanager
def ended_at_once(program: str) -> Iterator[None]:
    """Ctrl-C inside ends the process with one line and 130: for as long as nothing is made that is to be cleaned up.

    As an exception it can come out of an import, or of a `finally`, as another one, and is lost where it arrives in
    what Python calls by itself. Where Ctrl-C is ignored, or somebody else's, it stays so.
    """

    def end(number: int, _: object) -> None:
        os.write(2, f"{program}: interrupted\n".encode())
        os._exit(EXIT_SIGNALLED + number)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
