"""A model's embeddings of a split and its scores: what everything that is told of it is made from."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from lapel.catalog import Catalog
from lapel.config import EvaluateConfig
from lapel.evaluation.deployed import Approximation
from lapel.evaluation.protocols import Protocol
from lapel.evaluation.subjects import Subject
from lapel.retrieval import Scores


@dataclass(frozen=True)
class Evaluated:
    """A model's embeddings of a split, and its scores.

    Args:
        config: what was asked for.
        subject: what is scored.
        protocol: queries and gallery.
        raw: embeddings of the queries before normalisation.
        embeddings: of the queries, and of the gallery, as the metric compares them.
        items: int64 `[images, most]` of either, filled up with -1.
        unseen: whether training is known to have seen none of the queries' items.
        scores: of the queries with a match, and the lists of all.
        approximation: of a bundle's index, whose are then the scores.
    """

    config: EvaluateConfig
    subject: Subject
    protocol: Protocol
    raw: Tensor
    embeddings: tuple[Tensor, Tensor]
    items: tuple[np.ndarray, np.ndarray]
    unseen: bool
    scores: Scores
    approximation: Approximation | None = None

    @property
    def catalog(self) -> Catalog:
        """Whose split is scored."""
        return self.subject.catalog
