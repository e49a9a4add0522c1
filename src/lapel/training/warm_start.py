"""Warm start: training that begins with the encoder of another run or bundle. It is not a resume."""

import logging

import torch

from lapel.bundle.bundle import load
from lapel.config.evaluation import Checkpoint
from lapel.encoders.encoder import Encoder
from lapel.errors import LapelError
from lapel.files.named import MANIFEST_FILE
from lapel.files.paths import run_path
from lapel.runs.checkpoint import open_run

logger = logging.getLogger(__name__)


def begin_with(encoder: Encoder, origin: str) -> None:
    """Give an encoder the weights of another run's best checkpoint, or of a bundle.

    The head is taken over where it has the same shape; else it stays new, which is told.

    Raises:
        LapelError: the run or bundle is missing or damaged, or its trunk is another one.
    """
    state = _encoder_state(origin)
    own = encoder.state_dict()
    trunk = {name for name in own if name.startswith("trunk.")}
    unlike = sorted(
        name
        for name in trunk | {name for name in state if name.startswith("trunk.")}
        if name not in own or name not in state or own[name].shape != state[name].shape
    )
    if unlike:
        raise LapelError(
            f"init={origin}: its trunk is not this encoder's: {len(unlike)} weights differ, the first is {unlike[0]}"
        )
    head = [name for name in own if name.startswith("head.")]
    same_head = all(name in state and own[name].shape == state[name].shape for name in head)
    encoder.load_state_dict({name: state[name] for name in [*trunk, *(head if same_head else [])]}, strict=False)
    told = "trunk and embedding" if same_head else "trunk; the embedding, of another shape, begins anew"
    logger.info("began with the weights of %s: %s", origin, told)


def _encoder_state(origin: str) -> dict[str, torch.Tensor]:
    folder = run_path(origin)
    if not (folder / MANIFEST_FILE).is_file():
        return open_run(origin, Checkpoint.best, key="init").state
    return load(folder).encoder.state_dict()
