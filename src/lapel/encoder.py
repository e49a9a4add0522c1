"""The encoder: preprocessing, trunk, pooling and head, from uint8 images to the embeddings that the metric wants."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapel.config import DataConfig, EncoderConfig, Invert, Metric, TrunkConfig
from lapel.images.preprocess import Preprocess
from lapel.images.store import ImageStore
from lapel.trunks import build_trunk, frozen_modules

# Images embedded at once outside of training: larger batches leave the CPU's cache, and are slower.
EMBED_BATCH = 128


class Encoder(nn.Module):
    """uint8 images to embeddings, with the preprocessing and the metric's normalisation inside.

    Args:
        trunk: standardised images to features, or to maps that are averaged.
        head: features `[batch, features]` to embeddings `[batch, dimensions]`.
        preprocess: uint8 to float.
        normalize: whether the metric compares unit vectors.
        frozen: modules of the trunk whose weights and statistics stay as they are in training.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        trunk: nn.Module,
        head: nn.Module,
        normalize: bool,
        frozen: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.trunk = trunk
        self.head = head
        self.normalize = normalize
        self.frozen = tuple(frozen)
        for module in frozen:
            module.requires_grad_(requires_grad=False)
        self.train()  # Lightning trains modules in the mode in which it gets them

    def train(self, mode: bool = True) -> "Encoder":
        """See `nn.Module`; what is frozen stays in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """uint8 `[batch, 1 or 3, height, width]` to float32 `[batch, dimensions]`, of unit length for cosine."""
        return self.finish(self.raw(images))

    def raw(self, images: Tensor) -> Tensor:
        """Embeddings before normalisation: what a classifier reads."""
        features = self.trunk(self.preprocess(images))
        if features.dim() == 4:
            features = features.mean(dim=(2, 3))
        return self.head(features)

    def finish(self, raw: Tensor) -> Tensor:
        """Raw embeddings, in fp32, as the metric wants them."""
        raw = raw.float()
        return F.normalize(raw, dim=1) if self.normalize else raw


def build(
    config: EncoderConfig,
    data: DataConfig,
    metric: Metric,
    invert: Invert = Invert.never,
    with_weights: bool = True,
) -> Encoder:
    """A new encoder for the images that `data` describes and the given metric.

    Args:
        config, data, metric, invert: of the run.
        with_weights: whether the trunk's pretrained weights are loaded, where the config names some.

    Raises:
        LapelError: see `trunks.build_trunk`.
    """
    trunk = build_trunk(config, data.channels, with_weights)
    preprocess = Preprocess(data.height, data.width, data.channels, data.resize, trunk.mean, trunk.std, invert)
    head = nn.Identity() if config.embedding is None else nn.Linear(trunk.features, config.embedding)
    frozen = frozen_modules(trunk, config.frozen) if isinstance(config, TrunkConfig) else []
    encoder = Encoder(preprocess, trunk, head, metric is Metric.cosine, frozen)
    return encoder.to(memory_format=torch.channels_last)  # the convolutions' faster layout, on CPU and GPU


def dimensions(encoder: Encoder) -> int:
    """Of the embeddings."""
    return encoder.trunk.features if isinstance(encoder.head, nn.Identity) else encoder.head.out_features  # type: ignore[return-value]


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
