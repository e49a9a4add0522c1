"""The encoder: preprocessing, trunk, pooling and head, from uint8 images to the embeddings that the metric wants."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapel.config.data import DataConfig, Invert
from lapel.config.encoder import EncoderConfig, Head, Pool, TrunkConfig
from lapel.config.variant import Metric
from lapel.encoders.trunks import Trunk, build_trunk, frozen_modules
from lapel.errors import LapelError
from lapel.images.preprocess import Preprocess


class Average(nn.Module):
    """Maps to their means.

    Args:
        grid: cells a side, each of which is pooled on its own.
    """

    def __init__(self, grid: int = 1) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, maps: Tensor) -> Tensor:
        """`[batch, features, height, width]` to `[batch, features x cells]`."""
        if self.grid == 1:
            return maps.mean(dim=(2, 3))
        return F.adaptive_avg_pool2d(maps, self.grid).flatten(1)


class Maximum(nn.Module):
    """Maps to their maxima; argument as for `Average`."""

    def __init__(self, grid: int = 1) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, maps: Tensor) -> Tensor:
        """`[batch, features, height, width]` to `[batch, features x cells]`."""
        if self.grid == 1:
            return maps.amax(dim=(2, 3))
        return F.adaptive_max_pool2d(maps, self.grid).flatten(1)


class GeneralizedMean(nn.Module):
    """Maps to their power means, `(mean of x^p)^(1/p)` with a learnt p (Radenovic, Tolias & Chum, TPAMI 2019, GeM).

    Argument as for `Average`.
    """

    START = 3.0
    LEAST = 1e-6

    def __init__(self, grid: int = 1) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(self.START))
        self.least = self.LEAST
        self.mean = Average(grid)

    def forward(self, maps: Tensor) -> Tensor:
        """`[batch, features, height, width]` to `[batch, features x cells]`; negative values count as nearly 0."""
        return self.mean(maps.float().clamp(min=self.least).pow(self.power)).pow(1 / self.power)


POOLS: dict[Pool | None, type[Average] | type[Maximum] | type[GeneralizedMean]] = {
    None: Average, Pool.avg: Average, Pool.max: Maximum, Pool.gem: GeneralizedMean,
}  # fmt: skip


class Encoder(nn.Module):
    """uint8 images to embeddings, with the preprocessing and the metric's normalisation inside.

    Args:
        trunk: standardised images to features, or to maps that are pooled.
        pool: maps `[batch, features, height, width]` to features, those of each cell side by side.
        head: features `[batch, features]` to embeddings `[batch, dimensions]`.
        dimensions: of the embeddings.
        preprocess: uint8 to float.
        normalize: whether the metric compares unit vectors.
        mirror: whether an embedding is the mean of the image's and of its mirror image's.
        frozen: modules of the trunk whose weights and statistics stay as they are in training.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        trunk: Trunk,
        pool: nn.Module,
        head: nn.Module,
        dimensions: int,
        normalize: bool,
        mirror: bool = False,
        frozen: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.trunk: Trunk = trunk
        self.pool = pool
        self.head = head
        self.dimensions = dimensions
        self.normalize = normalize
        self.mirror = mirror
        self.frozen: tuple[nn.Module | nn.Parameter, ...] = ()
        self.freeze(frozen)

    @torch.jit.unused
    def freeze(self, parts: Sequence[nn.Module | nn.Parameter]) -> None:
        """From now on these modules and weights of the trunk stay as they are in training, and all others learn."""
        self.trunk.requires_grad_(requires_grad=True)
        self.frozen = tuple(parts)
        for part in parts:
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Encoder":
        """See `nn.Module`; what is frozen stays in evaluation mode."""
        super().train(mode)
        for part in self.frozen:
            if isinstance(part, nn.Module):
                part.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """uint8 `[batch, 1 or 3, height, width]` to float32 `[batch, dimensions]`, of unit length for cosine."""
        return self.embed_fitted(self.preprocess.fit(images))

    def embed_fitted(self, images: Tensor) -> Tensor:
        """As `forward`, of images that have their channels and size: what `preprocess.fit` gives."""
        return self.finish(self.unfinished_of_fitted(images))

    def unfinished(self, images: Tensor) -> Tensor:
        """As `forward`, before normalisation."""
        return self.unfinished_of_fitted(self.preprocess.fit(images))

    def unfinished_of_fitted(self, images: Tensor) -> Tensor:
        """As `unfinished`, of images that have their channels and size."""
        raw = self.raw(images)
        if self.mirror:
            raw = (raw + self.raw(images.flip(3))) / 2
        return raw.float()

    def raw(self, images: Tensor) -> Tensor:
        """Embeddings before normalisation, what a classifier reads, of images that have their channels and size."""
        features = self.trunk(self.preprocess.standardise(images))
        if features.dim() == 4:
            features = self.pool(features)
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
        LapelError: see `trunks.build_trunk`; or the trunk cannot take images of this size.
    """
    trunk = build_trunk(config, data, with_weights)
    preprocess = Preprocess(data.height, data.width, data.channels, data.resize, trunk.mean, trunk.std, invert)
    pool = POOLS[config.pool](config.grid)
    frozen = frozen_modules(trunk, config.frozen) if isinstance(config, TrunkConfig) else []
    features = trunk.features * config.grid**2
    head, dimensions = _head(config, features)
    encoder = Encoder(preprocess, trunk, pool, head, dimensions, metric is Metric.cosine, config.mirror, frozen)
    try_out(encoder, config, "data.size", data.channels, data.size)
    return encoder.to(memory_format=torch.channels_last)  # the convolutions' faster layout, on CPU and GPU


def _head(config: EncoderConfig, features: int) -> tuple[nn.Module, int]:
    """What makes embeddings of features, and their dimensions."""
    if config.embedding is None:
        return nn.Identity(), features
    linear = nn.Linear(features, config.embedding)
    match config.head:
        case Head.linear:
            return linear, config.embedding
        case Head.bn:
            norm = nn.BatchNorm1d(config.embedding)
            norm.bias.requires_grad = False  # an offset would move all embeddings off the centre
            return nn.Sequential(linear, norm), config.embedding
        case Head.mlp:
            hidden = nn.Linear(features, features, bias=False)
            return nn.Sequential(hidden, nn.BatchNorm1d(features), nn.ReLU(), linear), config.embedding


@torch.no_grad()
def try_out(encoder: Encoder, config: EncoderConfig, key: str, channels: int, size: list[int]) -> None:
    """Raise if the encoder cannot take images of a size, which many trunks say with an error from deep inside.

    Args:
        encoder, config: which is asked, and what messages call it.
        key: of the size in the config.
        channels, size: of the images.
    """
    training = encoder.training
    shown = "x".join(map(str, size))
    try:
        found = encoder.eval().raw(torch.zeros(1, channels, *size, dtype=torch.uint8))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise LapelError(f"encoder={config.label}: cannot take images of {key}={shown} ({reason})") from error
    finally:
        encoder.train(training)
    if not torch.isfinite(found).all():
        raise LapelError(f"encoder={config.label}: gives embeddings that are not finite for {key}={shown}")
