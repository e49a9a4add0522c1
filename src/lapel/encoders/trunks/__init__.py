"""Trunks: the part of an encoder from standardised images to features. lapel's own, timm's and torchvision's."""

from lapel.config import DataConfig, EncoderConfig, TinyConfig, TrunkConfig
from lapel.trunks.base import Trunk
from lapel.trunks.convolutions import PointwiseConv2d, SmallMapConv2d
from lapel.trunks.libraries import LibraryTrunk, library_trunk
from lapel.trunks.parts import frozen_except, frozen_modules, layers, recompute_blocks
from lapel.trunks.tiny import TinyTrunk

__all__ = [
    "LibraryTrunk",
    "PointwiseConv2d",
    "SmallMapConv2d",
    "TinyTrunk",
    "Trunk",
    "build_trunk",
    "frozen_except",
    "frozen_modules",
    "layers",
    "recompute_blocks",
]


def build_trunk(config: EncoderConfig, data: DataConfig, with_weights: bool) -> Trunk:
    """The trunk of an encoder.

    Args:
        config: of the encoder.
        data: whose images it takes.
        with_weights: whether `encoder.weights` are loaded; not where a checkpoint's follow.

    Raises:
        LapelError: the model is not known, or its weights cannot be had or do not fit.
    """
    match config:
        case TinyConfig():
            return TinyTrunk(config.widths, data.channels, config.stride)
        case TrunkConfig():
            return library_trunk(config, data, with_weights)
        case _:
            raise TypeError(f"no trunk for {type(config).__name__}")
