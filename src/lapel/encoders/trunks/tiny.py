"""lapel's own trunk: a small network that learns in minutes on two cores."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from lapel.config.data import DataConfig
from lapel.config.encoder import TinyConfig
from lapel.encoders.trunks.base import Trunk


class Convolution(nn.Module):
    """A convolution with batch normalisation, rectified.

    Args:
        inputs, outputs: channels.
        kernel: its side, odd.
        stride: its step.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """`[batch, inputs, height, width]` to `[batch, outputs, height / stride, width / stride]`, rounded up."""
        return F.relu(self.norm(self.convolution(maps)), inplace=True)


class ResidualConvolution(Convolution):
    """One whose result is added to what it is given: as many channels come out as go in."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """`[batch, channels, height, width]` to the same shape."""
        return maps + super().forward(maps)


class TinyTrunk(Trunk):
    """A stem, and for each further width a convolution that halves the resolution, with residual ones after some.

    By default 5 convolutions. Most of the work is done on small maps, of 7x7 and 4x4 for images of 28x28, where a CPU
    does more of a convolution's work in a second; strides halve the maps, since pooling would have each convolution
    work on maps of four times the size. As residual networks made for speed are: Page, "How to train your ResNet",
    2018; Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024.

    Args:
        widths: channels of the stem, then of each block.
        channels: of the images.
        stride: of the stem, whose filters reach over two steps.
        residual: residual convolutions of each block but the first, whose maps are large, and the last, whose channels
            are many.
    """

    def __init__(self, widths: list[int], channels: int, stride: int, residual: int) -> None:
        super().__init__()
        stem = Convolution(channels, widths[0], 2 * stride + 1, stride)
        blocks = [[Convolution(inputs, outputs, 3, 2)] for inputs, outputs in pairwise(widths)]
        for block, width in zip(blocks[1:-1], widths[2:-1], strict=True):
            block += [ResidualConvolution(width) for _ in range(residual)]
        self.layers = nn.Sequential(stem, *(nn.Sequential(*block) for block in blocks))
        self.features = widths[-1]
        self.mean, self.std = [0.5] * channels, [0.5] * channels

    def forward(self, images: Tensor) -> Tensor:
        """Maps `[batch, features, height / (stride 2^n), width / (stride 2^n)]`, rounded up at each step."""
        return self.layers(images)


def tiny_trunk(config: TinyConfig, data: DataConfig) -> TinyTrunk:
    """The trunk of a config, for the images of a data set."""
    return TinyTrunk(config.widths, data.channels, config.stride, config.residual)
