"""Distances of a whole batch at once, which pairs are alike, and what a batch is compared with."""

from dataclasses import dataclass

import torch
from torch import Tensor

# Positions in the batch as pytorch-metric-learning has them, (a1, p, a2, n) for pairs, (a, p, n) for triplets; or None.
IndicesTuple = tuple[Tensor, ...] | None


@dataclass(frozen=True)
class References:
    """What a batch is compared with in place of itself.

    Args:
        embeddings: `[references, dimensions]`, without gradient.
        labels: int64 `[references]`.
        own: int64 `[batch]`, where each image of the batch stands among them.
    """

    embeddings: Tensor
    labels: Tensor
    own: Tensor

    @property
    def only_batch(self) -> bool:
        """Whether there is nothing but the batch, as when a memory was given its first."""
        return len(self.own) == len(self.labels)


def squared_distances(embeddings: Tensor, others: Tensor | None = None) -> Tensor:
    """Squared euclidean distances `[batch, others]` of embeddings `[batch, dimensions]`, at least 0.

    Args:
        embeddings: of the batch.
        others: `[others, dimensions]`; by default the batch itself.
    """
    if others is not None:
        squares, other_squares = embeddings.square().sum(1), others.square().sum(1)
        return (squares[:, None] + other_squares[None, :] - 2 * embeddings @ others.T).clamp_min(0)
    products = embeddings @ embeddings.T
    squares = products.diagonal()
    return (squares[:, None] + squares[None, :] - 2 * products).clamp_min(0)


def root(squared: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0 instead of infinite: two equal embeddings have no direction apart."""
    zero = squared == 0
    return squared.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def same_label(labels: Tensor, references: References | None = None) -> tuple[Tensor, Tensor]:
    """Masks `[batch, others]` of the positive pairs (an image with itself is none) and of the negative pairs.

    Args:
        labels: int64 `[batch]`.
        references: what the batch is compared with; by default itself.
    """
    same = labels[:, None] == (labels if references is None else references.labels)[None, :]
    positive = same.clone()
    if references is None:
        positive.fill_diagonal_(False)
    else:
        positive[torch.arange(len(labels), device=labels.device), references.own] = False
    return positive, ~same


def compared(embeddings: Tensor, labels: Tensor, references: References | None) -> tuple[Tensor, Tensor, Tensor]:
    """Squared distances, and the masks of the positive and of the negative pairs, `[batch, others]` each."""
    others = None if references is None else references.embeddings
    return squared_distances(embeddings, others), *same_label(labels, references)
