"""The classifier of the Cat variants."""

import torch.nn.functional as F
from torch import Tensor, nn

from lapel.config.objective import CrossEntropyConfig
from lapel.losses.distances import IndicesTuple


class CrossEntropyLoss(nn.Module):
    """A linear classifier on raw embeddings, with cross-entropy: the Cat part of Bell & Bala 2015.

    Args:
        config: options.
        dimensions: of the embedding.
        classes: labels there are.
    """

    def __init__(self, config: CrossEntropyConfig, dimensions: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(dimensions, classes)
        self.smoothing = config.smoothing

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: IndicesTuple = None) -> Tensor:  # noqa: ARG002
        """Scalar loss of raw embeddings `[batch, dimensions]` with int64 labels `[batch]`."""
        return F.cross_entropy(self.classifier(embeddings), labels, label_smoothing=self.smoothing)
