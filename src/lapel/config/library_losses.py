"""Losses of pytorch-metric-learning, by its names and with its options; all compare unit vectors.

Left out are those that need more than embeddings and labels (VICReg, the self-supervised wrapper), that refuse labels
(manifold), or that take labels for positions in the batch (instance).
"""

import re
from dataclasses import dataclass
from enum import Enum

from lapel.config.objective import ObjectiveConfig
from lapel.config.options import choice, option
from lapel.errors import LapelError


@dataclass
class LibraryLossConfig(ObjectiveConfig):
    """A loss of pytorch-metric-learning."""


# ------------------------------------------------------------------------------------------ pairs and triplets


@choice("objective", "angular", also_as="loss")
@dataclass
class AngularConfig(LibraryLossConfig):
    """Angular loss (Wang et al., ICCV 2017)."""

    alpha: float = option(40.0, above=0, at_most=90)
    """Degrees that the angle at the negative is kept below."""


@choice("objective", "circle", also_as="loss")
@dataclass
class CircleConfig(LibraryLossConfig):
    """Circle loss (Sun et al., CVPR 2020)."""

    m: float = option(0.4, above=0, at_most=1)
    """Relaxation: positives are to be above 1 - m, negatives below m."""
    gamma: float = option(80.0, above=0)
    """Scale of the cosines."""


@choice("objective", "generalized_lifted", also_as="loss")
@dataclass
class GeneralizedLiftedConfig(LibraryLossConfig):
    """Generalized lifted structure loss (Hermans et al. 2017)."""

    neg_margin: float = option(1.0, at_least=0)
    pos_margin: float = option(0.0, at_least=0)


@choice("objective", "intra_pair_variance", also_as="loss")
@dataclass
class IntraPairVarianceConfig(LibraryLossConfig):
    """Intra-pair variance loss (Yu & Tao, ICCV 2019): a companion of another loss."""

    pos_eps: float = option(0.01, at_least=0)
    neg_eps: float = option(0.01, at_least=0)


@choice("objective", "lifted", also_as="loss")
@dataclass
class LiftedConfig(LibraryLossConfig):
    """Lifted structure loss (Oh Song et al., CVPR 2016)."""

    neg_margin: float = option(1.0, at_least=0)
    pos_margin: float = option(0.0, at_least=0)


@choice("objective", "margin", also_as="loss")
@dataclass
class MarginConfig(LibraryLossConfig):
    """Margin loss (Wu et al., ICCV 2017)."""

    margin: float = option(0.2, at_least=0)
    nu: float = option(0.0, at_least=0)
    """Weight of the regularisation of beta."""
    beta: float = option(1.2, above=0)
    """Distance between positives and negatives, at the start where it is learned."""
    learn_beta: bool = False
    triplets_per_anchor: str = "all"
    """`all`, or the number of triplets that are drawn for each anchor, where no miner chooses them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.triplets_per_anchor != "all" and not re.fullmatch("[1-9][0-9]*", self.triplets_per_anchor):
            raise LapelError(f"loss.triplets_per_anchor={self.triplets_per_anchor}: must be all or above 0")


@choice("objective", "multi_similarity", also_as="loss")
@dataclass
class MultiSimilarityConfig(LibraryLossConfig):
    """Multi-similarity loss (Wang et al., CVPR 2019)."""

    alpha: float = option(2.0, above=0)
    """Weight of positive pairs in the exponent."""
    beta: float = option(50.0, above=0)
    """Weight of negative pairs in the exponent."""
    base: float = option(0.5, at_least=-1, at_most=1)
    """Cosine around which both are counted."""


@choice("objective", "nca", also_as="loss")
@dataclass
class NCAConfig(LibraryLossConfig):
    """Neighbourhood components analysis (Goldberger et al., NeurIPS 2004)."""

    softmax_scale: float = option(1.0, above=0)


@choice("objective", "npairs", also_as="loss")
@dataclass
class NPairsConfig(LibraryLossConfig):
    """N-pair loss (Sohn, NeurIPS 2016), on unit vectors."""


@choice("objective", "ntxent", also_as="loss")
@dataclass
class NTXentConfig(LibraryLossConfig):
    """NT-Xent, InfoNCE with labels (Chen et al., ICML 2020): each positive pair against all negatives."""

    temperature: float = option(0.07, above=0)


@choice("objective", "ranked_list", also_as="loss")
@dataclass
class RankedListConfig(LibraryLossConfig):
    """Ranked list loss (Wang et al., CVPR 2019); does not take a miner."""

    margin: float = option(0.4, at_least=0)
    Tn: float = option(10.0, at_least=0)
    """Temperature of the weights of negative pairs."""
    imbalance: float = option(0.5, at_least=0, at_most=1)
    """Share of the negative part."""
    alpha: float | None = option(None, above=0)
    """Distance that negatives are kept beyond; by default 1 + margin / 2."""
    Tp: float = option(0.0, at_least=0)
    """Temperature of the weights of positive pairs."""


@choice("objective", "snr_contrastive", also_as="loss")
@dataclass
class SNRContrastiveConfig(LibraryLossConfig):
    """Contrastive loss on signal-to-noise distances (Yuan et al., CVPR 2019)."""

    pos_margin: float = option(0.0, at_least=0)
    neg_margin: float = option(1.0, at_least=0)


@choice("objective", "threshold_consistent_margin", also_as="loss")
@dataclass
class ThresholdConsistentMarginConfig(LibraryLossConfig):
    """Threshold-consistent margin (Zhang et al., ICLR 2024): a companion of another loss."""

    lambda_plus: float = option(1.0, at_least=0)
    lambda_minus: float = option(1.0, at_least=0)
    margin_plus: float = option(0.9, at_least=-1, at_most=1)
    margin_minus: float = option(0.5, at_least=-1, at_most=1)


@choice("objective", "tuplet_margin", also_as="loss")
@dataclass
class TupletMarginConfig(LibraryLossConfig):
    """Tuplet margin loss (Yu & Tao, ICCV 2019)."""

    margin: float = option(5.73, at_least=0, at_most=180)
    """Degrees."""
    scale: float = option(64.0, above=0)


@choice("objective", "dynamic_soft_margin", also_as="loss")
@dataclass
class DynamicSoftMarginConfig(LibraryLossConfig):
    """Dynamic soft margin (Zhang & Rusinkiewicz, ICCV 2019)."""

    min_val: float = option(-2.0, at_most=-1e-3)
    num_bins: int = option(10, at_least=1)
    momentum: float = option(0.01, above=0, at_most=1)
    """Weight of the batch in the histogram of differences."""


# ---------------------------------------------------------------------------------------------------- ranking


@choice("objective", "fast_ap", also_as="loss")
@dataclass
class FastAPConfig(LibraryLossConfig):
    """FastAP (Cakir et al., CVPR 2019)."""

    num_bins: int = option(10, at_least=2)


@choice("objective", "histogram", also_as="loss")
@dataclass
class HistogramConfig(LibraryLossConfig):
    """Histogram loss (Ustinova & Lempitsky, NeurIPS 2016)."""

    n_bins: int = option(100, at_least=2)


class PNPVariant(Enum):
    """How a negative that is ranked before a positive is weighted."""

    Ds = "Ds"
    Dq = "Dq"
    Iu = "Iu"
    Ib = "Ib"
    O = "O"  # noqa: E741  # the paper's name


@choice("objective", "pnp", also_as="loss")
@dataclass
class PNPConfig(LibraryLossConfig):
    """Penalising negatives before positives (Li et al., AAAI 2022); does not take a miner."""

    b: float = option(2.0, above=0)
    alpha: float = option(1.0, above=0)
    anneal: float = option(0.01, above=0)
    variant: PNPVariant = PNPVariant.O


@choice("objective", "smooth_ap", also_as="loss")
@dataclass
class SmoothAPConfig(LibraryLossConfig):
    """Smooth-AP (Brown et al., ECCV 2020); needs as many images of each item: sampler=balanced, evenly filled."""

    temperature: float = option(0.01, above=0)


# -------------------------------------------------------------------------------------- proxies and classifiers


@choice("objective", "arcface", also_as="loss")
@dataclass
class ArcFaceConfig(LibraryLossConfig):
    """ArcFace (Deng et al., CVPR 2019)."""

    margin: float = option(28.6, at_least=0, at_most=180)
    """Degrees."""
    scale: float = option(64.0, above=0)


@choice("objective", "cosface", also_as="loss")
@dataclass
class CosFaceConfig(LibraryLossConfig):
    """CosFace (Wang et al., CVPR 2018)."""

    margin: float = option(0.35, at_least=0, at_most=1)
    scale: float = option(64.0, above=0)


@choice("objective", "large_margin_softmax", also_as="loss")
@dataclass
class LargeMarginSoftmaxConfig(LibraryLossConfig):
    """Large-margin softmax (Liu et al., ICML 2016)."""

    margin: int = option(4, at_least=1)
    scale: float = option(1.0, above=0)


@choice("objective", "normalized_softmax", also_as="loss")
@dataclass
class NormalizedSoftmaxConfig(LibraryLossConfig):
    """Normalised softmax (Zhai & Wu, BMVC 2019)."""

    temperature: float = option(0.05, above=0)


@choice("objective", "p2s_grad", also_as="loss")
@dataclass
class P2SGradConfig(LibraryLossConfig):
    """P2SGrad (Zhang et al., CVPR 2019)."""


@choice("objective", "proxy_anchor", also_as="loss")
@dataclass
class ProxyAnchorConfig(LibraryLossConfig):
    """Proxy anchor (Kim et al., CVPR 2020)."""

    margin: float = option(0.1, at_least=0)
    alpha: float = option(32.0, above=0)
    """Scale of the cosines."""


@choice("objective", "proxy_nca", also_as="loss")
@dataclass
class ProxyNCAConfig(LibraryLossConfig):
    """Proxy-NCA (Movshovitz-Attias et al., ICCV 2017)."""

    softmax_scale: float = option(1.0, above=0)


@choice("objective", "soft_triple", also_as="loss")
@dataclass
class SoftTripleConfig(LibraryLossConfig):
    """SoftTriple (Qian et al., ICCV 2019)."""

    centers_per_class: int = option(10, at_least=1)
    la: float = option(20.0, above=0)
    gamma: float = option(0.1, above=0)
    margin: float = option(0.01, at_least=0)


@choice("objective", "sphereface", also_as="loss")
@dataclass
class SphereFaceConfig(LibraryLossConfig):
    """SphereFace (Liu et al., CVPR 2017)."""

    margin: int = option(4, at_least=1)
    scale: float = option(1.0, above=0)


@choice("objective", "sub_center_arcface", also_as="loss")
@dataclass
class SubCenterArcFaceConfig(LibraryLossConfig):
    """Sub-center ArcFace (Deng et al., ECCV 2020)."""

    margin: float = option(28.6, at_least=0, at_most=180)
    """Degrees."""
    scale: float = option(64.0, above=0)
    sub_centers: int = option(3, at_least=1)


# Losses that can compare a batch with embeddings of earlier ones, and those that refuse the tuples of a miner.
WITH_MEMORY = (
    AngularConfig,
    CircleConfig,
    GeneralizedLiftedConfig,
    IntraPairVarianceConfig,
    LiftedConfig,
    MarginConfig,
    MultiSimilarityConfig,
    NCAConfig,
    NTXentConfig,
    SNRContrastiveConfig,
    TupletMarginConfig,
)
WITHOUT_MINER = (RankedListConfig, PNPConfig, P2SGradConfig)
