"""Trains as told and kills itself at a given moment: `killed_training.py FOLDER MOMENT NUMBER overrides…`.

The moments: `step`, ahead of optimizer step NUMBER; `validation`, in the NUMBERth; `checkpoint`, when half of the
NUMBERth is written; `renamed`, right after the NUMBERth has its name; `pictures`, ahead of the NUMBERth epoch's;
`drawn`, right after them; `never`. With RESUME as the first override the
folder's training goes on.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

import lapel
from lapel.training.callbacks import Keeper, Pictures
from lapel.training.checkpoint_files import AtomicCheckpointIO
from lapel.training.module import SimilarityModule


def main() -> None:
    folder, moment, number, *overrides = sys.argv[1:]
    die_at(moment, int(number))
    if overrides[0] == "RESUME":
        lapel.train(lapel.compose("train", [f"resume={folder}", *overrides[1:]]))
    else:
        lapel.train(lapel.compose("train", overrides), folder)


def die_at(moment: str, number: int) -> None:
    """Make the process kill itself at a moment."""
    if moment == "step":
        wrap(SimilarityModule, "optimizer_step", number, before=die)
    elif moment == "validation":
        wrap(SimilarityModule, "validated", number, before=die)
    elif moment == "checkpoint":
        wrap(torch, "save", number, before=write_half)
    elif moment == "pictures":
        wrap(Pictures, "after_validation", number, before=die)
    elif moment == "drawn":
        wrap(Keeper, "draw", number, after=die)
    elif moment == "renamed":
        wrap(AtomicCheckpointIO, "save_checkpoint", number, after=die)


def wrap(owner: Any, name: str, number: int, before: Any = None, after: Any = None) -> None:
    original, calls = getattr(owner, name), []

    def replacement(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        if before and len(calls) == number:
            before(*arguments)
        result = original(*arguments, **options)
        if after and len(calls) == number:
            after(*arguments)
        return result

    setattr(owner, name, replacement)


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_half(content: Any, file: Any) -> None:
    """Half of a checkpoint's bytes, on the disk, and then the end."""
    del content
    file.write(b"PK" + bytes(5000))
    file.flush()
    os.fsync(file.fileno())
    die()


if __name__ == "__main__":
    assert Path(sys.argv[1])
    main()
