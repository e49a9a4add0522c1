"""A contender's side: it trains while it has the turn, and waits while others have it.

Orders come by standard input and answers go by standard output, one JSON object a line:

    (once set up)                    {"ready": true, "metric": "cosine"}
    {"train": 6875, "within": 30}    {"images": 6912, "seconds": 4.2, "peak": 612.5}
    {"embed": "a.npy"}               {"embedded": 5000}

The end of the input ends the contender. This module needs nothing but numpy: contenders of other environments use it.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np


class Turns:
    """The turns of one contender.

    Args:
        orders, answers: lines of JSON.
    """

    def __init__(self, orders: TextIO, answers: TextIO) -> None:
        self.orders = orders
        self.answers = answers
        self.embed: Callable[[], np.ndarray] | None = None
        self.asked = self.images = 0
        self.within = self.started = 0.0

    @classmethod
    def of_this_process(cls) -> "Turns":
        """By standard input and output; whatever the contender prints goes to standard error from now on."""
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        return cls(sys.stdin, answers)

    def ready(self, embed: Callable[[], np.ndarray], metric: str) -> int:
        """Say that all is set up, and wait for the first turn.

        Args:
            embed: gives the embeddings of val, float32 `[images, dimensions]`.
            metric: in which they are compared, cosine or euclidean.

        Returns:
            The images of the turn.
        """
        self.embed = embed
        self._tell(ready=True, metric=metric)
        return self.wait()

    def wait(self) -> int:
        """Wait for the next turn, and embed meanwhile where that is asked for; how many images the turn has."""
        while line := self.orders.readline():
            order = json.loads(line)
            if "embed" in order:
                assert self.embed is not None
                embeddings = self.embed()
                np.save(order["embed"], embeddings)
                self._tell(embedded=len(embeddings))
                continue
            self.asked, self.within, self.images = order["train"], order["within"], 0
            self.started = time.perf_counter()
            return self.asked
        raise SystemExit(0)

    def step(self, images: int) -> None:
        """A step is made, of so many images; where it was the turn's last one, wait for the next turn."""
        self.images += images
        seconds = time.perf_counter() - self.started
        if self.images >= self.asked or seconds >= self.within:
            self.answer(self.images, seconds)
            self.wait()

    def answer(self, images: int, seconds: float, **more: Any) -> None:
        """End the turn: what was trained on, and in how many seconds."""
        self._tell(images=images, seconds=seconds, peak=peak_memory(), **more)

    def _tell(self, **answer: Any) -> None:
        self.answers.write(json.dumps(answer) + "\n")
        self.answers.flush()


def peak_memory() -> float:
    """Most megabytes that this process has had in memory."""
    try:  # what getrusage tells of a new process includes the one that started it
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
