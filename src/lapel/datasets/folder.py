"""Your own photos, in a folder for each item."""

from collections import Counter

import pandas as pd

from lapel.catalog import SPLITS, Catalog, Dropped
from lapel.config.data import FolderConfig
from lapel.datasets.photos import Listing, to_catalog
from lapel.errors import LapelError
from lapel.photos.tree import Tree

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def load(config: FolderConfig) -> Catalog:
    """The catalogue of `root/item/photo.jpg` or `root/category/item/photo.jpg`, perhaps below train, val and test.

    Raises:
        LapelError: no root is named, or no photo lies in an item's folder; see also `photos.to_catalog`.
    """
    if config.root is None:
        raise LapelError("data.root: must name a folder with a folder for each item")
    tree = Tree(config.root)
    photos = sorted(name for name in tree.names() if "." + name.rpartition(".")[2].lower() in PHOTO_SUFFIXES)
    table, outside = arrange([name for name in photos if is_unicode(name)])
    if table.empty:
        raise LapelError(f"data.root={config.root}: must hold a folder for each item, with photos in it; none is there")
    listing = Listing(tree.root.stem, tree, "", table)
    if odd := [name.encode("utf-8", "backslashreplace").decode() for name in photos if not is_unicode(name)]:
        listing.dropped.append(Dropped("name is not UTF-8", odd))
    if outside:
        listing.dropped.append(Dropped("not in an item's folder", outside))
    return to_catalog(listing, config)


def is_unicode(name: str) -> bool:
    """Whether a name is text: one from a disk may hold other bytes, which Python spells as surrogates."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def arrange(photos: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """What paths say: columns image, item, category and, where the topmost folders are splits, split.

    Returns:
        The table, and the photos that are not as deep as most.
    """
    parts = [tuple(photo.split("/")[:-1]) for photo in photos]
    divided = {"train", "test"} <= {each[0] for each in parts if each} <= set(SPLITS)
    labels = [each[1:] if divided else each for each in parts]
    depths = Counter(len(each) for each in labels if len(each) in (1, 2))
    depth = max(depths, key=lambda each: depths[each], default=1)
    rows = [
        {
            "image": photo,
            "item": "/".join(label),
            "category": label[0],
            **({"split": part[0]} if divided else {}),
        }
        for photo, part, label in zip(photos, parts, labels, strict=True)
        if len(label) == depth
    ]
    outside = [photo for photo, label in zip(photos, labels, strict=True) if len(label) != depth]
    return pd.DataFrame(rows), outside
