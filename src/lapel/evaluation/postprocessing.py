"""What is done with embeddings between the encoder and the search, and what it is fitted on: never on the test part."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lapel.catalog import Catalog
from lapel.config.evaluation import EvaluateConfig, PostConfig
from lapel.config.variant import Metric
from lapel.errors import LapelError
from lapel.evaluation.expansion import augment_database, expand_queries
from lapel.evaluation.principal import Components, principal_components, sizes
from lapel.evaluation.protocols import Embedded, Protocol, protocol_of, score_protocol
from lapel.retrieval import equal_pairs, rows_once
from lapel.retrieval.reranking import Encoded, Reranked, encode
from lapel.retrieval.tiles import Tiles


@dataclass(frozen=True)
class Processed:
    """Embeddings after post-processing.

    Args:
        embedded: what is compared.
        card: what the protocol says of it.
    """

    embedded: Embedded
    card: dict[str, Any]


def process(
    config: EvaluateConfig,
    catalog: Catalog,
    protocol: Protocol,
    embedded: Embedded,
    embed: Callable[[np.ndarray], Tensor],
) -> Processed:
    """Apply what is asked for: components, database augmentation, query expansion, re-ranking, in this order.

    Args:
        config: of the evaluation.
        catalog: of all images.
        protocol: queries and gallery.
        embedded: of the part that is scored.
        embed: embeddings of catalogue rows, as the metric compares them.

    Raises:
        LapelError: the catalogue lacks what is needed, or the metric or the protocol does not go with it.
    """
    post, card = config.post, {}
    _check(post, embedded.metric, protocol)
    if post.projects:
        rotate, told = _components(config, catalog, embedded.metric, embed)
        embedded = replace(embedded, queries=rotate(embedded.queries), gallery=rotate(embedded.gallery))
        card |= told
    if post.augment_database:
        alike = equal_pairs(*[catalog.look_alikes[protocol.gallery]] * 2)
        embedded = replace(embedded, gallery=augment_database(embedded.gallery, alike, post.augment_database))
        card["augment_database"] = f"{post.augment_database} nearest"
    if post.expand_queries:
        queries = expand_queries(embedded.queries, embedded.gallery, protocol.exclude, post.expand_queries, post.alpha)
        embedded = replace(embedded, queries=queries)
        card["expand_queries"] = f"{post.expand_queries} nearest, alpha {post.alpha:g}"
    if post.rerank:
        embedded = replace(embedded, tiles=_reranking(post, protocol, embedded))
        card["rerank"] = f"k1 {post.rerank_k1}, k2 {post.rerank_k2}, lambda {post.rerank_lambda:g}"
    if (post.augment_database or post.rerank) and np.isin(protocol.queries, protocol.gallery).any():
        card["transductive"] = "queries are gallery images, too, and shape each other's neighbours; no label is used"
    return Processed(embedded, card)


def _check(post: PostConfig, metric: Metric, protocol: Protocol) -> None:
    """Raise where a step is asked for that makes no sense."""
    near = [name for name in ("augment_database", "expand_queries", "rerank") if getattr(post, name)]
    if near and metric is not Metric.cosine:
        raise LapelError(f"post.{near[0]}: is for models that compare by cosine, and this one does by {metric.name}")
    if near and protocol.kinds is not None:
        raise LapelError(f"post.{near[0]}: is for the whole gallery, without within or across")


# ------------------------------------------------------------------------------------------------ components


def _components(
    config: EvaluateConfig, catalog: Catalog, metric: Metric, embed: Callable[[np.ndarray], Tensor]
) -> tuple[Callable[[Tensor], Tensor], dict[str, Any]]:
    """What turns embeddings into fewer, or wider, ones; fitted on the training part, its size chosen on val."""
    post, rows = config.post, _rows_for(catalog, "train", "post.pca and post.whiten are fitted on it")
    rows = np.setdiff1d(rows, [row for split in ("val", "test") for row in _rows_or_none(catalog, split)])
    fitted = principal_components(embed(rows))
    dimensions = len(fitted.mean)
    told: dict[str, Any] = {"fitted_on": f"train of {catalog.name}, {len(rows):,} images", "whiten": post.whiten}
    if post.pca == "auto":
        scores = _scores_on_val(config, catalog, metric, embed, fitted)
        size = max(scores, key=lambda each: (scores[each], -each))
        told["map@r_on_val"] = {str(each): round(score, 4) for each, score in scores.items()}
    else:
        size = dimensions if post.pca is None else int(post.pca)
        if size > dimensions:
            raise LapelError(f"post.pca={size}: must be at most {dimensions}, the dimensions of the embeddings")
    told["pca"] = size
    return partial(fitted.apply, size=size, whiten=post.whiten, metric=metric), told


def _rows_for(catalog: Catalog, split: str, why: str) -> np.ndarray:
    try:
        return catalog.rows(split)
    except LapelError as error:
        raise LapelError(f"{error}, and {why}") from error


def _rows_or_none(catalog: Catalog, split: str) -> np.ndarray:
    """Rows of a split that may have none: a row may stand in several."""
    try:
        return catalog.rows(split)
    except LapelError:
        return np.empty(0, dtype=np.int64)


def _scores_on_val(
    config: EvaluateConfig,
    catalog: Catalog,
    metric: Metric,
    embed: Callable[[np.ndarray], Tensor],
    fitted: Components,
) -> dict[int, float]:
    """MAP@R on val of each size."""
    _rows_for(catalog, "val", "post.pca=auto chooses the size on it")
    protocol = protocol_of(catalog, "val", config.within, config.across)
    rows, *places = rows_once(protocol.queries, protocol.gallery)
    embeddings = embed(rows)
    sets = catalog.item_sets[protocol.queries], catalog.item_sets[protocol.gallery]
    scores = {}
    for size in sizes(len(fitted.mean)):
        turned = fitted.apply(embeddings, size, config.post.whiten, metric)
        given = Embedded(turned[places[0]], turned[places[1]], *sets, metric)
        scores[size] = score_protocol(protocol, given, [1], config.memory, 1).means()["map@r"]
    return scores


# ------------------------------------------------------------------------------------------------ re-ranking


def _reranking(
    post: PostConfig, protocol: Protocol, embedded: Embedded
) -> Callable[[Tensor, Tensor, Metric, np.ndarray], Tiles]:
    """What makes re-ranked similarities of a protocol's queries and gallery, of which each image is in the set once.

    Where queries were expanded or the gallery augmented, an image has two embeddings; then they count as two.
    """
    changed = bool(post.expand_queries or post.augment_database)
    if changed:
        places = np.arange(len(embedded.queries)), len(embedded.queries) + np.arange(len(embedded.gallery))
        images = torch.cat([embedded.queries, embedded.gallery])
    else:
        rows, *places = rows_once(protocol.queries, protocol.gallery)
        images = embedded.queries.new_empty(len(rows), embedded.queries.shape[1])
        for where, each in zip(places, (embedded.queries, embedded.gallery), strict=True):
            images[torch.from_numpy(where).to(images.device)] = each
    vectors = encode(images, post.rerank_k1, post.rerank_k2)
    encoded = Encoded(vectors, places[0], places[1])

    def tiles(queries: Tensor, gallery: Tensor, metric: Metric, exclude: np.ndarray) -> Tiles:
        del metric  # cosine alone is re-ranked
        return Reranked(queries, gallery, exclude, encoded, post.rerank_lambda)

    return tiles
