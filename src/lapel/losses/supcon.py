"""Supervised contrastive loss."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapel.config.objective import SupConConfig
from lapel.losses.distances import IndicesTuple, References, same_label


class SupConLoss(nn.Module):
    """Supervised contrastive loss (Khosla et al., "Supervised contrastive learning", NeurIPS 2020, L_out, equation 2).

    Each image that has a positive in the batch costs the mean, over its positives p, of `-log(exp(s(a, p) / t) / sum of
    exp(s(a, o) / t) over all others o)`, with s the cosine and t the temperature. Equal to pytorch-metric-learning's
    `SupConLoss(temperature)`.
    """

    def __init__(self, config: SupConConfig) -> None:
        super().__init__()
        self.temperature = config.temperature

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: IndicesTuple = None,  # noqa: ARG002
        references: References | None = None,
    ) -> Tensor:
        """Scalar loss of embeddings `[batch, dimensions]` with int64 labels `[batch]`, among them or with others."""
        unit = F.normalize(embeddings, dim=1)
        others = unit if references is None else F.normalize(references.embeddings, dim=1)
        similarities = unit @ others.T / self.temperature
        positive, negative = same_label(labels, references)
        itself = ~(positive | negative)
        log_shares = similarities - similarities.masked_fill(itself, -torch.inf).logsumexp(1, keepdim=True)
        counts = positive.sum(1)
        costs = -log_shares.masked_fill(~positive, 0).sum(1) / counts.clamp_min(1)
        return costs.sum() / (counts > 0).sum().clamp_min(1)
