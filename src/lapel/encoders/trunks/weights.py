"""Weights of a file, loaded into a model strictly, and without running any code in it."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lapel.errors import LapelError
from lapel.files.paths import user_path
from lapel.files.tensors import load_plain, reason_for

# Keys named in a message about weights that do not fit.
SHOWN = 3

# Parts of published weights that are for training alone: the further classifiers of inception networks.
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


def load_weights(model: nn.Module, file: str, classifier: str) -> None:
    """Load a file of weights into a model; all of them must fit but those of its classifier, which is gone.

    Args:
        model: without its classifier.
        file: .pth, .pt, .ckpt (tensors alone: no code in it is run) or .safetensors.
        classifier: name of the classifier in the file.

    Raises:
        LapelError: the file cannot be read, or its names or shapes differ; says which.
    """
    state = read_weights(file)
    if classifier:
        state = {name: tensor for name, tensor in state.items() if not name.startswith(f"{classifier}.")}
    wanted = model.state_dict()
    if not any(name.startswith(AUXILIARY) for name in wanted):
        state = {name: tensor for name, tensor in state.items() if not name.startswith(AUXILIARY)}
    problems = [
        ("missing in the file", sorted(set(wanted) - set(state))),
        ("not in the model", sorted(set(state) - set(wanted))),
        (
            "of another shape",
            [
                f"{name} {list(state[name].shape)} for {list(wanted[name].shape)}"
                for name in wanted
                if name in state and state[name].shape != wanted[name].shape
            ],
        ),
    ]
    told = [f"{what}: {', '.join(keys[:SHOWN])} ({len(keys)} in all)" for what, keys in problems if keys]
    if told:
        raise LapelError(f"encoder.weights={file}: does not fit the model; {'; '.join(told)}")
    model.load_state_dict(state, strict=True)


def read_weights(file: str) -> dict[str, Tensor]:
    """Name -> tensor of a file of weights, without a wrapping `state_dict` or a common prefix `module.`.

    Raises:
        LapelError: the file is missing or damaged, or holds something else.
    """
    state = _read(find_weights(file))
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state or not all(isinstance(each, Tensor) for each in state.values()):
        raise LapelError(f"encoder.weights={file}: must hold named tensors, and nothing else")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


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
