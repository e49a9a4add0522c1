"""lapel's network and loss, trained with pytorch-metric-learning, the published package.

Its ContrastiveLoss, with the margin and average of lapel's, beside torch's cross-entropy; the loop, the DataLoader and
torchvision's data set and transforms are those of its examples. AdamW at torch's own rate of 0.001, as it stays.
"""

from typing import Any

import torch
import torch.nn.functional as F
from pytorch_metric_learning import distances, losses, reducers
from torch import Tensor, nn, optim

from contenders import fashion, lapel_net
from contenders.turns import Turns
from lapel.config.objective import ContrastiveConfig, ContrastiveForm, CrossEntropyConfig, Reduction
from lapel.config.variant import Metric, VariantConfig


class ContrastiveAndClassifier(nn.Module):
    """lapel's variant in the library's words.

    Args:
        variant: a contrastive objective in the form of Bell & Bala, and cross-entropy.
        dimensions: of the embedding.
        classes: there are.
    """

    def __init__(self, variant: VariantConfig, dimensions: int, classes: int) -> None:
        super().__init__()
        pair = next(each for each in variant.objectives.values() if isinstance(each, ContrastiveConfig))
        category = next(each for each in variant.objectives.values() if isinstance(each, CrossEntropyConfig))
        assert len(variant.objectives) == 2
        assert pair.form is ContrastiveForm.bell
        distance = distances.LpDistance(normalize_embeddings=variant.metric is Metric.cosine, power=2)
        reducer = reducers.MeanReducer() if pair.reduction is Reduction.mean else reducers.AvgNonZeroReducer()
        # Its margins are of squared distances here; they may be fractions, whatever its annotation says.
        margins: Any = {"pos_margin": 0, "neg_margin": pair.margin**2}
        self.pairs = losses.ContrastiveLoss(**margins, distance=distance, reducer=reducer)
        self.classifier = nn.Linear(dimensions, classes)
        self.weights = pair.weight, category.weight
        self.smoothing = category.smoothing

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of embeddings `[batch, dimensions]` before normalisation."""
        classified = F.cross_entropy(self.classifier(embeddings), labels, label_smoothing=self.smoothing)
        return self.weights[0] * self.pairs(embeddings, labels) + self.weights[1] * classified


def main() -> None:
    """Take part; arguments as for `lapel_net.given`."""
    turns = Turns.of_this_process()
    torch.manual_seed(0)
    ours = lapel_net.given()
    model = ours.net
    loss_func = ContrastiveAndClassifier(ours.config.variant, ours.dimensions, 10)
    optimizer = optim.AdamW([*model.parameters(), *loss_func.parameters()])
    turns.ready(lambda: fashion.embeddings(model, ours.val), ours.config.variant.metric.name)
    model.train()
    while True:
        for data, labels in ours.loader:
            optimizer.zero_grad()
            loss = loss_func(model(data), labels)
            loss.backward()
            optimizer.step()
            turns.step(len(labels))


if __name__ == "__main__":
    main()
