"""The scores of a model on one split, and what a reader needs to trust them."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lapel.catalog.seen import images_hash
from lapel.config.evaluation import EvaluateConfig
from lapel.config.objective import Label
from lapel.config.variant import Metric
from lapel.errors import NothingToScoreError
from lapel.evaluation.classification import confusion, nearest_classes
from lapel.evaluation.deployed import approximation
from lapel.evaluation.evaluated import Evaluated
from lapel.evaluation.familiarity import familiarity
from lapel.evaluation.graded import column_codes, ndcg
from lapel.evaluation.intervals import bootstrap, few_differ
from lapel.evaluation.outcome import write_evaluation
from lapel.evaluation.postprocessing import process
from lapel.evaluation.protocols import Embedded, Protocol, protocol_of
from lapel.evaluation.reporting import LISTED
from lapel.evaluation.rivals import named_rival, read_rival
from lapel.evaluation.sharing import Alone, Together, team
from lapel.evaluation.subjects import Subject, subject_of
from lapel.evaluation.tables import grades_by
from lapel.evaluation.verification import ScoredPairs, choose_pairs, similarities, verification
from lapel.images.store import ImageStore, open_store
from lapel.machine.devices import choose_device
from lapel.pictures.examples import MATCHES
from lapel.retrieval import NO_POSITION, rows_once
from lapel.runs.folder import METRICS_FILE

logger = logging.getLogger(__name__)


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Score a run, its bundle, or a pretrained encoder, and write what was found into `evaluation/`.

    That is `metrics.json`, `queries.parquet`, the tables `items.csv`, `categories.csv` and `confusion.csv`,
    `examples.png`, and `report.html` with its `figures/`: in the run's folder, those of other data, splits, checkpoints
    and protocols in `evaluation/<name>/`. A pretrained encoder gets a folder of its own below `runs/`, and so does a
    bundle that lies in no run's. With `neighbors`, `neighbors.parquet` has the lists of all queries.

    Returns:
        What metrics.json holds: `recall@1` and the other means, `intervals` of them, and `protocol`.

    Raises:
        LapelError: the run, its checkpoint, the bundle, the weights or the data are missing or damaged, or no query has
            a match.
    """
    return evaluated_in_folder(config)[0]


def evaluated_in_folder(config: EvaluateConfig) -> tuple[dict[str, Any], Path]:
    """As `evaluate`; also the folder in which everything was written."""
    rival_folder = named_rival(config)
    subject = subject_of(config)
    protocol = protocol_of(subject.catalog, config.split.name, config.within, config.across)
    rival = None if rival_folder is None else read_rival(rival_folder, subject, config, protocol)
    store = open_store(subject.catalog, subject.data, choose_device(config.accelerator))
    found = replace(_scored(config, subject, protocol, store), rival=rival)
    grades = found.scores.grades | _graded(found)
    predicted = nearest_classes(
        found.scores.neighbors.positions, found.catalog.categories[found.protocol.gallery], config.vote
    )
    pairs = _pairs(found)
    result = {
        **{name: float(np.nanmean(each)) for name, each in grades.items()},
        **_classified(found, predicted),
        **(verification(pairs.similarities, pairs.alike, config.verification.fpr) if pairs is not None else {}),
        **(found.approximation.told() if found.approximation else {}),
        **_gain(found),
        "intervals": _intervals(found, grades, shares=True),
        "protocol": _card(found, pairs),
    }
    write_evaluation(found, store, result, pairs, _tables(found, predicted))
    logger.info("evaluated %s on %s: %s", subject.name, config.split.name, subject.folder / METRICS_FILE)
    return result, subject.folder


def _scored(config: EvaluateConfig, subject: Subject, protocol: Protocol, store: ImageStore) -> Evaluated:
    rows, query_places, gallery_places = rows_once(protocol.queries, protocol.gallery)
    sets = subject.catalog.item_sets
    items = sets[protocol.queries], sets[protocol.gallery]
    listed = max(config.vote, MATCHES, LISTED)
    with team(config, subject, store) as workers:
        raw = workers.embed(rows)
        finished = subject.finish(raw)
        embedded = Embedded(finished[query_places], finished[gallery_places], *items, subject.metric)
        if subject.index is not None:
            subject.index.check(protocol, embedded.gallery)
        scores = workers.score(protocol, embedded, listed)
        familiar = familiarity(subject, protocol)
        found = Evaluated(config, subject, protocol, raw[query_places], embedded, familiar, scores)
        if config.post.label:
            return _post_processed(found, workers, listed)
    if subject.index is not None:
        cost = approximation(subject.index, protocol, found.embeddings, items, scores, config.k)
        subject.index.warn_of_change(cost.scores)
        return replace(found, scores=cost.scores, approximation=cost)
    return found


def _post_processed(found: Evaluated, workers: Alone | Together, listed: int) -> Evaluated:
    def embed(rows: np.ndarray) -> torch.Tensor:
        return found.subject.finish(workers.embed(rows))

    processed = process(found.config, found.catalog, found.protocol, found.embedded, embed)
    scores = workers.score(found.protocol, processed.embedded, listed)
    return replace(found, embedded=processed.embedded, scores=scores, before=found.scores, post=processed.card)


def _gain(found: Evaluated) -> dict[str, Any]:
    """Scores before post-processing, and what it has changed query by query, with the ends of a bootstrap."""
    if found.before is None:
        return {}
    change = {name: found.scores.grades[name] - each for name, each in found.before.grades.items()}
    ends = _intervals(found, change, shares=False)
    gain = {name: [float(each.mean()), *ends.get(name, [])] for name, each in change.items()}
    return {"before": found.before.means(), "gain": gain}


def _graded(found: Evaluated) -> dict[str, np.ndarray]:
    """nDCG of the queries with a match, where gains are given."""
    gains = found.config.gains
    if not gains:
        return {}
    protocol, codes = found.protocol, column_codes(found.catalog.table, list(gains))
    worth = np.array(list(gains.values()), dtype=np.float64)
    positions = found.scores.neighbors.positions
    graded = {f"ndcg@{k}": np.full(len(positions), np.nan) for k in found.config.k}
    for part in protocol.comparisons():
        places = np.append(np.full(len(protocol.gallery), NO_POSITION), NO_POSITION)  # the last one is for NO_POSITION
        places[part.theirs] = np.arange(len(part.theirs))
        grades = ndcg(
            places[positions[part.mine]], codes[protocol.queries[part.mine]], codes[protocol.gallery[part.theirs]],
            worth, found.config.k, part.exclude,
        )  # fmt: skip
        for name, each in grades.items():
            graded[name][part.mine] = each
    return {name: each[found.scores.queries] for name, each in graded.items()}


def _classified(found: Evaluated, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy of the nearest images' vote on the category, and of a Cat variant's classifier."""
    catalog, queries = found.catalog, found.protocol.queries
    voted = predicted >= 0
    right = (predicted == catalog.categories[queries])[voted]
    told = {f"category_accuracy@{found.config.vote}": float(right.mean())}
    classifier = found.subject.classifier
    if classifier is not None:
        classes = catalog.items if classifier.label is Label.item else catalog.categories
        with torch.inference_mode():
            chosen = classifier.layer(found.raw.cpu()).argmax(1).numpy()
        told["classifier_accuracy"] = float((chosen == classes[queries]).mean())
    return told


def _pairs(found: Evaluated) -> ScoredPairs | None:
    """Pairs with their similarities; None where there are matches alone, or none."""
    options = found.config.verification
    try:
        pairs = choose_pairs(*found.items, found.protocol.exclude, options.pairs, options.seed, found.protocol.compared)
    except NothingToScoreError:
        return None
    return ScoredPairs(similarities(*found.embeddings, pairs, found.subject.metric), pairs.alike, pairs.complete)


def _intervals(found: Evaluated, grades: dict[str, np.ndarray], shares: bool) -> dict[str, list[float]]:
    """Confidence intervals of the means over queries, of grades or of what is gained by a change."""
    options = found.config.bootstrap
    if not options.samples:
        return {}
    whole = {name: each for name, each in grades.items() if np.isfinite(each).all()}
    drawn = bootstrap(whole, _clusters(found), options.samples, options.confidence, options.seed, shares)
    return {name: list(ends) for name, ends in drawn.items()}


def _clusters(found: Evaluated) -> np.ndarray | None:
    """int64 `[queries]`: the queries' items, where those are what a test drew at random."""
    return found.catalog.items[found.protocol.queries[found.scores.queries]] if found.familiar.unseen else None


def _told_of_intervals(found: Evaluated) -> str | None:
    options, drawn = found.config.bootstrap, "items" if found.familiar.unseen else "queries"
    if not options.samples:
        return None
    told = f"{options.confidence:.0%} by {options.samples} resamples of {drawn}, drawn by seed {options.seed}"
    few = [name for name, each in found.scores.grades.items() if few_differ(each, _clusters(found))]
    return f"{told}; by Wilson's formula for {', '.join(few)}" if few else told


def _card(found: Evaluated, pairs: ScoredPairs | None) -> dict[str, Any]:
    """Everything that a score depends on besides the weights."""
    config, subject, protocol, catalog = found.config, found.subject, found.protocol, found.catalog
    split = config.split.name
    return {
        "data": catalog.name,
        "split": split,
        "split_hash": catalog.split_hash(split),
        "images_hash": images_hash(catalog, split),
        "queries": len(found.scores.queries),
        "queries_without_match": found.scores.unmatched,
        "gallery": len(protocol.gallery),
        "comparison": protocol.rule,
        "self_match": "a query's own row, and images of exactly its pixels where known, never count",
        "queries_in_gallery": int(np.isin(protocol.queries, protocol.gallery).sum()),
        "queries_seen_in_training": found.familiar.trained,
        "queries_seen_in_validation": found.familiar.validated,
        "items_seen_in_training": found.familiar.items,
        "metric": subject.metric.name,
        "normalized": subject.metric is Metric.cosine,
        "post_processing": found.post,
        "graded": config.gains,
        "verification": None if pairs is None else pairs.told(config.verification.seed),
        "intervals": _told_of_intervals(found),
        **subject.origin,
    }


def _tables(found: Evaluated, predicted: np.ndarray) -> dict[str, pd.DataFrame]:
    """Scores by item and by category, and which categories are taken for which."""
    catalog, rows = found.catalog, found.protocol.queries[found.scores.queries]
    names = np.asarray(catalog.item_names, dtype=object), np.asarray(catalog.category_names, dtype=object)
    mixed = confusion(catalog.categories[found.protocol.queries], predicted, len(catalog.category_names))
    known = mixed.any(0) | mixed.any(1)
    return {
        "items": grades_by(names[0][catalog.items[rows]], found.scores.grades),
        "categories": grades_by(names[1][catalog.categories[rows]], found.scores.grades),
        "confusion": pd.DataFrame(mixed[known][:, known], names[1][known], names[1][known]).rename_axis("true"),
    }
