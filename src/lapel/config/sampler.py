"""Which images meet in a batch."""

from dataclasses import dataclass

from lapel.config.options import Options, choice, option


@dataclass
class SamplerConfig(Options):
    """Which images meet in a batch."""


@choice("sampler", "random")
@dataclass
class RandomConfig(SamplerConfig):
    """Images in random order: items come as often as they have images."""


@choice("sampler", "pairs")
@dataclass
class PairsConfig(SamplerConfig):
    """Pairs of images, alike or not: half of the batch are anchors, the other half their partners."""

    positives: float = option(0.5, at_least=0, at_most=1)
    """Share of the pairs that show the same item."""
    same_category: float = option(0.5, at_least=0, at_most=1)
    """Share of the negative pairs that are of the same category (Bell & Bala: 0.8)."""
    across: str | None = None
    """Column in which the two images of a pair differ: `domain`, for consumers' photos against shops'."""


@choice("sampler", "triplets")
@dataclass
class TripletsConfig(SamplerConfig):
    """Triplets anchor, positive, negative: a third of the batch each."""

    same_category: float = option(0.5, at_least=0, at_most=1)
    """Share of the negatives that are of the anchor's category."""
    across: str | None = None
    """Column in which positive and negative differ from the anchor: `domain`, for consumers' photos against shops'."""


@choice("sampler", "balanced")
@dataclass
class BalancedConfig(SamplerConfig):
    """Batches of `items` items with the same number of images each: every image meets others of its item."""

    items: int | None = option(None, at_least=2)
    """Items in a batch; by default as many as `images` images each leave room for."""
    images: int = option(4, at_least=2)
    """Images of an item in a batch, at least: with few items in the catalogue each gets more, to fill the batch."""


@choice("sampler", "category_balanced")
@dataclass
class CategoryBalancedConfig(SamplerConfig):
    """Balanced batches whose items are of few categories: negatives are of the same kind, and hard."""

    categories: int = option(4, at_least=1)
    """Categories in a batch."""
    images: int = option(4, at_least=2)
    """Images of an item in a batch, at least."""
