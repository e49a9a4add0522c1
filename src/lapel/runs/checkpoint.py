"""Checkpoints: written whole or not at all, and carrying the config they came from."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lapel import datasets
from lapel.catalog import Catalog
from lapel.catalog.seen import Seen
from lapel.config.composing import from_plain
from lapel.config.data import Invert
from lapel.config.evaluation import Checkpoint
from lapel.config.train import TrainConfig
from lapel.encoders.encoder import Encoder
from lapel.encoders.encoder import build as build_encoder
from lapel.errors import LapelError, counted
from lapel.files.paths import from_here, run_folder
from lapel.files.tensors import load_plain
from lapel.runs.folder import CHECKPOINTS

# Key of a checkpoint under which lapel keeps its own things, all of them plain containers.
LAPEL_KEY = "lapel"

# Where the running mean of the weights is, which goes before them.
AVERAGED = "averaged.means.module."


@dataclass(frozen=True)
class TrainedRun:
    """What a checkpoint of a run holds, checked.

    Args:
        folder: the run folder.
        path: the checkpoint.
        config: with which the run was trained.
        seen: the images that it has seen.
        state: name -> tensor of the encoder.
        losses: likewise of the losses, `<objective>.<…>`: proxies, classifiers.
        step: optimizer steps made.
        epoch: epochs made.
    """

    folder: Path
    path: Path
    config: TrainConfig
    seen: Seen
    state: dict[str, torch.Tensor]
    losses: dict[str, torch.Tensor]
    step: int
    epoch: int

    def load_catalog(self, root: str | None = None) -> Catalog:
        """The catalogue that the run was trained on, from the folder `root` where one is named."""
        data = self.config.data
        return datasets.load(replace(data, root=root) if root else data)

    def encoder(self, invert: Invert = Invert.never) -> Encoder:
        """The encoder with its trained weights, in evaluation mode, on the CPU."""
        encoder = build_encoder(
            self.config.encoder, self.config.data, self.config.variant.metric, invert, with_weights=False
        )
        try:
            encoder.load_state_dict(self.state, strict=True)
        except RuntimeError as error:
            expected = encoder.state_dict()
            wrong = [name for name in {**expected, **self.state} if _shape(expected, name) != _shape(self.state, name)]
            raise LapelError(
                f"{self.path}: does not hold the encoder of its config, as this version of lapel builds it: "
                f"{counted(len(wrong), 'weight')} differ, the first is {wrong[0]}; a bundle of it can still be used"
            ) from error
        return encoder.eval()


def _shape(state: dict[str, Tensor], name: str) -> torch.Size | None:
    return state[name].shape if name in state else None


def open_run(folder: str, which: Checkpoint, key: str = "run") -> TrainedRun:
    """A run's checkpoint with the config it carries.

    Args:
        folder: of the run, as a person gives it.
        which: of its checkpoints.
        key: of the option that names the folder.

    Raises:
        LapelError: the folder or the checkpoint is missing, cannot be read, or is not lapel's.
    """
    run = run_folder(key, folder)
    path = run / CHECKPOINTS / f"{which.name}.ckpt"
    if not path.is_file():
        raise LapelError(f"{key}={folder}: has no {CHECKPOINTS}/{which.name}.ckpt; has training ended its first epoch?")
    checkpoint = load_checkpoint(path)
    try:
        own, weights = checkpoint[LAPEL_KEY], checkpoint["state_dict"]
        averaged = any(name.startswith(AVERAGED) for name in weights)
        state = _below(weights, f"{AVERAGED}encoder." if averaged else "encoder.")
        losses = _losses(weights, averaged)
        return TrainedRun(
            folder=from_here(run.resolve()),
            path=path,
            config=from_plain(own["config"]),
            seen=seen_by(own),
            state=state,
            losses=losses,
            step=checkpoint["global_step"],
            epoch=own["epoch"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise LapelError(f"{path}: is damaged ({type(error).__name__}: {error})") from error


def _below(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """What stands below a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _losses(weights: dict[str, torch.Tensor], averaged: bool) -> dict[str, torch.Tensor]:
    if averaged:
        return _below(weights, f"{AVERAGED}losses.")
    found = (name.partition(".loss.") for name in _below(weights, "objectives."))
    return {f"{name}.{rest}": weights[f"objectives.{name}{part}{rest}"] for name, part, rest in found if part}


def told_of(seen: Seen) -> dict[str, Any]:
    """What a checkpoint carries of it, below LAPEL_KEY."""
    return {
        "catalog": seen.catalog,
        "train_hash": seen.train_hash,
        "train_images": torch.from_numpy(seen.train),
        "val_images": torch.from_numpy(seen.val),
    }


def seen_by(own: dict[str, Any]) -> Seen:
    """The inverse of `told_of`."""
    return Seen(own["catalog"], own["train_hash"], own["train_images"].numpy(), own["val_images"].numpy())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, without running any code that the file may bring.

    Raises:
        LapelError: the file cannot be read, or was not written by lapel.
    """
    checkpoint = load_plain(path, f"{path}: not a readable checkpoint")
    if not isinstance(checkpoint, dict) or LAPEL_KEY not in checkpoint:
        raise LapelError(f"{path}: is not a checkpoint of lapel")
    return checkpoint
