"""Which gallery images each query is compared with."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from lapel.catalog import Catalog
from lapel.config import Metric
from lapel.errors import LapelError, NothingToScoreError
from lapel.retrieval import NO_POSITION, Depth, Neighbors, Scores, equal_pairs, score


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
        return (mine != NO_POSITION) & ((mine == theirs) == self.alike)

    def excluded_in(self, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """The excluded pairs of a part, in its own positions."""
        places = np.full(len(self.gallery), NO_POSITION)
        places[theirs] = np.arange(len(theirs))
        rows = np.searchsorted(mine, self.exclude[:, 0]).clip(max=len(mine) - 1)
        inside = (mine[rows] == self.exclude[:, 0]) & (places[self.exclude[:, 1]] != NO_POSITION)
        return np.column_stack([rows[inside], places[self.exclude[inside, 1]]])

    def comparisons(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Each part with what is excluded from it, int64 `[pairs, 2]`, in the part's own positions."""
        for mine, theirs in self.parts:
            yield mine, theirs, self.excluded_in(mine, theirs)


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
    key, column = ("within", within) if within is not None else ("across", across)
    if column not in catalog.table:
        raise LapelError(f"{key}={column}: the catalogue has no such column; it has {', '.join(catalog.table)}")
    codes, _ = pd.factorize(catalog.table[column].astype(object), use_na_sentinel=True)
    mine, theirs = codes[queries], codes[gallery]
    parts = []
    for code in np.unique(mine[mine != NO_POSITION]):
        found = np.flatnonzero((theirs == code) == (key == "within"))
        if len(found):
            parts.append((np.flatnonzero(mine == code), found))
    if not parts:
        raise LapelError(f"{key}={column}: leaves no query anything to search in")
    words = "the same" if key == "within" else "another"
    rule = f"every query in the gallery images of {words} {column}"
    return Protocol(queries, gallery, exclude, parts, rule, (mine, theirs), key == "within")


def score_protocol(
    protocol: Protocol,
    embeddings: tuple[Tensor, Tensor],
    items: tuple[np.ndarray, np.ndarray],
    metric: Metric,
    k: list[int],
    memory: float,
    listed: int,
) -> Scores:
    """Scores of all parts together, with positions in the whole gallery.

    Args:
        protocol: queries and gallery.
        embeddings: of the queries, and of the gallery.
        items: int64 `[images, most]` of either.
        metric: of the model.
        k, memory, listed: as for `score`.

    Raises:
        NothingToScoreError: no query has a match.
    """
    count = len(protocol.queries)
    length = max(*k, listed)
    positions = np.full((count, length), NO_POSITION)
    similarities = np.full((count, length), -np.inf, dtype=np.float32)
    scored = []
    for mine, theirs, exclude in protocol.comparisons():
        try:
            found = score(
                embeddings[0][mine], embeddings[1][theirs], items[0][mine], items[1][theirs], metric, k, exclude,
                memory, Depth.all, length,
            )  # fmt: skip
        except NothingToScoreError:
            continue
        lists = found.neighbors.positions
        positions[mine] = np.where(lists == NO_POSITION, NO_POSITION, theirs[lists])
        similarities[mine] = found.neighbors.scores
        scored.append((mine[found.queries], found.grades, found.curves))
    if not scored:
        raise NothingToScoreError(f"no query has a match in the gallery ({protocol.rule}): there is nothing to score")
    queries = np.concatenate([each for each, *_ in scored])
    order = np.argsort(queries)
    grades = {name: np.concatenate([part[name] for _, part, _ in scored])[order] for name in scored[0][1]}
    curves = np.concatenate([each for *_, each in scored])[order]
    return Scores(queries[order], grades, count - len(queries), Neighbors(positions, similarities), curves)
