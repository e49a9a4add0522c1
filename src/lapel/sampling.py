"""Which images meet in a batch: pairs, triplets or balanced batches, seeded, sharded over processes, and resumable.

Every process draws the same global batch from (seed, epoch) and takes its own contiguous part of it, so what is trained
on does not depend on how many processes there are.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lapel.catalog import Catalog
from lapel.config import BalancedConfig, CategoryBalancedConfig, PairsConfig, SamplerConfig, TripletsConfig
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
    """What a sampler knows of the images it draws from: int64 arrays of one length.

    Args:
        rows: of the catalogue.
        items, categories: codes.
        domains: codes of what the two images of a pair shall differ in; None where it does not matter.
    """

    rows: np.ndarray
    items: np.ndarray
    categories: np.ndarray
    domains: np.ndarray | None = None


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

    def with_negative(self) -> np.ndarray:
        """Positions of the images that have one of another item beside them: all, or none."""
        return np.arange(len(self.items)) if len(np.unique(self.items)) > 1 else self.by_item[:0]

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


class AcrossPartners:
    """As `Partners`, with partners that differ from their anchor in the domain as well.

    Args:
        labels: images to draw from, with their domains.
    """

    def __init__(self, labels: Labels) -> None:
        assert labels.domains is not None
        self.domains = labels.domains
        self.labels = labels
        self.others = {
            domain: _Pool(labels, np.flatnonzero(labels.domains != domain)) for domain in np.unique(labels.domains)
        }
        self.has_near = self._of_each(lambda pool, anchors: pool.count_near(anchors) > 0).astype(bool)
        self.has_far = self._of_each(lambda pool, anchors: pool.count_far(anchors) > 0).astype(bool)

    def _of_each(
        self, found: Callable[["_Pool", np.ndarray], np.ndarray], anchors: np.ndarray | None = None
    ) -> np.ndarray:
        """int64 `[anchors]`: what is found for each anchor in the pool of the domains that are not its own."""
        anchors = np.arange(len(self.domains)) if anchors is None else anchors
        values = np.zeros(len(anchors), np.int64)
        for domain, pool in self.others.items():
            mine = np.flatnonzero(self.domains[anchors] == domain)
            if len(mine):
                values[mine] = found(pool, anchors[mine])
        return values

    def with_positive(self) -> np.ndarray:
        """Positions of the images whose item has another one in another domain."""
        return np.flatnonzero(self._of_each(lambda pool, anchors: pool.count_positive(anchors)))

    def with_negative(self) -> np.ndarray:
        """Positions of the images that have one of another item in another domain."""
        return np.flatnonzero(self.has_near | self.has_far)

    def positive(self, anchors: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """An image of each anchor's item in another domain, all equally likely."""
        return self._of_each(lambda pool, mine: pool.positive(mine, generator), anchors)

    def negative(self, anchors: np.ndarray, near: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """An image of another item, in another domain, for each anchor; see `Partners.negative`."""
        near = np.where(near, self.has_near[anchors], ~self.has_far[anchors])
        partners = np.empty(len(anchors), np.int64)
        for kind in (True, False):
            wanted = np.flatnonzero(near == kind)
            partners[wanted] = self._of_each(
                lambda pool, mine, kind=kind: pool.negative(mine, kind, generator), anchors[wanted]
            )
        return partners


class _Pool:
    """Images that may become partners, ordered by category and item: each kind is a block, perhaps with a hole."""

    def __init__(self, labels: Labels, members: np.ndarray) -> None:
        self.labels = labels
        order = np.lexsort((labels.items[members], labels.categories[members]))
        self.members = members[order]
        self.by_item = members[np.argsort(labels.items[members], kind="stable")]
        self.items = labels.items[self.by_item]
        self.categories = labels.categories[self.members]
        width = int(labels.items.max()) + 1
        self.width = width
        self.pairs = self.categories * width + labels.items[self.members]

    def _span(self, codes: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        start = np.searchsorted(codes, wanted, side="left")
        return start, np.searchsorted(codes, wanted, side="right") - start

    def count_positive(self, anchors: np.ndarray) -> np.ndarray:
        return self._span(self.items, self.labels.items[anchors])[1]

    def count_near(self, anchors: np.ndarray) -> np.ndarray:
        """Images of the anchor's category without those of its item."""
        categories, items = self.labels.categories[anchors], self.labels.items[anchors]
        return self._span(self.categories, categories)[1] - self._span(self.pairs, categories * self.width + items)[1]

    def count_far(self, anchors: np.ndarray) -> np.ndarray:
        """Images of other categories; an item's own images in those are few, and drawn again."""
        categories, items = self.labels.categories[anchors], self.labels.items[anchors]
        inside = self._span(self.pairs, categories * self.width + items)[1]
        outside = len(self.members) - self._span(self.categories, categories)[1]
        return outside - (self._span(self.items, items)[1] - inside)

    def positive(self, anchors: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        start, size = self._span(self.items, self.labels.items[anchors])
        return self.by_item[start + generator.integers(0, size)]

    def negative(self, anchors: np.ndarray, near: bool, generator: np.random.Generator) -> np.ndarray:
        categories, items = self.labels.categories[anchors], self.labels.items[anchors]
        block, block_size = self._span(self.categories, categories)
        inner, inner_size = self._span(self.pairs, categories * self.width + items)
        if near:
            drawn = block + generator.integers(0, block_size - inner_size)
            return self.members[drawn + np.where(drawn >= inner, inner_size, 0)]
        drawn = generator.integers(0, len(self.members) - block_size)
        partners = self.members[drawn + np.where(drawn >= block, block_size, 0)]
        for place in np.flatnonzero(self.labels.items[partners] == items):  # the item stands in another category too
            other = (self.labels.categories[self.members] != categories[place]) & (
                self.labels.items[self.members] != items[place]
            )
            partners[place] = generator.choice(self.members[other])
        return partners


def _partners(labels: Labels) -> Partners | AcrossPartners:
    return Partners(labels) if labels.domains is None else AcrossPartners(labels)


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
        self.partners = _partners(labels)
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
        self, config: TripletsConfig, labels: Labels, batch_size: int, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
        super().__init__(labels, batch_size, seed, rank, ranks)
        self.config = config
        self.partners = _partners(labels)
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


class CategoryBalancedSampler(Sampler):
    """Batches of so many categories with the same number of items each, and the same number of images of each item.

    Raises:
        LapelError: too few categories have two items with enough images.
    """

    def __init__(
        self, config: CategoryBalancedConfig, labels: Labels, batch_size: int, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
        super().__init__(labels, batch_size, seed, rank, ranks)
        self.config = config
        self.blocks = _items_of_categories(labels, config.images)
        if len(self.blocks) < config.categories:
            raise LapelError(
                f"sampler=category_balanced asks {config.categories} categories with 2 items x {config.images} images; "
                f"{len(self.blocks)} of {len(np.unique(labels.categories))} categories have them to train on"
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


def build(
    config: SamplerConfig, catalog: Catalog, split: str, batch_size: int, seed: int, rank: int = 0, ranks: int = 1
) -> Sampler:
    """The sampler of a config over one split of a catalogue.

    Raises:
        LapelError: the split cannot give what the sampler asks for.
    """
    rows = catalog.rows(split)
    labels = Labels(rows, catalog.linked_items[rows], catalog.categories[rows], _domains(config, catalog, rows))
    match config:
        case PairsConfig():
            return PairSampler(config, labels, batch_size, seed, rank, ranks)
        case TripletsConfig():
            return TripletSampler(config, labels, batch_size, seed, rank, ranks)
        case BalancedConfig():
            return BalancedSampler(config, labels, batch_size, seed, rank, ranks)
        case CategoryBalancedConfig():
            return CategoryBalancedSampler(config, labels, batch_size, seed, rank, ranks)
        case _:
            raise TypeError(f"no sampler for {type(config).__name__}")


def _domains(config: SamplerConfig, catalog: Catalog, rows: np.ndarray) -> np.ndarray | None:
    """Codes of the column that the images of a pair shall differ in."""
    if not isinstance(config, PairsConfig | TripletsConfig) or config.across is None:
        return None
    if config.across not in catalog.table:
        raise LapelError(
            f"sampler.across={config.across}: no such column; there are {', '.join(catalog.table.columns)}"
        )
    values, codes = np.unique(catalog.table[config.across].astype(str).to_numpy()[rows], return_inverse=True)
    if len(values) < 2:
        raise LapelError(f"sampler.across={config.across}: is {values[0]} for every training image, must differ")
    return codes.astype(np.int64)
