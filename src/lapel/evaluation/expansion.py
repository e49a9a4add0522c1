"""Embeddings that take in their neighbours': query expansion and database augmentation."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lapel.config.variant import Metric
from lapel.retrieval import NO_POSITION, search

# Images that are worked on at once.
AT_ONCE = 1024


def expand_queries(queries: Tensor, gallery: Tensor, exclude: np.ndarray, neighbors: int, alpha: float) -> Tensor:
    """alpha query expansion: `q + sum of max(s_i, 0)^alpha x_i` over the nearest `x_i`, of unit length again.

    Radenovic, Tolias & Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019, section 3.4.

    Args:
        queries, gallery: unit vectors `[images, dimensions]`.
        exclude: int64 `[pairs, 2]`, which never count, by ascending query.
        neighbors: how many.
        alpha: the power; the higher, the less far ones count.
    """
    found = search(queries, gallery, neighbors, Metric.cosine, exclude)
    weights = np.where(found.positions == NO_POSITION, 0.0, np.maximum(found.scores, 0.0)) ** alpha
    weights[found.positions == NO_POSITION] = 0.0
    return _added(queries, gallery, found.positions, weights)


def augment_database(gallery: Tensor, exclude: np.ndarray, neighbors: int) -> Tensor:
    """Each gallery image with its n nearest ones, the r-th weighted `(n + 1 - r) / (n + 1)`; of unit length again.

    Turcot & Lowe, "Better matching with fewer features", 2009; weights of Gordo, Almazan, Revaud & Larlus, "End-to-end
    learning of deep visual representations for image retrieval", IJCV 2017, section 6. No label is looked at; but where
    queries are gallery images, they have thus shaped each other: the score is transductive, and the protocol says so.

    Args:
        gallery: unit vectors `[images, dimensions]`.
        exclude: int64 `[pairs, 2]` of gallery images, one and the same or of the same pixels, by ascending first one.
        neighbors: n.
    """
    found = search(gallery, gallery, neighbors, Metric.cosine, exclude)
    ranks = np.arange(1, neighbors + 1)
    weights = np.where(found.positions == NO_POSITION, 0.0, (neighbors + 1 - ranks) / (neighbors + 1))
    return _added(gallery, gallery, found.positions, weights)


def _added(images: Tensor, others: Tensor, positions: np.ndarray, weights: np.ndarray) -> Tensor:
    """Each image plus the weighted others at its positions, of unit length."""
    parts = []
    for start in range(0, len(images), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        near = others[torch.from_numpy(np.maximum(positions[part], 0)).to(others.device)].double()
        shares = torch.from_numpy(weights[part]).to(others.device)
        parts.append(F.normalize(images[part].double() + (near * shares[:, :, None]).sum(1), dim=1).float())
    return torch.cat(parts)
