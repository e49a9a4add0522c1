"""The training losses: lapel's own in matrix form, pytorch-metric-learning's, miners and memory.

Every loss is called as pytorch-metric-learning's are, `loss(embeddings, labels, indices_tuple)`; the tuple is
`(a1, p, a2, n)` for pairs, `(a, p, n)` for triplets, or None. `build` turns a variant's objectives into modules.
"""

from lapel.losses.classifier import CrossEntropyLoss
from lapel.losses.contrastive import ContrastiveLoss
from lapel.losses.distances import IndicesTuple, References, root, same_label, squared_distances
from lapel.losses.library import LibraryLoss, Miner
from lapel.losses.memory import CrossBatchMemory
from lapel.losses.objective import Objective, build
from lapel.losses.supcon import SupConLoss
from lapel.losses.triplet import TripletLoss

__all__ = [
    "ContrastiveLoss",
    "CrossBatchMemory",
    "CrossEntropyLoss",
    "IndicesTuple",
    "LibraryLoss",
    "Miner",
    "Objective",
    "References",
    "SupConLoss",
    "TripletLoss",
    "build",
    "root",
    "same_label",
    "squared_distances",
]
