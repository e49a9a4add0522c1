"""Scores of a trained run, or of a pretrained encoder, on one split: the search and score of every other part."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lapel import datasets
from lapel.catalog import Catalog
from lapel.checkpoint import open_run
from lapel.composing import to_plain
from lapel.config import DataConfig, EncoderConfig, EvaluateConfig, Metric, Split, name_of
from lapel.devices import choose_device
from lapel.encoder import Encoder, build, embed
from lapel.examples import examples, spread
from lapel.images.store import ImageStore, open_store
from lapel.retrieval import equal_pairs, rows_once, score
from lapel.runs import evaluation_folder, new_folder, write_json, written_whole

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """What is scored.

    Args:
        name: of the run, or of the pretrained encoder and its data.
        encoder: in evaluation mode.
        metric: in which its embeddings are compared.
        data: what the encoder sees of the images.
        catalog: whose split is scored.
        folder: that `evaluation/` goes into.
        origin: what the protocol says of the weights.
    """

    name: str
    encoder: Encoder
    metric: Metric
    data: DataConfig
    catalog: Catalog
    folder: Path
    origin: dict[str, Any]


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Score a run, or a pretrained encoder, and write `evaluation/metrics.json` and `evaluation/examples.png`.

    They go into the run's folder, those of other splits than test and of the last checkpoint to `evaluation/<name>/`;
    a pretrained encoder gets a folder of its own below `runs/`.

    Returns:
        What metrics.json holds: `recall@1` and the other means, and `protocol`.

    Raises:
        LapelError: the run, its checkpoint, the weights or the data are missing or damaged, or no query has a match.
    """
    subject = _run_subject(config) if config.encoder is None else _pretrained_subject(config, config.encoder)
    catalog, split, metric = subject.catalog, config.split.name, subject.metric
    store = open_store(catalog, subject.data, choose_device(config.accelerator))
    queries, gallery = catalog.queries(split), catalog.gallery(split)
    embeddings = embed_both(subject.encoder, store, queries, gallery)
    exclude = equal_pairs(catalog.look_alikes[queries], catalog.look_alikes[gallery])
    items = catalog.item_sets[queries], catalog.item_sets[gallery]
    scores = score(*embeddings, *items, metric, config.k, exclude, config.memory)
    result = {**scores.means(), "protocol": _protocol(config, subject, len(scores.queries), scores.unmatched)}
    folder = evaluation_folder(subject.folder, config.split, config.checkpoint)
    write_json(folder / "metrics.json", result)
    sheet = examples(catalog, store, embeddings, queries, gallery, spread(scores.queries), metric)
    with written_whole(folder / "examples.png") as temporary:
        sheet.save(temporary, format="PNG")
    logger.info("evaluated %s on %s: %s", subject.name, split, folder / "metrics.json")
    return result


def _run_subject(config: EvaluateConfig) -> Subject:
    run = open_run(config.run, config.checkpoint)
    return Subject(
        name=run.folder.name,
        encoder=run.encoder(),
        metric=run.config.variant.metric,
        data=run.config.data,
        catalog=run.load_catalog(config.data.root),
        folder=run.folder,
        origin={"checkpoint": config.checkpoint.name, "step": run.step},
    )


def _pretrained_subject(config: EvaluateConfig, chosen: EncoderConfig) -> Subject:
    data = config.data
    assert isinstance(data, DataConfig)
    headless = replace(chosen, embedding=None)
    encoder = build(headless, data, config.metric).eval()
    catalog = datasets.load(data)
    name = f"{name_of(data)}-pretrained-{chosen.label}"
    origin = {"checkpoint": None, "encoder": to_plain(headless)}
    return Subject(name, encoder, config.metric, data, catalog, new_folder(name), origin)


def embed_both(encoder: Encoder, store: ImageStore, queries: np.ndarray, gallery: np.ndarray) -> tuple[Tensor, Tensor]:
    """Embeddings of queries and gallery; a row that is both is embedded once."""
    rows, query_places, gallery_places = rows_once(queries, gallery)
    embeddings = embed(encoder.to(store.device), store, rows)
    return embeddings[query_places], embeddings[gallery_places]


def _protocol(config: EvaluateConfig, subject: Subject, scored: int, unmatched: int) -> dict[str, Any]:
    """Everything that a score depends on besides the weights."""
    catalog, split = subject.catalog, config.split.name
    queries, gallery = catalog.queries(split), catalog.gallery(split)
    return {
        "data": catalog.name,
        "split": split,
        "split_hash": catalog.split_hash(split),
        "queries": scored,
        "queries_without_match": unmatched,
        "gallery": len(gallery),
        "self_match": "a query's own row, and images of exactly its pixels where known, never count",
        "queries_in_gallery": int(np.isin(queries, gallery).sum()),
        "seen_in_training": config.encoder is None and config.split is Split.train,
        "metric": subject.metric.name,
        "normalized": subject.metric is Metric.cosine,
        **subject.origin,
    }
