"""Category and Attribute Prediction: an item is one of 50 categories; official splits, leave-one-out."""

import pandas as pd

from lapel.catalog import Catalog
from lapel.config.data import Annotations, Crop, DeepFashionCategoryConfig
from lapel.datasets.deepfashion.lists import (
    PARTITION,
    add_boxes,
    first_of,
    image_folder,
    outer_folder,
    read_lines,
    read_list,
    whole_numbers,
)
from lapel.datasets.origins import find_tree
from lapel.datasets.photos import Listing, to_catalog
from lapel.errors import LapelError
from lapel.photos.tree import Tree

FINE_TRAIN = "Anno_fine/train.txt"

# category_type of list_category_cloth.txt.
TYPES = {"1": "upper-body", "2": "lower-body", "3": "full-body"}

SPLITS = ("train", "val", "test")


def load(config: DeepFashionCategoryConfig) -> Catalog:
    """The catalogue of the coarse annotation (289,222 images) or of the fine one (about 20,000).

    Raises:
        LapelError: the data is not there, or a list is damaged; see also `photos.to_catalog`.
    """
    fine = config.annotations is Annotations.fine
    tree, found = find_tree("deepfashion_category", config.root, FINE_TRAIN if fine else PARTITION)
    base = found if fine else outer_folder(found)
    rows, labels, boxes = _fine(tree, base) if fine else _coarse(tree, base, found + PARTITION)
    table = _table(rows, labels, _categories(tree, base, fine))
    folder = image_folder(tree, base, table["image"].tolist())
    listing = Listing("deepfashion_category", tree, folder, table)
    if config.crop is Crop.box:
        add_boxes(listing, boxes)
    return to_catalog(listing, config)


Rows = list[tuple[str, str]]
Boxes = dict[str, tuple[int, ...]]


def _coarse(tree: Tree, base: str, partition: str) -> tuple[Rows, dict[str, str], Boxes]:
    """(image, split) of each row, and the category label and box of each image."""
    annotation = _coarse_folder(tree, base)
    rows = [(row[0], row[1]) for row in read_list(tree, partition, 2)]
    labels = {row[0]: row[1] for row in read_list(tree, f"{annotation}list_category_img.txt", 2)}
    name = f"{annotation}list_bbox.txt"
    boxes = {row[0]: whole_numbers(row[1:5], f"{name}, {row[0]}") for row in read_list(tree, name, 5)}
    return rows, labels, boxes


def _coarse_folder(tree: Tree, base: str) -> str:
    """Older copies have the coarse annotation in `Anno`."""
    name = "list_category_cloth.txt"
    return first_of(tree, f"{base}Anno_coarse/{name}", f"{base}Anno/{name}").removesuffix(name)


def _fine(tree: Tree, base: str) -> tuple[Rows, dict[str, str], Boxes]:
    """As `_coarse`: a file without header for each split and kind, line N of each about the same image."""
    rows: Rows = []
    labels, boxes = {}, {}
    for split in SPLITS:
        prefix = f"{base}Anno_fine/{split}"
        images = [row[0] for row in read_lines(tree, f"{prefix}.txt")]
        for kind, values in (("cate", labels), ("bbox", boxes)):
            lines = read_lines(tree, f"{prefix}_{kind}.txt")
            if len(lines) != len(images):
                raise LapelError(f"{tree.root}/{prefix}_{kind}.txt: has {len(lines)} lines, {split}.txt {len(images)}")
            for image, line in zip(images, lines, strict=True):
                values[image] = line[0] if kind == "cate" else whole_numbers(line[:4], f"{prefix}_bbox.txt, {image}")
        rows += [(image, split) for image in images]
    return rows, labels, boxes


def _categories(tree: Tree, base: str, fine: bool) -> list[tuple[str, str]]:
    """Name and type of each category, in the order of their labels, which begin at 1."""
    name = f"{base}Anno_fine/list_category_cloth.txt"
    if not (fine and tree.has(name)):
        name = f"{_coarse_folder(tree, base)}list_category_cloth.txt"
    return [(row[0], TYPES.get(row[1], row[1])) for row in read_list(tree, name, 2)]


def _table(rows: Rows, labels: dict[str, str], categories: list[tuple[str, str]]) -> pd.DataFrame:
    records = []
    for image, split in rows:
        if split not in SPLITS:
            raise LapelError(f"{image}: its evaluation_status is {split}, must be one of {', '.join(SPLITS)}")
        if image not in labels:
            raise LapelError(f"{image}: has no category label")
        label = whole_numbers([labels[image]], f"category label of {image}")[0]
        if not 1 <= label <= len(categories):
            raise LapelError(f"{image}: category label {label}, must be from 1 to {len(categories)}")
        name, kind = categories[label - 1]
        records.append((image, name, kind, image.split("/")[-2], split))
    return pd.DataFrame(records, columns=["image", "category_name", "category_type", "product", "split"])
