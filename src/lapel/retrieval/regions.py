"""Regions: queries that could find the same few images of the gallery."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# A region's images are looked at one by one before they are compared, which pays if there are so many queries for each
# time that they go into the gallery.
WORTH = 32

# So many regions fill the gallery, at least: what is larger is compared no faster alone.
HALVES = 2


@dataclass(frozen=True)
class Region:
    """Queries, and all images that any of them could find.

    Args:
        rows: int64, numbers of the queries, ascending.
        positions: int64, of the images in the gallery, ascending.
    """

    rows: np.ndarray
    positions: np.ndarray


def regions(possible: np.ndarray, rows: np.ndarray) -> Iterator[Region]:
    """The regions of some queries that are worth comparing alone; other queries are in none.

    Queries go together whose first image is the same: in embeddings that have collapsed to a few, it is of all that
    have collapsed to one.

    Args:
        possible: bool `[queries, gallery]`, what each could find, one image at least.
        rows: int64, numbers of the queries that are looked at, ascending.
    """
    width = possible.shape[1]
    first = possible[rows].argmax(1)
    for position in np.unique(first):
        together = rows[first == position]
        images = np.flatnonzero(possible[together].any(0))
        if len(images) * HALVES <= width and len(images) * WORTH <= len(together) * width:
            yield Region(together, images)
