"""A model's embeddings of a split and its scores: what everything that is told of it is made from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from lapel.catalog import Catalog
from lapel.config.evaluation import EvaluateConfig
from lapel.evaluation.comparison import ScoredRun
from lapel.evaluation.deployed import Approximation
from lapel.evaluation.familiarity import Familiarity
from lapel.evaluation.protocols import Embedded, Protocol
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
        embedded: queries and gallery as they are compared.
        familiar: what of the queries training has seen.
        scores: of the queries with a match, and the lists of all.
        before: the same without post-processing; None where there is none.
        post: what the protocol says of post-processing.
        approximation: of a bundle's index, whose are then the scores.
        rival: the run that is put beside it in the report.
    """

    config: EvaluateConfig
    subject: Subject
    protocol: Protocol
    raw: Tensor
    embedded: Embedded
    familiar: Familiarity
    scores: Scores
    before: Scores | None = None
    post: dict[str, Any] | None = None
    approximation: Approximation | None = None
    rival: ScoredRun | None = None

    @property
    def embeddings(self) -> tuple[Tensor, Tensor]:
        """Of the queries, and of the gallery."""
        return self.embedded.queries, self.embedded.gallery

    @property
    def items(self) -> tuple[np.ndarray, np.ndarray]:
        """int64 `[images, most]` of either, filled up with -1."""
        return self.embedded.query_sets, self.embedded.gallery_sets

    @property
    def catalog(self) -> Catalog:
        """Whose split is scored."""
        return self.subject.catalog
