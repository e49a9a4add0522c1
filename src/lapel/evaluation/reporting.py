"""What the report shows of an evaluation."""

from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from lapel.evaluation.evaluated import Evaluated
from lapel.evaluation.verification import ScoredPairs
from lapel.images.store import ImageStore
from lapel.report import Content, Hub, MapPoints, Occurrences, Picture, Query, occurrences, project, thumbnails
from lapel.retrieval import NO_POSITION
from lapel.retrieval.pairs import are_matches
from lapel.runs.folder import read_train_summary

# Length of the lists that recall@K is drawn of, and that hubs are counted in.
LISTED = 50
HUB_LISTS = 10

# Queries that are shown on either side, images found for each, hubs.
QUERIES = 8
FOUND = 8
HUBS = 8

# Of an item, how many of the worst and of the best queries are shown: many of one would say the same.
OF_ONE_ITEM = {"worst": 2, "best": 1}

# Images on the map, at most, and the draw of which.
POINTS = 6000
SEED = 0

# Images read at once.
AT_ONCE = 256


def report_content(
    found: Evaluated,
    store: ImageStore,
    result: dict[str, Any],
    pairs: ScoredPairs | None,
    tables: dict[str, pd.DataFrame],
) -> Content:
    """See `report.Content`.

    Args:
        found: the evaluation.
        store: of its images.
        result: what metrics.json holds.
        pairs: with their similarities; None where there are matches alone.
        tables: `categories` and `confusion`.
    """
    positions = found.scores.neighbors.positions
    counted = occurrences(positions, len(found.protocol.gallery), HUB_LISTS)
    grades = found.scores.grades["map@r"]
    return Content(
        title=found.subject.name,
        result=result,
        recalls=np.maximum.accumulate(are_matches(*found.items, positions), axis=1)[found.scores.queries].mean(0),
        curve=found.scores.curve,
        similarities=None if pairs is None else pairs.similarities,
        alike=None if pairs is None else pairs.alike,
        categories=tables["categories"],
        confusion=tables["confusion"],
        best=_queries(found, store, np.argsort(-grades, kind="stable"), OF_ONE_ITEM["best"]),
        worst=_queries(found, store, np.argsort(grades, kind="stable"), OF_ONE_ITEM["worst"]),
        occurrences=counted,
        hubs=_hubs(found, store, counted),
        points=_points(found, store),
        history=_history(found),
        config=_config(found),
    )


def _queries(found: Evaluated, store: ImageStore, order: np.ndarray, of_one_item: int) -> list[Query]:
    """The first of an order of graded queries, few of one item."""
    shown: list[int] = []
    seen: dict[int, int] = {}
    for place in order.tolist():
        item = int(found.items[0][found.scores.queries[place], 0])
        seen[item] = seen.get(item, 0) + 1
        if seen[item] <= of_one_item:
            shown.append(place)
        if len(shown) == QUERIES:
            break
    return [_query(found, store, place) for place in shown]


def _query(found: Evaluated, store: ImageStore, place: int) -> Query:
    query = int(found.scores.queries[place])
    positions = found.scores.neighbors.positions[query, :FOUND]
    positions = positions[positions != NO_POSITION]
    right = are_matches(found.items[0][[query]], found.items[1], positions[None])[0]
    rows = found.protocol.gallery[positions]
    pictures = zip(_pixels(store, rows), _item_names(found, rows), right.tolist(), strict=True)
    row = found.protocol.queries[[query]]
    asked = Picture(_pixels(store, row)[0], _item_names(found, row)[0])
    score, matches = float(found.scores.grades["map@r"][place]), int(found.scores.relevant[query])
    return Query(asked, score, matches, [Picture(*each) for each in pictures])


def _hubs(found: Evaluated, store: ImageStore, counted: Occurrences) -> list[Hub]:
    """The images that stand in most lists."""
    busiest = np.argsort(-counted.counts, kind="stable")[:HUBS]
    positions = found.scores.neighbors.positions[:, : counted.k]
    right = are_matches(*found.items, positions)
    rows = found.protocol.gallery[busiest]
    return [
        Hub(Picture(pixels, name), int(counted.counts[position]), int(right[positions == position].sum()))
        for pixels, name, position in zip(_pixels(store, rows), _item_names(found, rows), busiest, strict=True)
    ]


def _points(found: Evaluated, store: ImageStore) -> MapPoints:
    """Some of the gallery on a plane, drawn evenly, in random order."""
    gallery, catalog = found.protocol.gallery, found.catalog
    chosen = np.random.default_rng(SEED).permutation(len(gallery))[:POINTS]
    coordinates, method = project(found.embeddings[1][chosen].cpu().numpy())
    rows = gallery[chosen]
    items, categories = _item_names(found, rows), [catalog.category_names[code] for code in catalog.categories[rows]]
    captions = [
        item if item == category else f"{item} · {category}" for item, category in zip(items, categories, strict=True)
    ]
    parts = (rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE))
    pixels = thumbnails(part.cpu().numpy() for part in store.gather_all(parts))
    return MapPoints(
        coordinates, catalog.categories[rows], catalog.category_names, captions, pixels, method, len(gallery)
    )


def _pixels(store: ImageStore, rows: np.ndarray) -> np.ndarray:
    return store.gather(rows).cpu().numpy()


def _item_names(found: Evaluated, rows: np.ndarray) -> list[str]:
    return [found.catalog.item_names[code] for code in found.catalog.items[rows]]


def _history(found: Evaluated) -> list[dict[str, Any]]:
    """Scores on val along the run's training."""
    run = found.subject.run
    return [] if run is None else read_train_summary(run).get("history", [])


def _config(found: Evaluated) -> str:
    """The run's config as yaml; of a pretrained encoder what it is."""
    run = found.subject.run
    if run is not None:
        return (run / "config.yaml").read_text()
    return OmegaConf.to_yaml(OmegaConf.create(found.subject.origin))
