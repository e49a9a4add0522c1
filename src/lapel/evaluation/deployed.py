"""A bundle's index: its lists in the place of exact search's, and what they cost."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lapel.bundle.bundle import Bundle
from lapel.bundle.index import NEAR_TIE, is_exact, search_index, settings_of
from lapel.bundle.layout import INDEX_FILE, ITEMS_FILE
from lapel.bundle.runners import TorchScriptRunner
from lapel.catalog import Catalog
from lapel.config.variant import Metric
from lapel.errors import LapelError
from lapel.evaluation.protocols import Protocol
from lapel.retrieval import NO_POSITION, Depth, Neighbors, Scores, grade_lists, search
from lapel.retrieval.pairs import are_matches
from lapel.retrieval.scoring import grade_ranks

logger = logging.getLogger(__name__)

# What tells which catalogue row an entry is.
KEY = ["image", "split"]

# Queries whose lists are held at once, however long those are.
AT_ONCE = 128

# Gallery images that are looked for by their own embeddings; an index of this encoder's finds this share of them.
CHECKED = 256
LEAST_FOUND = 0.5

# Queries by which a search is timed, and the length of the lists that are compared image by image.
TIMED = 1000
OVERLAP = 10

# By how much recall@1 may differ from what was known at export.
LARGEST_CHANGE = 0.001


@dataclass(frozen=True)
class DeployedIndex:
    """A bundle's index, with the catalogue rows that it holds.

    Args:
        file: that it was read from.
        index: FAISS's.
        metric: of the encoder.
        rows: int64 `[entries]`, catalogue row of each.
        recall: recall@1 of these very queries as it was known at export; None where it was not.
        encoder: file of the encoder beside it.
    """

    file: Path
    index: Any
    metric: Metric
    rows: np.ndarray
    recall: float | None = None
    encoder: str = TorchScriptRunner.file

    def card(self, gallery: np.ndarray) -> dict[str, Any]:
        """What the protocol says of it, where these catalogue rows are searched in."""
        return {
            "search": f"{self.file.name} ({type(self.index).__name__})",
            "search_settings": settings_of(self.index),
            "index_rows": len(self.rows),
            "index_rows_passed_over": int(np.count_nonzero(~np.isin(self.rows, gallery))),
        }

    def lists(self, protocol: Protocol, queries: Tensor, k: int) -> Iterator[tuple[np.ndarray, Neighbors]]:
        """Positions of some queries, and their lists, with positions in the whole gallery, as `exact_lists` gives them.

        What may not count for a query, and entries that it is not compared with, are passed over, and the index is
        asked for so many more.

        Args:
            protocol: queries and gallery.
            queries: float32 `[queries, dimensions]`.
            k: length of the lists.
        """
        vectors = queries.cpu().numpy()
        for part in protocol.comparisons():
            places = self._places(protocol.gallery[part.theirs])
            for some in part.split(AT_ONCE):
                near = self._nearest(vectors[some.mine], places, some.exclude, k)
                yield some.mine, some.in_gallery(near)

    def _places(self, rows: np.ndarray) -> np.ndarray:
        """int64 `[entries]`: where each entry's row stands among these, -1 for those that do not."""
        places = np.full(max(self.rows.max(), rows.max()) + 1, NO_POSITION)
        places[rows] = np.arange(len(rows))
        return places[self.rows]

    def _nearest(self, vectors: np.ndarray, places: np.ndarray, excluded: np.ndarray, k: int) -> Neighbors:
        """Lists of some queries, by the positions in `places`; `excluded`: (row of vectors, such a position)."""
        positions = np.full((len(vectors), k), NO_POSITION)
        scores = np.full((len(vectors), k), -np.inf, dtype=np.float32)
        asked = k + int(np.bincount(excluded[:, 0], minlength=1).max())
        left = np.arange(len(vectors))
        while len(left):
            asked = min(asked, len(places))
            near = search_index(self.index, vectors[left], asked, self.metric)
            found = np.where(near.positions == NO_POSITION, NO_POSITION, places[near.positions])
            found[_stand_in(left, found, excluded)] = NO_POSITION
            ended = (near.positions[:, -1] == NO_POSITION) | (asked == len(places))
            done = ended | (np.count_nonzero(found != NO_POSITION, axis=1) >= k)
            order = np.argsort(found[done] == NO_POSITION, axis=1, kind="stable")[:, :k]
            packed = np.take_along_axis(found[done], order, 1)
            positions[left[done], : packed.shape[1]] = packed
            values = np.take_along_axis(near.scores[done], order, 1)
            scores[left[done], : packed.shape[1]] = np.where(packed == NO_POSITION, -np.inf, values)
            left, asked = left[~done], 2 * asked
        return Neighbors(positions, scores)

    def check(self, protocol: Protocol, gallery: Tensor) -> None:
        """Raise unless gallery images are found by their own embeddings: not so in another encoder's index.

        Args:
            protocol: queries and gallery.
            gallery: float32 `[gallery, dimensions]`, the encoder's embeddings.

        Raises:
            LapelError: see above.
        """
        chosen = np.unique(np.linspace(0, len(gallery) - 1, CHECKED).astype(np.int64))
        # Coarse codes shift an image among others as near as these, but not among strangers.
        entries = len(self.rows)
        within = min(max(10, entries // 50), 500, max(1, entries // 10))
        queries = gallery[torch.from_numpy(chosen)].cpu().numpy()
        near = search_index(self.index, queries, within, self.metric)
        own = self.rows[near.positions] == protocol.gallery[chosen, None]
        itself = 1.0 if self.metric is Metric.cosine else 0.0
        alike = near.scores[:, -1] >= itself - NEAR_TIE  # so many copies that one may stand for another
        found = np.count_nonzero((own & (near.positions != NO_POSITION)).any(1) | alike)
        if found < LEAST_FOUND * len(chosen):
            raise LapelError(
                f"{self.file}: does not hold the embeddings of {self.encoder}: of {len(chosen)} gallery images "
                f"{found} are among the {within} nearest to their own embedding; export the bundle again"
            )

    def warn_of_change(self, scores: Scores) -> None:
        """Warn where an exact index has another recall@1 than was known at export.

        Args:
            scores: of the index's lists.
        """
        found = scores.means().get("recall@1")
        if self.recall is None or found is None or not is_exact(self.index):
            return
        if abs(found - self.recall) > LARGEST_CHANGE:
            logger.warning(
                "%s: recall@1 is %.4f, and was %.4f at export: are these the images of then?",
                self.file, found, self.recall,
            )  # fmt: skip


def _stand_in(rows: np.ndarray, found: np.ndarray, excluded: np.ndarray) -> np.ndarray:
    """bool, shape of `found`: which finds of the numbered queries are excluded."""
    width = max(found.max(), excluded[:, 1].max(initial=0)) + 1
    return np.isin(rows[:, None] * width + found, excluded[:, 0] * width + excluded[:, 1])


# ---------------------------------------------------------------------------------------------- opening


def deployed_index(bundle: Bundle, catalog: Catalog, split: str) -> DeployedIndex:
    """A bundle's index for a split of a catalogue.

    Raises:
        LapelError: index, items and encoder do not fit together, the catalogue lacks an image of the index, or the
            index one of the split's gallery.
    """
    taken = bundle.manifest["input"]
    bundle.embed(np.zeros((1, taken["channels"], taken["height"], taken["width"]), np.uint8))  # tells what does not fit
    table = bundle.items
    rows = _keys(catalog.table).get_indexer(_keys(table))
    if (missing := np.flatnonzero(rows < 0)).size:
        raise LapelError(
            f"{bundle.folder / ITEMS_FILE}: {len(missing)} of {len(rows)} images are not in the catalogue "
            f"{catalog.name}, the first is {table['image'].iloc[missing[0]]} ({table['split'].iloc[missing[0]]})"
        )
    if (twice := pd.Series(rows).duplicated().to_numpy()).any():
        raise LapelError(
            f"{bundle.folder / ITEMS_FILE}: describes {table['image'].iloc[twice.argmax()]} more than once"
        )
    gallery = catalog.gallery(split)
    held = np.isin(gallery, rows)
    if not held.all():
        raise LapelError(
            f"{bundle.folder / INDEX_FILE}: holds {held.sum()} of the {len(gallery)} gallery images of split {split}; "
            "a bundle exported with export.rows=all has those of every split"
        )
    return DeployedIndex(
        file=bundle.folder / INDEX_FILE,
        index=bundle.index,
        metric=bundle.metric,
        rows=rows.astype(np.int64),
        encoder=bundle.runner.file,
    )


def _keys(table: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_arrays([table[column] for column in KEY])


# ---------------------------------------------------------------------------------------------- scoring


@dataclass(frozen=True)
class Approximation:
    """Scores of an index's lists beside those of exact search.

    Args:
        scores: of the index's lists.
        cost: metric -> mean of exact search minus mean of the index.
        overlap: mean share of the exact top 10 that the index's top 10 holds.
        milliseconds: of a query, by `index` and `exact` search.
    """

    scores: Scores
    cost: dict[str, float]
    overlap: float
    milliseconds: dict[str, float]

    def told(self) -> dict[str, Any]:
        """What metrics.json holds of it."""
        return {
            f"overlap@{OVERLAP}": self.overlap,
            "approximation": self.cost,
            "milliseconds_per_query": self.milliseconds,
        }


def approximation(
    deployed: DeployedIndex,
    protocol: Protocol,
    embeddings: tuple[Tensor, Tensor],
    items: tuple[np.ndarray, np.ndarray],
    exact: Scores,
    k: list[int],
) -> Approximation:
    """Grade an index's lists as `score` grades those of exact search.

    Recall and precision are of lists as long as those of exact search, about what the index is asked for in use. MAP@R,
    R-precision and MRR are of longer ones, as long as the most matches of a query; what is beyond them is not found.

    Args:
        deployed: the index.
        protocol: queries and gallery.
        embeddings: of the queries, and of the gallery.
        items: int64 `[images, most]` of either, filled up with -1.
        exact: scores of exact search.
        k: the K of recall@K and precision@K.
    """
    length = exact.neighbors.positions.shape[1]
    near = _gathered(deployed.lists(protocol, embeddings[0], length), len(protocol.queries), length)
    depth = max(length, int(exact.relevant.max()))
    found = are_matches(*items, near.positions)
    deeper = _graded(deployed.lists(protocol, embeddings[0], depth), items, exact.relevant)
    grades = {name: each[exact.queries] for name, each in (grade_lists(found, k) | deeper).items()}
    scores = Scores(exact.queries, grades, exact.relevant, near, None)
    overlap = _overlap(exact.neighbors.positions, near.positions)
    return Approximation(scores, _costs(exact, grades, depth), overlap, _times(deployed, embeddings, length))


def _gathered(lists: Iterator[tuple[np.ndarray, Neighbors]], count: int, k: int) -> Neighbors:
    """The lists of all queries; empty ones of those that are compared with nothing."""
    positions, scores = np.full((count, k), NO_POSITION), np.full((count, k), -np.inf, dtype=np.float32)
    for queries, near in lists:
        positions[queries], scores[queries] = near.positions, near.scores
    return Neighbors(positions, scores)


def _graded(
    lists: Iterator[tuple[np.ndarray, Neighbors]], items: tuple[np.ndarray, np.ndarray], relevant: np.ndarray
) -> dict[str, np.ndarray]:
    """Grades of ranks `[queries]`, which say nothing of queries without a match."""
    grades: dict[str, np.ndarray] = {}
    for queries, near in lists:
        some = relevant[queries] > 0
        queries, found = queries[some], are_matches(items[0][queries[some]], items[1], near.positions[some])
        first = np.where(found.any(1), found.argmax(1) + 1, np.inf)
        for name, each in grade_ranks(found, first, relevant[queries], Depth.within_r).items():
            grades.setdefault(name, np.full(len(relevant), np.nan))[queries] = each
    return grades


def _costs(exact: Scores, grades: dict[str, np.ndarray], depth: int) -> dict[str, float]:
    """Exact search's means minus the index's, both of lists as long as the index's."""
    reached = {name: exact.grades[name] for name in grades}
    reached["mrr"] = np.where(reached["mrr"] * (depth + 0.5) > 1, reached["mrr"], 0.0)
    return {name: float(reached[name].mean() - each.mean()) for name, each in grades.items()}


def _overlap(exact: np.ndarray, found: np.ndarray) -> float:
    """Mean share of the first exact finds that are among as many of the index; of queries that have some."""
    first, other = exact[:, :OVERLAP], found[:, :OVERLAP]
    there = first != NO_POSITION
    both = ((first[:, :, None] == other[:, None, :]).any(2) & there).sum(1)
    some = there.any(1)
    return float((both[some] / there[some].sum(1)).mean())


def _times(deployed: DeployedIndex, embeddings: tuple[Tensor, Tensor], k: int) -> dict[str, float]:
    """Milliseconds of a query, by the index and by exact search, for lists of `k`."""
    queries, gallery = embeddings[0][:TIMED], embeddings[1]
    vectors = queries.cpu().numpy()
    asked = min(k, len(deployed.rows))
    return {
        "index": _milliseconds(lambda: search_index(deployed.index, vectors, asked, deployed.metric), len(queries)),
        "exact": _milliseconds(lambda: search(queries, gallery, k, deployed.metric), len(queries)),
    }


def _milliseconds(work: Callable[[], Neighbors], queries: int) -> float:
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start) / queries
