"""The queries that a report shows: the worst, the best and some in between, with what was found and what was missed."""

from dataclasses import dataclass

import numpy as np

from lapel.evaluation.evaluated import Evaluated
from lapel.pictures.originals import Originals
from lapel.report import Missed, Picture, Queries, Query
from lapel.report.pictures import SHOWN_SIDE
from lapel.retrieval import NO_POSITION
from lapel.retrieval.pairs import are_matches, share_item

# Queries that are shown of a kind; images found for each; matches that were missed.
QUERIES = 6
FOUND = 8
MISSED = 3

# So few queries are all shown, in one list.
ALL = 2 * QUERIES

# Of an item, how many of the worst and of the best queries are shown: many of one would say the same.
OF_ONE_ITEM = {"worst": 2, "best": 1}

# Of the draw of those in between.
SEED = 0


def shown_queries(found: Evaluated, originals: Originals) -> list[Queries]:
    """Queries in lists that have none in common: all where there are few, else the worst, some in between, the best.

    No list holds a query that is better than one of a later list.
    """
    order = np.argsort(found.scores.grades["map@r"], kind="stable")
    kinds = _kinds(found, order)
    missed = _missed(found, np.concatenate([places for _, _, places in kinds]))
    return [
        Queries(heading, told, [_query(found, originals, place, missed) for place in places.tolist()])
        for heading, told, places in kinds
        if len(places)
    ]


def _kinds(found: Evaluated, order: np.ndarray) -> list[tuple[str, str, np.ndarray]]:
    """Heading, how they were chosen, and the queries of each list, as positions among the graded ones.

    Args:
        found: the evaluation.
        order: int64, of all graded queries, the worst first.
    """
    count, grades = len(order), found.scores.grades["map@r"]
    if count <= ALL:
        return [("All queries", "The worst first, by MAP@R.", order)]
    if grades[order[0]] == grades[order[-1]]:
        drawn = np.random.default_rng(SEED).permutation(order)[:ALL]
        return [("Some of the queries", "All have the same MAP@R: these are drawn at random.", np.sort(drawn))]
    each = min(QUERIES, count // 3)
    worst = _few_of_an_item(found, order[: count // 2], each, OF_ONE_ITEM["worst"])
    best = _few_of_an_item(found, order[count // 2 :][::-1], each, OF_ONE_ITEM["best"])
    left = np.setdiff1d(order, np.concatenate([worst, best]))
    left = left[(grades[left] >= grades[worst].max()) & (grades[left] <= grades[best].min())]
    drawn = np.random.default_rng(SEED).permutation(left)[:each]
    between = drawn[np.argsort(grades[drawn], kind="stable")]
    return [
        (
            "Worst queries",
            "Those with the lowest MAP@R, at most two of an item. Look for wrong labels, twins under two names, and "
            "what the model cannot see.",
            worst,
        ),
        (
            "Queries in between",
            "Drawn at random from the others that are no worse than those and no better than the best, the worst "
            "first: the everyday case.",
            between,
        ),
        ("Best queries", "Those with the highest MAP@R, at most one of an item.", best),
    ]


def _few_of_an_item(found: Evaluated, order: np.ndarray, count: int, most: int) -> np.ndarray:
    """The first `count` of an order of graded queries, at most so many of one item."""
    items = found.items[0][found.scores.queries[order], 0]
    seen: dict[int, int] = {}
    kept = []
    for place, item in zip(order.tolist(), items.tolist(), strict=True):
        seen[item] = seen.get(item, 0) + 1
        if seen[item] <= most:
            kept.append(place)
    return np.array(kept[:count], dtype=np.int64)


def _query(found: Evaluated, originals: Originals, place: int, missed: dict[int, "_Ranked"]) -> Query:
    query = int(found.scores.queries[place])
    lists = found.scores.neighbors
    positions = _listed(found, query)
    right = are_matches(found.items[0][[query]], found.items[1], positions[None])[0]
    pictures = _pictures(found, originals, found.protocol.gallery[positions])
    matches = int(found.scores.relevant[query])
    after = np.cumsum(right) - right >= matches  # nothing that stands there could be a match
    marks = [None if late else match for late, match in zip(after.tolist(), right.tolist(), strict=True)]
    finds = zip(pictures, lists.scores[query].tolist(), marks, strict=False)
    ranked = missed[query]
    others = _pictures(found, originals, found.protocol.gallery[ranked.positions])
    return Query(
        picture=_pictures(found, originals, found.protocol.queries[[query]])[0],
        score=float(found.scores.grades["map@r"][place]),
        matches=matches,
        found=[Picture(each.pixels, each.caption, each.name, score, match) for each, score, match in finds],
        missed=[
            Missed(Picture(each.pixels, each.caption, each.name, score, right=True), rank)
            for each, score, rank in zip(others, ranked.scores.tolist(), ranked.ranks.tolist(), strict=True)
        ],
    )


def _listed(found: Evaluated, query: int) -> np.ndarray:
    """int64: gallery positions of a query's finds that are shown."""
    positions = found.scores.neighbors.positions[query, :FOUND]
    return positions[positions != NO_POSITION]


def _pictures(found: Evaluated, originals: Originals, rows: np.ndarray) -> list[Picture]:
    """Images of catalogue rows, with their items and names."""
    captions = item_names(found, rows)
    return [
        Picture(*each) for each in zip(originals.small(rows, SHOWN_SIDE), captions, originals.names(rows), strict=True)
    ]


def item_names(found: Evaluated, rows: np.ndarray) -> list[str]:
    """The item of each catalogue row, by name."""
    return [found.catalog.item_names[code] for code in found.catalog.items[rows]]


@dataclass(frozen=True)
class _Ranked:
    """Matches of a query with where they stand, best first.

    Args:
        positions: int64, in the gallery.
        ranks: int64, from 1.
        scores: float64, cosines or minus distances.
    """

    positions: np.ndarray
    ranks: np.ndarray
    scores: np.ndarray


def _missed(found: Evaluated, places: np.ndarray) -> dict[int, _Ranked]:
    """Query position -> its best matches that are not among its shown finds, where one of those is wrong.

    Ranks are those of exact search, also where an index made the lists.

    Args:
        found: the evaluation.
        places: int64, positions of the queries among the graded ones.
    """
    queries = found.scores.queries[places]
    missed = {}
    for part in found.protocol.comparisons():
        rows = np.flatnonzero(np.isin(part.mine, queries))
        if not len(rows):
            continue
        tiles = found.embedded.similarities(part)
        for row in rows.tolist():
            query = int(part.mine[row])
            similar = tiles.precise(np.array([row]))[0].cpu().numpy()
            inside = _best_missed(found, query, part.theirs, similar)
            ranks = np.array([_rank(similar, each) for each in inside.tolist()], dtype=np.int64)
            scores = tiles.exact(np.array([row]), inside[None])[0]
            if found.subject.index is None:  # rounding may have put a near-tie on the other side of the list's end
                ranks = np.maximum(ranks, len(_listed(found, query)) + 1)
            missed[query] = _Ranked(part.theirs[inside], ranks, scores)
    return missed


def _best_missed(found: Evaluated, query: int, theirs: np.ndarray, similar: np.ndarray) -> np.ndarray:
    """int64: positions, among the images that a query is compared with, of the matches that it should have found.

    Args:
        found: the evaluation.
        query: its position.
        theirs: int64 gallery positions of what it is compared with.
        similar: float64, its similarity to each of them, -inf where they never count.
    """
    listed = _listed(found, query)
    sets = found.items[0][[query]], found.items[1]
    if are_matches(*sets, listed[None]).all():
        return np.empty(0, dtype=np.int64)
    matches = share_item(sets[0], sets[1][theirs]) & np.isfinite(similar) & ~np.isin(theirs, listed)
    inside = np.flatnonzero(matches)
    return inside[np.argsort(-similar[inside], kind="stable")[:MISSED]]


def _rank(similar: np.ndarray, position: int) -> int:
    """Where an image stands in the ranking of all, from 1; of equal ones the lower position goes first."""
    before = (similar > similar[position]).sum() + (similar[:position] == similar[position]).sum()
    return int(before) + 1
