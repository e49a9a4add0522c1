"""Which images meet in a batch."""

from dataclasses import dataclass

from lapel.config.choices import choice, name_of
from lapel.config.options import Options, option
from lapel.errors import LapelError


@dataclass
class SamplerConfig(Options):
    """Which images meet in a batch."""

    def fewest(self) -> tuple[int, str]:
        """Images of the smallest batch that can be made, and why, in words that follow "must be at least"."""
        return 2, "2"

    def check_batch(self, batch_size: int) -> None:
        """Raise if a batch cannot be made of whole pairs, triplets or items."""
        fewest, why = self.fewest()
        if batch_size < fewest:
            raise LapelError(f"data.batch_size={batch_size}: must be at least {why}")


@choice("sampler", "random", build="lapel.sampling.whole:RandomSampler")
@dataclass
class RandomConfig(SamplerConfig):
    """Images in random order: items come as often as they have images."""


@choice("sampler", "pairs", build="lapel.sampling.tuples:PairSampler")
@dataclass
class PairsConfig(SamplerConfig):
    """Pairs of images, alike or not: half of the batch are anchors, the other half their partners."""

    positives: float = option(0.5, at_least=0, at_most=1)
    """Share of the pairs that show the same item."""
    same_category: float = option(0.5, at_least=0, at_most=1)
    """Share of the negative pairs that are of the same category (Bell & Bala: 0.8)."""
    across: str | None = None
    """Column in which the two images of a pair differ: `domain`, for consumers' photos against shops'."""

    def fewest(self) -> tuple[int, str]:
        """See `SamplerConfig`."""
        return 2, f"2 for sampler={name_of(self)}"


@choice("sampler", "triplets", build="lapel.sampling.tuples:TripletSampler")
@dataclass
class TripletsConfig(SamplerConfig):
    """Triplets anchor, positive, negative: a third of the batch each."""

    same_category: float = option(0.5, at_least=0, at_most=1)
    """Share of the negatives that are of the anchor's category."""
    across: str | None = None
    """Column in which positive and negative differ from the anchor: `domain`, for consumers' photos against shops'."""

    def fewest(self) -> tuple[int, str]:
        """See `SamplerConfig`."""
        return 3, f"3 for sampler={name_of(self)}"


@choice("sampler", "balanced", build="lapel.sampling.whole:BalancedSampler")
@dataclass
class BalancedConfig(SamplerConfig):
    """Batches of `items` items with the same number of images each: every image meets others of its item."""

    items: int | None = option(None, at_least=2)
    """Items in a batch; by default as many as `images` images each leave room for."""
    images: int = option(4, at_least=2)
    """Images of an item in a batch, at least: with few items in the catalogue each gets more, to fill the batch."""

    def fewest(self) -> tuple[int, str]:
        """See `SamplerConfig`."""
        items = self.items or 2
        return items * self.images, f"sampler.items x sampler.images = {items} x {self.images}"


@choice("sampler", "category_balanced", build="lapel.sampling.whole:CategoryBalancedSampler")
@dataclass
class CategoryBalancedConfig(SamplerConfig):
    """Balanced batches whose items are of few categories: negatives are of the same kind, and hard."""

    categories: int = option(4, at_least=1)
    """Categories in a batch."""
    images: int = option(4, at_least=2)
    """Images of an item in a batch, at least."""

    def fewest(self) -> tuple[int, str]:
        """See `SamplerConfig`."""
        told = f"sampler.categories x 2 items x sampler.images = {self.categories} x 2 x {self.images}"
        return self.categories * 2 * self.images, told
