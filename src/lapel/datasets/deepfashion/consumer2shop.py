"""Consumer-to-shop Clothes Retrieval: consumers' photos are searched for among shops' photos."""

import pandas as pd

from lapel.catalog import Catalog
from lapel.config.data import Consumer2shopConfig, Crop
from lapel.datasets.deepfashion.lists import (
    PARTITION,
    add_boxes,
    first_of,
    image_folder,
    outer_folder,
    read_list,
    whole_numbers,
)
from lapel.datasets.origins import find_tree
from lapel.datasets.photos import Listing, to_catalog
from lapel.errors import LapelError
from lapel.photos.tree import Tree

SPLITS = ("train", "val", "test")


def load(config: Consumer2shopConfig) -> Catalog:
    """The catalogue of the pairs: a row an image, however many pairs, items and splits name it.

    Raises:
        LapelError: the data is not there, or a list is damaged; see also `photos.to_catalog`.
    """
    tree, found = find_tree("deepfashion_consumer2shop", config.root, PARTITION)
    base = outer_folder(found)
    table = _images(tree, found + PARTITION)
    folder = image_folder(tree, base, table["image"].tolist())
    listing = Listing("deepfashion_consumer2shop", tree, folder, table)
    if config.crop is Crop.box:
        add_boxes(listing, _boxes(tree, base))
    return to_catalog(listing, config)


def _images(tree: Tree, name: str) -> pd.DataFrame:
    """One row an image, from one row a pair. Line 1's count is not the number of pairs."""
    found: dict[str, dict[str, list[str]]] = {}
    for consumer, shop, item, split in read_list(tree, name, 4, counted=False):
        if split not in SPLITS:
            raise LapelError(f"{tree.root / name}: {consumer} is {split}, must be one of {', '.join(SPLITS)}")
        for image, domain in ((consumer, "consumer"), (shop, "shop")):
            entry = found.setdefault(image, {"domain": [], "items": [], "splits": []})
            for key, value in (("domain", domain), ("items", item), ("splits", split)):
                if value not in entry[key]:
                    entry[key].append(value)
    records = []
    for image, entry in found.items():
        if len(entry["domain"]) > 1:
            raise LapelError(f"{tree.root / name}: {image} is a consumer's photo in one pair and a shop's in another")
        domain = entry["domain"][0]
        role = "query" if domain == "consumer" else "gallery"
        kind = image.split("/")
        category = kind[2] if len(kind) > 4 else kind[-2]
        items, splits = sorted(entry["items"]), [each for each in SPLITS if each in entry["splits"]]
        records.append((image, items[0], items, category, domain, splits[0], splits, role))
    columns = ["image", "item_id", "items", "category", "domain", "split", "splits", "role"]
    return pd.DataFrame(records, columns=columns)


def _boxes(tree: Tree, base: str) -> dict[str, tuple[int, ...]]:
    """Image -> left, top, right, bottom; the columns between are clothes type and source (1 shop, 2 consumer)."""
    name = first_of(tree, base + "Anno/list_bbox_consumer2shop.txt", base + "list_bbox_consumer2shop.txt")
    return {row[0]: whole_numbers(row[3:7], f"{name}, {row[0]}") for row in read_list(tree, name, 7, counted=False)}
