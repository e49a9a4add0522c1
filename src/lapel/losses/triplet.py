"""Triplet loss in matrix form: no list of triplets."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapel.config import Reduction, TripletConfig, Triplets
from lapel.losses.contrastive import average
from lapel.losses.distances import IndicesTuple, References, compared, root


class TripletLoss(nn.Module):
    """Triplet loss `max(0, d(a, p) - d(a, n) + margin)` on euclidean distances.

    Which triplets (`triplets`): those that the sampler gave; every valid one of the batch; the semi-hard ones, whose
    negative lies beyond the positive by at most the margin (Schroff, Kalenichenko & Philbin, "FaceNet", CVPR 2015); or
    each anchor's farthest positive with its nearest negative (Hermans, Beyer & Leibe, "In defense of the triplet loss
    for person re-identification", 2017).

    Equal to pytorch-metric-learning's `TripletMarginLoss(margin, distance=LpDistance(normalize_embeddings=False))` with
    its default reducer (reduction=active) or `MeanReducer` (mean), after no miner, `TripletMarginMiner(margin,
    type_of_triplets="semihard", distance=…)` or `BatchHardMiner(distance=…)`.
    """

    def __init__(self, config: TripletConfig) -> None:
        super().__init__()
        self.given = config.triplets is Triplets.given or config.miner is not None
        self.triplets = config.triplets
        self.margin = config.margin
        self.reduction = config.reduction

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: IndicesTuple = None,
        references: References | None = None,
    ) -> Tensor:
        """Scalar loss of embeddings `[batch, dimensions]` with int64 labels `[batch]`, among them or with others."""
        if self.given:
            return average(self._given(embeddings, indices_tuple, references), self.reduction)
        squared, positive, negative = compared(embeddings, labels, references)
        distances = root(squared)
        if self.triplets is Triplets.hard:
            return average(self._hardest(distances, positive, negative), self.reduction)
        return self._counted(distances, positive, negative)

    def active_share(self, embeddings: Tensor, labels: Tensor, indices_tuple: IndicesTuple = None) -> float:
        """Share of the triplets with a loss: of those given, of each anchor's hardest one, or of all valid ones."""
        if self.given and indices_tuple is not None:
            return float((self._given(embeddings, indices_tuple, None) > 0).float().mean())
        squared, positive, negative = compared(embeddings, labels, None)
        distances = root(squared)
        if self.triplets is Triplets.hard:
            costs = self._hardest(distances, positive, negative)
            return float((costs > 0).float().mean()) if len(costs) else 0.0
        negatives = distances.masked_fill(~negative, torch.inf).sort(1).values
        nearer = torch.searchsorted(negatives, distances + self.margin).masked_fill(~positive, 0).sum()
        count = (positive.sum(1) * negative.sum(1)).sum()
        return float(nearer / count.clamp_min(1))

    def ease(self) -> str:
        """Go from the hardest triplets to the semi-hard, from those to all; the name of what is taken, or empty."""
        easier = {Triplets.hard: Triplets.semi_hard, Triplets.semi_hard: Triplets.batch_all}
        if self.given or self.triplets not in easier:
            return ""
        self.triplets = easier[self.triplets]
        return self.triplets.name

    def _given(self, embeddings: Tensor, indices_tuple: IndicesTuple, references: References | None) -> Tensor:
        """What each given triplet costs."""
        if indices_tuple is None or len(indices_tuple) != 3:
            raise ValueError("triplet loss on given triplets needs indices (a, p, n)")
        others = embeddings if references is None else references.embeddings
        anchors, positives, negatives = indices_tuple
        a, p, n = embeddings[anchors], others[positives], others[negatives]
        to_positive, to_negative = (root((a - other).square().sum(1)) for other in (p, n))
        return F.relu(to_positive - to_negative + self.margin)

    def _hardest(self, distances: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """What the hardest triplet of each anchor costs that has one."""
        farthest = distances.masked_fill(~positive, -torch.inf).amax(1)
        nearest = distances.masked_fill(~negative, torch.inf).amin(1)
        valid = positive.any(1) & negative.any(1)
        return F.relu(farthest[valid] - nearest[valid] + self.margin)

    def _counted(self, distances: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """All (or all semi-hard) triplets without listing them.

        The sum of `d(a, p) + margin - d(a, n)` over the triplets above zero takes each positive distance as often as
        it has such negatives, and each negative one as often as it has such positives. These counts are constant
        around almost every point, so value and gradient are exact; sorting finds them in O(batch^2 log batch).
        """
        with torch.no_grad():
            rows, columns, slots, ascending = _positives(distances, positive)
            negatives = distances.masked_fill(~negative, torch.inf).sort(1).values
            # The same comparison, d(a, n) < d(a, p) + margin, counted from either side.
            own = distances[rows, columns]
            reach = torch.full_like(ascending, torch.inf)
            reach[rows, slots] = own + self.margin
            per_positive = torch.searchsorted(negatives, reach)
            counts = positive.sum(1, keepdim=True)
            per_negative = counts - torch.searchsorted(ascending + self.margin, distances, right=True)
            valid = (counts[:, 0] * negative.sum(1)).sum()
            if self.triplets is Triplets.semi_hard:
                nearest = torch.full_like(ascending, torch.inf)
                nearest[rows, slots] = own
                per_positive = per_positive - torch.searchsorted(negatives, nearest, right=True)
                per_negative = per_negative - (counts - torch.searchsorted(ascending, distances))
                valid = per_positive[rows, slots].sum()
            found = per_positive[rows, slots]
            weights = per_negative.masked_fill_(~negative, 0).neg_().to(distances.dtype)
            weights[rows, columns] = found.to(distances.dtype)
            active = found.sum()
            count = active if self.reduction is Reduction.active else valid
        total = (weights * distances).sum() + self.margin * active
        return total / count.clamp_min(1)


def _positives(distances: Tensor, positive: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where the positive pairs are, and their distances side by side.

    Returns:
        Row and column of each, its slot among those of its row, and `[batch, most positives of a row]`, ascending, with
        infinities at the end: much narrower than the batch, where items have few images.
    """
    rows, columns = positive.nonzero(as_tuple=True)
    counts = positive.sum(1)
    starts = counts.cumsum(0) - counts
    slots = torch.arange(len(rows), device=rows.device) - starts[rows]
    widest = int(counts.max()) if len(counts) else 0
    beside = distances.new_full((len(distances), max(widest, 1)), torch.inf)
    beside[rows, slots] = distances[rows, columns]
    return rows, columns, slots, beside.sort(1).values
