"""Miners of pytorch-metric-learning, by its names and with its options: they choose the pairs or triplets that count.

Distances are between unit vectors, as everywhere in that library's defaults.
"""

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from lapel.config.choices import choice
from lapel.config.options import Options, option
from lapel.errors import LapelError


@dataclass
class MinerConfig(Options):
    """Which pairs or triplets of a batch an objective looks at."""

    # Whether it draws them, by torch's own generator.
    draws: ClassVar[bool] = False


@choice("miner", "angular", build="pytorch_metric_learning.miners:AngularMiner")
@dataclass
class AngularMinerConfig(MinerConfig):
    """Triplets whose angle at the negative is larger than this (Wang et al. 2017)."""

    angle: float = option(20.0, above=0, at_most=90)
    """Degrees."""


class Strategy(Enum):
    """Which positive, or negative, of an anchor is taken."""

    hard = "hard"
    semihard = "semihard"
    easy = "easy"
    all = "all"


@choice("miner", "batch_easy_hard", build="pytorch_metric_learning.miners:BatchEasyHardMiner")
@dataclass
class BatchEasyHardMinerConfig(MinerConfig):
    """Each anchor's easiest or hardest positive and negative (Xuan et al. 2020)."""

    pos_strategy: Strategy = Strategy.easy
    neg_strategy: Strategy = Strategy.semihard
    allowed_pos_range: list[float] | None = None
    """Least and greatest distance of the positives that may be taken; null for any."""
    allowed_neg_range: list[float] | None = None
    """The same of the negatives."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("allowed_pos_range", "allowed_neg_range"):
            found = getattr(self, name)
            if found is not None and (len(found) != 2 or found[0] > found[1]):
                raise LapelError(f"miner.{name}={found}: must be a least and a greatest distance, as in [0,0.8]")
        both = {self.pos_strategy, self.neg_strategy}
        if both in ({Strategy.semihard}, {Strategy.semihard, Strategy.all}):
            positive, negative = self.pos_strategy.name, self.neg_strategy.name
            raise LapelError(
                f"miner.pos_strategy={positive}, miner.neg_strategy={negative}: semihard goes with hard or easy alone"
            )


@choice("miner", "batch_hard", build="pytorch_metric_learning.miners:BatchHardMiner")
@dataclass
class BatchHardMinerConfig(MinerConfig):
    """Each anchor's farthest positive and nearest negative (Hermans et al. 2017)."""


@choice("miner", "distance_weighted", build="pytorch_metric_learning.miners:DistanceWeightedMiner")
@dataclass
class DistanceWeightedMinerConfig(MinerConfig):
    """Negatives drawn evenly over distances (Wu et al. 2017)."""

    draws: ClassVar[bool] = True

    cutoff: float = option(0.5, above=0, at_most=2)
    """Distances below it count as it."""
    nonzero_loss_cutoff: float = option(1.4, above=0, at_most=2)
    """Negatives farther away are not drawn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cutoff >= self.nonzero_loss_cutoff:
            raise LapelError(
                f"miner.cutoff={self.cutoff}: must be less than miner.nonzero_loss_cutoff={self.nonzero_loss_cutoff}, "
                "beyond which nothing is drawn"
            )


@choice("miner", "hdc", build="pytorch_metric_learning.miners:HDCMiner")
@dataclass
class HDCMinerConfig(MinerConfig):
    """The hardest share of the positive and of the negative pairs (Yuan et al. 2017)."""

    filter_percentage: float = option(0.5, above=0, at_most=1)
    """Share of the pairs of each kind that is kept, the hardest."""


@choice("miner", "multi_similarity", build="pytorch_metric_learning.miners:MultiSimilarityMiner")
@dataclass
class MultiSimilarityMinerConfig(MinerConfig):
    """Pairs that are harder than the anchor's hardest of the other kind, within epsilon (Wang et al. 2019)."""

    epsilon: float = option(0.1, at_least=0)
    """Cosine by which a pair may be easier than the hardest of the other kind and still count."""


@choice("miner", "pair_margin", build="pytorch_metric_learning.miners:PairMarginMiner")
@dataclass
class PairMarginMinerConfig(MinerConfig):
    """Positive pairs farther than one margin, and negative pairs nearer than the other."""

    pos_margin: float = option(0.2, at_least=0)
    """Distance above which a positive pair counts."""
    neg_margin: float = option(0.8, at_least=0)
    """Distance below which a negative pair counts."""


class TripletKind(Enum):
    """all: those that violate the margin; hard, semihard: of them, with a nearer, farther negative. easy: the rest."""

    all = "all"
    hard = "hard"
    semihard = "semihard"
    easy = "easy"


@choice("miner", "triplet_margin", build="pytorch_metric_learning.miners:TripletMarginMiner")
@dataclass
class TripletMarginMinerConfig(MinerConfig):
    """Triplets by their margin."""

    margin: float = option(0.2, at_least=0)
    """How much farther than the positive a negative must be for a triplet not to count."""
    type_of_triplets: TripletKind = TripletKind.all


@choice("miner", "uniform_histogram", build="pytorch_metric_learning.miners:UniformHistogramMiner")
@dataclass
class UniformHistogramMinerConfig(MinerConfig):
    """Pairs drawn evenly over bins of distance."""

    draws: ClassVar[bool] = True

    num_bins: int = option(100, at_least=1)
    """Bins between the least and the greatest distance of the batch."""
    pos_per_bin: int = option(10, at_least=1)
    """Positive pairs drawn from each bin."""
    neg_per_bin: int = option(10, at_least=1)
    """Negative pairs drawn from each bin."""
