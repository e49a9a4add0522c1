"""nDCG: lists graded by how much a find has in common with its query, not only by whether it is a match."""

import numpy as np
import pandas as pd

from lapel.errors import LapelError
from lapel.evaluation.protocols import codes_of
from lapel.retrieval import NO_POSITION

MISSING = -1


def column_codes(table: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """int64 `[rows, columns]`: equal where values are, -1 where one is missing.

    Raises:
        LapelError: the table has no such column.
    """
    for column in columns:
        if column not in table:
            raise LapelError(f"graded.{column}: the catalogue has no such column; it has {', '.join(table)}")
    return np.column_stack([codes_of(table, column) for column in columns])


def ndcg(
    found: np.ndarray,
    query_codes: np.ndarray,
    gallery_codes: np.ndarray,
    gains: np.ndarray,
    k: list[int],
    exclude: np.ndarray,
) -> dict[str, np.ndarray]:
    """Normalised discounted cumulative gain of each query, `ndcg@K`.

    `DCG@K` is the sum over ranks i = 1..K of `gain / log2(i + 1)`, where a find's gain is the sum of the gains of those
    columns in which it equals the query, divided by the highest DCG@K that an order of this gallery has (Jarvelin &
    Kekalainen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002). A query with which nothing has anything
    in common is graded nan.

    Args:
        found: int64 `[queries, at least the longest K]`, gallery positions, best first, -1 where there are no more.
        query_codes, gallery_codes: int64 `[images, columns]`, -1 where a value is missing.
        gains: float64 `[columns]`.
        k: the K.
        exclude: int64 `[pairs, 2]`, (query, gallery) positions that never count, by ascending query.
    """
    longest = max(k)
    discounts = 1 / np.log2(np.arange(2, longest + 2))
    reached = np.concatenate([[0.0], np.cumsum(discounts)])  # of so many finds with gain 1
    combinations, places, counts = np.unique(gallery_codes, axis=0, return_inverse=True, return_counts=True)
    places = places.reshape(-1)
    kinds, kind_of = np.unique(query_codes, axis=0, return_inverse=True)
    kind_of = kind_of.reshape(-1)
    common = np.stack([_gain(kind, combinations, gains) for kind in kinds])
    orders = np.argsort(-common, axis=1, kind="stable")
    starts = np.searchsorted(exclude[:, 0], np.arange(len(found) + 1))
    grades = {f"ndcg@{each}": np.full(len(found), np.nan) for each in k}
    for query, row in enumerate(found):
        gain, order = common[kind_of[query]], orders[kind_of[query]]
        left = counts - np.bincount(places[exclude[starts[query] : starts[query + 1], 1]], minlength=len(combinations))
        until = np.cumsum(left[order])
        filled = row[:longest]
        of_list = np.where(filled == NO_POSITION, 0.0, gain[places[filled]])
        for each in k:
            ends = reached[np.minimum(until, each)]
            ideal = float(np.sum(gain[order] * np.diff(ends, prepend=0.0)))
            if ideal > 0:
                grades[f"ndcg@{each}"][query] = float(np.sum(of_list[:each] * discounts[: len(of_list[:each])])) / ideal
    return grades


def _gain(kind: np.ndarray, combinations: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """float64 `[combinations]`: what each has in common with a query's codes."""
    return ((combinations == kind) & (kind != MISSING)) @ gains
