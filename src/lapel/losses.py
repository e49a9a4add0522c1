"""The training losses, in matrix form: distances of a whole batch at once, and no list of pairs or triplets.

Every loss is called as pytorch-metric-learning's are, `loss(embeddings, labels, indices_tuple)`; the tuple is
`(a1, p, a2, n)` for pairs, `(a, p, n)` for triplets, or None. `build` turns a variant's objectives into modules.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapel.config import (
    ContrastiveConfig,
    ContrastiveForm,
    CrossEntropyConfig,
    Label,
    ObjectiveConfig,
    Pairs,
    Reduction,
    SupConConfig,
    TripletConfig,
    Triplets,
    VariantConfig,
)

IndicesTuple = tuple[Tensor, ...] | None


def squared_distances(embeddings: Tensor) -> Tensor:
    """Squared euclidean distances `[batch, batch]` of embeddings `[batch, dimensions]`, at least 0."""
    products = embeddings @ embeddings.T
    squares = products.diagonal()
    return (squares[:, None] + squares[None, :] - 2 * products).clamp_min(0)


def root(squared: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0 instead of infinite: two equal embeddings have no direction apart."""
    zero = squared == 0
    return squared.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def same_label(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Masks `[batch, batch]` of the positive pairs (an image with itself is none) and of the negative pairs."""
    same = labels[:, None] == labels[None, :]
    positive = same.clone()
    positive.fill_diagonal_(False)
    return positive, ~same


def _average(losses: Tensor, reduction: Reduction) -> Tensor:
    """Sum of losses over the number of those above zero, or over their number; 0 where that is 0."""
    count = (losses > 0).sum() if reduction is Reduction.active else losses.new_tensor(losses.numel())
    return losses.sum() / count.clamp_min(1)


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
        self.pairs = config.pairs
        self.margin = config.margin
        self.reduction = config.reduction

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: IndicesTuple = None) -> Tensor:
        """Scalar loss of embeddings `[batch, dimensions]` with int64 labels `[batch]`."""
        if self.pairs is Pairs.given:
            positives, negatives = self._given(embeddings, indices_tuple)
        else:
            squared = squared_distances(embeddings)
            positive, negative = same_label(labels)
            positives, negatives = squared[positive], squared[negative]
        return _average(positives, self.reduction) + _average(self._push(negatives), self.reduction)

    def _given(self, embeddings: Tensor, indices_tuple: IndicesTuple) -> tuple[Tensor, Tensor]:
        if indices_tuple is None or len(indices_tuple) != 4:
            raise ValueError("contrastive loss on given pairs needs indices (a1, p, a2, n)")
        a1, p, a2, n = indices_tuple
        return (embeddings[a1] - embeddings[p]).square().sum(1), (embeddings[a2] - embeddings[n]).square().sum(1)

    def _push(self, squared: Tensor) -> Tensor:
        if self.form is ContrastiveForm.bell:
            return F.relu(self.margin**2 - squared)
        return F.relu(self.margin - root(squared)).square()


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
        self.triplets = config.triplets
        self.margin = config.margin
        self.reduction = config.reduction

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: IndicesTuple = None) -> Tensor:
        """Scalar loss of embeddings `[batch, dimensions]` with int64 labels `[batch]`."""
        if self.triplets is Triplets.given:
            return self._given(embeddings, indices_tuple)
        distances = root(squared_distances(embeddings))
        positive, negative = same_label(labels)
        if self.triplets is Triplets.hard:
            return self._hardest(distances, positive, negative)
        return self._counted(distances, positive, negative)

    def _given(self, embeddings: Tensor, indices_tuple: IndicesTuple) -> Tensor:
        if indices_tuple is None or len(indices_tuple) != 3:
            raise ValueError("triplet loss on given triplets needs indices (a, p, n)")
        a, p, n = (embeddings[indices] for indices in indices_tuple)
        to_positive, to_negative = (root((a - other).square().sum(1)) for other in (p, n))
        return _average(F.relu(to_positive - to_negative + self.margin), self.reduction)

    def _hardest(self, distances: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        farthest = distances.masked_fill(~positive, -torch.inf).amax(1)
        nearest = distances.masked_fill(~negative, torch.inf).amin(1)
        valid = positive.any(1) & negative.any(1)
        return _average(F.relu(farthest[valid] - nearest[valid] + self.margin), self.reduction)

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


class SupConLoss(nn.Module):
    """Supervised contrastive loss (Khosla et al., "Supervised contrastive learning", NeurIPS 2020, L_out, equation 2).

    Each image that has a positive in the batch costs the mean, over its positives p, of `-log(exp(s(a, p) / t) / sum of
    exp(s(a, o) / t) over all others o)`, with s the cosine and t the temperature. Equal to pytorch-metric-learning's
    `SupConLoss(temperature)`.
    """

    def __init__(self, config: SupConConfig) -> None:
        super().__init__()
        self.temperature = config.temperature

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: IndicesTuple = None) -> Tensor:  # noqa: ARG002
        """Scalar loss of embeddings `[batch, dimensions]` with int64 labels `[batch]`."""
        unit = F.normalize(embeddings, dim=1)
        similarities = unit @ unit.T / self.temperature
        positive, _ = same_label(labels)
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        log_shares = similarities - similarities.masked_fill(itself, -torch.inf).logsumexp(1, keepdim=True)
        counts = positive.sum(1)
        costs = -log_shares.masked_fill(~positive, 0).sum(1) / counts.clamp_min(1)
        return costs.sum() / (counts > 0).sum().clamp_min(1)


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


class Objective(nn.Module):
    """One term of the training loss: a loss with its weight, the label it reads and the embedding it is given."""

    def __init__(self, config: ObjectiveConfig, loss: nn.Module, reads_raw: bool) -> None:
        super().__init__()
        self.loss = loss
        self.weight = config.weight
        self.label = config.label
        self.reads_raw = reads_raw

    def forward(
        self, raw: Tensor, embeddings: Tensor, items: Tensor, categories: Tensor, indices_tuple: IndicesTuple
    ) -> Tensor:
        """Scalar, not yet weighted.

        Args:
            raw: `[batch, dimensions]`, before normalisation.
            embeddings: `[batch, dimensions]`, as the metric compares them.
            items, categories: int64 `[batch]`.
            indices_tuple: from the sampler.
        """
        labels = items if self.label is Label.item else categories
        return self.loss(raw if self.reads_raw else embeddings, labels, indices_tuple)


def build(variant: VariantConfig, dimensions: int, items: int, categories: int) -> nn.ModuleDict:
    """The variant's objectives by name.

    Args:
        variant: options.
        dimensions: of the embedding.
        items, categories: how many of each the catalogue has.
    """
    objectives = nn.ModuleDict()
    for name, config in variant.objectives.items():
        match config:
            case ContrastiveConfig():
                objectives[name] = Objective(config, ContrastiveLoss(config), reads_raw=False)
            case TripletConfig():
                objectives[name] = Objective(config, TripletLoss(config), reads_raw=False)
            case SupConConfig():
                objectives[name] = Objective(config, SupConLoss(config), reads_raw=False)
            case CrossEntropyConfig():
                classes = items if config.label is Label.item else categories
                objectives[name] = Objective(config, CrossEntropyLoss(config, dimensions, classes), reads_raw=True)
            case _:
                raise TypeError(f"no loss for {type(config).__name__}")
    return objectives
