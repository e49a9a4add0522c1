"""Lists of neighbours; which query and gallery images are one, and which are matches. Needs no torch."""

from dataclasses import dataclass

import numpy as np

NO_POSITION = -1


@dataclass(frozen=True)
class Neighbors:
    """Nearest gallery images of each query, best first.

    Args:
        positions: int64 `[queries, k]` in the gallery; -1 where the gallery has no more.
        scores: float32 `[queries, k]`: the cosine, or minus the euclidean distance; -inf where there is no position.
    """

    positions: np.ndarray
    scores: np.ndarray


def rows_once(queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of both, each once and ascending, and where each query and each gallery row stands among them."""
    rows = np.union1d(queries, gallery)
    return rows, np.searchsorted(rows, queries), np.searchsorted(rows, gallery)


def equal_pairs(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """int64 `[pairs, 2]`: positions (query, gallery) at which two arrays of codes are equal, ascending.

    Of codes that name images, these are the pairs in which a query would find itself.
    """
    order = np.argsort(gallery, kind="stable")
    starts = np.searchsorted(gallery[order], queries, side="left")
    counts = np.searchsorted(gallery[order], queries, side="right") - starts
    places = numbered(counts) + np.repeat(starts, counts)
    return np.column_stack([np.repeat(np.arange(len(queries)), counts), order[places]])


def numbered(counts: np.ndarray) -> np.ndarray:
    """int64: 0, 1, 2, … of each run of so many entries, one run after the other."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def true_places(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a bool matrix, laid out as one row, is true; and, int64 `[rows + 1]`, between which of them each row's lie.

    In one dimension NumPy finds them several times faster than in two, and than it counts them by row.

    >>> true_places(np.array([[False, True], [True, True]]))
    (array([1, 2, 3]), array([0, 1, 3]))
    """
    places = np.flatnonzero(matrix)
    return places, np.searchsorted(places, np.arange(len(matrix) + 1) * matrix.shape[1])


def share_item(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """bool `[…]`: whether two sets, int64 `[…, most]` filled up with -1, share an item."""
    if one.shape[-1] == other.shape[-1] == 1:
        return one[..., 0] == other[..., 0]
    return ((one[..., :, None] == other[..., None, :]) & (one[..., :, None] >= 0)).any((-2, -1))


def are_matches(query_sets: np.ndarray, gallery_sets: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """bool `[queries, k]`: which finds are matches.

    Args:
        query_sets, gallery_sets: int64 `[images, most]`, filled up with -1.
        positions: int64 `[queries, k]`, gallery positions of each list, -1 where it has no more.
    """
    return share_item(query_sets[:, None], gallery_sets[positions]) & (positions != NO_POSITION)


def count_matches(query_sets: np.ndarray, gallery_sets: np.ndarray, exclude: np.ndarray | None) -> np.ndarray:
    """int64 `[queries]`: gallery images of each query's items, excluded ones left out."""
    ordered = np.sort(gallery_sets, axis=1)
    held = np.sort(ordered[np.diff(ordered, axis=1, prepend=-1) > 0])  # each image's items, each of them once
    first = query_sets[:, 0]
    relevant = np.searchsorted(held, first, side="right") - np.searchsorted(held, first, side="left")
    for row in np.flatnonzero((query_sets[:, 1:] >= 0).any(1)):  # their items may share gallery images
        relevant[row] = share_item(query_sets[row], gallery_sets).sum()
    if exclude is not None:
        alike = share_item(query_sets[exclude[:, 0]], gallery_sets[exclude[:, 1]])
        relevant = relevant - np.bincount(exclude[alike, 0], minlength=len(relevant))
    return relevant
