"""A variant's objectives: losses with their weights, labels, miners and memories."""

import torch
from torch import Tensor, nn

from lapel.config.choices import build as build_choice
from lapel.config.choices import kind_of
from lapel.config.library_losses import LibraryLossConfig
from lapel.config.objective import Label, ObjectiveConfig
from lapel.config.variant import VariantConfig
from lapel.losses.contrastive import ContrastiveLoss
from lapel.losses.distances import IndicesTuple
from lapel.losses.library import LibraryLoss, Miner
from lapel.losses.memory import CrossBatchMemory
from lapel.losses.triplet import TripletLoss


class Objective(nn.Module):
    """One term of the training loss: a loss with its weight, the label it reads and the embedding it is given.

    Args:
        config: of the objective.
        loss: called as pytorch-metric-learning's are.
        dimensions: of the embedding.
    """

    def __init__(self, config: ObjectiveConfig, loss: nn.Module, dimensions: int) -> None:
        super().__init__()
        self.loss = loss
        self.weight = config.weight
        self.label = config.label
        self.reads_raw = config.reads_raw
        self.draws = config.draws
        self.miner = None if config.miner is None else Miner(config.miner, config.tuples)
        self.memory = CrossBatchMemory(config.memory, dimensions) if config.memory else None
        self.reads_given = config.tuples is not None
        # Others look at values, or at more of them from step to step.
        self.compiles = not (isinstance(loss, LibraryLoss) or config.miner or config.memory or config.draws)

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
        given = raw if self.reads_raw else embeddings
        references = None if self.memory is None else self.memory.remember(given, labels)
        tuples = indices_tuple if self.reads_given else None
        if self.miner is not None:
            tuples = self.miner(given, labels, references)
        if references is None:
            return self.loss(given, labels, tuples)
        return self.loss(given, labels, tuples, references)

    @torch.no_grad()
    def active_share(
        self, embeddings: Tensor, items: Tensor, categories: Tensor, indices_tuple: IndicesTuple
    ) -> float | None:
        """Share of the pairs or triplets of a batch that have a loss, arguments as for `forward`.

        None where that cannot be told: for losses without a margin, and those that choose or remember for themselves.
        """
        if (
            not isinstance(self.loss, ContrastiveLoss | TripletLoss)
            or self.miner is not None
            or self.memory is not None
        ):
            return None
        labels = items if self.label is Label.item else categories
        return self.loss.active_share(embeddings, labels, indices_tuple)

    def ease(self) -> str:
        """Take easier triplets: instead of the hardest the semi-hard, instead of those all, instead of a miner none.

        Returns:
            What is taken from now on; empty where there is nothing easier.
        """
        if isinstance(self.loss, TripletLoss) and self.miner is None:
            return self.loss.ease()
        if self.miner is None or isinstance(self.loss, ContrastiveLoss | TripletLoss):
            return ""
        self.miner = None
        return "no miner"


def build(variant: VariantConfig, dimensions: int, items: int, categories: int) -> nn.ModuleDict:
    """The variant's objectives by name.

    Args:
        variant: options.
        dimensions: of the embedding.
        items, categories: how many of each the catalogue has.
    """
    objectives = nn.ModuleDict()
    for name, config in variant.objectives.items():
        classes = items if config.label is Label.item else categories
        objectives[name] = Objective(config, _loss(config, dimensions, classes), dimensions)
    return objectives


def _loss(config: ObjectiveConfig, dimensions: int, classes: int) -> nn.Module:
    if isinstance(config, LibraryLossConfig):  # its choice builds the library's class, which is called in another way
        return LibraryLoss(config, dimensions, classes)
    return build_choice(kind_of(config), config=config, dimensions=dimensions, classes=classes)
