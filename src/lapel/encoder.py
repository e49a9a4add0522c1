"""The encoder: preprocessing, trunk, pooling and head, from uint8 images to the embeddings that the metric wants."""

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapel.config import DataConfig, EncoderConfig, Invert, Metric, TinyConfig
from lapel.images.preprocess import Preprocess
from lapel.images.store import ImageStore

# Images embedded at once outside of training: larger batches leave the CPU's cache, and are slower.
EMBED_BATCH = 128


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
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, images: Tensor) -> Tensor:
        """`[batch, inputs, height, width]` to `[batch, outputs, height / stride, width / stride]`."""
        inner = F.relu(self.norm1(self.convolution1(images)), inplace=True)
        inner = self.norm2(self.convolution2(inner))
        return F.relu(inner + self.shortcut(images), inplace=True)


class TinyTrunk(nn.Sequential):
    """A stem, and a residual block for each further width that halves the resolution: 7 convolutions by default.

    All blocks work below the full resolution of about 28x28, where a CPU does more of a convolution's work in a second.
    """

    mean = 0.5
    std = 0.5

    def __init__(self, widths: list[int], channels: int) -> None:
        stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)
        )
        blocks = (ResidualBlock(inputs, outputs, stride=2) for inputs, outputs in pairwise(widths))
        super().__init__(stem, *blocks)
        self.features = widths[-1]


class Encoder(nn.Module):
    """uint8 images to embeddings, with the preprocessing and the metric's normalisation inside.

    Args:
        trunk: float `[batch, channels, height, width]` to feature maps `[batch, features, height, width]`.
        head: pooled features `[batch, features]` to embeddings `[batch, dimensions]`.
        preprocess: uint8 to float.
        normalize: whether the metric compares unit vectors.
    """

    def __init__(self, preprocess: Preprocess, trunk: nn.Module, head: nn.Module, normalize: bool) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.trunk = trunk
        self.head = head
        self.normalize = normalize

    def forward(self, images: Tensor) -> Tensor:
        """uint8 `[batch, 1 or 3, height, width]` to float32 `[batch, dimensions]`, of unit length for cosine."""
        return self.finish(self.raw(images))

    def raw(self, images: Tensor) -> Tensor:
        """Embeddings before normalisation: what a classifier reads."""
        maps = self.trunk(self.preprocess(images))
        return self.head(maps.mean(dim=(2, 3)))

    def finish(self, raw: Tensor) -> Tensor:
        """Raw embeddings, in fp32, as the metric wants them."""
        raw = raw.float()
        return F.normalize(raw, dim=1) if self.normalize else raw


def build(config: EncoderConfig, data: DataConfig, metric: Metric, invert: Invert = Invert.never) -> Encoder:
    """A new encoder with random weights, for the images that `data` describes and the given metric."""
    match config:
        case TinyConfig():
            trunk = TinyTrunk(config.widths, data.channels)
        case _:
            raise TypeError(f"no encoder for {type(config).__name__}")
    mean, std = [trunk.mean] * data.channels, [trunk.std] * data.channels
    preprocess = Preprocess(data.height, data.width, data.channels, data.resize, mean, std, invert)
    head = nn.Linear(trunk.features, config.embedding)
    encoder = Encoder(preprocess, trunk, head, normalize=metric is Metric.cosine)
    return encoder.to(memory_format=torch.channels_last)  # the convolutions' faster layout, on CPU and GPU


@torch.inference_mode()
def embed(encoder: nn.Module, store: ImageStore, rows: np.ndarray) -> Tensor:
    """float32 `[rows, dimensions]`: embeddings of catalogue rows, on the store's device, in fp32 and evaluation mode.

    The encoder is left in the mode in which it came.
    """
    training = encoder.training
    encoder.eval()
    chunks = [rows[start : start + EMBED_BATCH] for start in range(0, len(rows), EMBED_BATCH)]
    parts = [encoder(images) for images in store.gather_all(chunks)]
    encoder.train(training)
    return torch.cat(parts)
