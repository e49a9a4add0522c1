"""Scores of a trained run: its encoder, on one split of its data, with the search and score of every other part."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lapel.catalog import Catalog
from lapel.checkpoint import TrainedRun, open_run
from lapel.config import EvaluateConfig, Metric, Split
from lapel.devices import choose_device
from lapel.encoder import embed
from lapel.figures import match_sheet
from lapel.images.store import ImageStore, open_store
from lapel.retrieval import NO_POSITION, equal_pairs, rows_once, score, search
from lapel.runs import evaluation_folder, write_json, written_whole

logger = logging.getLogger(__name__)

# Queries, at most, and matches of the picture `examples.png`.
EXAMPLES = 12
EXAMPLE_MATCHES = 10


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Score a run and write `evaluation/metrics.json` and `evaluation/examples.png` into its folder.

    Other splits than test, and the last checkpoint instead of the best, go to `evaluation/<name>/`.

    Returns:
        What metrics.json holds: `recall@1` and the other means, and `protocol`.

    Raises:
        LapelError: the run, its checkpoint or its data are missing or damaged, or no query has a match.
    """
    run = open_run(config.run, config.checkpoint)
    catalog = run.load_catalog(config.data.root)
    device = choose_device(config.accelerator)
    store = open_store(catalog, run.config.data, device)
    queries, gallery = catalog.queries(config.split.name), catalog.gallery(config.split.name)
    embeddings = embed_both(run, store, queries, gallery)
    exclude = equal_pairs(catalog.look_alikes[queries], catalog.look_alikes[gallery])
    metric = run.config.variant.metric
    scores = score(
        *embeddings, catalog.item_sets[queries], catalog.item_sets[gallery], metric, config.k, exclude, config.memory
    )
    result = {**scores.means(), "protocol": _protocol(config, run, catalog, len(scores.queries), scores.unmatched)}
    folder = evaluation_folder(run.folder, config.split, config.checkpoint)
    write_json(folder / "metrics.json", result)
    shown = scores.queries[np.unique(np.linspace(0, len(scores.queries) - 1, EXAMPLES).astype(np.int64))]
    _draw_examples(folder / "examples.png", catalog, store, embeddings, queries, gallery, shown, metric)
    logger.info("evaluated %s on %s: %s", run.folder.name, config.split.name, folder / "metrics.json")
    return result


def embed_both(run: TrainedRun, store: ImageStore, queries: np.ndarray, gallery: np.ndarray) -> tuple[Tensor, Tensor]:
    """Embeddings of queries and gallery; a row that is both is embedded once."""
    encoder = run.encoder().to(store.device)
    rows, query_places, gallery_places = rows_once(queries, gallery)
    embeddings = embed(encoder, store, rows)
    return embeddings[query_places], embeddings[gallery_places]


def _protocol(config: EvaluateConfig, run: TrainedRun, catalog: Catalog, scored: int, unmatched: int) -> dict[str, Any]:
    """Everything that a score depends on besides the weights."""
    split = config.split.name
    queries, gallery = catalog.queries(split), catalog.gallery(split)
    metric = run.config.variant.metric
    return {
        "data": catalog.name,
        "split": split,
        "split_hash": catalog.split_hash(split),
        "queries": scored,
        "queries_without_match": unmatched,
        "gallery": len(gallery),
        "self_match": "a query's own row, and images of exactly its pixels where known, never count",
        "queries_in_gallery": int(np.isin(queries, gallery).sum()),
        "seen_in_training": config.split is Split.train,
        "metric": metric.name,
        "normalized": metric is Metric.cosine,
        "checkpoint": config.checkpoint.name,
        "step": run.step,
    }


@torch.inference_mode()
def _draw_examples(
    path: Path,
    catalog: Catalog,
    store: ImageStore,
    embeddings: tuple[Tensor, Tensor],
    queries: np.ndarray,
    gallery: np.ndarray,
    shown: np.ndarray,
    metric: Metric,
) -> None:
    """Some queries, evenly spread over all of them, with their nearest gallery images."""
    exclude = equal_pairs(catalog.look_alikes[queries[shown]], catalog.look_alikes[gallery])
    nearest = search(embeddings[0][shown], embeddings[1], EXAMPLE_MATCHES, metric, exclude)
    k = int((nearest.positions != NO_POSITION).sum(1).min())
    rows, found = queries[shown], gallery[nearest.positions[:, :k]]
    pixels = store.gather(found.reshape(-1)).cpu().numpy()
    sheet = match_sheet(
        store.gather(rows).cpu().numpy(),
        pixels.reshape(len(shown), k, *pixels.shape[1:]),
        catalog.items[found] == catalog.items[rows, None],
        [catalog.item_names[item] for item in catalog.items[rows]],
    )
    with written_whole(path) as temporary:
        sheet.save(temporary, format="PNG")
