"""Positive and negative partners for many anchors at once, of any domain or of another one."""

from collections.abc import Callable

import numpy as np

from lapel.sampling.batches import Labels


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


def partners_of(labels: Labels) -> Partners | AcrossPartners:
    return Partners(labels) if labels.domains is None else AcrossPartners(labels)


def _blocks(codes: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each image, where it stands in `order`, and where the block of its code begins there and how long it is."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    _, start, inverse, size = np.unique(codes[order], return_index=True, return_inverse=True, return_counts=True)
    return place, start[inverse][place], size[inverse][place]
