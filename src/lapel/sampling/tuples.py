"""Pairs and triplets that the sampler itself forms."""

import logging
from collections.abc import Iterator

import numpy as np

from lapel.config.sampler import PairsConfig, TripletsConfig
from lapel.errors import LapelError
from lapel.sampling.batches import WHOLE, Deck, Division, Labels, Sampler
from lapel.sampling.partners import AcrossPartners, Partners, partners_of

logger = logging.getLogger(__name__)


class PairSampler(Sampler):
    """Half of the batch are anchors, the other half their partners; positive pairs come first, then negative ones."""

    def __init__(
        self, config: PairsConfig, labels: Labels, batch_size: int, seed: int, division: Division = WHOLE
    ) -> None:
        super().__init__(labels, batch_size, seed, division)
        self.config = config
        self.partners = partners_of(labels)
        pairs = batch_size // 2
        self.positives = round(pairs * config.positives)
        self.negatives = pairs - self.positives
        _check_partners(self.partners, self.positives, self.negatives)
        _tell_ignored_share(self.partners, config.same_category)

    def draw(self, generator: np.random.Generator) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
        """See `Sampler.draw`."""
        first = Deck(self.partners.with_positive(), generator)
        second = Deck(self.partners.with_negative(), generator)
        pairs = self.positives + self.negatives
        a1, a2 = np.arange(self.positives), np.arange(self.positives, pairs)
        while True:
            alike, unlike = first.deal(self.positives), second.deal(self.negatives)
            near = _exact_share(self.negatives, self.config.same_category, generator)
            partners = [
                self.partners.positive(alike, generator),
                self.partners.negative(unlike, near, generator),
            ]
            yield np.concatenate([alike, unlike, *partners]), (a1, a1 + pairs, a2, a2 + pairs)


class TripletSampler(Sampler):
    """A third of the batch are anchors, then their positives, then their negatives."""

    def __init__(
        self, config: TripletsConfig, labels: Labels, batch_size: int, seed: int, division: Division = WHOLE
    ) -> None:
        super().__init__(labels, batch_size, seed, division)
        self.config = config
        self.partners = partners_of(labels)
        self.triplets = batch_size // 3
        _check_partners(self.partners, self.triplets, self.triplets)
        if not len(self._anchors()):
            raise LapelError("no training image has both a positive and a negative: there are no triplets")
        _tell_ignored_share(self.partners, config.same_category)

    def _anchors(self) -> np.ndarray:
        return np.intersect1d(self.partners.with_positive(), self.partners.with_negative())

    def draw(self, generator: np.random.Generator) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
        """See `Sampler.draw`."""
        deck = Deck(self._anchors(), generator)
        a = np.arange(self.triplets)
        while True:
            anchors = deck.deal(self.triplets)
            near = _exact_share(self.triplets, self.config.same_category, generator)
            positives = self.partners.positive(anchors, generator)
            negatives = self.partners.negative(anchors, near, generator)
            yield (
                np.concatenate([anchors, positives, negatives]),
                (a, a + self.triplets, a + 2 * self.triplets),
            )


def _exact_share(count: int, share: float, generator: np.random.Generator) -> np.ndarray:
    """bool `[count]` with the share of True, rounded, at random places."""
    return generator.permutation(np.arange(count) < round(count * share))


def _check_partners(partners: Partners | AcrossPartners, positives: int, negatives: int) -> None:
    where = "" if isinstance(partners, Partners) else " that differ in sampler.across"
    if positives and not len(partners.with_positive()):
        raise LapelError(f"no item has two images{where} to train on: there are no positive pairs")
    if negatives and not len(partners.with_negative()):
        if isinstance(partners, Partners):
            raise LapelError("the training part has one item only: there are no negative pairs")
        raise LapelError(f"no two images of different items{where} to train on: there are no negative pairs")


def _tell_ignored_share(partners: Partners | AcrossPartners, same_category: float) -> None:
    if same_category > 0 and not partners.has_near.any():
        logger.info("no two items share a category: sampler.same_category=%g is ignored", same_category)
