"""Sums over all triplets of a batch, or all semi-hard ones, from the matrix of its distances."""

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
        rows, columns, slots, beside = _positives(distances, positive)
        ascending = beside.sort(1).values
        negatives = distances.masked_fill(~negative, torch.inf).sort(1).values
        # The same comparison, d(a, n) < d(a, p) + margin, counted from either side.
        own = distances[rows, columns]
        reach = torch.full_like(ascending, torch.inf)
        reach[rows, slots] = own + margin
        per_positive = torch.searchsorted(negatives, reach)
        counts = positive.sum(1, keepdim=True)
        per_negative = counts - torch.searchsorted(ascending + margin, distances, right=True)
        valid = (counts[:, 0] * negative.sum(1)).sum()
        if semi_hard:
            nearest = torch.full_like(ascending, torch.inf)
            nearest[rows, slots] = own
            per_positive = per_positive - torch.searchsorted(negatives, nearest, right=True)
            per_negative = per_negative - (counts - torch.searchsorted(ascending, distances))
            valid = per_positive[rows, slots].sum()
        found = per_positive[rows, slots]
        weights = per_negative.masked_fill_(~negative, 0).neg_().to(distances.dtype)
        weights[rows, columns] = found.to(distances.dtype)
        active = found.sum()
    return (weights * distances).sum() + margin * active, active, valid


def soft_sum(
    distances: Tensor, positive: Tensor, negative: Tensor, margin: float, semi_hard: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of `log(1 + exp(d(a, p) - d(a, n) + margin))`: arguments and results as for `hinge_sum`.

    Every triplet has its own share of the gradient, so all are listed: those of some anchors at a time, and once more
    for the gradient, so that memory stays bounded.
    """
    rows, columns, slots, beside = _positives(distances, positive)
    beside = beside.index_put((rows, slots), distances[rows, columns])
    anchors = max(1, HELD // max(1, beside.shape[1] * distances.shape[1]))
    total, count = distances.new_zeros(()), torch.zeros((), dtype=torch.int64, device=distances.device)
    for part in torch.arange(len(distances), device=distances.device).split(anchors):
        given = beside[part], distances[part], negative[part], margin, semi_hard
        cost, listed = checkpoint(_soft_part, *given, use_reentrant=False)
        total, count = total + cost, count + listed
    return total, count, count


def _soft_part(
    beside: Tensor, distances: Tensor, negative: Tensor, margin: float, semi_hard: bool
) -> tuple[Tensor, Tensor]:
    """Sum and number of some anchors' triplets; `beside` as `_positives` gives it."""
    to_positive, to_negative = beside[:, :, None], distances[:, None, :]
    listed = torch.isfinite(to_positive) & negative[:, None, :]
    if semi_hard:
        listed = listed & (to_negative > to_positive) & (to_negative <= to_positive + margin)
    excess = torch.where(listed, to_positive, 0) - to_negative + margin
    return F.softplus(excess).masked_fill(~listed, 0).sum(), listed.sum()


def _positives(distances: Tensor, positive: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where the positive pairs are, and their distances side by side.

    Returns:
        Row and column of each, its slot among those of its row, and `[batch, most positives of a row]`, without
        gradient and with infinities at the end: much narrower than the batch, where items have few images.
    """
    rows, columns = positive.nonzero(as_tuple=True)
    counts = positive.sum(1)
    starts = counts.cumsum(0) - counts
    slots = torch.arange(len(rows), device=rows.device) - starts[rows]
    widest = int(counts.max()) if len(counts) else 0
    beside = distances.new_full((len(distances), max(widest, 1)), torch.inf)
    beside[rows, slots] = distances[rows, columns].detach()
    return rows, columns, slots, beside
