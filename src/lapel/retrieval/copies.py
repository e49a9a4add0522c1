"""Gallery images of equal embeddings: compared once, and listed each."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Copies of one embedding from which on they are compared once. Fewer are as well told apart as ties.
MANY = 8

# Dimensions that tell most galleries without copies, in a fraction of the time that all take.
SCREENED = 16

# Embeddings whose words are added up at once.
AT_ONCE = 2**13


@dataclass(frozen=True)
class Copies:
    """Which gallery images have one embedding.

    Args:
        members: int64 `[gallery]`, positions, those of one embedding together and ascending.
        starts: int64 `[different + 1]`: those of embedding i are members starts[i] to starts[i + 1]; embeddings are
            ordered by their first member.
        of: int64 `[gallery]`, number of each image's embedding.
    """

    members: np.ndarray
    starts: np.ndarray
    of: np.ndarray

    @property
    def first(self) -> np.ndarray:
        """int64 `[different]`: the first image of each embedding."""
        return self.members[self.starts[:-1]]

    @property
    def counts(self) -> np.ndarray:
        """int64 `[different]`: images of each embedding."""
        return np.diff(self.starts)

    def excluded(self, exclude: np.ndarray | None) -> tuple[np.ndarray | None, int]:
        """What is excluded of the different embeddings: those that are left no image.

        Args:
            exclude: int64 `[pairs, 2]`, (query, gallery) positions by ascending query, each once; or None.

        Returns:
            Such pairs (query, embedding); and how many images, at most, a query is not to find of other embeddings.
        """
        if exclude is None or not len(exclude):
            return exclude, 0
        pairs, counts = np.unique(np.column_stack([exclude[:, 0], self.of[exclude[:, 1]]]), axis=0, return_counts=True)
        gone = counts == self.counts[pairs[:, 1]]
        left = np.bincount(pairs[~gone, 0], weights=counts[~gone], minlength=1)
        return pairs[gone], int(left.max())


def many_copies(gallery: Tensor) -> Copies | None:
    """The copies in a gallery, float32 `[gallery, dimensions]`; None where no embedding has many."""
    if int(torch.unique(_marks(gallery[:, :SCREENED]), return_counts=True)[1].max()) <= MANY:
        return None
    _, inverse, counts = torch.unique(_marks(gallery), return_inverse=True, return_counts=True)
    if int(counts.max()) <= MANY:
        return None
    groups = inverse.cpu().numpy()
    _, first, of = np.unique(groups, return_index=True, return_inverse=True)
    first, of = first.astype(np.int64), of.reshape(-1).astype(np.int64)
    # Equal marks are all but proof; what differs from the first of its mark is an embedding of its own.
    same = (gallery == gallery[torch.from_numpy(first[of]).to(gallery.device)]).all(1).cpu().numpy()
    of = np.where(same, first[of], np.arange(len(of)))
    of, counts = np.unique(of, return_inverse=True, return_counts=True)[1:]
    of = of.reshape(-1)
    if counts.max() <= MANY:
        return None
    return Copies(np.argsort(of, kind="stable"), np.concatenate([[0], np.cumsum(counts)]), of.astype(np.int64))


def _marks(embeddings: Tensor) -> Tensor:
    """int64 `[images]`, equal for equal embeddings: their words times odd numbers, summed without rounding."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**62), 2**62, (embeddings.shape[1],), generator=generator) * 2 + 1
    factors = factors.to(embeddings.device)
    words = ((part + 0.0).view(torch.int32) for part in embeddings.split(AT_ONCE))  # + 0.0 makes one of both zeros
    return torch.cat([(part.long() * factors).sum(1) for part in words])
