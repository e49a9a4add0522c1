"""The losses in matrix form against pytorch-metric-learning's, forward and backward: batch 512, embedding 128.

    python bench/losses.py

Unit vectors of 10 items, as in a batch of Fashion-MNIST. Both are first compared in value and gradient; then they take
turns, and the medians are printed, one JSON object a line.
"""

import json
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import ContrastiveLoss as TheirContrastiveLoss
from pytorch_metric_learning.losses import SupConLoss as TheirSupConLoss
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner, TripletMarginMiner
from torch import Tensor

from lapel.config.objective import ContrastiveConfig, Reduction, SupConConfig, TripletConfig, Triplets
from lapel.losses import ContrastiveLoss, SupConLoss, TripletLoss
from lapel.machine.cores import available_cores

BATCH, DIMENSIONS, ITEMS = 512, 128, 10
MARGIN = 0.2
ROUNDS = 7
SECONDS = 0.5
TOLERANCE = 1e-3

Loss = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    """Compare, measure, print."""
    torch.set_num_threads(available_cores())
    torch.manual_seed(0)
    labels = torch.arange(BATCH) % ITEMS
    centres = torch.randn(ITEMS, DIMENSIONS)
    embeddings = F.normalize(centres[labels] + torch.randn(BATCH, DIMENSIONS), dim=1)
    for name, (ours, theirs) in contenders().items():
        check_equal(ours, theirs, embeddings, labels)
        mine, peer = in_turns(ours, theirs, embeddings, labels)
        figures = {
            "value": round(mine * 1e3, 3),
            "unit": "ms",
            "peer": "pytorch-metric-learning",
            "peer_value": round(peer * 1e3, 3),
            "ratio": round(peer / mine, 2),
        }
        print(json.dumps({"name": f"losses/{name}", **figures}), flush=True)


def contenders() -> dict[str, tuple[Loss, Loss]]:
    """Name -> lapel's loss, and the library's same one."""
    distance = LpDistance(normalize_embeddings=False)
    triplet = TripletMarginLoss(margin=MARGIN, distance=distance)
    semi_hard = TripletMarginMiner(margin=MARGIN, type_of_triplets="semihard", distance=distance)
    hardest = BatchHardMiner(distance=distance)
    squared = LpDistance(normalize_embeddings=False, power=2)
    contrastive = TheirContrastiveLoss(pos_margin=0, neg_margin=1, distance=squared)
    return {
        "triplet, batch-all": (own_triplet(Triplets.batch_all), lambda e, y: triplet(e, y)),
        "triplet, semi-hard": (own_triplet(Triplets.semi_hard), lambda e, y: triplet(e, y, semi_hard(e, y))),
        "triplet, batch-hard": (own_triplet(Triplets.hard), lambda e, y: triplet(e, y, hardest(e, y))),
        "contrastive, all pairs": (ContrastiveLoss(ContrastiveConfig(reduction=Reduction.active)), contrastive),
        "supcon": (SupConLoss(SupConConfig()), TheirSupConLoss(temperature=SupConConfig().temperature)),
    }


def own_triplet(triplets: Triplets) -> Loss:
    """lapel's triplet loss."""
    return TripletLoss(TripletConfig(triplets=triplets, margin=MARGIN))


def check_equal(ours: Loss, theirs: Loss, embeddings: Tensor, labels: Tensor) -> None:
    """Raise if value or gradient differ by more than rounding, which decides about triplets at the edge."""
    for found, expected in zip(*(both(each, embeddings, labels) for each in (ours, theirs)), strict=True):
        difference = float((found - expected).norm() / expected.norm())
        assert difference < TOLERANCE, difference


def both(loss: Loss, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient."""
    leaf = embeddings.clone().requires_grad_()
    value = loss(leaf, labels)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def in_turns(ours: Loss, theirs: Loss, embeddings: Tensor, labels: Tensor) -> tuple[float, float]:
    """Median seconds of a forward and backward pass of each."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for loss, found in zip((ours, theirs), times, strict=True):
            found.append(seconds(loss, embeddings, labels))
    return statistics.median(times[0]), statistics.median(times[1])


def seconds(loss: Loss, embeddings: Tensor, labels: Tensor) -> float:
    """Of one pass: as many as fit into half a second are timed."""
    started, passes = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS or not passes:
        both(loss, embeddings, labels)
        passes += 1
    return (time.perf_counter() - started) / passes


if __name__ == "__main__":
    main()
