"""DeepFashion's text files: a count, a header, then columns padded with spaces; and where its images lie."""

import numpy as np
import pandas as pd

from lapel.datasets.columns import BOX_COLUMNS
from lapel.datasets.photos import Listing
from lapel.errors import LapelError
from lapel.photos.tree import Tree

PARTITION = "list_eval_partition.txt"

# Folders that images may lie in, besides the root that their names are relative to.
IMAGE_FOLDERS = ("", "Img/", "img/", "Img/Img/")

# Images looked for to find that folder: some may be missing.
TRIED = 50


def read_list(tree: Tree, name: str, fields: int, counted: bool = True) -> list[list[str]]:
    """Rows of a list, split at white space, without its count and header.

    Args:
        tree: of the data set.
        name: of the file in it.
        fields: of each row; the benchmarks' lists go by one name.
        counted: whether line 1 is the number of rows, and so shows a truncated file.

    Raises:
        LapelError: the file is missing, not a list of this form, or truncated.
    """
    path = tree.root / name
    lines = tree.text(name).split("\n")
    if not lines[0].strip().isdigit() or len(lines) < 2:
        raise LapelError(f"{path}: line 1 must be the number of rows, is {lines[0].strip()[:40]!r}")
    columns = lines[1].split()
    if len(columns) != fields:
        raise LapelError(
            f"{path}, line 2: names {len(columns)} columns ({' '.join(columns)[:80]}), must name {fields}; "
            "is it another benchmark's?"
        )
    rows = [line.split() for line in lines[2:] if line.strip()]
    for number, row in enumerate(rows, start=3):
        if len(row) != len(columns):
            raise LapelError(f"{path}, line {number}: has {len(row)} fields, must have {len(columns)}")
    if counted and len(rows) != int(lines[0]):
        raise LapelError(f"{path}: line 1 says {int(lines[0])} rows, there are {len(rows)}; is the file truncated?")
    return rows


def read_lines(tree: Tree, name: str) -> list[list[str]]:
    """Rows of a list without count and header, split at white space."""
    return [line.split() for line in tree.text(name).split("\n") if line.strip()]


def first_of(tree: Tree, *names: str) -> str:
    """The first of several names under which a file goes.

    Raises:
        LapelError: there is none of them.
    """
    for name in names:
        if tree.has(name):
            return name
    raise LapelError(f"{tree.root}: has none of {', '.join(names)}")


def outer_folder(base: str) -> str:
    """The data set's folder, from the one that holds the partition list."""
    return base.removesuffix("Eval/")


def image_folder(tree: Tree, base: str, images: list[str]) -> str:
    """The folder that the images' names are relative to.

    Raises:
        LapelError: the images are in none of the known places.
    """
    for folder in IMAGE_FOLDERS:
        if any(tree.has(base + folder + image) for image in images[:TRIED]):
            return base + folder
    looked = ", ".join(f"{base}{folder}{images[0]}" for folder in IMAGE_FOLDERS[:2])
    raise LapelError(f"{tree.root}: has no images; looked for {looked}")


def add_boxes(listing: Listing, boxes: dict[str, tuple[int, ...]]) -> None:
    """Add the box columns; images without a box are left out."""
    listing.drop("no box", np.array([image not in boxes for image in listing.table["image"]]))
    values = np.array([boxes[image] for image in listing.table["image"]], dtype=np.int32).reshape(-1, 4)
    listing.table[BOX_COLUMNS] = pd.DataFrame(values, index=listing.table.index)


def whole_numbers(texts: list[str], origin: str) -> tuple[int, ...]:
    """Numbers that may be padded with zeros.

    Raises:
        LapelError: one is none.
    """
    try:
        return tuple(int(text) for text in texts)
    except ValueError:
        raise LapelError(f"{origin}: must be whole numbers, are {' '.join(texts)[:60]}") from None
