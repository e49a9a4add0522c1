"""Batches without pairs of their own, which the loss forms: at random, or balanced over items or categories."""

import logging
from collections.abc import Iterator

import numpy as np

from lapel.config.sampler import BalancedConfig, CategoryBalancedConfig
from lapel.errors import LapelError
from lapel.sampling.batches import WHOLE, Deck, Division, Labels, Sampler

logger = logging.getLogger(__name__)


class RandomSampler(Sampler):
    """Images in random order, each once before any comes again: items come as often as they have images."""

    def draw(self, generator: np.random.Generator) -> Iterator[tuple[np.ndarray, None]]:
        """See `Sampler.draw`."""
        deck = Deck(np.arange(len(self.labels.rows)), generator)
        while True:
            yield deck.deal_distinct(self.batch_size), None


class BalancedSampler(Sampler):
    """Batches of so many items with the same number of images each (one more for some, where they don't divide).

    Raises:
        LapelError: too few items have enough images.
    """

    def __init__(
        self, config: BalancedConfig, labels: Labels, batch_size: int, seed: int, division: Division = WHOLE
    ) -> None:
        super().__init__(labels, batch_size, seed, division)
        names, sizes = np.unique(labels.items, return_counts=True)
        self.eligible = names[sizes >= config.images]
        self.items = config.items or min(len(self.eligible), batch_size // config.images)
        if len(self.eligible) < max(2, self.items):
            raise LapelError(
                f"sampler=balanced asks {max(2, self.items)} items x {config.images} images; "
                f"{len(self.eligible)} of {len(names)} items have {config.images} images to train on"
            )
        left_out = len(labels.rows) - sizes[sizes >= config.images].sum()
        if left_out:
            logger.info(
                "sampler=balanced leaves out %d images of %d items that have fewer than sampler.images=%d; "
                "%ssampler=random keeps all",
                left_out, len(names) - len(self.eligible), config.images,
                "sampler.images=2 keeps more of them, " if config.images > 2 else "",
            )  # fmt: skip

    def draw(self, generator: np.random.Generator) -> Iterator[tuple[np.ndarray, None]]:
        """See `Sampler.draw`. The batch is shuffled: every process gets images of about every item."""
        order = np.argsort(self.labels.items, kind="stable")
        starts = np.searchsorted(self.labels.items[order], self.eligible)
        stops = np.searchsorted(self.labels.items[order], self.eligible, side="right")
        images = [Deck(order[start:stop], generator) for start, stop in zip(starts, stops, strict=True)]
        items = Deck(np.arange(len(self.eligible)), generator)
        each, more = divmod(self.batch_size, self.items)
        while True:
            chosen = items.deal_distinct(self.items)
            hands = [images[item].deal_mostly_distinct(each + (number < more)) for number, item in enumerate(chosen)]
            yield generator.permutation(np.concatenate(hands)), None


class CategoryBalancedSampler(Sampler):
    """Batches of so many categories with the same number of items each, and the same number of images of each item.

    Raises:
        LapelError: too few categories have two items with enough images.
    """

    def __init__(
        self, config: CategoryBalancedConfig, labels: Labels, batch_size: int, seed: int, division: Division = WHOLE
    ) -> None:
        super().__init__(labels, batch_size, seed, division)
        self.config = config
        self.blocks = _items_of_categories(labels, config.images)
        if len(self.blocks) < config.categories:
            raise LapelError(
                f"sampler=category_balanced asks {config.categories} categories with 2 items x {config.images} images; "
                f"{len(self.blocks)} of {len(np.unique(labels.categories))} categories have them to train on; lower "
                "sampler.categories or sampler.images"
            )
        self.items = max(2, batch_size // (config.categories * config.images))

    def draw(self, generator: np.random.Generator) -> Iterator[tuple[np.ndarray, None]]:
        """See `Sampler.draw`. The batch is shuffled: every process gets images of about every category."""
        categories = Deck(np.arange(len(self.blocks)), generator)
        items = [Deck(np.arange(len(block)), generator) for block in self.blocks]
        images = [[Deck(rows, generator) for rows in block] for block in self.blocks]
        while True:
            chosen = [
                images[category][item]
                for category in categories.deal_distinct(self.config.categories)
                for item in items[category].deal_distinct(min(self.items, len(self.blocks[category])))
            ]
            each, more = divmod(self.batch_size, len(chosen))
            hands = [deck.deal_mostly_distinct(each + (number < more)) for number, deck in enumerate(chosen)]
            yield generator.permutation(np.concatenate(hands)), None


def _items_of_categories(labels: Labels, images: int) -> list[list[np.ndarray]]:
    """Positions of the images of each item, category by category; items need enough images, categories two items."""
    blocks = []
    for category in np.unique(labels.categories):
        inside = np.flatnonzero(labels.categories == category)
        order = inside[np.argsort(labels.items[inside], kind="stable")]
        cuts = np.flatnonzero(np.diff(labels.items[order])) + 1
        block = [rows for rows in np.split(order, cuts) if len(rows) >= images]
        if len(block) > 1:
            blocks.append(block)
    return blocks
