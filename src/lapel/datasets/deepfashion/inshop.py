"""In-shop Clothes Retrieval: official queries are searched for in the official gallery; test items are unseen."""

import json

import pandas as pd

from lapel.catalog import Catalog
from lapel.config.data import Crop, InshopConfig
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

# evaluation_status -> split and role.
STATUS = {"train": ("train", "both"), "query": ("test", "query"), "gallery": ("test", "gallery")}


def load(config: InshopConfig) -> Catalog:
    """The catalogue of list_eval_partition.txt; there is no official val: whole items of train, by hash, are.

    Raises:
        LapelError: the data is not there, or a list is damaged; see also `photos.to_catalog`.
    """
    tree, found = find_tree("deepfashion_inshop", config.root, PARTITION)
    base = outer_folder(found)
    table = _partition(tree, found + PARTITION)
    if config.high_resolution:
        table["image"] = table["image"].str.replace("img/", "img_highres/", n=1, regex=False)
    listing = Listing("deepfashion_inshop", tree, image_folder(tree, base, table["image"].tolist()), table)
    _describe(listing, base)
    if config.crop is Crop.box:
        add_boxes(listing, _boxes(tree, base))
    return to_catalog(listing, config)


def _partition(tree: Tree, name: str) -> pd.DataFrame:
    rows = []
    for image, item, status in read_list(tree, name, 3):
        if status not in STATUS:
            raise LapelError(f"{tree.root / name}: {image} is {status}, must be {', '.join(STATUS)}")
        split, role = STATUS[status]
        folders = image.split("/")
        gender, category = (folders[1], folders[2]) if len(folders) > 3 else ("", folders[-2])
        rows.append((image, item, gender, category, split, role))
    return pd.DataFrame(rows, columns=["image", "item_id", "gender", "category", "split", "role"])


def _boxes(tree: Tree, base: str) -> dict[str, tuple[int, ...]]:
    """Image -> left, top, right, bottom, in pixels of the 256x256 images."""
    name = first_of(tree, base + "Anno/list_bbox_inshop.txt", base + "list_bbox_inshop.txt")
    return {row[0]: whole_numbers(row[3:7], f"{name}, {row[0]}") for row in read_list(tree, name, 7)}


def _describe(listing: Listing, base: str) -> None:
    """Add the items' colours, where list_description_inshop.json is there."""
    name = next(
        (each for each in (base + "Anno/list_description_inshop.json", base + "list_description_inshop.json")
         if listing.tree.has(each)),
        None,
    )  # fmt: skip
    if name is None:
        return
    try:
        colours = {each["item"]: str(each["color"]) for each in json.loads(listing.tree.text(name))}
    except (ValueError, KeyError, TypeError) as error:
        raise LapelError(
            f"{listing.tree.root / name}: must be a list of objects with item and color ({error})"
        ) from error
    listing.table["colour"] = [colours.get(item, "") for item in listing.table["item_id"]]
