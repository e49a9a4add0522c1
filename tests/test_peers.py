"""Every score against other people's implementations, where they are right, on random and on adversarial data.

torchmetrics takes scores of 0 and below for "not relevant" in some of its measures, and orders ties as it likes: it is
given positive scores without ties. scikit-learn's average precision counts ties as one rank: likewise.
"""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor
from torchmetrics.retrieval import (
    RetrievalHitRate,
    RetrievalMAP,
    RetrievalMRR,
    RetrievalPrecision,
    RetrievalRPrecision,
)

from lapel.config.variant import Metric
from lapel.retrieval import Depth, equal_pairs, score

K = [1, 3, 10, 500]

RANDOM = np.random.default_rng(7)

LABELS = {
    "several items": RANDOM.integers(0, 6, 90),
    "items with one image": np.where(np.arange(90) < 40, np.arange(90), 100 + np.arange(90) % 5),
    "all the same": np.zeros(90, np.int64),
    "one large item": np.where(RANDOM.random(90) < 0.8, 0, RANDOM.integers(1, 9, 90)),
    "pairs": np.arange(90) // 2,
    "labels that float32 merges": 16_777_216 + RANDOM.integers(0, 2, 90),
}


def given_embeddings(seed: int, labels: np.ndarray, metric: Metric) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    _, codes = np.unique(labels, return_inverse=True)
    centres = torch.randn(int(codes.max()) + 1, 8, generator=generator)[torch.from_numpy(codes)]
    drawn = centres + 1.2 * torch.randn(len(labels), 8, generator=generator)
    return torch.nn.functional.normalize(drawn, dim=1) if metric is Metric.cosine else drawn


def flattened(embeddings: Tensor, labels: np.ndarray, metric: Metric) -> tuple[Tensor, Tensor, Tensor, np.ndarray]:
    """Positive scores, relevance, and the query of each pair but those of an image with itself; rows of queries."""
    wide = embeddings.double()
    similarity = wide @ wide.T if metric is Metric.cosine else -torch.cdist(wide, wide)
    others = ~torch.eye(len(labels), dtype=torch.bool)
    alike = torch.from_numpy(labels[:, None] == labels[None]) & others
    some = alike.any(1)
    kept = others & some[:, None]
    queries = torch.arange(len(labels))[:, None].expand(-1, len(labels))
    shifted = torch.exp(similarity)
    return shifted[kept], alike[kept], queries[kept], np.flatnonzero(some.numpy())


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("labels", LABELS)
def test_scores_equal_torchmetrics_and_scikit_learn(labels: str, metric: Metric):
    items = LABELS[labels]
    embeddings = given_embeddings(3, items, metric)
    exclude = equal_pairs(np.arange(len(items)), np.arange(len(items)))
    found = score(embeddings, embeddings, items, items, metric, K, exclude, depth=Depth.all)
    ours = found.means()
    shifted, alike, queries, rows = flattened(embeddings, items, metric)
    np.testing.assert_array_equal(found.queries, rows)

    def theirs(measure: Callable) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(measure(shifted, alike, indexes=queries))

    for k in K:
        assert ours[f"recall@{k}"] == pytest.approx(theirs(RetrievalHitRate(top_k=k)), abs=1e-6), k
        assert ours[f"precision@{k}"] == pytest.approx(theirs(RetrievalPrecision(top_k=k)), abs=1e-6), k
    assert ours["r_precision"] == pytest.approx(theirs(RetrievalRPrecision()), abs=1e-6)
    assert ours["mrr"] == pytest.approx(theirs(RetrievalMRR()), abs=1e-6)
    assert ours["map"] == pytest.approx(theirs(RetrievalMAP()), abs=1e-6)
    for place, row in enumerate(rows):
        mine = queries == row
        expected = average_precision_score(alike[mine].numpy(), shifted[mine].numpy())
        assert found.grades["map"][place] == pytest.approx(expected)
