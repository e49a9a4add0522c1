"""Retrieval metrics of each query against the gallery."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from lapel.config import Metric
from lapel.errors import LapelError, NothingToScoreError
from lapel.retrieval.pairs import count_matches, share_item
from lapel.retrieval.ranking import Depth, match_ranks
from lapel.retrieval.search import NO_POSITION, Neighbors, nearest
from lapel.retrieval.tiles import DEFAULT_MEMORY, Tiles


@dataclass(frozen=True)
class Scores:
    """Grades of every query that has a match to find.

    Args:
        queries: int64 positions of those queries.
        grades: metric name -> float64 of each of them.
        unmatched: number of queries without any possible match, which are left out.
        neighbors: lists of all queries, those without a match included.
    """

    queries: np.ndarray
    grades: dict[str, np.ndarray]
    unmatched: int
    neighbors: Neighbors

    def means(self) -> dict[str, float]:
        """Metric name -> mean over the queries."""
        return {name: float(grade.mean()) for name, grade in self.grades.items()}


def score(
    queries: Tensor,
    gallery: Tensor,
    query_items: np.ndarray,
    gallery_items: np.ndarray,
    metric: Metric,
    k: list[int],
    exclude: np.ndarray | None = None,
    memory: float = DEFAULT_MEMORY,
    depth: Depth = Depth.within_r,
    listed: int = 1,
) -> Scores:
    """Retrieval metrics of each query against the gallery.

    With R the number of gallery images of the query's item (itself left out):

    - `recall@K`: 1 if any of the first K is a match, else 0 (metric learning's; information retrieval's is another).
    - `precision@K`: matches among the first K, over K.

    and, for `depth` within_r and all,

    - `r_precision`: matches among the first R, over R.
    - `map@r`: the mean over ranks 1..R of precision@rank where that rank is a match, else 0
      (Musgrave, Belongie & Lim, "A metric learning reality check", ECCV 2020).
    - `mrr`: 1 over the rank of the first match, however far down.

    and, for all,

    - `map`: the mean of precision@rank over the ranks of all R matches, however far down.

    Recall and precision at K are those of `search`'s lists; the ranks of the others are float32's.

    Args:
        queries, gallery, metric, exclude: as in `search`.
        query_items: int64 `[queries]`, or `[queries, most]` where an image stands for several items, filled up with -1.
        gallery_items: int64 `[gallery]`, or `[gallery, most]`; sharing one item makes a match.
        k: the K of recall@K and precision@K.
        memory: megabytes of similarities held at once; nothing depends on it.
        depth: how far down matches are looked for.
        listed: length of the lists, where it is more than the longest K.

    Raises:
        LapelError: as `search`.
        NothingToScoreError: no query has a match in the gallery.
    """
    if min(k) < 1:
        raise LapelError(f"k={min(k)}: must be at least 1")
    tiles = Tiles(queries, gallery, metric, exclude)
    query_sets, gallery_sets = query_items.reshape(len(query_items), -1), gallery_items.reshape(len(gallery_items), -1)
    relevant = count_matches(query_sets, gallery_sets, exclude)
    if not relevant.any():
        raise NothingToScoreError("no query has a match in the gallery: there is nothing to score")
    found = np.flatnonzero(relevant)
    neighbors = nearest(tiles, max(*k, listed))
    positions = neighbors.positions
    hits = share_item(query_sets[:, None], gallery_sets[positions]) & (positions != NO_POSITION)
    grades = {name: grade[found] for name, grade in grade_lists(hits, k).items()}
    if depth is not Depth.lists:
        ranks = match_ranks(tiles, query_sets, gallery_sets, relevant, depth, memory)
        graded = [grade_ranks(each, int(relevant[query]), depth) for query, each in ranks]
        grades |= {name: np.array([each[name] for each in graded]) for name in graded[0]}
    return Scores(found, grades, int(len(relevant) - len(found)), neighbors)


def grade_lists(hits: np.ndarray, k: list[int]) -> dict[str, np.ndarray]:
    """recall@K and precision@K of each query; see `score` for the formulas.

    Args:
        hits: bool `[queries, longest K]`, which of each list are matches, best first.
        k: the K.

    >>> grade_lists(np.array([[False, True, True]]), [1, 3])["precision@3"]
    array([0.66666667])
    """
    found = np.cumsum(hits, axis=1)
    grades = {f"recall@{each}": (found[:, each - 1] > 0).astype(np.float64) for each in k}
    return grades | {f"precision@{each}": found[:, each - 1] / each for each in k}


def grade_ranks(ranks: np.ndarray, relevant: int, depth: Depth) -> dict[str, float]:
    """The other metrics of one query; see `score` for the formulas.

    Args:
        ranks: int64, of its matches, from 1, ascending: those up to R and at least the first, or all.
        relevant: number of its matches, R.
        depth: within_r or all.

    >>> grade_ranks(np.array([1, 3]), 2, Depth.all)
    {'map@r': 0.5, 'r_precision': 0.5, 'mrr': 1.0, 'map': 0.8333333333333333}
    """
    precisions = np.arange(1, len(ranks) + 1) / ranks
    within = ranks <= relevant
    grades = {
        "map@r": float(precisions[within].sum() / relevant),
        "r_precision": float(within.sum() / relevant),
        "mrr": float(1 / ranks[0]),
    }
    return grades | ({"map": float(precisions.sum() / relevant)} if depth is Depth.all else {})
