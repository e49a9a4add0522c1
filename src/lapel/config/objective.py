"""The terms of a training loss that are lapel's own; pytorch-metric-learning's are in `library_losses`."""

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from lapel.config.choices import choice
from lapel.config.miner import MinerConfig
from lapel.config.options import Options, option
from lapel.errors import LapelError


class Label(Enum):
    """Which label of an image an objective reads."""

    item = "item"
    category = "category"


@dataclass
class ObjectiveConfig(Options):
    """One weighted term of the training loss."""

    # What a kind of loss can do, which its dataclass says: whether it takes the tuples of a miner, or compares a batch
    # with embeddings of earlier ones; whether it compares unit vectors, whatever it is given, or reads embeddings
    # before normalisation; how many positions its tuples have: 4 for pairs, 3 for triplets, None where it takes both
    # or none.
    takes_miner: ClassVar[bool] = False
    takes_memory: ClassVar[bool] = False
    on_unit_vectors: ClassVar[bool] = False
    reads_raw: ClassVar[bool] = False
    tuples: ClassVar[int | None] = None

    weight: float = option(1.0, at_least=0)
    """Factor of this term in the sum."""
    label: Label = Label.item
    """The label that says which images are alike."""
    miner: MinerConfig | None = None
    """Chooses the pairs or triplets of the batch that count."""
    memory: int = option(0, at_least=0)
    """Embeddings of this and of earlier batches that each image is compared with; 0 for those of its batch alone."""

    @property
    def draws(self) -> bool:
        """Whether it, or its miner, draws random numbers, by torch's own generator."""
        return self.miner is not None and self.miner.draws

    @property
    def given_by(self) -> str | None:
        """The sampler whose tuples alone it looks at, which is also the name of the option that says so."""
        return None


class ContrastiveForm(Enum):
    """bell: `d^2` and `max(0, m^2 - d^2)` (Bell & Bala 2015). hadsell: `d^2` and `max(0, m - d)^2` (Hadsell 2006)."""

    bell = "bell"
    hadsell = "hadsell"


class Pairs(Enum):
    """given: the pairs that the sampler chose. all: every pair of the batch."""

    given = "given"
    all = "all"


class Reduction(Enum):
    """What a sum of pair or triplet losses is divided by: the number of terms above zero, or of all terms."""

    active = "active"
    mean = "mean"


@choice("objective", "contrastive", build="lapel.losses.contrastive:ContrastiveLoss", also_as="loss")
@dataclass
class ContrastiveConfig(ObjectiveConfig):
    """Contrastive loss on pairs: alike ones are pulled together, the others pushed apart up to the margin."""

    takes_miner: ClassVar[bool] = True
    takes_memory: ClassVar[bool] = True
    tuples: ClassVar[int | None] = 4

    form: ContrastiveForm = ContrastiveForm.bell
    pairs: Pairs = Pairs.all
    margin: float = option(1.0, above=0)
    """Euclidean distance beyond which a negative pair is left alone."""
    reduction: Reduction = Reduction.mean
    """How each kind of pair (positive, negative) is averaged, before the two averages are added."""

    @property
    def given_by(self) -> str | None:
        return "pairs" if self.pairs is Pairs.given else None


class Triplets(Enum):
    """given: from the sampler. The others: from the batch, all valid ones, the semi-hard, or each anchor's hardest."""

    given = "given"
    batch_all = "batch_all"
    semi_hard = "semi_hard"
    hard = "hard"


@choice("objective", "triplet", build="lapel.losses.triplet:TripletLoss", also_as="loss")
@dataclass
class TripletConfig(ObjectiveConfig):
    """Triplet loss `max(0, d(a, p) - d(a, n) + margin)` with euclidean distances (Schroff et al. 2015)."""

    takes_miner: ClassVar[bool] = True
    takes_memory: ClassVar[bool] = True
    tuples: ClassVar[int | None] = 3

    triplets: Triplets = Triplets.semi_hard
    margin: float = option(0.2, at_least=0)
    """How much farther than the positive the negative must be."""
    soft: bool = False
    """Whether a triplet costs `log(1 + exp(d(a, p) - d(a, n) + margin))`, which never ends (Hermans et al. 2017)."""
    reduction: Reduction = Reduction.active

    @property
    def given_by(self) -> str | None:
        return "triplets" if self.triplets is Triplets.given else None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.margin == 0 and self.triplets is Triplets.semi_hard:
            raise LapelError("margin=0: leaves no triplets=semi_hard; allowed are a margin above 0, or other triplets")


@choice("objective", "supcon", build="lapel.losses.supcon:SupConLoss", also_as="loss")
@dataclass
class SupConConfig(ObjectiveConfig):
    """Supervised contrastive loss on cosines: of all other images of the batch, those of the item (Khosla 2020)."""

    takes_memory: ClassVar[bool] = True
    on_unit_vectors: ClassVar[bool] = True

    temperature: float = option(0.1, above=0)
    """What cosines are divided by: the lower, the more the nearest negatives count."""


@choice("objective", "cross_entropy", build="lapel.losses.classifier:CrossEntropyLoss")
@dataclass
class CrossEntropyConfig(ObjectiveConfig):
    """A linear classifier on the embedding before it is normalised, with cross-entropy: the Cat part of Bell & Bala."""

    reads_raw: ClassVar[bool] = True

    label: Label = Label.category
    smoothing: float = option(0.0, at_least=0, at_most=0.9)
    """Share of the target that is spread over all classes."""
