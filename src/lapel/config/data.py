"""Where images come from, and what they are turned into."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from omegaconf import ListConfig

from lapel.config.choices import choice
from lapel.config.options import Options, option
from lapel.errors import LapelError

# In the place of a number of images: this many, or as many as there are for a batch.
AUTO, AUTO_BATCH = "auto", 128


class Resize(Enum):
    """How an image of another shape becomes the encoder's: stretched, or fitted and padded with its border's colour."""

    squash = "squash"
    pad = "pad"


class Invert(Enum):
    """Whether photos are turned negative: Fashion-MNIST shows light garments on black, shops show them on white."""

    never = "never"
    always = "always"
    white_background = "white_background"


def height_and_width(size: Any, key: str) -> list[int]:
    """[height, width] of what a size may be: 28, "80x60" or [80, 60]; `key` is what messages call it."""
    if isinstance(size, str) and re.fullmatch(r"\d+x\d+", size):
        return [int(side) for side in size.split("x")]
    sides: list[Any] = list(size) if isinstance(size, list | tuple | ListConfig) else [size, size]
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) for side in sides):
        raise LapelError(f"{key}={size}: must be a number of pixels, or height and width as in 80x60 or [80,60]")
    return sides


class Rows(Enum):
    """gallery: the test part's gallery. all: every image of the catalogue."""

    gallery = "gallery"
    all = "all"


@dataclass
class MovedData(Options):
    """Where data is: all that can be said of a trained run's."""

    root: str | None = option(None, free_text=True, how=True)
    """Folder of the data; by default the places that the data set's own module names, or where the run found it."""


@dataclass
class DataConfig(MovedData):
    """Where the images come from, what they are turned into, and how many make one optimizer step."""

    # What a bundle holds where nothing else is asked for: of a benchmark what is scored, of one's own photos all.
    exported: ClassVar[Rows] = Rows.gallery

    size: Any = option(28, at_least=8, at_most=4096)
    """What the encoder sees, in pixels: the side of a square, or height and width, as in `80x60` or `[80,60]`."""
    channels: int = option(1, at_least=1, at_most=3)
    """1 (grey) or 3 (RGB)."""
    resize: Resize = Resize.squash
    """How images of another shape are fitted into the square."""
    batch_size: Any = option(128, at_least=2)
    """Images of a step, or auto: fewer of a small set. Over all processes; auto is 128, or as many as there are."""

    @property
    def height(self) -> int:
        """Rows of pixels that the encoder sees."""
        return self.size[0]

    @property
    def width(self) -> int:
        """Columns of pixels that the encoder sees."""
        return self.size[1]

    def __post_init__(self) -> None:
        self.size = height_and_width(self.size, "data.size")
        if self.batch_size != AUTO and (not isinstance(self.batch_size, int) or isinstance(self.batch_size, bool)):
            raise LapelError(f"data.batch_size={self.batch_size}: must be a whole number, or {AUTO}")
        super().__post_init__()
        if self.channels == 2:
            raise LapelError("data.channels=2: must be 1 (grey) or 3 (RGB)")


@choice("data", "fashion_mnist", build="lapel.datasets.fashion_mnist:load")
@dataclass
class FashionMnistConfig(DataConfig):
    """Fashion-MNIST (Xiao et al. 2017): 70,000 grey images of 28x28 in 10 classes; an item is its own category."""

    batch_size: Any = option(256, at_least=2)
    val_images: int = option(2000, at_least=10, at_most=50000)
    """Images of the training part kept for validation, the same number of each class."""
    download: bool = option(True, how=True)
    """Fetch the files when they are neither in `data.root` nor in Debian's package folder."""
    timeout: float = option(5.0, above=0, how=True)
    """Seconds that a mirror may take to answer."""


@choice("data", "wardrobe", build="lapel.datasets.wardrobe:load")
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
    """Column of what must match, or several, as `[articleType,gender]`, whose combination must."""
    category: Any = option(None)
    """Column, or columns, of the coarser class; by default the item. The Cat losses learn it."""
    where: str | None = option(None, free_text=True)
    """Filter of the rows to keep, as `gender == "Women" and year >= 2015`."""
    split: SplitRule = SplitRule.hash
    """How rows without an official split are divided."""
    val_share: float = option(0.1, above=0, at_most=0.5)
    """Share of the images for validation, where there is no official one; for split=unseen of the items."""
    test_share: float = option(0.2, above=0, at_most=0.8)
    """Share of the images for the test, where there is no official one; for split=unseen of the items."""
    store: Store = option(Store.auto, how=True)
    group: Any = option(None)
    """Column, or columns, whose equal values are never divided: photos of one sender, or of one photographer's day."""
    max_bad: float = option(0.001, at_least=0, at_most=1)
    """Share of photos that may be missing or unreadable, or 3 of a small set; more of them stop the command."""
    cache: str | None = option(None, free_text=True, how=True)
    """Folder of the decoded photos; by default `lapel` in the user's cache."""
    workers: int | None = option(None, at_least=1, how=True)
    """Processes that decode while training runs, for `data.store=files`; by default the cores."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("item", "category", "group"):
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


@choice("data", "fashion_product", build="lapel.datasets.fashion_product:load")
@dataclass
class FashionProductConfig(PhotosConfig):
    """Fashion Product Images (Kaggle): 44,441 shop photos in 143 article types; the small version is 80x60."""

    size: Any = option([80, 60], at_least=8, at_most=4096)
    item: Any = option("articleType")
    category: Any = option("subCategory")


@choice("data", "deepfashion_inshop", build="lapel.datasets.deepfashion.inshop:load")
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


@choice("data", "deepfashion_category", build="lapel.datasets.deepfashion.category:load")
@dataclass
class DeepFashionCategoryConfig(PhotosConfig):
    """DeepFashion Category and Attribute Prediction: photos of 50 categories, leave-one-out."""

    size: Any = option([224, 224], at_least=8, at_most=4096)
    item: Any = option("category_name")
    category: Any = option("category_type")
    crop: Crop = Crop.none
    annotations: Annotations = Annotations.coarse


@choice("data", "deepfashion_consumer2shop", build="lapel.datasets.deepfashion.consumer2shop:load")
@dataclass
class Consumer2shopConfig(PhotosConfig):
    """DeepFashion Consumer-to-shop: consumers' photos are searched for among shops' photos."""

    size: Any = option([224, 224], at_least=8, at_most=4096)
    item: Any = option("items")
    category: Any = option("category")
    crop: Crop = Crop.none


@choice("data", "table", build="lapel.datasets.table:load")
@dataclass
class TableConfig(PhotosConfig):
    """Your own photos, listed in a csv or parquet file; columns `split` and `role`, where there are any, are obeyed."""

    exported: ClassVar[Rows] = Rows.all

    size: Any = option([224, 224], at_least=8, at_most=4096)
    batch_size: Any = option(AUTO, at_least=2)
    table: str | None = option(None, free_text=True)
    """Csv or parquet file of data=table; paths in it are relative to `data.root`, by default its own folder."""
    image: str = option("image")
    """Column of the photos' paths, for data=table."""
    suffix: str = option("")
    """What the paths lack at their ends, as `.jpg`."""


@choice("data", "folder", build="lapel.datasets.folder:load")
@dataclass
class FolderConfig(PhotosConfig):
    """Your own photos, in a folder for each item: `root/item/photo.jpg`, or `root/category/item/photo.jpg`.

    Where the root has the folders train, val and test (train and test), they are the split.
    """

    exported: ClassVar[Rows] = Rows.all

    size: Any = option([224, 224], at_least=8, at_most=4096)
    batch_size: Any = option(AUTO, at_least=2)
    category: Any = option("category")
