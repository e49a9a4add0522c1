"""Weights of a file, loaded into a model strictly, and without running any code in it."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lapel.errors import LapelError
from lapel.files.paths import user_path
from lapel.files.tensors import load_plain, reason_for

logger = logging.getLogger(__name__)

# Keys named in a message about weights that do not fit.
SHOWN = 3

# Parts of published weights that are for training alone: the further classifiers of inception networks.
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")

# How many batches a normalisation has seen: PyTorch before 0.4.1 did not count, and nothing that lapel builds asks.
COUNT = "num_batches_tracked"


def load_weights(model: nn.Module, file: str, classifiers: tuple[str, ...]) -> None:
    """Load a file of weights into a model; all of them must fit but those of its classifiers, which are gone.

    The model's weights may stand anywhere in the file: below a key such as `state_dict`, and with names that begin with
    `module.`, `model.`, `_orig_mod.` or whatever else something around the model was called. What stands beside them,
    an optimizer's state for instance, is left out. Counts of batches are taken where both have them.

    Args:
        model: without its classifiers.
        file: .pth, .pt, .ckpt (tensors alone: no code in it is run) or .safetensors.
        classifiers: their names in the file.

    Raises:
        LapelError: the file cannot be read, holds the model more than once, or its names or shapes differ; says which.
    """
    wanted = model.state_dict()
    found = read_weights(file)
    prefix = _prefix(found, wanted, file)
    state = {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
    left_out = tuple(_gone_with(each, wanted) for each in classifiers)
    if not any(name.startswith(AUXILIARY) for name in wanted):
        left_out += AUXILIARY
    counts = {name for name in [*state, *wanted] if _is_count(name) and (name in state) != (name in wanted)}
    state = {name: each for name, each in state.items() if not name.startswith(left_out) and name not in counts}
    if unlike := _unlike(state, {name: each for name, each in wanted.items() if name not in counts}):
        below = f" (below {prefix.removesuffix('.')})" if prefix else ""
        raise LapelError(f"encoder.weights={file}: does not fit the model{below}; {unlike}")
    model.load_state_dict(state, strict=False)
    if prefix:
        others = sum(not name.startswith(prefix) for name in found)
        below = prefix.removesuffix(".")
        logger.info("encoder.weights=%s: taken from below %s; %d others are left out", file, below, others)


def _prefix(found: dict[str, Tensor], wanted: dict[str, Tensor], file: str) -> str:
    """What the model's names begin with in a file: that with which most of them are there, of their shapes at best.

    Raises:
        LapelError: all of them are there with several, as where a running mean stands beside the weights.
    """
    fitting: Counter[str] = Counter()
    for name, tensor in found.items():
        parts = name.split(".")
        for number in range(len(parts)):
            end = ".".join(parts[number:])
            if end in wanted and not _is_count(end):
                fitting[name.removesuffix(end)] += 1 + (tensor.shape == wanted[end].shape)
    whole = 2 * sum(not _is_count(name) for name in wanted)
    several = sorted(prefix for prefix, points in fitting.items() if points == whole)
    if len(several) > 1 and "" not in several:
        told = ", ".join(prefix.removesuffix(".") for prefix in several)
        raise LapelError(
            f"encoder.weights={file}: holds the model {len(several)} times, below {told}; must hold it once"
        )
    return min(fitting, key=lambda prefix: (-fitting[prefix], len(prefix)), default="")


def _gone_with(classifier: str, wanted: dict[str, Tensor]) -> str:
    """What names of a classifier that is gone begin with: of the whole head around it, where that has gone with it."""
    parts = classifier.split(".")
    outer = [".".join([*parts[:number], ""]) for number in range(1, len(parts))]
    return next((each for each in outer if not any(name.startswith(each) for name in wanted)), f"{classifier}.")


def _is_count(name: str) -> bool:
    return name.rpartition(".")[2] == COUNT


def _unlike(state: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
    """In what weights differ from those that a model wants, the first names of each kind; empty where they fit."""
    problems = {
        "missing in the file": sorted(set(wanted) - set(state)),
        "not in the model": sorted(set(state) - set(wanted)),
        "of another shape": [
            f"{name} {list(state[name].shape)} for {list(wanted[name].shape)}"
            for name in wanted
            if name in state and state[name].shape != wanted[name].shape
        ],
    }
    told = [f"{what}: {', '.join(names[:SHOWN])} ({len(names)} in all)" for what, names in problems.items() if names]
    return "; ".join(told)


def read_weights(file: str) -> dict[str, Tensor]:
    """Name -> tensor of a file of weights; names of what stands in a container begin with its own and a dot.

    Raises:
        LapelError: the file is missing or damaged, or holds no named tensors.
    """
    content = _read(find_weights(file))
    found = _tensors_in(content) if isinstance(content, dict) else {}
    if not found:
        raise LapelError(f"encoder.weights={file}: must hold named tensors")
    return found


def _tensors_in(content: dict[Any, Any], before: str = "") -> dict[str, Tensor]:
    found = {}
    for key, each in content.items():
        if isinstance(each, Tensor):
            found[f"{before}{key}"] = each
        elif isinstance(each, dict):
            found |= _tensors_in(each, f"{before}{key}.")
    return found


def find_weights(file: str) -> Path:
    """The file of weights, as a person names it.

    Raises:
        LapelError: there is none.
    """
    path = user_path(file)
    if not path.is_file():
        raise LapelError(
            f"encoder.weights={file}: no such file; allowed are none, default, or a .pth or .safetensors file"
        )
    return path


def _read(path: Path) -> Any:
    complaint = f"encoder.weights={path}: cannot be read as tensors"
    if path.suffix != ".safetensors":
        return load_plain(path, complaint)
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # the parser lets through whatever it meets
        raise LapelError(f"{complaint} ({reason_for(error)})") from error
