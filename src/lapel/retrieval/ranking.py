"""Rankings of the gallery: what measures need that look further down than a list."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from lapel.retrieval.pairs import NO_POSITION, share_item, true_places
from lapel.retrieval.tiles import Tiles

# Similarities that are ranked at once: few enough to stay in the cache, enough that threads seldom wait for each other.
AT_ONCE = 2**20

# One column of so many is looked at to guess from where on a row is worth sorting.
SAMPLED = 16

# Of so many times as many entries as are wanted, or as guessing from a sample adds, most are ties.
MANY_TIMES = 16

# The last bit of a float32, which tells a match while similarities are sorted.
TAG = np.int32(1)

# Rows with more groups of near-equal similarities than this are sorted whole, and so are short ones.
MOST_GROUPS = 16
SHORT = 1024

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
    picked = _above(rows, alike, _bounds(rows, alike, wanted, sought.depth), wanted, sought.depth)
    ordered = _sorted(picked)
    hits = (ordered.view(np.int32) & TAG).astype(bool)
    untagged = (ordered.view(np.int32) & ~TAG).view(np.float32)
    _settle_groups(hits, untagged, picked)
    values, positions = _best(picked, untagged, sought.least)
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
    """Some entries of similarities.

    Args:
        places: int64 `[entries]`, ascending, in the matrix laid out as one row.
        width: columns of the matrix.
        values: float32 `[entries]`.
        alike: bool `[entries]`, the matches.
        ends: int64 `[rows + 1]`: those of row i are entries ends[i] to ends[i + 1].
    """

    places: np.ndarray
    width: int
    values: np.ndarray
    alike: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.ends) - 1

    @property
    def counts(self) -> np.ndarray:
        """int64 `[rows]`: entries of each."""
        return np.diff(self.ends)

    def row(self, number: int) -> slice:
        """The entries of a row."""
        return slice(self.ends[number], self.ends[number + 1])


def _above(rows: np.ndarray, alike: np.ndarray, bounds: np.ndarray, wanted: int, depth: Depth) -> _Picked:
    """What is not below the bound, or below the wanted rank's value where that were too few.

    Of many that are equal there no more are taken than are wanted, but where all matches are looked for.
    """
    inside = rows >= bounds[:, None]
    places, ends = true_places(inside)
    counts = np.diff(ends)
    short = np.flatnonzero(counts < wanted)
    if len(short):
        exact = np.partition(rows[short], rows.shape[1] - wanted, axis=1)[:, rows.shape[1] - wanted]
        bounds[short] = np.maximum(exact, LOWEST)
        inside[short] = rows[short] >= bounds[short, None]
        counts[short] = np.count_nonzero(inside[short], axis=1)
    long = np.flatnonzero(counts > MANY_TIMES * (wanted + SAMPLED)) if depth is not Depth.all else short[:0]
    if len(long):
        inside[long] = _first_of(rows[long], wanted, bounds[long])
    if len(short) or len(long):
        places, ends = true_places(inside)
    return _Picked(places, rows.shape[1], rows.reshape(-1)[places], alike.reshape(-1)[places], ends)


def _first_of(rows: np.ndarray, wanted: int, bounds: np.ndarray) -> np.ndarray:
    """bool, shape of `rows`: the wanted number of the highest of each row, the lower position first among equals.

    Args:
        rows: float32 `[rows, gallery]`.
        wanted: how many.
        bounds: float32 `[rows]`, above or at which there are so many; among ties mostly the last one's value.
    """
    last = bounds[:, None].copy()
    below = np.flatnonzero(np.count_nonzero(rows > last, axis=1) >= wanted)
    if len(below):  # sorted, since a partition of ties in some order or other may take ten times as long
        last[below] = np.maximum(np.sort(rows[below], axis=1)[:, -wanted, None], LOWEST)
    above, equal = rows > last, rows == last
    left = wanted - np.count_nonzero(above, axis=1)
    return above | (equal & (np.cumsum(equal, axis=1, dtype=np.int32) <= left[:, None]))


def _sorted(picked: _Picked) -> np.ndarray:
    """float32 `[rows, most of a row]`: minus what was picked, tagged, ascending; inf behind it."""
    tagged = -((picked.values.view(np.int32) & ~TAG) | picked.alike).view(np.float32)
    ordered = _padded(tagged, picked.ends, np.inf, 1)
    ordered.sort(axis=1)
    return ordered


def _padded(entries: np.ndarray, ends: np.ndarray, fill: float, least: int) -> np.ndarray:
    """`[rows, most of a row]`: entries in rows, filled up; row by row, since a mask takes twice as long.

    Args:
        entries: `[entries]`, row after row.
        ends: int64 `[rows + 1]`, between which of them each row's lie.
        fill: what stands behind a row's entries.
        least: columns there are at least.
    """
    starts, counts = ends[:-1].tolist(), np.diff(ends).tolist()
    padded = np.full((len(counts), max(least, *counts)), fill, dtype=entries.dtype)
    for row, start, count in zip(padded, starts, counts, strict=True):
        row[:count] = entries[start : start + count]
    return padded


def _settle_groups(hits: np.ndarray, untagged: np.ndarray, picked: _Picked) -> None:
    """Put matches and others that stand together, but for the last bit, into their true order."""
    mixed = (untagged[:, 1:] == untagged[:, :-1]) & (hits[:, 1:] != hits[:, :-1])
    for row in np.flatnonzero(mixed.any(1)).tolist():
        entries = picked.row(row)
        values, alike = picked.values[entries], picked.alike[entries]
        if len(values) <= SHORT or len(groups := np.unique(untagged[row, 1:][mixed[row]])) > MOST_GROUPS:
            hits[row, : len(values)] = alike[np.argsort(-values, kind="stable")]
            continue
        bare = (values.view(np.int32) & ~TAG).view(np.float32)
        members = np.flatnonzero(np.isin(bare, -groups))
        ranks = np.flatnonzero(np.isin(untagged[row, : len(values)], groups))
        hits[row, ranks] = alike[members[np.argsort(-values[members], kind="stable")]]


def _best(picked: _Picked, untagged: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Values and positions `[rows, least]` of the best of each row; -inf and -1 where it has fewer."""
    last = -untagged[:, min(least, untagged.shape[1]) - 1]
    # Untagged, a negative number is a little higher than it was.
    bounds = np.where(last <= 0, np.nextafter(last, np.float32(-np.inf)), last)
    above = np.flatnonzero(picked.values >= np.repeat(bounds, picked.counts))
    ends = np.searchsorted(above, picked.ends)
    values = _padded(picked.values[above], ends, -np.inf, least)
    positions = _padded(picked.places[above] % picked.width, ends, NO_POSITION, least)
    order = np.argsort(-values, axis=1, kind="stable")[:, :least]
    return np.take_along_axis(values, order, 1), np.take_along_axis(positions, order, 1)


def _first_ranks(hits: np.ndarray, rows: np.ndarray, alike: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """int64 `[rows]`: rank of each first match, from 1; 0 where there is none."""
    first = np.where(hits.any(1), hits.argmax(1) + 1, 0)
    for row in np.flatnonzero((first == 0) & (relevant > 0)):
        best = int(np.where(alike[row], rows[row], -np.inf).argmax())
        above, before = rows[row] > rows[row, best], rows[row, :best] == rows[row, best]
        first[row] = 1 + np.count_nonzero(above) + np.count_nonzero(before)
    return first
