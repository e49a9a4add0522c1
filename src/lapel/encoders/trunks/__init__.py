"""Trunks: the part of an encoder from standardised images to features. lapel's own, timm's and torchvision's."""

from lapel.config.choices import build, kind_of
from lapel.config.data import DataConfig
from lapel.config.encoder import EncoderConfig
from lapel.encoders.trunks.base import Trunk
from lapel.encoders.trunks.convolutions import PatchConv2d, PointwiseConv2d, SmallMapConv2d
from lapel.encoders.trunks.libraries import LibraryTrunk
from lapel.encoders.trunks.parts import frozen_except, frozen_modules, layers, recompute_blocks
from lapel.encoders.trunks.tiny import TinyTrunk

__all__ = [
    "LibraryTrunk",
    "PatchConv2d",
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
    return build(kind_of(config), config=config, data=data, with_weights=with_weights)
