"""Hubs: images that stand in far more lists than others do."""

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Occurrences:
    """How often gallery images stand in the lists of queries.

    Args:
        counts: int64 `[gallery]`, N_k of each image.
        k: length of the lists.
        skewness: of the counts; 0 where all images stand in as many.
        never: share of the gallery that stands in none.
        busiest: share of all places in lists that the busiest hundredth of the gallery holds.
    """

    counts: np.ndarray
    k: int
    skewness: float
    never: float
    busiest: float


def occurrences(positions: np.ndarray, gallery: int, k: int) -> Occurrences:
    """k-occurrence N_k, the number of lists in which an image stands, and its skewness.

    Radovanovic, Nanopoulos & Ivanovic, "Hubs in space", JMLR 2010, section 2: in many dimensions a few images come
    near to everything, the skewness grows, and searchers see the same images again and again.

    Args:
        positions: int64 `[queries, at least k]`, gallery positions of each list, -1 where it has no more.
        gallery: number of images in it.
        k: how much of each list counts.
    """
    listed = positions[:, :k]
    counts = np.bincount(listed[listed >= 0], minlength=gallery)
    most = np.sort(counts)[::-1][: max(1, gallery // 100)]
    skewness = float(stats.skew(counts)) if counts.min() < counts.max() else 0.0
    return Occurrences(counts, k, skewness, float((counts == 0).mean()), float(most.sum() / max(1, counts.sum())))
