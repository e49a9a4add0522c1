"""Sums over all triplets of a batch, or all semi-hard ones, from the matrix of its distances."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Triplets of the soft form that are held at once: 16 MB each for what they cost and for its gradient.
HELD = 2**22


def hinge_sum(
    distances: Tensor, positive: Tensor, negative: Tensor, margin: float, semi_hard: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of `max(0, d(a, p) - d(a, n) + margin)`, without listing the triplets.

    The sum takes each positive distance as often as it has negatives within the margin, and each negative one as often
    as it has such positives. These counts are constant around almost every point, so value and gradient are exact;
    sorting finds them in O(batch^2 log batch).

    Args:
        distances: `[batch, others]`.
        positive, negative: bool `[batch, others]`, the pairs of either kind.
        margin: of the loss.
        semi_hard: whether triplets count alone whose negative lies beyond the positive, by at most the margin.

    Returns:
        The sum, the number of triplets with a loss, and the number of those that were looked at.
    """
    with torch.no_grad():
        positives = positives_of(positive)
        own = positives.beside(distances)
        ascending = own.sort(1).values
        negatives = distances.masked_fill(~negative, torch.inf).sort(1).values
        # The same comparison, d(a, n) < d(a, p) + margin, counted from either side.
        per_positive = torch.searchsorted(negatives, own + margin)
        counts = positive.sum(1, keepdim=True)
        per_negative = counts - torch.searchsorted(ascending + margin, distances, right=True)
        valid = (counts[:, 0] * negative.sum(1)).sum()
        if semi_hard:
            per_positive = per_positive - torch.searchsorted(negatives, own, right=True)
            per_negative = per_negative - (counts - torch.searchsorted(ascending, distances))
        found = per_positive.masked_fill_(own.isinf(), 0)
        active = found.sum()
        weights = per_negative.masked_fill_(~negative, 0).neg_().to(distances.dtype)
        weights = positives.put_back(found.to(distances.dtype), weights)
    return (weights * distances).sum() + margin * active, active, active if semi_hard else valid


def soft_sum(
    distances: Tensor, positive: Tensor, negative: Tensor, margin: float, semi_hard: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of `log(1 + exp(d(a, p) - d(a, n) + margin))`: arguments and results as for `hinge_sum`.

    Every triplet has its own share of the gradient, so all are listed: those of some anchors at a time, and once more
    for the gradient, so that memory stays bounded.
    """
    beside = positives_of(positive).beside(distances)
    anchors = max(1, HELD // max(1, beside.shape[1] * distances.shape[1]))
    total, count = distances.new_zeros(()), torch.zeros((), dtype=torch.int64, device=distances.device)
    for given in zip(*(each.split(anchors) for each in (beside, distances, negative)), strict=True):
        cost, listed = checkpoint(_soft_part, *given, margin, semi_hard, use_reentrant=False, preserve_rng_state=False)
        total, count = total + cost, count + listed
    return total, count, count


def _soft_part(
    beside: Tensor, distances: Tensor, negative: Tensor, margin: float, semi_hard: bool
) -> tuple[Tensor, Tensor]:
    """Sum and number of some anchors' triplets; `beside` as positives give it."""
    to_positive, to_negative = beside[:, :, None], distances[:, None, :]
    listed = torch.isfinite(to_positive) & negative[:, None, :]
    if semi_hard:
        listed = listed & (to_negative > to_positive) & (to_negative <= to_positive + margin)
    excess = torch.where(listed, to_positive, 0) - to_negative + margin
    return F.softplus(excess).masked_fill(~listed, 0).sum(), listed.sum()


@dataclass(frozen=True)
class Positives:
    """The positive pairs of each anchor, where they are: of `[batch, others]` no shape depends on a value.

    Args:
        positive: bool `[batch, others]`.
    """

    positive: Tensor

    def beside(self, distances: Tensor) -> Tensor:
        """Their distances, with infinities between them: `[batch, width]`."""
        return distances.masked_fill(~self.positive, torch.inf)

    def put_back(self, values: Tensor, others: Tensor) -> Tensor:
        """Values `[batch, width]` where they come from, and `[batch, others]` elsewhere."""
        return torch.where(self.positive, values, others)


@dataclass(frozen=True)
class GatheredPositives(Positives):
    """The positive pairs of each anchor side by side: much less than the batch, where items have few images.

    Args:
        rows, columns: int64, of each pair.
        slots: int64, its number among those of its row.
        width: most of a row.
    """

    rows: Tensor
    columns: Tensor
    slots: Tensor
    width: int

    def beside(self, distances: Tensor) -> Tensor:
        """See `Positives`; the infinities are at the end."""
        empty = distances.new_full((len(distances), self.width), torch.inf)
        return empty.index_put((self.rows, self.slots), distances[self.rows, self.columns])

    def put_back(self, values: Tensor, others: Tensor) -> Tensor:
        """See `Positives`."""
        return others.index_put((self.rows, self.columns), values[self.rows, self.slots])


def positives_of(positive: Tensor) -> Positives:
    """The positive pairs; on a CPU gathered, which elsewhere would wait to know how many there are.

    Args:
        positive: bool `[batch, others]`.
    """
    return gathered(positive) if positive.device.type == "cpu" else Positives(positive)


def gathered(positive: Tensor) -> GatheredPositives:
    """See `GatheredPositives`."""
    rows, columns = positive.nonzero(as_tuple=True)
    counts = positive.sum(1)
    starts = counts.cumsum(0) - counts
    slots = torch.arange(len(rows), device=rows.device) - starts[rows]
    widest = int(counts.max()) if len(counts) else 0
    return GatheredPositives(positive, rows, columns, slots, max(widest, 1))
