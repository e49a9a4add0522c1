"""Which images meet in a batch: pairs, triplets or balanced batches, seeded, sharded over processes, and resumable.

Every process draws the same global batch from (seed, epoch) and takes its own contiguous part of it, so what is trained
on does not depend on how many processes there are.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lapel.catalog import Catalog
from lapel.config import BalancedConfig, PairsConfig, SamplerConfig, TripletsConfig
from lapel.errors import LapelError

logger = logging.getLogger(__name__)

# Stream of random numbers, apart from those of other parts of a run with the same seed.
SAMPLING_STREAM = 2


@dataclass(frozen=True)
class Batch:
    """The images of one optimizer step, and this process's part of them.

    Args:
        rows: int64 catalogue rows of the global batch.
        part: positions of this process's rows in it.
        step: optimizer step, counted from the start of training.
        indices_tuple: positions in the global batch, as pytorch-metric-learning has them: `(a1, p, a2, n)` for pairs,
            `(a, p, n)` for triplets, None where the loss forms them.
        images: this process's images, where the store made them ready.
    """

    rows: np.ndarray
    part: slice
    step: int
    indices_tuple: tuple[np.ndarray, ...] | None
    images: Any = None


@dataclass(frozen=True)
class Labels:
    """What a sampler knows of the images it draws from: int64 arrays of one length."""

    rows: np.ndarray
    items: np.ndarray
    categories: np.ndarray


def share(count: int, rank: int, ranks: int) -> slice:
    """The contiguous part of `count` things that is this process's; the parts differ by one at most."""
    return slice(count * rank // ranks, count * (rank + 1) // ranks)


class Sampler(ABC):
    """Iterates over the batches of one epoch; the next iteration is the next epoch.

    Args:
        labels: images to draw from.
        batch_size: images of the global batch.
        seed: of the run.
        rank, ranks: this process, and how many there are.

    Raises:
        LapelError: the images do not fill one batch.
    """

    def __init__(self, labels: Labels, batch_size: int, seed: int, rank: int = 0, ranks: int = 1) -> None:
        self.labels = labels
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.ranks = ranks
        self.epoch = 0
        self.batch = 0
        if len(self) < 1:
            raise LapelError(f"data.batch_size={batch_size}: the training part has only {len(labels.rows)} images")

    def __len__(self) -> int:
        """Batches of an epoch, in which about as many images are drawn as there are."""
        return len(self.labels.rows) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the current epoch. The state moves on before a batch is handed out: it names the next one."""
        epoch, done = self.epoch, self.batch
        drawn = self.draw(np.random.default_rng([self.seed, SAMPLING_STREAM, epoch]))
        for number in range(len(self)):
            local, indices_tuple = next(drawn)
            if number < done:
                continue
            last = number + 1 == len(self)
            self.epoch, self.batch = (epoch + 1, 0) if last else (epoch, number + 1)
            part = share(len(local), self.rank, self.ranks)
            yield Batch(self.labels.rows[local], part, epoch * len(self) + number, indices_tuple)

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...] | None]]:
        """Endless global batches: positions in `labels`, and how they pair up."""

    def state_dict(self) -> dict[str, int]:
        """Where the sampler stands: the epoch and the next batch in it."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state_dict` was taken, on any number of processes."""
        self.epoch, self.batch = state["epoch"], state["batch"]

    def state_after(self, step: int) -> dict[str, int]:
        """`state_dict` as it is after optimizer step `step`, however many batches were fetched ahead of it."""
        epoch, batch = divmod(step + 1, len(self))
        return {"epoch": epoch, "batch": batch}


class Deck:
    """Deals values in random order, all of them before any comes again."""

    def __init__(self, values: np.ndarray, generator: np.random.Generator) -> None:
        self.generator = generator
        self.values = generator.permutation(values)
        self.dealt = 0

    def deal(self, count: int) -> np.ndarray:
        """The next `count` values."""
        parts = [self.values[:0]]
        while count:
            if self.dealt == len(self.values):
                self.values, self.dealt = self.generator.permutation(self.values), 0
            part = self.values[self.dealt : self.dealt + count]
            self.dealt += len(part)
            count -= len(part)
            parts.append(part)
        return np.concatenate(parts)

    def deal_distinct(self, count: int) -> np.ndarray:
        """The next `count` values, none twice; `count` is at most the number of values.

        Where the deck ends amid a hand, it is shuffled so that what the hand already holds comes last.
        """
        rest = self.values[self.dealt :]
        if len(rest) >= count:
            return self.deal(count)
        shuffled = self.generator.permutation(self.values)
        held = np.isin(shuffled, rest)
        self.values = np.concatenate([shuffled[~held], shuffled[held]])
        self.dealt = count - len(rest)
        return np.concatenate([rest, self.values[: self.dealt]])

    def deal_mostly_distinct(self, count: int) -> np.ndarray:
        """The next `count` values, none twice where there are as many."""
        return self.deal_distinct(count) if count <= len(self.values) else self.deal(count)


class Partners:
    """Draws a positive or negative partner for each of many anchors at once.

    Args:
        labels: images to draw from. `order` sorts them by category and, within it, by item, so that the images of a
            category, and those of an item within it, stand next to each other.
    """

    def __init__(self, labels: Labels) -> None:
        self.items = labels.items
        self.categories = labels.categories
        size = len(labels.items)
        self.by_item = np.argsort(labels.items, kind="stable")
        self.place_by_item, self.item_start, self.item_size = _blocks(labels.items, self.by_item)
        self.order = np.lexsort((labels.items, labels.categories))
        pair = np.zeros(size, np.int64)  # code of (category, item), ascending in `order`
        sorted_items, sorted_categories = labels.items[self.order], labels.categories[self.order]
        pair[self.order[1:]] = np.cumsum((np.diff(sorted_items) != 0) | (np.diff(sorted_categories) != 0))
        _, self.inner_start, self.inner_size = _blocks(pair, self.order)
        _, self.category_start, self.category_size = _blocks(labels.categories, self.order)
        self.has_near = self.category_size > self.inner_size
        # An item may stand in several categories: its images there are no negatives.
        self.has_far = size > self.category_size + self.item_size - self.inner_size

    def with_positive(self) -> np.ndarray:
        """Positions of the images that share their item with another one."""
        return np.flatnonzero(self.item_size > 1)

    def positive(self, anchors: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Another image of each anchor's item, all equally likely."""
        drawn = generator.integers(0, self.item_size[anchors] - 1)
        own = self.place_by_item[anchors] - self.item_start[anchors]
        return self.by_item[self.item_start[anchors] + drawn + (drawn >= own)]

    def negative(self, anchors: np.ndarray, near: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """An image of another item for each anchor.

        Args:
            anchors: positions.
            near: bool, whether it shall be of the anchor's category; where no such image exists, the other kind is.
            generator: of the epoch.
        """
        near = np.where(near, self.has_near[anchors], ~self.has_far[anchors])
        partners = self._draw_negative(anchors, near, generator)
        # Only where an item stands in several categories can a far partner show the anchor's own item.
        for place in np.flatnonzero(self.items[partners] == self.items[anchors]):
            outside = self.categories != self.categories[anchors[place]]
            partners[place] = generator.choice(np.flatnonzero(outside & (self.items != self.items[anchors[place]])))
        return partners

    def _draw_negative(self, anchors: np.ndarray, near: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """From the anchor's category without its item, or from everything without its category."""
        first = np.where(near, self.category_start[anchors], 0)
        room = np.where(near, self.category_size[anchors], len(self.order))
        hole = np.where(near, self.inner_start[anchors], self.category_start[anchors])
        hole_size = np.where(near, self.inner_size[anchors], self.category_size[anchors])
        drawn = first + generator.integers(0, np.maximum(room - hole_size, 1))
        return self.order[np.minimum(drawn + np.where(drawn >= hole, hole_size, 0), len(self.order) - 1)]


def _blocks(codes: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each image, where it stands in `order`, and where the block of its code begins there and how long it is."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    _, start, inverse, size = np.unique(codes[order], return_index=True, return_inverse=True, return_counts=True)
    return place, start[inverse][place], size[inverse][place]


class PairSampler(Sampler):
    """Half of the batch are anchors, the other half their partners; positive pairs come first, then negative ones."""

    def __init__(
        self, config: PairsConfig, labels: Labels, batch_size: int, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
        super().__init__(labels, batch_size, seed, rank, ranks)
        self.config = config
        self.partners = Partners(labels)
        pairs = batch_size // 2
        self.positives = round(pairs * config.positives)
        self.negatives = pairs - self.positives
        _check_partners(self.partners, self.positives, self.negatives)
        _tell_ignored_share(self.partners, config.same_category)

    def draw(self, generator: np.random.Generator) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
        """See `Sampler.draw`."""
        first = Deck(self.partners.with_positive(), generator)
        second = Deck(np.arange(len(self.labels.rows)), generator)
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
        self, config: TripletsConfig, labels: Labels, batch_size: int, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
        super().__init__(labels, batch_size, seed, rank, ranks)
        self.config = config
        self.partners = Partners(labels)
        self.triplets = batch_size // 3
        _check_partners(self.partners, self.triplets, self.triplets)
        _tell_ignored_share(self.partners, config.same_category)

    def draw(self, generator: np.random.Generator) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
        """See `Sampler.draw`."""
        deck = Deck(self.partners.with_positive(), generator)
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


class BalancedSampler(Sampler):
    """Batches of so many items with the same number of images each (one more for some, where they don't divide).

    Raises:
        LapelError: too few items have enough images.
    """

    def __init__(
        self, config: BalancedConfig, labels: Labels, batch_size: int, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
        super().__init__(labels, batch_size, seed, rank, ranks)
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
                "sampler=balanced leaves out %d images of %d items that have fewer than sampler.images=%d",
                left_out, len(names) - len(self.eligible), config.images,
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


def _exact_share(count: int, share: float, generator: np.random.Generator) -> np.ndarray:
    """bool `[count]` with the share of True, rounded, at random places."""
    return generator.permutation(np.arange(count) < round(count * share))


def _check_partners(partners: Partners, positives: int, negatives: int) -> None:
    if positives and not len(partners.with_positive()):
        raise LapelError("no item has two images to train on: there are no positive pairs")
    if negatives and len(np.unique(partners.items)) < 2:
        raise LapelError("the training part has one item only: there are no negative pairs")


def _tell_ignored_share(partners: Partners, same_category: float) -> None:
    if same_category > 0 and not partners.has_near.any():
        logger.info("no two items share a category: sampler.same_category=%g is ignored", same_category)


def build(
    config: SamplerConfig, catalog: Catalog, split: str, batch_size: int, seed: int, rank: int = 0, ranks: int = 1
) -> Sampler:
    """The sampler of a config over one split of a catalogue.

    Raises:
        LapelError: the split cannot give what the sampler asks for.
    """
    rows = catalog.rows(split)
    labels = Labels(rows, catalog.linked_items[rows], catalog.categories[rows])
    match config:
        case PairsConfig():
            return PairSampler(config, labels, batch_size, seed, rank, ranks)
        case TripletsConfig():
            return TripletSampler(config, labels, batch_size, seed, rank, ranks)
        case BalancedConfig():
            return BalancedSampler(config, labels, batch_size, seed, rank, ranks)
        case _:
            raise TypeError(f"no sampler for {type(config).__name__}")
