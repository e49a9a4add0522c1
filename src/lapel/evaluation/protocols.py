"""Which gallery images each query is compared with."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lapel.catalog import Catalog
from lapel.config.variant import Metric
from lapel.errors import LapelError, NothingToScoreError
from lapel.retrieval import LEVELS, NO_POSITION, Depth, Graded, Neighbors, Scores, equal_pairs, grade
from lapel.retrieval.tiles import Tiles


@dataclass(frozen=True)
class Protocol:
    """A split's queries and gallery, and what keeps them apart.

    Args:
        queries, gallery: int64 catalogue rows.
        exclude: int64 `[pairs, 2]`, (query, gallery) positions of one image, or of exactly its pixels.
        parts: positions of queries, and of the gallery images that those are compared with.
        rule: the parts in words.
        kinds: int64 `[queries]` and `[gallery]`, codes of the column that makes the parts; None without one.
        alike: whether images of equal codes are compared, or those of different ones.
    """

    queries: np.ndarray
    gallery: np.ndarray
    exclude: np.ndarray
    parts: list[tuple[np.ndarray, np.ndarray]]
    rule: str
    kinds: tuple[np.ndarray, np.ndarray] | None = None
    alike: bool = True

    def compared(self, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        """bool `[pairs]`: whether each pair of positions is in one part."""
        if self.kinds is None:
            return np.ones(len(queries), dtype=bool)
        mine, theirs = self.kinds[0][queries], self.kinds[1][gallery]
        return (mine != NO_POSITION) & (theirs != NO_POSITION) & ((mine == theirs) == self.alike)

    def excluded_in(self, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """The excluded pairs of a part, in its own positions."""
        places = np.full(len(self.gallery), NO_POSITION)
        places[theirs] = np.arange(len(theirs))
        rows = np.searchsorted(mine, self.exclude[:, 0]).clip(max=len(mine) - 1)
        inside = (mine[rows] == self.exclude[:, 0]) & (places[self.exclude[:, 1]] != NO_POSITION)
        return np.column_stack([rows[inside], places[self.exclude[inside, 1]]])

    def comparisons(self) -> Iterator["Comparison"]:
        """Each part with what is excluded from it."""
        for mine, theirs in self.parts:
            yield Comparison(mine, theirs, self.excluded_in(mine, theirs))


def protocol_of(catalog: Catalog, split: str, within: str | None, across: str | None) -> Protocol:
    """The protocol of a split.

    Args:
        catalog: of all images.
        split: whose queries search in its gallery.
        within: column; a query is compared with images of its own value alone, as after a filter.
        across: column; a query is compared with images of other values alone, as of another domain.

    Raises:
        LapelError: the catalogue has no such column, or it leaves no query anything to search in.
    """
    queries, gallery = catalog.queries(split), catalog.gallery(split)
    exclude = equal_pairs(catalog.look_alikes[queries], catalog.look_alikes[gallery])
    if within is None and across is None:
        everything = (np.arange(len(queries)), np.arange(len(gallery)))
        return Protocol(queries, gallery, exclude, [everything], "every query in the whole gallery")
    key, column = ("within", within) if within is not None else ("across", str(across))
    if column not in catalog.table:
        raise LapelError(f"{key}={column}: the catalogue has no such column; it has {', '.join(catalog.table)}")
    codes = codes_of(catalog.table, column)
    mine, theirs = codes[queries], codes[gallery]
    parts = []
    for code in np.unique(mine[mine != NO_POSITION]):
        found = np.flatnonzero((theirs != NO_POSITION) & ((theirs == code) == (key == "within")))
        if len(found):
            parts.append((np.flatnonzero(mine == code), found))
    if not parts:
        raise LapelError(f"{key}={column}: leaves no query anything to search in")
    words = "the same" if key == "within" else "another"
    rule = f"every query in the gallery images of {words} {column}"
    return Protocol(queries, gallery, exclude, parts, rule, (mine, theirs), key == "within")


def codes_of(table: pd.DataFrame, column: str) -> np.ndarray:
    """int64 `[rows]`: equal where a column's values are, -1 where there is none (of a csv file, an empty text)."""
    return pd.factorize(table[column].astype(object).replace("", None), use_na_sentinel=True)[0]


@dataclass(frozen=True)
class Comparison:
    """Some queries, and the gallery images that they are compared with.

    Args:
        mine, theirs: int64 positions of either.
        exclude: int64 `[pairs, 2]`, (query, gallery), in positions among these.
    """

    mine: np.ndarray
    theirs: np.ndarray
    exclude: np.ndarray

    def in_gallery(self, near: Neighbors) -> Neighbors:
        """Lists with positions in the whole gallery, from those with positions among these images."""
        positions = np.where(near.positions == NO_POSITION, NO_POSITION, self.theirs[near.positions])
        return Neighbors(positions, near.scores)

    def split(self, queries: int) -> list["Comparison"]:
        """The same, of at most so many queries each: some whole tiles of them, for the same scores."""
        starts = range(0, len(self.mine), queries)
        cuts = np.searchsorted(self.exclude[:, 0], [*starts, len(self.mine)])
        return [
            Comparison(self.mine[start : start + queries], self.theirs, self.exclude[first:last] - [start, 0])
            for start, first, last in zip(starts, cuts[:-1], cuts[1:], strict=True)
        ]


@dataclass(frozen=True)
class Embedded:
    """What is compared.

    Args:
        queries, gallery: `[images, dimensions]`, as the metric compares them.
        query_sets, gallery_sets: int64 `[images, most]`, items of each, filled up with -1.
        metric: of the model.
        tiles: makes similarities of queries and gallery with a metric and excluded pairs.
    """

    queries: Tensor
    gallery: Tensor
    query_sets: np.ndarray
    gallery_sets: np.ndarray
    metric: Metric
    tiles: Callable[[Tensor, Tensor, Metric, np.ndarray], Tiles] = Tiles

    def similarities(self, compared: Comparison) -> Tiles:
        """Of some queries, with what they are compared with."""
        queries, gallery = _some(self.queries, compared.mine), _some(self.gallery, compared.theirs)
        return self.tiles(queries, gallery, self.metric, compared.exclude)

    def graded(self, compared: Comparison, k: list[int], memory: float, listed: int) -> Graded:
        """Grades of some queries, all ranks looked at; arguments as for `score`."""
        sets = self.query_sets[compared.mine], self.gallery_sets[compared.theirs]
        return grade(self.similarities(compared), *sets, k, memory, Depth.all, listed)


def _some(embeddings: Tensor, positions: np.ndarray) -> Tensor:
    """Those at the positions, each of which is named once; all of them without a copy."""
    return embeddings if len(positions) == len(embeddings) else embeddings[torch.from_numpy(positions)]


def score_protocol(protocol: Protocol, embedded: Embedded, k: list[int], memory: float, listed: int) -> Scores:
    """Scores of all queries, by this process; arguments as for `score`.

    Raises:
        NothingToScoreError: no query has a match.
    """
    return joined(protocol, ((each, embedded.graded(each, k, memory, listed)) for each in protocol.comparisons()))


def joined(protocol: Protocol, parts: Iterable[tuple[Comparison, Graded]]) -> Scores:
    """Scores of all parts together, with positions in the whole gallery.

    Args:
        protocol: queries and gallery.
        parts: some queries each, and their grades.

    Raises:
        NothingToScoreError: no query has a match.
    """
    graded = list(parts)
    count, length = len(protocol.queries), graded[0][1].neighbors.positions.shape[1]
    neighbors = Neighbors(np.full((count, length), NO_POSITION), np.full((count, length), -np.inf, dtype=np.float32))
    relevant = np.zeros(count, dtype=np.int64)
    grades = {name: np.full(count, np.nan) for name in graded[0][1].grades}
    curves = np.zeros((count, len(LEVELS)), dtype=np.float32)
    for compared, found in graded:
        lists = compared.in_gallery(found.neighbors)
        neighbors.positions[compared.mine], neighbors.scores[compared.mine] = lists.positions, lists.scores
        relevant[compared.mine] = found.relevant
        curves[compared.mine] = found.curves
        for name, each in found.grades.items():
            grades[name][compared.mine] = each
    if not relevant.any():
        raise NothingToScoreError(f"no query has a match in the gallery ({protocol.rule}): there is nothing to score")
    return Graded(neighbors, grades, curves, relevant).scores()
