"""Every option of lapel: its default, its unit and its allowed range, each kept here and nowhere else.

A dataclass decorated with `choice` is one choice of a Hydra group; the yaml of the same name under `conf/` says only
what differs from it. `lapel.composing` makes them from a command line, checked. Neither imports torch, so that a typing
mistake is told at once.
"""

import math
import re
from collections.abc import Callable
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, ListConfig

from lapel.errors import LapelError

# kind ("group/name") -> dataclass: how a plain config finds its way back to the class it came from.
CHOICES: dict[str, type] = {}

AnyClass = TypeVar("AnyClass", bound=type)


def option(
    default: Any = NO_DEFAULT,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    free_text: bool = False,
) -> Any:
    """A dataclass field with a default and its allowed range.

    Args:
        default: the value when nothing is said; left out where the value must come from a yaml file.
        above, at_least, at_most: bounds of a number, or of each number of a list. `None` always passes.
        free_text: the value is any text (a path, a query), so commands quote it before Hydra's grammar sees it.
    """
    metadata = {"above": above, "at_least": at_least, "at_most": at_most, "free_text": free_text}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=MISSING if default is NO_DEFAULT else default, metadata=metadata)


def _allowed(metadata: Any) -> str:
    """The allowed range in words: "at least 1 and at most 8"."""
    words = [("above", "more than"), ("at_least", "at least"), ("at_most", "at most")]
    bounds = [f"{word} {metadata[key]}" for key, word in words if metadata.get(key) is not None]
    return " and ".join(bounds) or "finite"


def _in_range(value: float, metadata: Any) -> bool:
    above, at_least, at_most = metadata.get("above"), metadata.get("at_least"), metadata.get("at_most")
    return (
        math.isfinite(value)
        and (above is None or value > above)
        and (at_least is None or value >= at_least)
        and (at_most is None or value <= at_most)
    )


def check_range(key: str, value: Any, metadata: Any) -> None:
    """Raise if a number, or a number of a list, lies outside the field's range. NaN never lies inside."""
    for number in value if isinstance(value, list | tuple | ListConfig) else [value]:
        bounded = isinstance(number, int | float) and not isinstance(number, bool)
        if bounded and not _in_range(number, metadata):
            raise LapelError(f"{key}={value}: must be {_allowed(metadata)}")


@dataclass
class Options:
    """Base of every config dataclass: checks the range of each field when it is made."""

    def __post_init__(self) -> None:
        for each in fields(self):
            check_range(each.name, getattr(self, each.name), each.metadata)


def choice(group: str, name: str) -> Callable[[AnyClass], AnyClass]:
    """Register a dataclass as the schema of `conf/<group>/<name>.yaml`."""

    def register(cls: AnyClass) -> AnyClass:
        kind = f"{group}/{name}"
        CHOICES[kind] = cls
        ConfigStore.instance().store(group=f"schema/{group}", name=name, node=cls)
        return cls

    return register


def kind_of(options: Any) -> str:
    """ "group/name" of a config dataclass: `kind_of(TinyConfig()) == "encoder/tiny"`."""
    return next(kind for kind, cls in CHOICES.items() if cls is type(options))


def name_of(options: Any) -> str:
    """The name under which a choice is known: `name_of(TinyConfig()) == "tiny"`."""
    return kind_of(options).split("/", 1)[1]


# ------------------------------------------------------------------------------------------------ data


class Resize(Enum):
    """How an image of another shape becomes the encoder's: stretched, or fitted and padded with its border's colour."""

    squash = "squash"
    pad = "pad"


class Invert(Enum):
    """Whether photos are turned negative: Fashion-MNIST shows light garments on black, shops show them on white."""

    never = "never"
    always = "always"
    white_background = "white_background"


def _height_and_width(size: Any) -> list[int]:
    """[height, width] of what `data.size` may be: 28, "80x60" or [80, 60]."""
    if isinstance(size, str) and re.fullmatch(r"\d+x\d+", size):
        return [int(side) for side in size.split("x")]
    sides: list[Any] = list(size) if isinstance(size, list | tuple | ListConfig) else [size, size]
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) for side in sides):
        raise LapelError(f"data.size={size}: must be a number of pixels, or height and width as in 80x60 or [80,60]")
    return sides


@dataclass
class MovedData(Options):
    """Where data is: all that can be said of a trained run's."""

    root: str | None = option(None, free_text=True)
    """Folder of the data; by default the places that the data set's own module names, or where the run found it."""


@dataclass
class DataConfig(MovedData):
    """Where the images come from, what they are turned into, and how many make one optimizer step."""

    size: Any = option(28, at_least=8, at_most=4096)
    """What the encoder sees, in pixels: the side of a square, or height and width, as in `80x60` or `[80,60]`."""
    channels: int = option(1, at_least=1, at_most=3)
    """1 (grey) or 3 (RGB)."""
    resize: Resize = Resize.squash
    """How images of another shape are fitted into the square."""
    batch_size: int = option(128, at_least=2)
    """Images of one optimizer step, over all processes."""

    @property
    def height(self) -> int:
        """Rows of pixels that the encoder sees."""
        return self.size[0]

    @property
    def width(self) -> int:
        """Columns of pixels that the encoder sees."""
        return self.size[1]

    def __post_init__(self) -> None:
        self.size = _height_and_width(self.size)
        super().__post_init__()
        if self.channels == 2:
            raise LapelError("data.channels=2: must be 1 (grey) or 3 (RGB)")


@choice("data", "fashion_mnist")
@dataclass
class FashionMnistConfig(DataConfig):
    """Fashion-MNIST (Xiao et al. 2017): 70,000 grey images of 28x28 in 10 classes; an item is its own category."""

    val_images: int = option(5000, at_least=10, at_most=50000)
    """Images of the training part kept for validation, the same number of each class."""
    download: bool = True
    """Fetch the files when they are neither in `data.root` nor in Debian's package folder."""
    timeout: float = option(5.0, above=0)
    """Seconds that a mirror may take to answer."""


@choice("data", "wardrobe")
@dataclass
class WardrobeConfig(DataConfig):
    """Garments drawn by the program: items with several views each, in categories; needs no download."""

    size: Any = option(48, at_least=8, at_most=4096)
    channels: int = option(3, at_least=1, at_most=3)
    items: int = option(800, at_least=10)
    """Different garments."""
    views: int = option(8, at_least=3)
    """Pictures of each garment, which differ in pose, light, crop and background."""
    drawing_seed: int = option(0, at_least=0)
    """Another seed draws another wardrobe."""
    val_share: float = option(0.1, above=0, at_most=0.4)
    """Share of the items, all views of them, that are for validation."""
    test_share: float = option(0.25, above=0, at_most=0.5)
    """Share of the items, all views of them, that are for the test."""


class Store(Enum):
    """Where training reads its decoded images: memory, a file mapped into memory, or the photos themselves each time.

    auto: in memory (the GPU's where there is one) if they fit into a good part of it, else mapped.
    """

    auto = "auto"
    ram = "ram"
    mmap = "mmap"
    files = "files"


class SplitRule(Enum):
    """How photos without an official split are divided; images of the same pixels always stay together.

    hash: by a hash of the image's name. stratified: likewise, with the same shares of each item. unseen: by a hash of
    the item's name, so that no item of val or test is seen in training.
    """

    hash = "hash"
    stratified = "stratified"
    unseen = "unseen"


class Crop(Enum):
    """box: what the data set's bounding box holds. none: the whole photo."""

    box = "box"
    none = "none"


@dataclass
class PhotosConfig(DataConfig):
    """What data sets of photo files have in common."""

    channels: int = option(3, at_least=1, at_most=3)
    item: Any = option("item")
    """Column, or columns, whose combination is what must match."""
    category: Any = option(None)
    """Column, or columns, of the coarser class, which the Cat losses learn; by default the item."""
    where: str | None = option(None, free_text=True)
    """Rows to keep, as a pandas query: `gender == "Women"`."""
    split: SplitRule = SplitRule.hash
    """How rows without an official split are divided."""
    val_share: float = option(0.1, above=0, at_most=0.5)
    """Share of the images (unseen: of the items) for validation, where there is no official one."""
    test_share: float = option(0.2, above=0, at_most=0.8)
    """Share of the images (unseen: of the items) for the test, where there is no official one."""
    store: Store = Store.auto
    max_bad: float = option(0.001, at_least=0, at_most=1)
    """Share of photos that may be missing or unreadable; more of them stop the command."""
    cache: str | None = option(None, free_text=True)
    """Folder of the decoded photos; by default `lapel` in the user's cache."""
    workers: int | None = option(None, at_least=1)
    """Processes that decode while training runs, for `store=files`; by default the cores."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("item", "category"):
            setattr(self, name, _columns(name, getattr(self, name)))
        if not self.item:
            raise LapelError("data.item: must name a column, or several as in [articleType,gender]")
        if self.val_share + self.test_share >= 1:
            raise LapelError(
                f"data.val_share={self.val_share} and data.test_share={self.test_share}: leave nothing to train on"
            )


def _columns(name: str, value: Any) -> list[str]:
    """Column names: of one, of several, or none."""
    columns = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(columns, list | tuple | ListConfig) or not all(isinstance(each, str) for each in columns):
        raise LapelError(f"data.{name}={value}: must be a column's name, or a list of them")
    return list(columns)


@choice("data", "fashion_product")
@dataclass
class FashionProductConfig(PhotosConfig):
    """Fashion Product Images (Kaggle): 44,441 shop photos in 143 article types; the small version is 80x60."""

    size: Any = option([80, 60], at_least=8, at_most=4096)
    item: Any = option("articleType")
    category: Any = option("subCategory")


@choice("data", "deepfashion_inshop")
@dataclass
class InshopConfig(PhotosConfig):
    """DeepFashion In-shop Clothes Retrieval: 52,712 photos of 7,982 items; queries against a gallery, items unseen."""

    size: Any = option([224, 224], at_least=8, at_most=4096)
    item: Any = option("item_id")
    category: Any = option("category")
    split: SplitRule = SplitRule.unseen
    crop: Crop = Crop.none
    high_resolution: bool = False
    """The photos of `img_highres` instead of those of 256x256."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.high_resolution and self.crop is Crop.box:
            raise LapelError("data.crop=box: the boxes are those of the 256x256 photos; not with data.high_resolution")


class Annotations(Enum):
    """coarse: 289,222 photos. fine: about 20,000, labelled again with more care."""

    coarse = "coarse"
    fine = "fine"


@choice("data", "deepfashion_category")
@dataclass
class DeepFashionCategoryConfig(PhotosConfig):
    """DeepFashion Category and Attribute Prediction: photos of 50 categories, leave-one-out."""

    size: Any = option([224, 224], at_least=8, at_most=4096)
    item: Any = option("category_name")
    category: Any = option("category_type")
    crop: Crop = Crop.none
    annotations: Annotations = Annotations.coarse


@choice("data", "deepfashion_consumer2shop")
@dataclass
class Consumer2shopConfig(PhotosConfig):
    """DeepFashion Consumer-to-shop: consumers' photos are searched for among shops' photos."""

    size: Any = option([224, 224], at_least=8, at_most=4096)
    item: Any = option("items")
    category: Any = option("category")
    crop: Crop = Crop.none


@choice("data", "table")
@dataclass
class TableConfig(PhotosConfig):
    """Your own photos, listed in a csv or parquet file; columns `split` and `role`, where there are any, are obeyed."""

    size: Any = option([224, 224], at_least=8, at_most=4096)
    table: str | None = option(None, free_text=True)
    """The csv or parquet file; paths in it are relative to `data.root`, by default its own folder."""
    image: str = option("image")
    """Column of the photos' paths."""


@choice("data", "folder")
@dataclass
class FolderConfig(PhotosConfig):
    """Your own photos, in a folder for each item: `root/item/photo.jpg`, or `root/category/item/photo.jpg`.

    Where the root has the folders train, val and test (train and test), they are the split.
    """

    size: Any = option([224, 224], at_least=8, at_most=4096)
    category: Any = option("category")


# --------------------------------------------------------------------------------------------- encoder


@dataclass
class EncoderConfig(Options):
    """The network that turns images into embeddings."""

    embedding: int | None = option(64, at_least=2)
    """Dimensions of the embedding; null for the trunk's features as they are."""

    @property
    def label(self) -> str:
        """What runs and tables call it."""
        return name_of(self)


@choice("encoder", "tiny")
@dataclass
class TinyConfig(EncoderConfig):
    """A small residual network, trained from scratch."""

    widths: list[int] = option([32, 64, 128, 256], at_least=1)
    """Channels of the stem, then of each residual block, of which every one halves the resolution."""
    stride: int = option(1, at_least=1, at_most=8)
    """Step of the stem: 1 for images of about 28x28, 2 for twice that."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths:
            raise LapelError("encoder.widths=[]: must have at least one width")


class Library(Enum):
    """Where a trunk comes from."""

    timm = "timm"
    torchvision = "torchvision"


@choice("encoder", "trunk")
@dataclass
class TrunkConfig(EncoderConfig):
    """Any model of timm or torchvision, by name, without its classifier."""

    library: Library = Library.timm
    name: str = option("resnet18")
    """Of the model, as the library has it: `tf_efficientnet_lite0`, `resnet50`."""
    weights: str = option("none", free_text=True)
    """none: random. default: the library's pretrained ones, from its hub. Else a file, .pth or .safetensors."""
    frozen: list[str] = option([])
    """Parts of the trunk that stay as they are, by name, as `blocks.0`; `[all]` for the whole of it."""
    trunk_lr: float = option(1.0, at_least=0)
    """Learning rate of the trunk, as a factor of `optim.lr`."""

    @property
    def label(self) -> str:
        return self.name

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights == "":
            raise LapelError("encoder.weights=: must be none, default, or a file")


# -------------------------------------------------------------------------------------------- variants


class Metric(Enum):
    """How two embeddings are compared, in training, evaluation and the index alike."""

    cosine = "cosine"
    euclidean = "euclidean"


class Label(Enum):
    """Which label of an image an objective reads."""

    item = "item"
    category = "category"


@dataclass
class ObjectiveConfig(Options):
    """One weighted term of the training loss."""

    weight: float = option(1.0, at_least=0)
    """Factor of this term in the sum."""
    label: Label = Label.item
    """The label that says which images are alike."""


class ContrastiveForm(Enum):
    """bell: `d^2` and `max(0, m^2 - d^2)` (Bell & Bala 2015). hadsell: `d^2` and `max(0, m - d)^2` (Hadsell 2006)."""

    bell = "bell"
    hadsell = "hadsell"


class Pairs(Enum):
    """given: the pairs that the sampler chose. all: every pair of the batch."""

    given = "given"
    all = "all"


class Reduction(Enum):
    """What a sum of pair or triplet losses is divided by: the number of terms above zero, or of all terms."""

    active = "active"
    mean = "mean"


@choice("objective", "contrastive")
@dataclass
class ContrastiveConfig(ObjectiveConfig):
    """Contrastive loss on pairs: alike ones are pulled together, the others pushed apart up to the margin."""

    form: ContrastiveForm = ContrastiveForm.bell
    pairs: Pairs = Pairs.all
    margin: float = option(1.0, above=0)
    """Euclidean distance beyond which a negative pair is left alone."""
    reduction: Reduction = Reduction.mean
    """How each kind of pair (positive, negative) is averaged, before the two averages are added."""


class Triplets(Enum):
    """given: from the sampler. The others: from the batch, all valid ones, the semi-hard, or each anchor's hardest."""

    given = "given"
    batch_all = "batch_all"
    semi_hard = "semi_hard"
    hard = "hard"


@choice("objective", "triplet")
@dataclass
class TripletConfig(ObjectiveConfig):
    """Triplet loss `max(0, d(a, p) - d(a, n) + margin)` with euclidean distances (Schroff et al. 2015)."""

    triplets: Triplets = Triplets.semi_hard
    margin: float = option(0.2, above=0)
    """How much farther than the positive the negative must be."""
    reduction: Reduction = Reduction.active


@choice("objective", "supcon")
@dataclass
class SupConConfig(ObjectiveConfig):
    """Supervised contrastive loss on cosines: of all other images of the batch, those of the item (Khosla 2020)."""

    temperature: float = option(0.1, above=0)
    """What cosines are divided by: the lower, the more the nearest negatives count."""


@choice("objective", "cross_entropy")
@dataclass
class CrossEntropyConfig(ObjectiveConfig):
    """A linear classifier on the embedding before it is normalised, with cross-entropy: the Cat part of Bell & Bala."""

    label: Label = Label.category
    smoothing: float = option(0.0, at_least=0, at_most=0.9)
    """Share of the target that is spread over all classes."""


@choice("variant", "base")
@dataclass
class VariantConfig(Options):
    """A training method: named, weighted objectives, and the metric in which their embeddings are compared."""

    name: str = MISSING
    """What runs and tables call it."""
    metric: Metric = MISSING
    objectives: dict[str, ObjectiveConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"[\w.+-]*\w[\w.+-]*", self.name):
            raise LapelError(
                f"variant.name={self.name}: is part of a folder's name; allowed are letters, digits and ._+-"
            )
        if not self.objectives:
            raise LapelError("variant.objectives is empty: give at least one (conf/variant/*.yaml show how)")


# -------------------------------------------------------------------------------------------- sampling


@dataclass
class SamplerConfig(Options):
    """Which images meet in a batch."""


@choice("sampler", "random")
@dataclass
class RandomConfig(SamplerConfig):
    """Images in random order: items come as often as they have images."""


@choice("sampler", "pairs")
@dataclass
class PairsConfig(SamplerConfig):
    """Pairs of images, alike or not: half of the batch are anchors, the other half their partners."""

    positives: float = option(0.5, at_least=0, at_most=1)
    """Share of the pairs that show the same item."""
    same_category: float = option(0.5, at_least=0, at_most=1)
    """Share of the negative pairs that are of the same category (Bell & Bala: 0.8)."""
    across: str | None = None
    """Column in which the two images of a pair differ: `domain`, for consumers' photos against shops'."""


@choice("sampler", "triplets")
@dataclass
class TripletsConfig(SamplerConfig):
    """Triplets anchor, positive, negative: a third of the batch each."""

    same_category: float = option(0.5, at_least=0, at_most=1)
    """Share of the negatives that are of the anchor's category."""
    across: str | None = None
    """Column in which positive and negative differ from the anchor: `domain`, for consumers' photos against shops'."""


@choice("sampler", "balanced")
@dataclass
class BalancedConfig(SamplerConfig):
    """Batches of `items` items with the same number of images each: every image meets others of its item."""

    items: int | None = option(None, at_least=2)
    """Items in a batch; by default as many as `images` images each leave room for."""
    images: int = option(4, at_least=2)
    """Images of an item in a batch, at least: with few items in the catalogue each gets more, to fill the batch."""


@choice("sampler", "category_balanced")
@dataclass
class CategoryBalancedConfig(SamplerConfig):
    """Balanced batches whose items are of few categories: negatives are of the same kind, and hard."""

    categories: int = option(4, at_least=1)
    """Categories in a batch."""
    images: int = option(4, at_least=2)
    """Images of an item in a batch, at least."""


# --------------------------------------------------------------------------------- augmentation, optim


@choice("augment", "none")
@dataclass
class AugmentConfig(Options):
    """Random changes of the training images, with its own draw for each image."""

    flip: float = option(0.0, at_least=0, at_most=1)
    """Probability of a mirror image."""
    shift: int = option(0, at_least=0)
    """Largest shift in each direction, in pixels; what enters is black."""
    erase: int = option(0, at_least=0)
    """Side of a square that is blackened, in pixels."""
    crop: float = option(1.0, above=0, at_most=1)
    """Smallest share of the area that a random crop keeps, which is then resized to the whole."""
    stretch: float = option(0.0, at_least=0, at_most=1)
    """By how much a crop's proportions may differ from the image's: 0.33 for 3/4 to 4/3."""
    rotate: float = option(0.0, at_least=0, at_most=180)
    """Largest rotation in each direction, in degrees; what enters has the colour of the nearest border."""
    brightness: float = option(0.0, at_least=0, at_most=1)
    """Largest relative change of all levels."""
    contrast: float = option(0.0, at_least=0, at_most=1)
    """Largest relative change of the differences from the image's mean grey."""
    saturation: float = option(0.0, at_least=0, at_most=1)
    """Largest relative change of the differences from each pixel's grey."""
    hue: float = option(0.0, at_least=0, at_most=0.5)
    """Largest turn of the colour circle, of which 1 is the whole."""

    @property
    def warps(self) -> bool:
        """Whether pixels come to lie between others."""
        return self.crop < 1 or self.stretch > 0 or self.rotate > 0

    @property
    def recolours(self) -> bool:
        """Whether colours change."""
        return max(self.brightness, self.contrast, self.saturation, self.hue) > 0


class Schedule(Enum):
    """one_cycle: up to `lr` and down to nearly 0 (Smith & Topin 2018). constant: `lr` throughout."""

    one_cycle = "one_cycle"
    constant = "constant"


@choice("optim", "adamw")
@dataclass
class AdamWConfig(Options):
    """AdamW (Loshchilov & Hutter 2019) and the course of its learning rate."""

    lr: float = option(5e-3, above=0)
    """Learning rate; the highest one of a schedule."""
    weight_decay: float = option(0.05, at_least=0)
    """Decay of weight matrices and filters; biases and normalisation are not decayed."""
    schedule: Schedule = Schedule.one_cycle
    warmup: float = option(0.25, at_least=0, at_most=1)
    """Share of the steps in which the learning rate rises."""


# --------------------------------------------------------------------------------------------- trainer


class Accelerator(Enum):
    """auto: the GPU where there is one, else the CPU."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class Precision(Enum):
    """auto: bf16 autocast where the hardware computes in it (CUDA from Ampere on, CPUs with AMX), else fp32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


@choice("trainer", "base")
@dataclass
class TrainerConfig(Options):
    """Where and for how long to train."""

    accelerator: Accelerator = Accelerator.auto
    devices: int = option(1, at_least=1)
    """Processes, each with a device of its own (on the CPU: a share of the cores)."""
    precision: Precision = Precision.auto
    max_epochs: int = option(4, at_least=1)
    max_steps: int | None = option(None, at_least=1)
    """Stop after this many optimizer steps, if that comes before `max_epochs`."""
    checkpoint_every: int | None = option(None, at_least=1)
    """Write `last.ckpt` every so many steps, besides at the end of each epoch."""
    log_every: int = option(50, at_least=1)
    """Steps between two points of a TensorBoard curve."""
    threads: int | None = option(None, at_least=1)
    """CPU threads of each process; by default the cores, shared out over the processes."""


# -------------------------------------------------------------------------------------------- commands


@dataclass
class TrainConfig(Options):
    """Everything that defines a training run."""

    data: DataConfig = MISSING
    encoder: EncoderConfig = MISSING
    variant: VariantConfig = MISSING
    sampler: SamplerConfig = MISSING
    augment: AugmentConfig = MISSING
    optim: AdamWConfig = MISSING
    trainer: TrainerConfig = MISSING
    seed: int = option(0, at_least=0, at_most=2**32 - 1)
    """Seed of everything random: initial weights, batches, augmentation."""
    init: str | None = option(None, free_text=True)
    """Run or bundle whose encoder's weights training begins with; everything else begins anew."""

    @property
    def name(self) -> str:
        """Data, variant and encoder, by name: the beginning of the run folder's name."""
        return f"{name_of(self.data)}-{self.variant.name}-{self.encoder.label}"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_batch(self.data.batch_size, self.sampler)
        for name, reach, most in (
            ("shift", self.augment.shift, min(self.data.size) - 1),
            ("erase", self.augment.erase, min(self.data.size)),
        ):
            if reach > most:
                size = "x".join(map(str, self.data.size))
                raise LapelError(f"augment.{name}={reach}: must be at most {most} for data.size={size}")
        _check_given(self.variant, self.sampler)
        if self.data.batch_size < self.trainer.devices * 2:
            raise LapelError(
                f"data.batch_size={self.data.batch_size}: must be at least 2 images for each of "
                f"trainer.devices={self.trainer.devices}"
            )


def _check_batch(batch_size: int, sampler: SamplerConfig) -> None:
    """Raise if the batch cannot be made of whole pairs, triplets or items."""
    part = {PairsConfig: ("pairs", 2), TripletsConfig: ("triplets", 3)}.get(type(sampler))
    if part and batch_size < part[1]:
        raise LapelError(f"data.batch_size={batch_size}: must be at least {part[1]} for sampler={part[0]}")
    if isinstance(sampler, CategoryBalancedConfig) and batch_size < sampler.categories * 2 * sampler.images:
        raise LapelError(
            f"data.batch_size={batch_size}: must be at least sampler.categories x 2 items x sampler.images = "
            f"{sampler.categories} x 2 x {sampler.images}"
        )
    if isinstance(sampler, BalancedConfig) and batch_size < (sampler.items or 2) * sampler.images:
        raise LapelError(
            f"data.batch_size={batch_size}: must be at least sampler.items x sampler.images = "
            f"{sampler.items or 2} x {sampler.images}"
        )


def _check_given(variant: VariantConfig, sampler: SamplerConfig) -> None:
    """Raise if an objective asks for pairs or triplets that the sampler does not give."""
    for name, objective in variant.objectives.items():
        key = f"variant.objectives.{name}"
        given_pairs = isinstance(objective, ContrastiveConfig) and objective.pairs is Pairs.given
        if given_pairs and not isinstance(sampler, PairsConfig):
            raise LapelError(f"{key}.pairs=given: needs sampler=pairs, or use {key}.pairs=all")
        given_triplets = isinstance(objective, TripletConfig) and objective.triplets is Triplets.given
        if given_triplets and not isinstance(sampler, TripletsConfig):
            raise LapelError(f"{key}.triplets=given: needs sampler=triplets, or use {key}.triplets=semi_hard")


class Split(Enum):
    """Parts of a catalogue."""

    train = "train"
    val = "val"
    test = "test"


class Checkpoint(Enum):
    """best: the highest MAP@R on val. last: where training ended."""

    best = "best"
    last = "last"


@dataclass
class EvaluateConfig(Options):
    """Scores a trained run on one split of its data, or a pretrained encoder, untrained by lapel, on one of `data`."""

    run: str = option("runs/latest", free_text=True)
    """Run folder; not looked at where `encoder` is given."""
    encoder: EncoderConfig | None = None
    """Scored in place of a run: its trunk's features, without a head."""
    metric: Metric = Metric.cosine
    """In which the features of `encoder` are compared; a run has its own."""
    checkpoint: Checkpoint = Checkpoint.best
    split: Split = Split.test
    k: list[int] = option([1, 5, 10], at_least=1)
    """The K of recall@K and precision@K."""
    accelerator: Accelerator = Accelerator.auto
    data: MovedData = field(default_factory=MovedData)
    memory: float = option(256.0, above=0)
    """Megabytes of similarities held at once; results do not depend on it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.k:
            raise LapelError("k=[]: must have at least one number")
        if self.encoder is not None and not isinstance(self.data, DataConfig):
            raise LapelError("encoder: scoring it without a run needs data=NAME")
        if self.encoder is None and isinstance(self.data, DataConfig):
            raise LapelError("data: a run is scored on its own data; data=NAME needs encoder=NAME")


class Rows(Enum):
    """gallery: the test part's gallery. all: every image of the catalogue."""

    gallery = "gallery"
    all = "all"


@dataclass
class ExportOptions(Options):
    """What goes into the bundle."""

    rows: Rows = Rows.gallery
    invert: Invert = Invert.never
    """Whether the exported encoder turns photos negative before it looks at them."""


@dataclass
class ExportConfig(Options):
    """Writes a run's encoder and index as a bundle, checked against the model it came from."""

    run: str = option("runs/latest", free_text=True)
    """Run folder; the bundle is its subfolder `bundle`."""
    checkpoint: Checkpoint = Checkpoint.best
    export: ExportOptions = field(default_factory=ExportOptions)
    data: MovedData = field(default_factory=MovedData)


class TableFormat(Enum):
    """How search results are printed."""

    table = "table"
    json = "json"
    csv = "csv"


@dataclass
class SearchConfig(Options):
    """Looks up the look-alikes of one image in a bundle."""

    bundle: str = option("runs/latest/bundle", free_text=True)
    """Bundle folder."""
    image: str | None = option(None, free_text=True)
    """Image file to search with."""
    row: int | None = option(None, at_least=0)
    """Row of items.parquet to search with, itself left out."""
    k: int = option(10, at_least=1)
    """Look-alikes to show."""
    format: TableFormat = TableFormat.table

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.image is None) == (self.row is None):
            raise LapelError("give either image=FILE or row=N")
        if self.image == "":
            raise LapelError("image=: must name a file")


@dataclass
class CatalogConfig(Options):
    """Looks at a data set: gets it ready, reports what it holds, or what leaks between its splits."""

    data: DataConfig = MISSING
    out: str | None = option(None, free_text=True)
    """Folder of pictures and tables; by default `reports/<data>`."""
    bits: int = option(6, at_least=0, at_most=31)
    """audit: bits of 64 in which the perceptual hashes of near duplicates may differ."""
    difference: float = option(8.0, at_least=0, at_most=255)
    """audit: grey levels, root mean square over the foreground, by which near duplicates may differ."""


COMMANDS: dict[str, type] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "catalog": CatalogConfig,
}
for _name, _cls in COMMANDS.items():
    ConfigStore.instance().store(group="schema", name=_name, node=_cls)
