"""Retrieval metrics of each query against the gallery."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor

from lapel.config.evaluation import DEFAULT_MEMORY
from lapel.config.variant import Metric
from lapel.errors import LapelError, NothingToScoreError
from lapel.retrieval.exact import candidates, nearest, settled
from lapel.retrieval.pairs import NO_POSITION, Neighbors, are_matches, count_matches, numbered, true_places
from lapel.retrieval.ranking import Depth, Ranking, Sought, rankings
from lapel.retrieval.tiles import Tiles

# Shares of a query's matches at which precision is told.
LEVELS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Scores:
    """Grades of every query that has a match to find.

    Args:
        queries: int64 positions of those queries.
        grades: metric name -> float64 of each of them.
        relevant: int64 `[all queries]`, matches of each, 0 of those without a grade.
        neighbors: lists of all queries, those without a match included.
        curves: float32 `[queries, 101]`, precision at the rank at which the share 0, 0.01, … 1 of a query's matches (at
            least one) has been found; None where not all of them were looked for.
    """

    queries: np.ndarray
    grades: dict[str, np.ndarray]
    relevant: np.ndarray
    neighbors: Neighbors
    curves: np.ndarray | None

    @property
    def unmatched(self) -> int:
        """Number of queries without any possible match, which are left out."""
        return len(self.relevant) - len(self.queries)

    @property
    def curve(self) -> np.ndarray | None:
        """float64 `[101]`: the mean of `curves`."""
        return None if self.curves is None else self.curves.mean(0, dtype=np.float64)

    def means(self) -> dict[str, float]:
        """Metric name -> mean over the queries."""
        return {name: float(grade.mean()) for name, grade in self.grades.items()}


@dataclass(frozen=True)
class Graded:
    """Grades of queries, among them those that have no match to find.

    Args:
        neighbors: their lists.
        grades: metric name -> float64 `[queries]`, which says nothing of queries without a match.
        curves: likewise, as of `Scores`.
        relevant: int64 `[queries]`, matches of each.
    """

    neighbors: Neighbors
    grades: dict[str, np.ndarray]
    curves: np.ndarray | None
    relevant: np.ndarray

    def scores(self) -> Scores:
        """Of the queries with a match.

        Raises:
            NothingToScoreError: there is none.
        """
        found = np.flatnonzero(self.relevant)
        if not len(found):
            raise NothingToScoreError("no query has a match in the gallery: there is nothing to score")
        grades = {name: each[found] for name, each in self.grades.items()}
        curves = None if self.curves is None else self.curves[found]
        return Scores(found, grades, self.relevant, self.neighbors, curves)


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
    return grade(tiles, query_sets, gallery_sets, k, memory, depth, listed).scores()


def grade(
    tiles: Tiles,
    query_sets: np.ndarray,
    gallery_sets: np.ndarray,
    k: list[int],
    memory: float,
    depth: Depth,
    listed: int,
) -> Graded:
    """As `score`, of queries and gallery that are ready to be compared, and of all queries.

    Args:
        tiles: of queries and gallery.
        query_sets, gallery_sets: int64 `[images, most]`, filled up with -1.
        k, memory, depth, listed: as for `score`.
    """
    relevant = count_matches(query_sets, gallery_sets, tiles.exclude)
    length, curves = max(*k, listed), None
    if depth is Depth.lists:
        neighbors, deeper = nearest(tiles, length), {}
    else:
        sought = Sought(query_sets, gallery_sets, relevant, depth, candidates(tiles, length))
        neighbors, deeper, curves = _ranked(tiles, sought, length, memory)
    found = are_matches(query_sets, gallery_sets, neighbors.positions)
    return Graded(neighbors, grade_lists(found, k) | deeper, curves, relevant)


@dataclass(frozen=True)
class _Graded:
    """A ranking, the queries in it that have a match, their grades, and their curves where all ranks are known."""

    ranking: Ranking
    queries: np.ndarray
    grades: dict[str, np.ndarray]
    curves: np.ndarray | None


def _ranked(
    tiles: Tiles, sought: Sought, length: int, memory: float
) -> tuple[Neighbors, dict[str, np.ndarray], np.ndarray | None]:
    """Lists of all queries; grades and curves of their ranks, which say nothing of those without a match."""
    count = len(tiles)
    values = np.full((count, sought.least), -np.inf, dtype=np.float32)
    positions = np.full((count, sought.least), NO_POSITION)
    names = ("map@r", "r_precision", "mrr", *(["map"] if sought.depth is Depth.all else []))
    grades = {name: np.full(count, np.nan) for name in names}
    curves = np.zeros((count, len(LEVELS)), dtype=np.float32) if sought.depth is Depth.all else None
    for part in rankings(tiles, sought, memory, partial(_graded, sought=sought)):
        queries = part.ranking.queries
        values[queries], positions[queries] = part.ranking.values, part.ranking.positions
        for name, each in part.grades.items():
            grades[name][part.queries] = each
        if curves is not None:
            curves[part.queries] = part.curves
    return settled(tiles, values, positions, length), grades, curves


def _graded(ranking: Ranking, sought: Sought) -> _Graded:
    some = np.flatnonzero(sought.relevant[ranking.queries])
    queries = ranking.queries[some]
    hits, relevant = ranking.hits[some], sought.relevant[queries]
    curves = precisions_at_levels(hits, relevant) if sought.depth is Depth.all else None
    return _Graded(ranking, queries, grade_ranks(hits, ranking.first[some], relevant, sought.depth), curves)


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


def grade_ranks(hits: np.ndarray, first: np.ndarray, relevant: np.ndarray, depth: Depth) -> dict[str, np.ndarray]:
    """The other metrics of each query; see `score` for the formulas.

    Args:
        hits: bool `[queries, ranks]`, best first: as far down as `depth` says.
        first: int64 `[queries]`, rank of the first match, from 1.
        relevant: int64 `[queries]`, number of its matches, R; at least 1.
        depth: within_r or all.

    >>> grade_ranks(np.array([[True, False, True]]), np.array([1]), np.array([2]), Depth.all)
    {'map@r': array([0.5]), 'r_precision': array([0.5]), 'mrr': array([1.]), 'map': array([0.83333333])}
    """
    within, found = _precisions(hits & (np.arange(hits.shape[1]) < relevant[:, None]))
    grades = {"map@r": within / relevant, "r_precision": found / relevant, "mrr": 1 / first}
    return grades | ({"map": _precisions(hits)[0] / relevant} if depth is Depth.all else {})


def _precisions(hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the precisions at hits, float64 `[queries]`, and numbers of the hits, int64 `[queries]`.

    They are added up one after the other, whatever else is graded.
    """
    places, ends = true_places(hits)
    counts = np.diff(ends)
    queries = np.repeat(np.arange(len(hits)), counts)
    ranks = places - queries * hits.shape[1]
    return np.bincount(queries, weights=(numbered(counts) + 1) / (ranks + 1), minlength=len(hits)), counts


def precisions_at_levels(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """float64 `[queries, levels]`: precision at the rank at which so large a share of the matches has been found.

    Args:
        hits: bool `[queries, ranks]`, best first, all matches among them.
        relevant: int64 `[queries]`, their number; at least 1.

    >>> precisions_at_levels(np.array([[True, False, True]]), np.array([2]))[0, [0, 50, 51, 100]]
    array([1.        , 1.        , 0.66666667, 0.66666667])
    """
    ranks = np.flatnonzero(hits) % hits.shape[1] + 1
    starts = np.cumsum(relevant) - relevant
    numbers = np.maximum(np.ceil(LEVELS * relevant[:, None] - 1e-9).astype(np.int64), 1)
    return numbers / ranks[starts[:, None] + numbers - 1]
