"""The driver's side: contenders are started, given turns, asked for embeddings, and ended."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import lapel

# Where `contenders` is imported from, and lapel: wherever a contender works, it is the driver's.
SOURCES = [str(Path(__file__).parents[1]), str(Path(lapel.__file__).resolve().parents[1])]

# Most characters of what a contender said last that are told where it fails.
LAST_WORDS = 200

# Seconds that a contender has to end by itself when its input ends.
PATIENCE = 10.0

# Seconds of a turn that ends by its images alone.
LONG = 1e9


class FailedError(Exception):
    """A contender has ended where it should not have."""


@dataclass(frozen=True)
class Turn:
    """What a contender did in a turn.

    Args:
        images: trained on.
        seconds: that took.
        peak: most megabytes in memory so far.
        ended: whether its training is at its end.
        aside: seconds that it needed besides, which do not count as training.
    """

    images: int
    seconds: float
    peak: float
    ended: bool = False
    aside: float = 0.0


class Contender:
    """A process that works while it has the turn.

    Args:
        command: of the process; it talks as `contenders.turns` tells.
        folder: working directory, which is made; what it prints goes to a file in it.
        threads: of its computations.

    Raises:
        FailedError: it did not get ready.
    """

    def __init__(self, command: list[str], folder: Path, threads: int) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.log = folder / "said.txt"
        paths = os.pathsep.join(filter(None, [*SOURCES, os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        started = time.perf_counter()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.metric = self._answer()["metric"]
        self.setup = time.perf_counter() - started

    def train(self, images: int, within: float = LONG) -> Turn:
        """One turn, which ends with the step that reaches so many images, or so many seconds."""
        return Turn(**self._ask(train=images, within=within))

    def embed(self) -> np.ndarray:
        """float32 `[images, dimensions]`: the embeddings of val."""
        path = self.folder / "val.npy"
        self._ask(embed=str(path))
        return np.load(path)

    def end(self) -> None:
        """Have the process end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.close()
            self.process.wait(PATIENCE)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def _ask(self, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer, which is none, tells
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            said = self.log.read_text(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(said) if line.strip()), "")
            raise FailedError(last[:LAST_WORDS] or f"exit code {self.process.returncode}")
        return json.loads(line)


def module(name: str, *arguments: str, python: str | Path = sys.executable) -> list[str]:
    """The command of a contender's module."""
    return [str(python), "-m", f"contenders.{name}", *arguments]
