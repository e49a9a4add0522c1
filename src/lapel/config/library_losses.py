"""Losses of pytorch-metric-learning, by its names and with its options; all compare unit vectors.

Left out are those that need more than embeddings and labels (VICReg, the self-supervised wrapper), that refuse labels
(manifold), or that take labels for positions in the batch (instance).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, TypeVar

from lapel.config.choices import choice
from lapel.config.objective import ObjectiveConfig
from lapel.config.options import option
from lapel.errors import LapelError


@dataclass
class LibraryLossConfig(ObjectiveConfig):
    """A loss of pytorch-metric-learning, whose class its choice builds."""

    on_unit_vectors: ClassVar[bool] = True
    takes_miner: ClassVar[bool] = True
    # What the library's class calls the number of labels and of dimensions, where it has weights for each label.
    sized_by: ClassVar[tuple[str, str] | None] = None


LossClass = TypeVar("LossClass", bound=type[LibraryLossConfig])


def library_loss(name: str, theirs: str) -> Callable[[LossClass], LossClass]:
    """The choice of a loss, by lapel's name and the library's."""
    return choice("objective", name, build=f"pytorch_metric_learning.losses:{theirs}", also_as="loss")


def mended_loss(name: str, theirs: str) -> Callable[[LossClass], LossClass]:
    """As `library_loss`, of one whose own code breaks at an edge."""
    return choice("objective", name, build=f"lapel.losses.edges:{theirs}", also_as="loss")


# ------------------------------------------------------------------------------------------ pairs and triplets


@library_loss("angular", "AngularLoss")
@dataclass
class AngularConfig(LibraryLossConfig):
    """Angular loss (Wang et al., ICCV 2017)."""

    takes_memory: ClassVar[bool] = True

    alpha: float = option(40.0, above=0, at_most=89)
    """Degrees that the angle at the negative is kept below. The loss multiplies by its tangent's square."""


@library_loss("circle", "CircleLoss")
@dataclass
class CircleConfig(LibraryLossConfig):
    """Circle loss (Sun et al., CVPR 2020)."""

    takes_memory: ClassVar[bool] = True

    m: float = option(0.4, above=0, at_most=1)
    """Relaxation: positives are to be above 1 - m, negatives below m."""
    gamma: float = option(80.0, above=0)
    """Scale of the cosines."""


@choice(
    "objective",
    "generalized_lifted",
    build="pytorch_metric_learning.losses:GeneralizedLiftedStructureLoss",
    also_as="loss",
)
@dataclass
class GeneralizedLiftedConfig(LibraryLossConfig):
    """Generalized lifted structure loss (Hermans et al. 2017)."""

    takes_memory: ClassVar[bool] = True

    neg_margin: float = option(1.0, at_least=0)
    """What negatives' distances are taken off, in the exponent."""
    pos_margin: float = option(0.0, at_least=0)
    """What is taken off positives' distances."""


@choice(
    "objective", "intra_pair_variance", build="pytorch_metric_learning.losses:IntraPairVarianceLoss", also_as="loss"
)
@dataclass
class IntraPairVarianceConfig(LibraryLossConfig):
    """Intra-pair variance loss (Yu & Tao, ICCV 2019): a companion of another loss."""

    takes_memory: ClassVar[bool] = True

    pos_eps: float = option(0.01, at_least=0)
    """Share of their mean by which the cosines of positive pairs may lie below it."""
    neg_eps: float = option(0.01, at_least=0)
    """Share of their mean by which the cosines of negative pairs may lie above it."""


@library_loss("lifted", "LiftedStructureLoss")
@dataclass
class LiftedConfig(LibraryLossConfig):
    """Lifted structure loss (Oh Song et al., CVPR 2016)."""

    takes_memory: ClassVar[bool] = True

    neg_margin: float = option(1.0, at_least=0)
    """What negatives' distances are taken off, in the exponent."""
    pos_margin: float = option(0.0, at_least=0)
    """What is taken off positives' distances."""


@library_loss("margin", "MarginLoss")
@dataclass
class MarginConfig(LibraryLossConfig):
    """Margin loss (Wu et al., ICCV 2017)."""

    takes_memory: ClassVar[bool] = True

    margin: float = option(0.2, at_least=0)
    """How far on its side of beta a pair must be to cost nothing."""
    nu: float = option(0.0, at_least=0)
    """Weight of the regularisation of beta."""
    beta: float = option(1.2, above=0)
    """Distance between positives and negatives, at the start where it is learned."""
    learn_beta: bool = False
    """Whether beta is learnt, too."""
    triplets_per_anchor: str = "all"
    """`all`, or the number of triplets that are drawn for each anchor, where no miner chooses them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.triplets_per_anchor != "all" and not re.fullmatch("[1-9][0-9]*", self.triplets_per_anchor):
            raise LapelError(f"loss.triplets_per_anchor={self.triplets_per_anchor}: must be all or above 0")

    @property
    def draws(self) -> bool:
        """See `ObjectiveConfig`."""
        return self.triplets_per_anchor != "all" if self.miner is None else self.miner.draws


@library_loss("multi_similarity", "MultiSimilarityLoss")
@dataclass
class MultiSimilarityConfig(LibraryLossConfig):
    """Multi-similarity loss (Wang et al., CVPR 2019)."""

    takes_memory: ClassVar[bool] = True

    alpha: float = option(2.0, above=0)
    """Weight of positive pairs in the exponent."""
    beta: float = option(50.0, above=0)
    """Weight of negative pairs in the exponent."""
    base: float = option(0.5, at_least=-1, at_most=1)
    """Cosine around which both are counted."""


@mended_loss("nca", "NCALoss")
@dataclass
class NCAConfig(LibraryLossConfig):
    """Neighbourhood components analysis (Goldberger et al., NeurIPS 2004)."""

    takes_memory: ClassVar[bool] = True

    softmax_scale: float = option(1.0, above=0)
    """Factor of the squared distances in the softmax."""


@library_loss("npairs", "NPairsLoss")
@dataclass
class NPairsConfig(LibraryLossConfig):
    """N-pair loss (Sohn, NeurIPS 2016), on unit vectors."""


@library_loss("ntxent", "NTXentLoss")
@dataclass
class NTXentConfig(LibraryLossConfig):
    """NT-Xent, InfoNCE with labels (Chen et al., ICML 2020): each positive pair against all negatives."""

    takes_memory: ClassVar[bool] = True

    temperature: float = option(0.07, above=0)
    """What cosines are divided by: the lower, the more the nearest negatives count."""


@library_loss("ranked_list", "RankedListLoss")
@dataclass
class RankedListConfig(LibraryLossConfig):
    """Ranked list loss (Wang et al., CVPR 2019); does not take a miner."""

    takes_miner: ClassVar[bool] = False

    margin: float = option(0.4, at_least=0)
    """Distance between positives, which are kept within alpha - margin, and negatives."""
    Tn: float = option(10.0, at_least=0)
    """Temperature of the weights of negative pairs."""
    imbalance: float = option(0.5, at_least=0, at_most=1)
    """Share of the negative part."""
    alpha: float | None = option(None, above=0)
    """Distance that negatives are kept beyond; by default 1 + margin / 2."""
    Tp: float = option(0.0, at_least=0)
    """Temperature of the weights of positive pairs."""


@mended_loss("snr_contrastive", "SignalToNoiseRatioContrastiveLoss")
@dataclass
class SNRContrastiveConfig(LibraryLossConfig):
    """Contrastive loss on signal-to-noise distances (Yuan et al., CVPR 2019)."""

    takes_memory: ClassVar[bool] = True

    pos_margin: float = option(0.0, at_least=0)
    """Distance up to which positives cost nothing."""
    neg_margin: float = option(1.0, at_least=0)
    """Distance within which negatives cost."""


@choice(
    "objective",
    "threshold_consistent_margin",
    build="pytorch_metric_learning.losses:ThresholdConsistentMarginLoss",
    also_as="loss",
)
@dataclass
class ThresholdConsistentMarginConfig(LibraryLossConfig):
    """Threshold-consistent margin (Zhang et al., ICLR 2024): a companion of another loss."""

    lambda_plus: float = option(1.0, at_least=0)
    """Weight of the positive pairs."""
    lambda_minus: float = option(1.0, at_least=0)
    """Weight of the negative pairs."""
    margin_plus: float = option(0.9, at_least=-1, at_most=1)
    """Cosine below which a positive pair costs."""
    margin_minus: float = option(0.5, at_least=-1, at_most=1)
    """Cosine above which a negative pair costs."""


@mended_loss("tuplet_margin", "TupletMarginLoss")
@dataclass
class TupletMarginConfig(LibraryLossConfig):
    """Tuplet margin loss (Yu & Tao, ICCV 2019)."""

    takes_memory: ClassVar[bool] = True

    margin: float = option(5.73, at_least=0, at_most=180)
    """Degrees."""
    scale: float = option(64.0, above=0)
    """Factor of the differences of cosines in the exponent."""


@mended_loss("dynamic_soft_margin", "DynamicSoftMarginLoss")
@dataclass
class DynamicSoftMarginConfig(LibraryLossConfig):
    """Dynamic soft margin (Zhang & Rusinkiewicz, ICCV 2019)."""

    min_val: float = option(-2.0, at_most=-1e-3)
    """Least difference of the positive and the negative distance that is told apart."""
    num_bins: int = option(10, at_least=1)
    """Bins of the histogram of these differences."""
    momentum: float = option(0.01, above=0, at_most=1)
    """Weight of the batch in the histogram of differences."""


# ---------------------------------------------------------------------------------------------------- ranking


@library_loss("fast_ap", "FastAPLoss")
@dataclass
class FastAPConfig(LibraryLossConfig):
    """FastAP (Cakir et al., CVPR 2019)."""

    num_bins: int = option(10, at_least=2)
    """Bins of the histogram of distances."""


@mended_loss("histogram", "HistogramLoss")
@dataclass
class HistogramConfig(LibraryLossConfig):
    """Histogram loss (Ustinova & Lempitsky, NeurIPS 2016)."""

    n_bins: int = option(100, at_least=2)
    """Bins of the histograms of cosines."""


class PNPVariant(Enum):
    """How a negative that is ranked before a positive is weighted."""

    Ds = "Ds"
    Dq = "Dq"
    Iu = "Iu"
    Ib = "Ib"
    O = "O"  # noqa: E741  # the paper's name


@library_loss("pnp", "PNPLoss")
@dataclass
class PNPConfig(LibraryLossConfig):
    """Penalising negatives before positives (Li et al., AAAI 2022); does not take a miner."""

    takes_miner: ClassVar[bool] = False

    b: float = option(2.0, above=0)
    """Of variant=Ib: how strongly more negatives count."""
    alpha: float = option(1.0, above=0)
    """Of variant=Dq: power of the count of negatives."""
    anneal: float = option(0.01, above=0)
    """Temperature of the sigmoid that stands for a rank."""
    variant: PNPVariant = PNPVariant.O


@library_loss("smooth_ap", "SmoothAPLoss")
@dataclass
class SmoothAPConfig(LibraryLossConfig):
    """Smooth-AP (Brown et al., ECCV 2020); needs as many images of each item: sampler=balanced, evenly filled."""

    temperature: float = option(0.01, above=0)
    """Of the sigmoid that stands for a rank: the lower, the nearer to the true one."""


# -------------------------------------------------------------------------------------- proxies and classifiers


@mended_loss("arcface", "ArcFaceLoss")
@dataclass
class ArcFaceConfig(LibraryLossConfig):
    """ArcFace (Deng et al., CVPR 2019)."""

    sized_by: ClassVar[tuple[str, str] | None] = ("num_classes", "embedding_size")

    margin: float = option(28.6, at_least=0, at_most=180)
    """Degrees."""
    scale: float = option(64.0, above=0)
    """Factor of the cosines in the softmax."""


@library_loss("cosface", "CosFaceLoss")
@dataclass
class CosFaceConfig(LibraryLossConfig):
    """CosFace (Wang et al., CVPR 2018)."""

    sized_by: ClassVar[tuple[str, str] | None] = ("num_classes", "embedding_size")

    margin: float = option(0.35, at_least=0, at_most=1)
    """Taken off the cosine to the own class's centre."""
    scale: float = option(64.0, above=0)
    """Factor of the cosines in the softmax."""


@choice(
    "objective", "large_margin_softmax", build="pytorch_metric_learning.losses:LargeMarginSoftmaxLoss", also_as="loss"
)
@dataclass
class LargeMarginSoftmaxConfig(LibraryLossConfig):
    """Large-margin softmax (Liu et al., ICML 2016)."""

    sized_by: ClassVar[tuple[str, str] | None] = ("num_classes", "embedding_size")

    margin: int = option(4, at_least=1)
    """Factor of the angle to the own class's centre."""
    scale: float = option(1.0, above=0)
    """Factor of the products in the softmax."""


@library_loss("normalized_softmax", "NormalizedSoftmaxLoss")
@dataclass
class NormalizedSoftmaxConfig(LibraryLossConfig):
    """Normalised softmax (Zhai & Wu, BMVC 2019)."""

    sized_by: ClassVar[tuple[str, str] | None] = ("num_classes", "embedding_size")

    temperature: float = option(0.05, above=0)
    """What cosines are divided by in the softmax."""


@mended_loss("p2s_grad", "P2SGradLoss")
@dataclass
class P2SGradConfig(LibraryLossConfig):
    """P2SGrad (Zhang et al., CVPR 2019)."""

    takes_miner: ClassVar[bool] = False
    sized_by: ClassVar[tuple[str, str] | None] = ("num_classes", "descriptors_dim")


@library_loss("proxy_anchor", "ProxyAnchorLoss")
@dataclass
class ProxyAnchorConfig(LibraryLossConfig):
    """Proxy anchor (Kim et al., CVPR 2020)."""

    sized_by: ClassVar[tuple[str, str] | None] = ("num_classes", "embedding_size")

    margin: float = option(0.1, at_least=0)
    """How far on its side of zero a cosine must be to cost little."""
    alpha: float = option(32.0, above=0)
    """Scale of the cosines."""


@mended_loss("proxy_nca", "ProxyNCALoss")
@dataclass
class ProxyNCAConfig(LibraryLossConfig):
    """Proxy-NCA (Movshovitz-Attias et al., ICCV 2017)."""

    sized_by: ClassVar[tuple[str, str] | None] = ("num_classes", "embedding_size")

    softmax_scale: float = option(1.0, above=0)
    """Factor of the squared distances in the softmax."""


@library_loss("soft_triple", "SoftTripleLoss")
@dataclass
class SoftTripleConfig(LibraryLossConfig):
    """SoftTriple (Qian et al., ICCV 2019)."""

    sized_by: ClassVar[tuple[str, str] | None] = ("num_classes", "embedding_size")

    centers_per_class: int = option(10, at_least=1)
    """Centres of each class."""
    la: float = option(20.0, above=0)
    """Factor of the cosines in the softmax over classes."""
    gamma: float = option(0.1, above=0)
    """Temperature of the softmax over a class's centres."""
    margin: float = option(0.01, at_least=0)
    """Taken off the cosine to the own class."""


@library_loss("sphereface", "SphereFaceLoss")
@dataclass
class SphereFaceConfig(LibraryLossConfig):
    """SphereFace (Liu et al., CVPR 2017)."""

    sized_by: ClassVar[tuple[str, str] | None] = ("num_classes", "embedding_size")

    margin: int = option(4, at_least=1)
    """Factor of the angle to the own class's centre."""
    scale: float = option(1.0, above=0)
    """Factor of the products in the softmax."""


@mended_loss("sub_center_arcface", "SubCenterArcFaceLoss")
@dataclass
class SubCenterArcFaceConfig(LibraryLossConfig):
    """Sub-center ArcFace (Deng et al., ECCV 2020)."""

    sized_by: ClassVar[tuple[str, str] | None] = ("num_classes", "embedding_size")

    margin: float = option(28.6, at_least=0, at_most=180)
    """Degrees."""
    scale: float = option(64.0, above=0)
    """Factor of the cosines in the softmax."""
    sub_centers: int = option(3, at_least=1)
    """Centres of each class, of which the nearest counts."""
