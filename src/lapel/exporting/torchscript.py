"""The encoder as TorchScript: uint8 images of any size in, embeddings as the metric wants them out."""

import copy
import warnings
from pathlib import Path
from typing import Any

import torch

from lapel.encoders.encoder import Encoder
from lapel.encoders.trunks import LibraryTrunk
from lapel.files.writing import opened


def write(encoder: Encoder, path: Path) -> None:
    """Write an encoder in evaluation mode, without gradients: who loads it need not say that none are wanted."""
    with warnings.catch_warnings(), opened(path) as file:
        warnings.simplefilter("ignore", (FutureWarning, DeprecationWarning))
        torch.jit.save(scripted(encoder), file)


def scripted(encoder: Encoder) -> Any:
    """The encoder as a TorchScript module. torch announces its end with a warning at each use; its loaders stay.

    Library models are traced, since not all of them can be scripted; what is before them takes images of any size.
    """
    encoder = copy.deepcopy(encoder).requires_grad_(requires_grad=False)
    preprocess = encoder.preprocess
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer also warns of each size that it takes for fixed, as it is
        if isinstance(encoder.trunk, LibraryTrunk):
            example = torch.zeros(2, preprocess.channels, preprocess.height, preprocess.width)
            traced: Any = torch.jit.trace(encoder.trunk, example)
            encoder.register_module("trunk", traced)
        return torch.jit.script(encoder)
