"""What the report shows of an evaluation."""

from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from lapel.config.data import Resize
from lapel.evaluation.evaluated import Evaluated
from lapel.evaluation.facts import facts_of, item_in_words
from lapel.evaluation.rivals import beside
from lapel.evaluation.shown import item_names, shown_queries
from lapel.evaluation.verification import ScoredPairs
from lapel.images.store import ImageStore
from lapel.pictures.originals import Originals
from lapel.report import Content, Hub, Hubs, MapPoints, Picture, occurrences, project, thumbnails
from lapel.report.pictures import SHOWN_SIDE
from lapel.report.projection import MOST
from lapel.retrieval import NO_POSITION
from lapel.retrieval.pairs import are_matches
from lapel.runs.folder import read_train_summary

# Length of the lists that recall@K is drawn of, and that hubs are counted in.
LISTED = 50
HUB_LISTS = 10

# Hubs that are shown.
HUBS = 8

# A curve over fewer queries has a step for each, and a histogram of fewer pairs of a kind a spike for each. Where lists
# hold more than a tenth of a gallery, every image stands in many.
FEWEST_QUERIES = 30
FEWEST_PAIRS = 200
SMALLEST_GALLERY = 10 * HUB_LISTS

# Of the draw of images on the map.
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
    originals = Originals(found.catalog, store)
    enough = len(found.scores.queries) >= FEWEST_QUERIES
    drawn = pairs if pairs is not None and _enough_pairs(pairs) else None
    return Content(
        title=found.subject.name,
        facts=facts_of(found),
        item=item_in_words(found),
        result=result,
        recalls=_recalls(found) if enough else None,
        curve=found.scores.curve if enough else None,
        similarities=None if drawn is None else drawn.similarities,
        alike=None if drawn is None else drawn.alike,
        categories=tables["categories"],
        confusion=tables["confusion"] if _can_vote(found) else None,
        shown=shown_queries(found, originals),
        hubs=_hubs(found, originals) if enough and len(found.protocol.gallery) >= SMALLEST_GALLERY else None,
        points=_points(found, store, originals),
        history=_history(found),
        rival=None if found.rival is None else beside(found, found.rival, result),
        config=_config(found),
    )


def _enough_pairs(pairs: ScoredPairs) -> bool:
    matches = int(pairs.alike.sum())
    return min(matches, len(pairs.alike) - matches) >= FEWEST_PAIRS


def _can_vote(found: Evaluated) -> bool:
    """Whether most queries have as many other images of their category as vote on it: fewer would be outvoted."""
    categories, protocol = found.catalog.categories, found.protocol
    codes, counts = np.unique(categories[protocol.gallery], return_counts=True)
    sizes = dict(zip(codes.tolist(), counts.tolist(), strict=True))
    inside = np.isin(protocol.queries, protocol.gallery)
    others = [sizes.get(code, 0) for code in categories[protocol.queries].tolist()] - inside
    return bool((others >= found.config.vote).mean() > 0.5)


def _recalls(found: Evaluated) -> np.ndarray:
    """float64 `[K]`: recall@1, 2, … K; K is no more than the images that a query is compared with."""
    positions = found.scores.neighbors.positions
    longest = int((positions != NO_POSITION).sum(1).max())
    right = are_matches(*found.items, positions[:, :longest])
    return np.maximum.accumulate(right, axis=1)[found.scores.queries].mean(0)


def _hubs(found: Evaluated, originals: Originals) -> Hubs:
    """The images that stand in most lists."""
    positions = found.scores.neighbors.positions[:, :HUB_LISTS]
    counted = occurrences(positions, len(found.protocol.gallery), HUB_LISTS)
    busiest = np.argsort(-counted.counts, kind="stable")[:HUBS]
    right = are_matches(*found.items, positions)
    rows = found.protocol.gallery[busiest]
    shown = zip(
        originals.small(rows, SHOWN_SIDE), item_names(found, rows), originals.names(rows), busiest.tolist(), strict=True
    )
    return Hubs(
        counted,
        [
            Hub(Picture(pixels, item, name), int(counted.counts[position]), int(right[positions == position].sum()))
            for pixels, item, name, position in shown
        ],
    )


def _points(found: Evaluated, store: ImageStore, originals: Originals) -> MapPoints:
    """Some of the gallery on a plane, drawn evenly, in random order."""
    gallery, catalog = found.protocol.gallery, found.catalog
    chosen = np.random.default_rng(SEED).permutation(len(gallery))[:MOST]
    coordinates, method = project(found.embeddings[1][chosen].cpu().numpy())
    rows = gallery[chosen]
    parts = (rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE))
    pixels = thumbnails(part.cpu().numpy() for part in store.gather_all(parts))
    squashed = found.subject.data.resize is Resize.squash
    encoded = np.full(len(rows), found.subject.data.width / found.subject.data.height)
    return MapPoints(
        coordinates=coordinates,
        groups=catalog.categories[rows],
        names=catalog.category_names,
        captions=_captions(found, originals, rows),
        pixels=pixels,
        proportions=originals.proportions(rows) if squashed else encoded,
        method=method,
        total=len(gallery),
    )


def _captions(found: Evaluated, originals: Originals, rows: np.ndarray) -> list[str]:
    """Item, category where that is another, and name of each image."""
    catalog = found.catalog
    categories = [catalog.category_names[code] for code in catalog.categories[rows]]
    told = zip(item_names(found, rows), categories, originals.names(rows), strict=True)
    return [" · ".join(dict.fromkeys([item, category, name.rpartition("/")[2]])) for item, category, name in told]


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
