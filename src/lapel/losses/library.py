"""pytorch-metric-learning's losses and miners, built from their configs, on a batch or against earlier embeddings."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from enum import Enum
from typing import Any

import torch
from pytorch_metric_learning.utils import loss_and_miner_utils
from torch import Tensor, nn

from lapel.config.choices import builder, kind_of
from lapel.config.library_losses import DynamicSoftMarginConfig, LibraryLossConfig, NCAConfig, SmoothAPConfig
from lapel.config.miner import MinerConfig, MultiSimilarityMinerConfig
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
        self.compares_all = isinstance(config, NCAConfig)  # and not the pairs that it is given

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
        if self.compares_all:
            return self._compared(embeddings, labels, indices_tuple, references)
        if indices_tuple is None:
            pairs = loss_and_miner_utils.get_all_pairs_indices(labels, references.labels)
            indices_tuple = without_own(pairs, references)
        return self.loss(embeddings, labels, indices_tuple, references.embeddings, references.labels)

    def _compared(
        self, embeddings: Tensor, labels: Tensor, indices_tuple: IndicesTuple, references: References
    ) -> Tensor:
        """The loss of a batch with all references but each image's own copy, weighed by how often it was mined."""
        distance = self.loss.distance
        self.loss.distance = WithoutOwn(distance, references.own)
        try:
            weights = None if indices_tuple is None else mentions(indices_tuple, references)
            return self.loss(embeddings, labels, weights, references.embeddings, references.labels)
        finally:
            self.loss.distance = distance


class WithoutOwn(nn.Module):
    """A distance of the library's by which an image's own copy among the references is infinitely far.

    Args:
        distance: the library's.
        own: int64 `[batch]`, as in `References`.
    """

    def __init__(self, distance: nn.Module, own: Tensor) -> None:
        super().__init__()
        self.distance = distance
        self.own = own

    @property
    def is_inverted(self) -> bool:
        """Whether larger is nearer."""
        return bool(self.distance.is_inverted)

    def forward(self, embeddings: Tensor, others: Tensor) -> Tensor:
        """`[batch, references]`."""
        rows = torch.arange(len(embeddings), device=embeddings.device)
        farthest = -torch.inf if self.is_inverted else torch.inf
        return self.distance(embeddings, others).index_put((rows, self.own), embeddings.new_tensor(farthest))


def mentions(indices: tuple[Tensor, ...], references: References) -> tuple[Tensor, ...]:
    """Pairs whose anchors name each image of the batch as often as it was mined, itself or its copy."""
    anchors, others = ((0, 2), (1, 3)) if len(indices) == 4 else ((0,), (1, 2))
    of_batch = references.labels.new_full((len(references.labels),), -1)
    of_batch[references.own] = torch.arange(len(references.own), device=of_batch.device)
    copies = torch.cat([of_batch[indices[each]] for each in others])
    named = torch.cat([*(indices[each] for each in anchors), copies[copies >= 0]])
    return named, named, named[:0], named[:0]


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
        # It takes whatever it was not told to be a positive or a negative for both.
        self.sorts_all = isinstance(config, MultiSimilarityMinerConfig)

    def forward(self, embeddings: Tensor, labels: Tensor, references: References | None) -> tuple[Tensor, ...]:
        """Positions (a1, p, a2, n) or (a, p, n): anchors in the batch, the others in the references if given."""
        if references is None:
            mined = self.miner(embeddings, labels)
        elif references.only_batch:
            mined = among_copies(self.miner(embeddings, labels), references)  # with the draws of no memory, too
        elif self.sorts_all:
            mined = self.miner(embeddings, labels, references.embeddings, references.labels)
            mined = without_lone(without_own(mined, references))
        else:
            with own_copies_left_out(references):
                mined = self.miner(embeddings, labels, references.embeddings, references.labels)
            mined = without_own(mined, references)  # of a miner that draws its positives
        if self.form == 4:
            return loss_and_miner_utils.convert_to_pairs(mined, labels)
        return loss_and_miner_utils.convert_to_triplets(mined, labels) if self.form == 3 else mined


@contextmanager
def own_copies_left_out(references: References) -> Iterator[None]:
    """Have the library find no pair of an anchor with its own copy among the references, while it mines among them.

    A miner that takes each anchor's easiest positive would take the copy, and nothing would be left to learn. All of
    the library's miners ask `get_matches_and_diffs` which pairs there are; it takes out copies where a batch is
    compared with itself alone, and nothing else can say so.
    """
    ask = loss_and_miner_utils.get_matches_and_diffs

    def asked(labels: Tensor, ref_labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        matches, differing = ask(labels, ref_labels)
        matches[torch.arange(len(labels), device=labels.device), references.own] = 0
        return matches, differing

    loss_and_miner_utils.get_matches_and_diffs = asked
    try:
        yield
    finally:
        loss_and_miner_utils.get_matches_and_diffs = ask


def without_own(indices: tuple[Tensor, ...], references: References) -> tuple[Tensor, ...]:
    """Pairs or triplets without those whose positive is the anchor's own copy among the references."""
    kept = references.own[indices[0]] != indices[1]
    if len(indices) == 3:
        return tuple(each[kept] for each in indices)
    return indices[0][kept], indices[1][kept], *indices[2:]


def among_copies(indices: tuple[Tensor, ...], references: References) -> tuple[Tensor, ...]:
    """Pairs or triplets of a batch, with the positions of the copies for all but the anchors."""
    others = (1, 3) if len(indices) == 4 else (1, 2)
    return tuple(references.own[each] if number in others else each for number, each in enumerate(indices))


def without_lone(pairs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Pairs without the negatives of anchors that have no positive: their own copy was what they were compared with."""
    a1, p, a2, n = pairs
    kept = torch.isin(a2, a1)
    return a1, p, a2[kept], n[kept]


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
