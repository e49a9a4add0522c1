"""Contrastive loss in matrix form: no list of pairs."""

import torch.nn.functional as F
from torch import Tensor, nn

from lapel.config.objective import ContrastiveConfig, ContrastiveForm, Pairs, Reduction
from lapel.losses.distances import IndicesTuple, References, compared, root


def masked_average(losses: Tensor, mask: Tensor, reduction: Reduction) -> Tensor:
    """`average` of the losses that a mask of the same shape keeps: no list of them is made."""
    kept = losses.masked_fill(~mask, 0)
    count = (kept > 0).sum() if reduction is Reduction.active else mask.sum()
    return kept.sum() / count.clamp_min(1)


def average(losses: Tensor, reduction: Reduction) -> Tensor:
    """Sum of losses over the number of those above zero, or over their number; 0 where that is 0."""
    if reduction is Reduction.active:
        return losses.sum() / (losses > 0).sum().clamp_min(1)
    return losses.sum() / max(losses.numel(), 1)


class ContrastiveLoss(nn.Module):
    """Contrastive loss on euclidean distances d.

    A positive pair costs `d^2`. A negative pair costs `max(0, m^2 - d^2)` (form bell: Bell & Bala, "Learning visual
    similarity for product design with convolutional neural networks", SIGGRAPH 2015), or `max(0, m - d)^2` (form
    hadsell: Hadsell, Chopra & LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR 2006). The first
    has no gradient for a negative pair at distance 0.

    Positives and negatives are averaged each on their own, then added. With `reduction=active` the bell form equals
    pytorch-metric-learning's `ContrastiveLoss(pos_margin=0, neg_margin=m**2, distance=LpDistance(
    normalize_embeddings=False, power=2), reducer=AvgNonZeroReducer())`.
    """

    def __init__(self, config: ContrastiveConfig) -> None:
        super().__init__()
        self.form = config.form
        self.given = config.pairs is Pairs.given or config.miner is not None
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
        if not self.given:
            squared, positive, negative = compared(embeddings, labels, references)
            pulled = masked_average(squared, positive, self.reduction)
            return pulled + masked_average(self._push(squared), negative, self.reduction)
        positives, negatives = self._given(embeddings, indices_tuple, references)
        return average(positives, self.reduction) + average(self._push(negatives), self.reduction)

    def active_share(self, embeddings: Tensor, labels: Tensor, indices_tuple: IndicesTuple = None) -> float:
        """Share of the negative pairs that lie within the margin; 0 where there are none."""
        if self.given:
            negatives = self._given(embeddings, indices_tuple, None)[1]
        else:
            squared, _, negative = compared(embeddings, labels, None)
            negatives = squared[negative]
        return float((negatives < self.margin**2).float().mean()) if len(negatives) else 0.0

    def _given(
        self, embeddings: Tensor, indices_tuple: IndicesTuple, references: References | None
    ) -> tuple[Tensor, Tensor]:
        if indices_tuple is None or len(indices_tuple) != 4:
            raise ValueError("contrastive loss on given pairs needs indices (a1, p, a2, n)")
        a1, p, a2, n = indices_tuple
        others = embeddings if references is None else references.embeddings
        return (embeddings[a1] - others[p]).square().sum(1), (embeddings[a2] - others[n]).square().sum(1)

    def _push(self, squared: Tensor) -> Tensor:
        if self.form is ContrastiveForm.bell:
            return F.relu(self.margin**2 - squared)
        return F.relu(self.margin - root(squared)).square()
