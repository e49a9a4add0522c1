"""Triplet loss in matrix form: no list of triplets."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapel.config.objective import Reduction, TripletConfig, Triplets
from lapel.losses.contrastive import average, masked_average
from lapel.losses.distances import IndicesTuple, References, compared, root
from lapel.losses.triplet_sums import hinge_sum, soft_sum


class TripletLoss(nn.Module):
    """Triplet loss `max(0, d(a, p) - d(a, n) + margin)` on euclidean distances d, or its soft form.

    The soft form is `log(1 + exp(d(a, p) - d(a, n) + margin))`: with margin 0 the soft margin of Hermans et al.

    Which triplets (`triplets`): those that the sampler gave; every valid one of the batch; the semi-hard ones, whose
    negative lies beyond the positive by at most the margin (Schroff, Kalenichenko & Philbin, "FaceNet", CVPR 2015); or
    each anchor's farthest positive with its nearest negative (Hermans, Beyer & Leibe, "In defense of the triplet loss
    for person re-identification", 2017).

    Equal to pytorch-metric-learning's `TripletMarginLoss(margin, smooth_loss=soft, distance=LpDistance(
    normalize_embeddings=False))` with its default reducer (reduction=active) or `MeanReducer` (mean), after no miner,
    `TripletMarginMiner(margin, type_of_triplets="semihard", distance=…)` or `BatchHardMiner(distance=…)`.
    """

    def __init__(self, config: TripletConfig) -> None:
        super().__init__()
        self.given = config.triplets is Triplets.given or config.miner is not None
        self.triplets = config.triplets
        self.margin = config.margin
        self.soft = config.soft
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
            return average(self._cost(self._given(embeddings, indices_tuple, references)), self.reduction)
        squared, positive, negative = compared(embeddings, labels, references)
        distances = root(squared)
        if self.triplets is Triplets.hard:
            excess, valid = self._hardest(distances, positive, negative)
            return masked_average(self._cost(excess), valid, self.reduction)
        semi_hard = self.triplets is Triplets.semi_hard
        add = soft_sum if self.soft else hinge_sum
        total, active, valid = add(distances, positive, negative, self.margin, semi_hard)
        return total / (active if self.reduction is Reduction.active else valid).clamp_min(1)

    def active_share(self, embeddings: Tensor, labels: Tensor, indices_tuple: IndicesTuple = None) -> float:
        """Share of triplets within the margin: of those given, of each anchor's hardest one, or of all valid ones."""
        if self.given and indices_tuple is not None:
            return float((self._given(embeddings, indices_tuple, None) > 0).float().mean())
        squared, positive, negative = compared(embeddings, labels, None)
        distances = root(squared)
        if self.triplets is Triplets.hard:
            excess, valid = self._hardest(distances, positive, negative)
            return float(((excess > 0) & valid).sum() / valid.sum().clamp_min(1))
        negatives = distances.masked_fill(~negative, torch.inf).sort(1).values
        nearer = torch.searchsorted(negatives, distances + self.margin).masked_fill(~positive, 0).sum()
        count = (positive.sum(1) * negative.sum(1)).sum()
        return float(nearer / count.clamp_min(1))

    @property
    def collapsed(self) -> float:
        """What it is when all embeddings are one."""
        return math.log1p(math.exp(self.margin)) if self.soft else self.margin

    def ease(self) -> str:
        """Go from the hardest triplets to the semi-hard, from those to all; the name of what is taken, or empty."""
        easier = {Triplets.hard: Triplets.semi_hard, Triplets.semi_hard: Triplets.batch_all}
        if self.margin == 0:  # no triplet is semi-hard
            easier[Triplets.hard] = Triplets.batch_all
        if self.given or self.triplets not in easier:
            return ""
        self.triplets = easier[self.triplets]
        return self.triplets.name

    def _cost(self, excess: Tensor) -> Tensor:
        return F.softplus(excess) if self.soft else F.relu(excess)

    def _given(self, embeddings: Tensor, indices_tuple: IndicesTuple, references: References | None) -> Tensor:
        """`d(a, p) - d(a, n) + margin` of each given triplet."""
        if indices_tuple is None or len(indices_tuple) != 3:
            raise ValueError("triplet loss on given triplets needs indices (a, p, n)")
        others = embeddings if references is None else references.embeddings
        anchors, positives, negatives = indices_tuple
        a, p, n = embeddings[anchors], others[positives], others[negatives]
        to_positive, to_negative = (root((a - other).square().sum(1)) for other in (p, n))
        return to_positive - to_negative + self.margin

    def _hardest(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """`d(a, p) - d(a, n) + margin` of each anchor's hardest triplet, and which of them have one: `[batch]` each."""
        farthest = distances.masked_fill(~positive, -torch.inf).amax(1)
        nearest = distances.masked_fill(~negative, torch.inf).amin(1)
        valid = positive.any(1) & negative.any(1)
        excess = farthest.masked_fill(~valid, 0) - nearest.masked_fill(~valid, 0) + self.margin
        return excess, valid
