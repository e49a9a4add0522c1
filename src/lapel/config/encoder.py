"""The network that turns images into embeddings."""

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from lapel.config.choices import choice, name_of
from lapel.config.options import Options, option
from lapel.errors import LapelError


class Pool(Enum):
    """How maps become features: their mean, their maximum, or a power mean whose power is learnt (GeM)."""

    avg = "avg"
    max = "max"
    gem = "gem"


class Head(Enum):
    """What makes the embedding of the features.

    linear: one layer. bn: one layer, and batch normalisation without an offset (Luo et al. 2019, the BNNeck). mlp: a
    hidden layer as wide as the features, normalised and rectified, before it (Chen et al. 2020).
    """

    linear = "linear"
    bn = "bn"
    mlp = "mlp"


@dataclass
class EncoderConfig(Options):
    """The network that turns images into embeddings."""

    # Whether it takes images of every size that `data.size` allows, so that it need not be tried out.
    takes_any_size: ClassVar[bool] = False

    pool: Pool | None = None
    """null for the network's own."""
    grid: int = option(1, at_least=1)
    """Cells a side, each of which is pooled on its own: their features stand side by side, and say where things are."""
    head: Head = Head.linear
    embedding: int | None = option(64, at_least=2, at_most=65_536)
    """Dimensions of the embedding; null for the trunk's features as they are."""
    mirror: bool = False
    """Whether an image, outside of training, gets the mean of its own embedding and of its mirror image's."""

    @property
    def label(self) -> str:
        """What runs and tables call it."""
        return name_of(self)


@choice("encoder", "tiny", build="lapel.encoders.trunks.tiny:tiny_trunk")
@dataclass
class TinyConfig(EncoderConfig):
    """A small network, trained from scratch."""

    takes_any_size: ClassVar[bool] = True  # its convolutions pad: of one pixel they make one

    mirror: bool = True
    widths: list[int] = option([32, 64, 128, 256], at_least=1)
    """Channels of the stem, then of each block, of which every one halves the resolution."""
    stride: int = option(2, at_least=1, at_most=8)
    """Step of the stem: 2 for images of about 28x28, 4 for twice that; 1 sees more, at four times the work."""
    residual: list[int] = option([0, 2], at_least=0)
    """Further 3x3 convolutions of the first block, the second, …, each added to what it is given; others have none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths:
            raise LapelError("encoder.widths=[]: must have at least one width")


class Library(Enum):
    """Where a trunk comes from."""

    timm = "timm"
    torchvision = "torchvision"


@choice("encoder", "trunk", build="lapel.encoders.trunks.libraries:library_trunk")
@dataclass
class TrunkConfig(EncoderConfig):
    """Any model of timm or torchvision, by name, without its classifier."""

    library: Library = Library.timm
    name: str = option("resnet18")
    """Name of the model in its library (encoder=trunk): `tf_efficientnet_lite0`, `resnet50`."""
    weights: str = option("none", free_text=True)
    """Weights (not of tiny): none, default or a file, .pth or .safetensors; default are the library's own."""
    frozen: list[str] = option([])
    """Parts of the trunk that stay as they are, by name, as `blocks.0`; `[all]` for the whole of it."""
    trunk_lr: float = option(1.0, at_least=0)
    """Learning rate of the trunk, as a factor of `optim.lr`."""

    @property
    def label(self) -> str:
        return self.name

    @property
    def pretrained(self) -> bool:
        """Whether it begins with weights that were learnt before."""
        return self.weights != "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights == "":
            raise LapelError("encoder.weights=: must be none, default, or a file")
        if self.grid > 1 and self.pool is None:
            raise LapelError(f"encoder.grid={self.grid}: needs encoder.pool, in place of the network's own pooling")
