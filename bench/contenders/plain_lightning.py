"""lapel's network and loss in a plain LightningModule, with torchvision's FashionMNIST and transforms and a DataLoader.

As Lightning's own documentation begins; AdamW at torch's own rate. No logger and no checkpoints, which spares it work.
"""

from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contenders import fashion, lapel_net
from contenders.turns import Turns
from lapel import losses
from lapel.config.variant import Metric, VariantConfig


class Plain(pl.LightningModule):
    """A network and a loss.

    Args:
        net: images to embeddings before normalisation.
        variant: lapel's loss.
        dimensions: of the embedding.
    """

    def __init__(self, net: nn.Module, variant: VariantConfig, dimensions: int) -> None:
        super().__init__()
        self.net = net
        self.unit = variant.metric is Metric.cosine
        self.objectives = losses.build(variant, dimensions, 10, 10)

    def forward(self, images: Tensor) -> Tensor:
        """`[batch, dimensions]`."""
        return self.net(images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        del batch_idx
        images, labels = batch
        raw = self(images)
        embeddings = F.normalize(raw, dim=1) if self.unit else raw
        parts = [
            objective.weight * objective(raw, embeddings, labels, labels, None)
            for objective in self.objectives.values()
        ]
        return torch.stack(parts).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters())


class HandsOver(pl.Callback):
    """Lets others have their turn between two steps."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """See above."""
        del trainer, pl_module, outputs, batch_idx
        self.turns.step(len(batch[1]))


def main() -> None:
    """Take part; arguments as for `lapel_net.given`."""
    turns = Turns.of_this_process()
    torch.manual_seed(0)
    ours = lapel_net.given()
    module = Plain(ours.net, ours.config.variant, ours.dimensions)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        callbacks=[HandsOver(turns)],
    )
    turns.ready(lambda: fashion.embeddings(module, ours.val), ours.config.variant.metric.name)
    trainer.fit(module, ours.loader)


if __name__ == "__main__":
    main()
