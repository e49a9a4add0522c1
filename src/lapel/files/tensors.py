"""Files of torch.save that hold tensors and plain containers: read without running any code that they may bring."""

import errno
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from lapel.errors import LapelError

# The longest reason that is passed on to the user.
LONGEST = 200


def load_plain(path: Path, complaint: str) -> Any:
    """What a file holds, on the CPU.

    Args:
        path: written by `torch.save`.
        complaint: what the error begins with: which file, and what it should have been.

    Raises:
        LapelError: the file is missing, damaged, or holds anything besides tensors and plain containers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its parsers do: zip, pickle, OS, runtime errors
        raise LapelError(f"{complaint} ({reason_for(error)})") from error


def reason_for(error: Exception) -> str:
    """Why a file cannot be read, in a line."""
    if isinstance(error, EOFError):
        return "it is empty or cut short"
    # What torch says where it looks for the end of a zip in vain: the one before the file's beginning.
    if (isinstance(error, OSError) and error.errno == errno.EINVAL) or "PytorchStreamReader" in str(error):
        return "it is damaged or cut short"
    if isinstance(error, pickle.UnpicklingError):
        return "it is damaged, or a pickle that could run code: only tensors and plain containers are read"
    reason = " ".join(str(error).split()).partition(". ")[0][:LONGEST]
    return f"{type(error).__name__}: {reason}"
