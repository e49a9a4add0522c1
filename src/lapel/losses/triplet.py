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
            return self._given(embeddings, indices_tuple, references)
        squared, positive, negative = compared(embeddings, labels, references)
        distances = root(squared)
        if self.triplets is Triplets.hard:
            return self._hardest(distances, positive, negative)
        return self._counted(distances, positive, negative)

    def active_share(self, embeddings: Tensor, labels: Tensor, indices_tuple: IndicesTuple = None) -> float:
        """Share of the triplets with a loss: of those given, of each anchor's hardest one, or of all valid ones."""
        if self.given and indices_tuple is not None:
            anchors, positives, negatives = indices_tuple
            to_positive = (embeddings[anchors] - embeddings[positives]).norm(dim=1)
            to_negative = (embeddings[anchors] - embeddings[negatives]).norm(dim=1)
            return float((to_positive - to_negative + self.margin > 0).float().mean())
        squared, positive, negative = compared(embeddings, labels, None)
        distances = root(squared)
        if self.triplets is Triplets.hard:
            farthest = distances.masked_fill(~positive, -torch.inf).amax(1)
            nearest = distances.masked_fill(~negative, torch.inf).amin(1)
            valid = positive.any(1) & negative.any(1)
            return float((farthest - nearest + self.margin > 0)[valid].float().mean()) if valid.any() else 0.0
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
        if indices_tuple is None or len(indices_tuple) != 3:
            raise ValueError("triplet loss on given triplets needs indices (a, p, n)")
        others = embeddings if references is None else references.embeddings
        anchors, positives, negatives = indices_tuple
        a, p, n = embeddings[anchors], others[positives], others[negatives]
        to_positive, to_negative = (root((a - other).square().sum(1)) for other in (p, n))
        return average(F.relu(to_positive - to_negative + self.margin), self.reduction)

    def _hardest(self, distances: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        farthest = distances.masked_fill(~positive, -torch.inf).amax(1)
        nearest = distances.masked_fill(~negative, torch.inf).amin(1)
        valid = positive.any(1) & negative.any(1)
        return average(F.relu(farthest[valid] - nearest[valid] + self.margin), self.reduction)

    def _counted(self, distances: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """All (or all semi-hard) triplets without listing them.

        The sum of `d(a, p) + margin - d(a, n)` over the triplets above zero takes each positive distance as often as
        it has such negatives, and each negative one as often as it has such positives. These counts are constant
        around almost every point, so value and gradient are exact; sorting finds them in O(batch^2 log batch).
        """
        with torch.no_grad():
            reach = distances + self.margin
            negatives = distances.masked_fill(~negative, torch.inf).sort(1).values
            reaches = reach.masked_fill(~positive, torch.inf).sort(1).values
            # The same comparison, d(a, n) < d(a, p) + margin, counted from either side.
            per_positive = torch.searchsorted(negatives, reach)
            per_negative = positive.sum(1, keepdim=True) - torch.searchsorted(reaches, distances, right=True)
            valid = positive.sum(1) * negative.sum(1)
            if self.triplets is Triplets.semi_hard:
                positives = distances.masked_fill(~positive, torch.inf).sort(1).values
                per_positive = per_positive - torch.searchsorted(negatives, distances, right=True)
                not_harder = torch.searchsorted(positives, distances)
                per_negative = per_negative - (positive.sum(1, keepdim=True) - not_harder)
                valid = per_positive.masked_fill(~positive, 0)
            weights = per_positive.masked_fill(~positive, 0) - per_negative.masked_fill(~negative, 0)
            active = per_positive.masked_fill(~positive, 0).sum()
            count = active if self.reduction is Reduction.active else valid.sum()
        total = (weights * distances).sum() + self.margin * active
        return total / count.clamp_min(1)
