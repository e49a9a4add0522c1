"""A data source of garments drawn by the program: items with several views each, where real data cannot be had.

`garments` designs an item, `shapes` lays out its parts, `drawing` makes a picture of it, and this module the catalogue.
"""

import numpy as np
import pandas as pd
from PIL import Image

from lapel.catalog import Catalog, stratified
from lapel.config.data import WardrobeConfig
from lapel.datasets.wardrobe.drawing import draw
from lapel.datasets.wardrobe.garments import CATEGORIES, Garment, design
from lapel.errors import LapelError
from lapel.machine.console import tracked

__all__ = ["CATEGORIES", "Garment", "design", "draw", "load"]

# Pairs and triplets need two items to tell apart, and so does a score that can be wrong.
MIN_ITEMS_OF_SPLIT = 2

# From this many views on, a held-out item is searched with two of them.
MIN_VIEWS_FOR_TWO_QUERIES = 6


def load(config: WardrobeConfig) -> Catalog:
    """Draw the wardrobe that a config describes; `root` and `resize` say nothing here.

    The splits are open-set: all views of an item are in one split. The same config gives the same catalogue, and a
    larger `items` or `views` leaves the pictures that were there before as they are (the splits are drawn anew).

    Returns:
        Row `item * views + view` shows that view of that item. Beyond the required columns it says `view` and the
        item's `colour`, `pattern` and `cut`. Train rows have role both; of a held-out item, view 0 (and 1, from 6 views
        on) is a query and the rest are its gallery.

    Raises:
        LapelError: a split would have fewer than two items.
    """
    garments = [design(config.drawing_seed, item) for item in range(config.items)]
    categories = np.array([CATEGORIES.index(garment.category) for garment in garments], dtype=np.int64)
    splits = _splits(config, categories)
    return Catalog(
        name="wardrobe",
        table=_table(config, garments, categories, splits),
        item_names=[f"{garment.category}-{item:04d}" for item, garment in enumerate(garments)],
        category_names=list(CATEGORIES),
        pixels=_pixels(config, garments),
    )


def _splits(config: WardrobeConfig, categories: np.ndarray) -> np.ndarray:
    """The split of each item, object `[items]`; val and test hold about the same share of each category."""
    test_count = max(MIN_ITEMS_OF_SPLIT, round(config.items * config.test_share))
    val_count = max(MIN_ITEMS_OF_SPLIT, round(config.items * config.val_share))
    train_count = config.items - test_count - val_count
    if train_count < MIN_ITEMS_OF_SPLIT:
        raise LapelError(
            f"data.items={config.items} with data.val_share={config.val_share} and "
            f"data.test_share={config.test_share}: leaves {train_count} items to train on, "
            f"must leave at least {MIN_ITEMS_OF_SPLIT}"
        )
    splits = np.full(config.items, "train", dtype=object)
    splits[stratified(categories, test_count, config.drawing_seed)] = "test"
    rest = np.flatnonzero(splits == "train")
    splits[rest[stratified(categories[rest], val_count, config.drawing_seed)]] = "val"
    return splits


def _table(config: WardrobeConfig, garments: list[Garment], categories: np.ndarray, splits: np.ndarray) -> pd.DataFrame:
    """One row a picture, item by item; see `load` for the columns."""
    item = np.repeat(np.arange(config.items, dtype=np.int64), config.views)
    view = np.tile(np.arange(config.views, dtype=np.int64), config.items)
    split = splits[item]
    query_views = 2 if config.views >= MIN_VIEWS_FOR_TWO_QUERIES else 1
    return pd.DataFrame(
        {
            "image": np.arange(len(item), dtype=np.int64),
            "item": item,
            "category": categories[item],
            "split": split,
            "role": np.where(split == "train", "both", np.where(view < query_views, "query", "gallery")).astype(object),
            "view": view,
            "colour": [garments[each].colour_name for each in item],
            "pattern": [garments[each].pattern for each in item],
            "cut": [garments[each].cut for each in item],
        }
    )


def _pixels(config: WardrobeConfig, garments: list[Garment]) -> np.ndarray:
    """Every view of every garment, uint8 `[items * views, side, side]`, or `[…, 3]` with three channels."""
    colours = () if config.channels == 1 else (3,)
    side = max(config.size)
    pixels = np.empty((len(garments) * config.views, side, side, *colours), dtype=np.uint8)
    # One process is enough at two milliseconds a picture; several would need a guard around the caller's main.
    for row in tracked(range(len(pixels)), "drawing garments"):
        item, view = divmod(row, config.views)
        picture = draw(garments[item], config.drawing_seed, item, view, side)
        pixels[row] = _grey(picture) if config.channels == 1 else picture
    return pixels


def _grey(picture: np.ndarray) -> np.ndarray:
    """uint8 `[size, size]` of a colour picture."""
    return np.asarray(Image.fromarray(picture).convert("L"))
