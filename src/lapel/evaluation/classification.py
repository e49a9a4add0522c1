"""Classification by the neighbours of a query, and by a Cat variant's own classifier."""

import numpy as np

from lapel.retrieval import NO_POSITION


def nearest_classes(found: np.ndarray, gallery_classes: np.ndarray, neighbors: int) -> np.ndarray:
    """int64 `[queries]`: the class that most of a query's nearest images have; among equals that of the nearest one.

    Args:
        found: int64 `[queries, at least neighbors]`, gallery positions, best first, -1 where there are no more.
        gallery_classes: int64 `[gallery]`.
        neighbors: images that vote.

    Returns:
        The classes; -1 for a query that found nothing.
    """
    row = found[:, :neighbors]
    classes = np.where(row == NO_POSITION, -1, gallery_classes[row])
    votes = (classes[:, :, None] == classes[:, None, :]).sum(2)
    votes[row == NO_POSITION] = 0
    return np.take_along_axis(classes, votes.argmax(1)[:, None], 1)[:, 0]


def confusion(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int64 `[classes, classes]`: how many of each class (row) were taken for each (column); -1 is left out."""
    known = predicted >= 0
    counts = np.bincount(true[known] * classes + predicted[known], minlength=classes**2)
    return counts.reshape(classes, classes)
