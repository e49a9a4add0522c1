"""Losses of pytorch-metric-learning whose own code breaks at an edge: copies, images without a match, vectors of zeros.

Formulas and options are the library's. Where its code raises, or gives what is not finite, these give what the formula
tends to, with a finite gradient.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses
from pytorch_metric_learning.distances import SNRDistance
from pytorch_metric_learning.utils import loss_and_miner_utils
from torch import Tensor

from lapel.losses.distances import root

# Of an embedding's coordinates: what has less of a variance holds no signal.
LEAST_VARIANCE = 1e-6


class NCALoss(losses.NCALoss):
    """The mean, over images with a positive, of -log of their share in the softmax (Goldberger et al., NeurIPS 2004).

    In logarithms throughout: a share too small for a float would be left out. 0 where no image has a positive.
    """

    def nca_computation(
        self,
        query: Tensor,
        reference: Tensor,
        query_labels: Tensor,
        reference_labels: Tensor,
        indices_tuple: tuple[Tensor, ...] | None,
    ) -> dict[str, Any]:
        """See the library's."""
        among_itself = query is reference
        weights = loss_and_miner_utils.convert_to_weights(
            indices_tuple, query_labels, dtype=query.dtype, using_ref=not among_itself
        )
        sign = 1 if self.distance.is_inverted else -1
        similarities = sign * self.softmax_scale * self.distance(query, reference)
        if among_itself:
            itself = torch.eye(len(query), dtype=torch.bool, device=query.device)
            similarities = similarities.masked_fill(itself, -torch.inf)
        positive = (query_labels[:, None] == reference_labels[None]) & (similarities > -torch.inf)
        rows = positive.any(1).nonzero()[:, 0]
        if not len(rows):
            return self.zero_losses()
        of_rows = similarities[rows]
        shares = of_rows.masked_fill(~positive[rows], -torch.inf).logsumexp(1) - of_rows.logsumexp(1)
        return {"loss": {"losses": -shares * weights[rows], "indices": rows, "reduction_type": "element"}}


class ProxyNCALoss(NCALoss, losses.ProxyNCALoss):
    """Proxy-NCA (Movshovitz-Attias et al., ICCV 2017)."""


class TupletMarginLoss(losses.TupletMarginLoss):
    """Tuplet margin loss (Yu & Tao, ICCV 2019), with cos(a - m) as cos a cos m + sin a sin m.

    The library's arccos has no value where rounding takes a cosine of copies above 1, and no finite gradient at 1.
    """

    def _compute_loss(self, pos_pairs: Tensor, neg_pairs: Tensor, indices_tuple: tuple[Tensor, ...]) -> dict[str, Any]:
        a1, p, a2, _ = indices_tuple
        if not len(a1) or not len(a2):
            return self.zero_losses()
        cosines = pos_pairs.clamp(-1, 1)
        nearer = cosines * math.cos(self.margin) + root((1 - cosines) * (1 + cosines)) * math.sin(self.margin)
        inside = self.scale * (neg_pairs[None] - nearer[:, None])
        found = loss_and_miner_utils.logsumexp(inside, keep_mask=a2[None] == a1[:, None], add_one=True, dim=1)
        return {"loss": {"losses": found, "indices": (a1, p), "reduction_type": "pos_pair"}}


class ArcFaceLoss(losses.ArcFaceLoss):
    """ArcFace (Deng et al., CVPR 2019), whose angle has no gradient where it is 0 or 180 degrees: on a class's weights.

    That of arccos is infinite there, and whether clamping hides it differs between versions of torch.
    """

    def get_angles(self, cosine_of_target_classes: Tensor) -> Tensor:
        """In radians."""
        edge = cosine_of_target_classes.abs() >= 1
        inner = cosine_of_target_classes.masked_fill(edge, 0).arccos()
        return torch.where(edge, cosine_of_target_classes.detach().clamp(-1, 1).arccos(), inner)


class SubCenterArcFaceLoss(ArcFaceLoss, losses.SubCenterArcFaceLoss):
    """Sub-center ArcFace (Deng et al., ECCV 2020)."""


class HistogramLoss(losses.HistogramLoss):
    """Histogram loss (Ustinova & Lempitsky, NeurIPS 2016), whose outer nodes take cosines that are rounded beyond 1."""

    def compute_density(self, distances: Tensor) -> Tensor:
        """Share of the cosines at each node, divided between the two that each lies between (equation 1)."""
        bins = round(2 / self.delta)
        positions = (distances.clamp(-1, 1) + 1) / self.delta
        lower = positions.detach().floor().long().clamp(0, bins - 1)
        above = positions - lower
        density = distances.new_zeros(bins + 1)
        return density.scatter_add(0, lower + 1, above).scatter_add(0, lower, 1 - above) / len(distances)


class DynamicSoftMarginLoss(losses.DynamicSoftMarginLoss):
    """Dynamic soft margin (Zhang & Rusinkiewicz, ICCV 2019), whose outer bins take what lies beyond them."""

    def _bins(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """The bin of each difference, and how far it lies into it, from 0 to 1."""
        positions = (data - self.min_val) / self.delta
        lower = positions.detach().floor().long().clamp(0, self.num_bins - 1)
        return lower, (positions - lower).clamp(0, 1)

    def update_histogram(self, data: Tensor) -> None:
        """See the library's."""
        lower, above = self._bins(data)
        momentum = self.momentum if self.hist_.sum() != 0 else 1.0
        found = ((1 - momentum) * self.hist_).scatter_add(0, lower, momentum * (1 - above))
        found = found.scatter_add(0, (lower + 1).clamp_max(self.num_bins - 1), momentum * above)
        self.hist_ = found / found.sum()

    def weigh_loss(self, data: Tensor) -> Tensor:
        """See the library's."""
        return torch.cumsum(self.hist_, 0)[self._bins(data)[0]] * data


class SignalToNoise(SNRDistance):
    """Signal-to-noise distance (Yuan et al., CVPR 2019); an anchor of next to no signal counts as if it had little."""

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        """`[queries, references]`."""
        noise = torch.var(query_emb[:, None] - ref_emb, dim=2)
        return noise / torch.var(query_emb, dim=1).clamp_min(LEAST_VARIANCE)[:, None]

    def pairwise_distance(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        """`[pairs]`."""
        return torch.var(query_emb - ref_emb, dim=1) / torch.var(query_emb, dim=1).clamp_min(LEAST_VARIANCE)


class SignalToNoiseRatioContrastiveLoss(losses.SignalToNoiseRatioContrastiveLoss):
    """Contrastive loss on signal-to-noise distances."""

    def get_default_distance(self) -> SNRDistance:
        """See the library's."""
        return SignalToNoise()


class P2SGradLoss(losses.P2SGradLoss):
    """P2SGrad (Zhang et al., CVPR 2019): the mean square of cosine minus target, equation 11; zeros have cosine 0."""

    def compute_loss(
        self, embeddings: Tensor, labels: Tensor, indices_tuple: Any, ref_emb: Any, ref_labels: Any
    ) -> dict[str, Any]:
        """See the library's."""
        del indices_tuple, ref_emb, ref_labels
        with torch.no_grad():
            self.weight.copy_(F.normalize(self.weight, dim=0))
        cosines = (F.normalize(embeddings, dim=1) @ self.weight).clamp(-1, 1)
        found = F.mse_loss(cosines, F.one_hot(labels, cosines.shape[1]).to(cosines.dtype))
        return {"loss": {"losses": found, "indices": None, "reduction_type": "already_reduced"}}
