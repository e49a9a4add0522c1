"""Training methods: named, weighted objectives, and the metric in which embeddings are compared."""

import re
from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING

from lapel.config.choices import choice
from lapel.config.objective import ObjectiveConfig
from lapel.config.options import Options
from lapel.errors import LapelError


class Metric(Enum):
    """How two embeddings are compared, in training, evaluation and the index alike."""

    cosine = "cosine"
    euclidean = "euclidean"


@choice("variant", "base")
@dataclass
class VariantConfig(Options):
    """A training method: named, weighted objectives, and the metric in which their embeddings are compared."""

    name: str = MISSING
    """What runs and tables call it."""
    metric: Metric = MISSING
    objectives: dict[str, ObjectiveConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"[\w.+-]*\w[\w.+-]*", self.name):
            raise LapelError(
                f"variant.name={self.name}: is part of a folder's name; allowed are letters, digits and ._+-"
            )
        if not self.objectives:
            raise LapelError("variant.objectives is empty: give at least one (conf/variant/*.yaml show how)")
