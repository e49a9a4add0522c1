"""What is done about a training that goes wrong."""

from dataclasses import dataclass
from enum import Enum

from lapel.config.options import Options, option


class Action(Enum):
    """warn: say it. stop: say it, and end the training. easier_miner: say it, and take easier triplets."""

    warn = "warn"
    stop = "stop"
    easier_miner = "easier_miner"


@dataclass
class WatchdogConfig(Options):
    """Signs of a collapse, looked for at each point of the curves; a loss that is not finite always stops."""

    action: Action = Action.warn
    rank: float = option(0.05, at_least=0, at_most=1)
    """Effective rank of the embeddings, as a share of the highest possible, below which they have collapsed."""
    gap: float = option(0.01, at_least=0)
    """Negative over positive distance, less one, below which the two have become the same."""
    active: float = option(0.001, at_least=0, at_most=1)
    """Share of pairs or triplets with a loss above 0 below which nothing is left to learn from."""
    margin: float = option(0.01, at_least=0, at_most=1)
    """How near a triplet loss stays to its margin, as a share of it, for an epoch, where all embeddings are one."""
    growth: float = option(10.0, above=1)
    """Times the first step's loss, or 1 where that is less, above which training has diverged, and always stops."""
    patience: int = option(3, at_least=1)
    """Points in a row that must show a sign before anything is said."""
