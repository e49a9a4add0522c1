"""lapel's own trunk: a small residual network."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from lapel.config.data import DataConfig
from lapel.config.encoder import TinyConfig
from lapel.encoders.trunks.base import Trunk
from lapel.encoders.trunks.convolutions import PointwiseConv2d


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a shortcut (He et al. 2016, the basic block)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.convolution2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            pointwise = PointwiseConv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(pointwise, nn.BatchNorm2d(outputs))

    def forward(self, images: Tensor) -> Tensor:
        """`[batch, inputs, height, width]` to `[batch, outputs, height / stride, width / stride]`."""
        inner = F.relu(self.norm1(self.convolution1(images)), inplace=True)
        inner = self.norm2(self.convolution2(inner))
        return F.relu(inner + self.shortcut(images), inplace=True)


class TinyTrunk(Trunk):
    """A stem, and a residual block for each further width that halves the resolution: 7 convolutions by default.

    All blocks work below the full resolution of about 28x28, where a CPU does more of a convolution's work in a second.
    """

    def __init__(self, widths: list[int], channels: int, stride: int = 1) -> None:
        stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, stride, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)
        )
        blocks = (ResidualBlock(inputs, outputs, stride=2) for inputs, outputs in pairwise(widths))
        super().__init__()
        self.layers = nn.Sequential(stem, *blocks)
        self.features = widths[-1]
        self.mean, self.std = [0.5] * channels, [0.5] * channels

    def forward(self, images: Tensor) -> Tensor:
        """Maps `[batch, features, height / 2^n, width / 2^n]`."""
        return self.layers(images)


def tiny_trunk(config: TinyConfig, data: DataConfig) -> TinyTrunk:
    """The trunk of a config, for the images of a data set."""
    return TinyTrunk(config.widths, data.channels, config.stride)
