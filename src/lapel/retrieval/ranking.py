"""Ranks of the matches of each query: what measures need that look further down than a list."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

import numpy as np
import torch
from torch import Tensor

from lapel.retrieval.pairs import share_item
from lapel.retrieval.tiles import Tiles

# Rows that a thread ranks before it takes the next ones.
ROWS_AT_ONCE = 16


class Depth(Enum):
    """How far down matches are looked for: to the end of a list, to rank R of R matches, or to the last one."""

    lists = "lists"
    within_r = "within_r"
    all = "all"


def match_ranks(
    tiles: Tiles,
    query_sets: np.ndarray,
    gallery_sets: np.ndarray,
    relevant: np.ndarray,
    depth: Depth,
    memory: float,
) -> Iterator[tuple[int, np.ndarray]]:
    """(query, int64 ranks of its matches from 1, ascending): of each query that has one, in order.

    Ranks are those of float32 similarities, equal ones ordered by gallery position. For `Depth.within_r` ranks beyond
    the number of matches are left out, but for the first.

    Args:
        tiles: of queries and gallery.
        query_sets, gallery_sets: int64 `[images, most]`, filled up with -1; sharing an item makes a match.
        relevant: int64 `[queries]`, number of matches, excluded ones left out.
        depth: within_r or all.
        memory: megabytes of similarities held at once.
    """
    threads = max(1, torch.get_num_threads())
    with ThreadPoolExecutor(threads) as pool:
        for first, block in tiles.rows(memory):
            rows = [row for row in range(len(block)) if relevant[first + row]]
            if block.is_cuda:
                yield from ranked_by_sorting_whole(block, first, rows, query_sets, gallery_sets, relevant, depth)
                continue
            values = block.numpy()

            def rank(some: list[int], values: np.ndarray = values, first: int = first) -> list[np.ndarray]:
                return [
                    ranks_in(
                        values[row],
                        share_item(query_sets[first + row], gallery_sets),
                        int(relevant[first + row]),
                        depth,
                    )
                    for row in some
                ]

            parts = [rows[at : at + ROWS_AT_ONCE] for at in range(0, len(rows), ROWS_AT_ONCE)]
            for some, found in zip(parts, pool.map(rank, parts), strict=True):
                yield from ((first + row, ranks) for row, ranks in zip(some, found, strict=True))


def ranks_in(row: np.ndarray, alike: np.ndarray, relevant: int, depth: Depth) -> np.ndarray:
    """int64: ranks of a query's matches, from 1, ascending; see `match_ranks`.

    A match's rank is one more than the better matches and the better others. Only the values of the matches are sorted
    whole; of the others only those that stand above the R-th value of the row, in `within_r`.

    Args:
        row: float32 `[gallery]`, similarities, -inf where excluded.
        alike: bool `[gallery]`, the matches, excluded ones included.
        relevant: number of matches that are not excluded, R; at least 1.
        depth: how far down to look.
    """
    matches = np.sort(row[alike])[::-1][:relevant]
    lowest = matches[-1]
    if depth is Depth.within_r:
        lowest = max(lowest, np.partition(row, len(row) - relevant)[len(row) - relevant])
    others = np.sort(row[~alike & (row >= lowest)])
    above = len(others) - np.searchsorted(others, matches, side="right")
    if (above != len(others) - np.searchsorted(others, matches, side="left")).any():
        return _ranks_by_sorting(row, alike, relevant, depth)
    ranks = np.arange(1, relevant + 1) + above
    if depth is Depth.all:
        return ranks
    inside = ranks[matches >= lowest]
    inside = inside[inside <= relevant]
    if len(inside):
        return inside
    if (row == matches[0]).sum() > (matches == matches[0]).sum():
        return _ranks_by_sorting(row, alike, relevant, depth)
    return np.array([1 + np.count_nonzero(row > matches[0])])


def _ranks_by_sorting(row: np.ndarray, alike: np.ndarray, relevant: int, depth: Depth) -> np.ndarray:
    """As `ranks_in`, where matches and others tie: the lower position comes first."""
    ranks = np.flatnonzero(alike[np.argsort(-row, kind="stable")])[:relevant] + 1
    if depth is Depth.all:
        return ranks
    return ranks[ranks <= relevant] if ranks[0] <= relevant else ranks[:1]


def ranked_by_sorting_whole(
    block: Tensor,
    first: int,
    rows: list[int],
    query_sets: np.ndarray,
    gallery_sets: np.ndarray,
    relevant: np.ndarray,
    depth: Depth,
) -> Iterator[tuple[int, np.ndarray]]:
    """As `match_ranks`, of the given rows of a block: by a stable sort of them whole, which a GPU is quick at."""
    order = block.sort(dim=1, descending=True, stable=True).indices
    alike = torch.from_numpy(share_item(query_sets[first : first + len(block), None], gallery_sets[None]))
    hits = alike.to(block.device).gather(1, order).cpu().numpy()
    for row in rows:
        count = int(relevant[first + row])
        ranks = np.flatnonzero(hits[row])[:count] + 1
        if depth is Depth.within_r:
            ranks = ranks[ranks <= count] if ranks[0] <= count else ranks[:1]
        yield first + row, ranks
