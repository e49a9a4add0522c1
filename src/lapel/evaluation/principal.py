"""Principal components of embeddings: fewer dimensions, or all of them made equally wide."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lapel.config.variant import Metric

# Variances below this share of the largest are taken for it: dividing by nothing would make noise of it.
LEAST_VARIANCE = 1e-6

# Sizes below are not tried.
SMALLEST = 8


@dataclass(frozen=True)
class Components:
    """Directions in which embeddings vary, the widest first.

    Args:
        mean: float64 `[dimensions]`.
        directions: float64 `[dimensions, dimensions]`, a row each.
        variances: float64 `[dimensions]`, along each.
    """

    mean: Tensor
    directions: Tensor
    variances: Tensor

    def apply(self, embeddings: Tensor, size: int, whiten: bool, metric: Metric) -> Tensor:
        """float32 `[images, size]`, along the widest directions; of unit length again for cosine.

        Args:
            embeddings: `[images, dimensions]`.
            size: directions that are kept.
            whiten: whether all are made equally wide, divided by their deviation (Jegou & Chum, "Negative evidences
                and co-occurrences in image retrieval", ECCV 2012).
            metric: of the model.
        """
        mean, directions = self.mean.to(embeddings.device), self.directions[:size].to(embeddings.device)
        found = (embeddings.double() - mean) @ directions.T
        if whiten:
            variances = self.variances[:size].clamp_min(LEAST_VARIANCE * float(self.variances[0]))
            found = found / variances.sqrt().to(found.device)
        found = found.float()
        return F.normalize(found, dim=1) if metric is Metric.cosine else found


def principal_components(embeddings: Tensor) -> Components:
    """Of embeddings `[images, dimensions]`, which are those of the training part."""
    given = embeddings.cpu().double()
    mean = given.mean(0)
    centred = given - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / max(1, len(given) - 1))
    return Components(mean, vectors.T.flip(0), values.flip(0).clamp_min(0))


def sizes(dimensions: int) -> list[int]:
    """Powers of two up to the dimensions, and those themselves."""
    powers = 2 ** np.arange(3, 31)
    return sorted({*powers[(powers >= SMALLEST) & (powers < dimensions)].tolist(), dimensions})
