"""Rankings of the gallery: what measures need that look further down than a list."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from lapel.retrieval.pairs import NO_POSITION, numbered, share_item
from lapel.retrieval.tiles import Tiles

# Similarities that are ranked at once: few enough to stay in a core's cache.
AT_ONCE = 2**19

# One column of so many is looked at to guess from where on a row is worth sorting.
SAMPLED = 16

# The last bit of a float32, which tells a match while similarities are sorted.
TAG = np.int32(1)

# Rows with more groups of near-equal similarities than this are sorted whole.
MOST_GROUPS = 16

# Below it there are only excluded images, which are -inf.
LOWEST = np.finfo(np.float32).min

Read = TypeVar("Read")


class Depth(Enum):
    """How far down matches are looked for: to the end of a list, to rank R of R matches, or to the last one."""

    lists = "lists"
    within_r = "within_r"
    all = "all"


@dataclass(frozen=True)
class Sought:
    """What is looked for in the gallery.

    Args:
        query_sets, gallery_sets: int64 `[images, most]`, filled up with -1; sharing an item makes a match.
        relevant: int64 `[queries]`, number of matches, excluded ones left out: R.
        depth: within_r or all.
        least: ranks that are wanted of every query.
    """

    query_sets: np.ndarray
    gallery_sets: np.ndarray
    relevant: np.ndarray
    depth: Depth
    least: int


@dataclass(frozen=True)
class Ranking:
    """The upper ends of some queries' rankings, as far down as was asked for, as float32 tells them.

    Equal similarities are ordered by gallery position.

    Args:
        queries: int64 `[rows]`, positions.
        values: float32 `[rows, ranks]`, similarities, best first; -inf where a ranking has ended.
        positions: int64 `[rows, ranks]`, -1 where it has ended.
        hits: bool `[rows, ranks]`, the matches.
        first: int64 `[rows]`, rank of the first match from 1, however far down; 0 where there is none.
    """

    queries: np.ndarray
    values: np.ndarray
    positions: np.ndarray
    hits: np.ndarray
    first: np.ndarray


def rankings(tiles: Tiles, sought: Sought, memory: float, read: Callable[[Ranking], Read]) -> Iterator[Read]:
    """What is made of the rankings of all queries, some at once, those of about as many matches together.

    Args:
        tiles: of queries and gallery.
        sought: what is looked for.
        memory: megabytes of similarities held at once.
        read: makes it; called by several threads at once.
    """

    def work(values: np.ndarray, first: int, rows: np.ndarray) -> Read:
        return read(ranking(values[rows], first + rows, sought))

    step = max(1, AT_ONCE // len(tiles.gallery))
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        for first, block in tiles.rows(memory):
            values = block.cpu().numpy()
            order = np.argsort(sought.relevant[first : first + len(block)], kind="stable")
            parts = [order[start : start + step] for start in range(0, len(order), step)]
            yield from pool.map(partial(work, values, first), parts)


def ranking(rows: np.ndarray, queries: np.ndarray, sought: Sought) -> Ranking:
    """The upper ends of some rankings.

    Of a row only what stands above a bound is sorted: a bound that lets through enough of it, guessed from a sample.
    Matches are told by the last bit of their similarity, so that a plain sort of float32, the fastest there is, carries
    them along; where that bit, or none, lies between a match and another image, their order is looked up.

    Args:
        rows: float32 `[rows, gallery]`, similarities, -inf where excluded.
        queries: int64 `[rows]`, positions of the queries.
        sought: what is looked for.
    """
    alike = share_item(sought.query_sets[queries, None], sought.gallery_sets[None])
    wanted = min(max(sought.least, int(sought.relevant[queries].max())), rows.shape[1])
    picked = _above(rows, _bounds(rows, alike, wanted, sought.depth), wanted)
    ordered = _sorted(rows, alike, picked)
    hits = (ordered.view(np.int32) & TAG).astype(bool)
    untagged = (ordered.view(np.int32) & ~TAG).view(np.float32)
    _settle_groups(hits, untagged, rows, alike)
    values, positions = _best(rows, picked, untagged, sought.least)
    first = _first_ranks(hits, rows, alike, sought.relevant[queries])
    depth = hits.shape[1] if sought.depth is Depth.all else wanted
    return Ranking(queries, values, positions, hits[:, :depth], first)


def _bounds(rows: np.ndarray, alike: np.ndarray, wanted: int, depth: Depth) -> np.ndarray:
    """float32 `[rows]`: about the value at the wanted rank, rather below it; for all, at most the last match's."""
    sample = rows[:, ::SAMPLED]
    expected = wanted / SAMPLED
    rank = int(expected + 3 * expected**0.5) + 2  # three deviations of what a sample holds
    if rank >= sample.shape[1]:
        return np.full(len(rows), LOWEST)
    bounds = np.partition(sample, sample.shape[1] - rank, axis=1)[:, sample.shape[1] - rank]
    if depth is Depth.all:
        bounds = np.minimum(bounds, np.min(rows, axis=1, where=alike & (rows >= LOWEST), initial=np.inf))
    return np.maximum(bounds, LOWEST)


@dataclass(frozen=True)
class _Picked:
    """Some entries of a matrix: int64 places in it as one row, ascending, and how many stand in each row."""

    places: np.ndarray
    counts: np.ndarray


def _picked(inside: np.ndarray) -> _Picked:
    """Where a matrix is true. In one dimension NumPy finds it several times faster than in two, and than it counts."""
    places = np.flatnonzero(inside)
    ends = np.searchsorted(places, np.arange(1, len(inside) + 1) * inside.shape[1])
    return _Picked(places, np.diff(ends, prepend=0))


def _above(rows: np.ndarray, bounds: np.ndarray, wanted: int) -> _Picked:
    """What is not below the bound, or below the wanted rank's value where that were too few."""
    inside = rows >= bounds[:, None]
    picked = _picked(inside)
    short = np.flatnonzero(picked.counts < wanted)
    if not len(short):
        return picked
    exact = np.partition(rows[short], rows.shape[1] - wanted, axis=1)[:, rows.shape[1] - wanted]
    inside[short] = rows[short] >= np.maximum(exact, LOWEST)[:, None]
    return _picked(inside)


def _sorted(rows: np.ndarray, alike: np.ndarray, picked: _Picked) -> np.ndarray:
    """float32 `[rows, most of a row]`: minus what was picked, tagged, ascending; inf behind it."""
    tagged = (rows.reshape(-1)[picked.places].view(np.int32) & ~TAG) | alike.reshape(-1)[picked.places]
    ordered = np.full((len(rows), max(1, picked.counts.max())), np.inf, dtype=np.float32)
    ordered[np.arange(ordered.shape[1]) < picked.counts[:, None]] = -tagged.view(np.float32)
    ordered.sort(axis=1)
    return ordered


def _settle_groups(hits: np.ndarray, untagged: np.ndarray, rows: np.ndarray, alike: np.ndarray) -> None:
    """Put matches and others that stand together, but for the last bit, into their true order."""
    mixed = (untagged[:, 1:] == untagged[:, :-1]) & (hits[:, 1:] != hits[:, :-1])
    for row in np.flatnonzero(mixed.any(1)):
        groups = np.unique(untagged[row, 1:][mixed[row]])
        if len(groups) > MOST_GROUPS:
            order = np.argsort(-rows[row], kind="stable")[: hits.shape[1]]
            hits[row, : len(order)] = alike[row, order] & (rows[row, order] >= LOWEST)
            continue
        bare = (rows[row].view(np.int32) & ~TAG).view(np.float32)
        for value in groups:
            members = np.flatnonzero(bare == -value)
            order = members[np.argsort(-rows[row, members], kind="stable")]
            start = int(np.searchsorted(untagged[row], value))
            order = order[: hits.shape[1] - start]  # the bound may have cut the group
            hits[row, start : start + len(order)] = alike[row, order]


def _best(rows: np.ndarray, picked: _Picked, untagged: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Values and positions `[rows, least]` of the best of each row; -inf and -1 where it has fewer."""
    last = -untagged[:, min(least, untagged.shape[1]) - 1]
    # Untagged, a negative number is a little higher than it was.
    bounds = np.where(last <= 0, np.nextafter(last, np.float32(-np.inf)), last)
    values = rows.reshape(-1)[picked.places]
    above = np.flatnonzero(values >= np.repeat(bounds, picked.counts))
    places, columns = np.divmod(picked.places[above], rows.shape[1])
    order = np.lexsort((columns, -values[above], places))
    counts = np.bincount(places, minlength=len(rows))
    ranks = numbered(counts)
    order, ranks = order[ranks < least], ranks[ranks < least]
    best_values = np.full((len(rows), least), -np.inf, dtype=np.float32)
    positions = np.full((len(rows), least), NO_POSITION)
    best_values[places[order], ranks], positions[places[order], ranks] = values[above[order]], columns[order]
    return best_values, positions


def _first_ranks(hits: np.ndarray, rows: np.ndarray, alike: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """int64 `[rows]`: rank of each first match, from 1; 0 where there is none."""
    first = np.where(hits.any(1), hits.argmax(1) + 1, 0)
    for row in np.flatnonzero((first == 0) & (relevant > 0)):
        best = int(np.where(alike[row], rows[row], -np.inf).argmax())
        above, before = rows[row] > rows[row, best], rows[row, :best] == rows[row, best]
        first[row] = 1 + np.count_nonzero(above) + np.count_nonzero(before)
    return first
