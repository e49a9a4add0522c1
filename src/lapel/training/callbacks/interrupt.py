"""Ctrl-C and the signals with which schedulers announce that a process will be ended."""

import signal
import threading
import time
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from lapel.errors import AWAITED

# Seconds after which another Ctrl-C means that waiting for the end of the step takes too long.
IMPATIENCE = 2.0


class Interrupt(Callback):
    """Notes a signal, which is obeyed between two steps; a second one of a terminal ends the process at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.signalled_at = 0.0
        self.previous_handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From now on signals wait for the end of the step."""
        del trainer, pl_module
        if threading.current_thread() is not threading.main_thread():  # Python allows handlers there alone
            return
        for number in AWAITED:
            self.previous_handlers[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Remember the signal. A terminal and a launcher may both send it: only a later one is a second one."""
        del frame
        now = time.monotonic()
        if self.signal is None:
            self.signal, self.signalled_at = number, now
        elif now - self.signalled_at > IMPATIENCE and number != signal.SIGUSR1:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)
        self.previous_handlers = {}

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        del trainer, pl_module, stage
        self._restore()
