"""pytorch-metric-learning's losses and miners, built from their configs, on a batch or against earlier embeddings."""

from dataclasses import fields
from enum import Enum
from typing import Any

import torch
from pytorch_metric_learning.utils import loss_and_miner_utils
from torch import Tensor, nn

from lapel.config.choices import builder, kind_of
from lapel.config.library_losses import DynamicSoftMarginConfig, LibraryLossConfig, SmoothAPConfig
from lapel.config.miner import MinerConfig
from lapel.config.objective import ObjectiveConfig
from lapel.errors import LapelError
from lapel.losses.distances import IndicesTuple, References


class LibraryLoss(nn.Module):
    """A loss of pytorch-metric-learning, called as lapel's own are.

    Args:
        config: of the loss.
        dimensions: of the embedding.
        classes: labels there are.
    """

    def __init__(self, config: LibraryLossConfig, dimensions: int, classes: int) -> None:
        super().__init__()
        options = own_options(config, type(config), ObjectiveConfig)
        if config.sized_by is not None:
            options |= dict(zip(config.sized_by, (classes, dimensions), strict=True))
        self.loss = builder(kind_of(config))(**options)
        self.sorts = isinstance(config, SmoothAPConfig)
        if isinstance(config, DynamicSoftMarginConfig):
            # The library keeps it as a plain attribute, which no checkpoint would hold.
            histogram = self.loss.hist_
            del self.loss.hist_
            self.loss.register_buffer("hist_", histogram)
        self.remembers = isinstance(config, DynamicSoftMarginConfig)

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: IndicesTuple = None,
        references: References | None = None,
    ) -> Tensor:
        """Scalar loss of unit vectors `[batch, dimensions]` with int64 labels `[batch]`.

        Raises:
            LapelError: smooth_ap is given items with different numbers of images.
        """
        if self.sorts:
            embeddings, labels = _sorted_by_label(embeddings, labels)
        if self.remembers:  # the histogram of earlier steps, whose gradient has been taken
            self.loss.hist_ = self.loss.hist_.detach()
        if references is None:
            return self.loss(embeddings, labels, indices_tuple)
        if indices_tuple is None:
            pairs = loss_and_miner_utils.get_all_pairs_indices(labels, references.labels)
            indices_tuple = without_own(pairs, references)
        return self.loss(embeddings, labels, indices_tuple, references.embeddings, references.labels)


def _sorted_by_label(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What smooth-AP takes for granted: images of one item side by side, and as many of each."""
    counts = torch.unique(labels, return_counts=True)[1]
    if counts.min() != counts.max():
        raise LapelError(
            f"loss=smooth_ap: needs as many images of each item in a batch, there are {int(counts.min())} to "
            f"{int(counts.max())}; use sampler=balanced with data.batch_size = sampler.items x sampler.images"
        )
    order = labels.argsort(stable=True)
    return embeddings[order], labels[order]


class Miner(nn.Module):
    """A miner of pytorch-metric-learning.

    Args:
        config: of the miner.
        form: 4 for pairs, 3 for triplets, None for whichever it finds.
    """

    def __init__(self, config: MinerConfig, form: int | None) -> None:
        super().__init__()
        self.miner = builder(kind_of(config))(**own_options(config, type(config), MinerConfig))
        self.form = form

    def forward(self, embeddings: Tensor, labels: Tensor, references: References | None) -> tuple[Tensor, ...]:
        """Positions (a1, p, a2, n) or (a, p, n): anchors in the batch, the others in the references if given."""
        if references is None:
            mined = self.miner(embeddings, labels)
        else:
            mined = self.miner(embeddings, labels, references.embeddings, references.labels)
            mined = without_own(mined, references)
        if self.form == 4:
            return loss_and_miner_utils.convert_to_pairs(mined, labels)
        return loss_and_miner_utils.convert_to_triplets(mined, labels) if self.form == 3 else mined


def without_own(indices: tuple[Tensor, ...], references: References) -> tuple[Tensor, ...]:
    """Pairs or triplets without those whose positive is the anchor's own copy among the references."""
    kept = references.own[indices[0]] != indices[1]
    if len(indices) == 3:
        return tuple(each[kept] for each in indices)
    return indices[0][kept], indices[1][kept], *indices[2:]


def own_options(config: Any, cls: type, base: type) -> dict[str, Any]:
    """The options that a config adds to those of its base: what the library's class takes, by the same names."""
    shared = {each.name for each in fields(base)}
    values = {each.name: getattr(config, each.name) for each in fields(cls) if each.name not in shared}
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    """An option as the library takes it."""
    if isinstance(value, Enum):
        return value.value
    return int(value) if isinstance(value, str) and value.isdecimal() else value
