"""Exact search and its scores against pytorch-metric-learning's calculator, and against the bare matrix product.

    python bench/retrieval.py [NAME ...]

Each measurement runs in a process of its own, whose memory is what it takes above its embeddings. Unit vectors around
the centres of ten items, about nine of ten next to one of their own. One JSON object a line; a ratio is how many times
faster than the calculator, how many times less memory, or the share of the matrix product's speed that is reached.

`collapsed` scores embeddings of ever higher mean cosine, equal ones, zeros, and ones that have collapsed to ten, in
turns with healthy ones, whose time is the peer's: 1 / ratio is how many times longer it takes.
"""

import json
import multiprocessing
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lapel.config.variant import Metric
from lapel.machine.cores import available_cores
from lapel.retrieval import Depth, equal_pairs, score

ITEMS = 10
SPREAD = 0.26
K = [1, 5, 10]
PRODUCT_ROWS = 512
DIGITS = 5

# What takes less than so many seconds is measured several times, and the fastest counts: one turn of half a second may
# meet whatever else the machine does.
LONG = 10.0
TURNS = 5


@dataclass(frozen=True)
class Case:
    """What is measured.

    Args:
        queries, gallery, dimensions: of the embeddings; as many queries as gallery images are the same images.
        depth: of the scores.
        peer: "calculator" or "product".
    """

    queries: int
    gallery: int
    dimensions: int
    depth: Depth
    peer: str


CASES = {
    "10k_map_at_r": Case(10_000, 10_000, 64, Depth.within_r, "calculator"),
    "60k_recall": Case(60_000, 60_000, 64, Depth.lists, "product"),
    "60k_map_at_r": Case(60_000, 60_000, 64, Depth.within_r, "product"),
    "1m_recall": Case(10_000, 1_000_000, 128, Depth.lists, "product"),
}


COLLAPSED = "collapsed"
COLLAPSED_SIZES = [(count, dimensions) for count in (2_000, 10_000) for dimensions in (64, 2048)]
MEAN_COSINES = [0.9, 0.99, 0.9999]
CLUSTER = 1e-3


def main() -> None:
    """Measure, then print."""
    for name in sys.argv[1:] or [*CASES, COLLAPSED]:
        if name == COLLAPSED:
            compare_collapsed()
            continue
        case = CASES[name]
        ours, theirs = (in_process(part, case) for part in (lapel_scores, PEERS[case.peer]))
        for metric, value in theirs["scores"].items():
            assert round(abs(ours["scores"][metric] - value), DIGITS) == 0, (metric, ours["scores"], value)
        tell(f"retrieval/{name}", ours["seconds"], "s", case.peer, theirs["seconds"])
        tell(f"retrieval/{name}/memory", ours["memory"], "MB", case.peer, theirs["memory"])


def compare_collapsed() -> None:
    """Scoring of collapsed embeddings in turns with that of healthy ones."""
    torch.set_num_threads(available_cores())
    for count, dimensions in COLLAPSED_SIZES:
        healthy, *collapsed = collapses(count, dimensions).items()
        for name, embeddings in collapsed:
            turns = [(seconds_to_score(healthy[1]), seconds_to_score(embeddings)) for _ in range(TURNS)]
            theirs, ours = (min(each) for each in zip(*turns, strict=True))
            figures = {"value": round(ours, 3), "unit": "s", "peer": healthy[0], "peer_value": round(theirs, 3)}
            told = f"retrieval/collapsed/{count}x{dimensions}/{name}"
            print(json.dumps({"name": told, **figures, "ratio": round(theirs / ours, 3)}), flush=True)


def collapses(count: int, dimensions: int) -> dict[str, Tensor]:
    """Embeddings by how they have collapsed, the healthy ones first; numbers are mean cosines, roughly."""
    generator = torch.Generator().manual_seed(0)
    healthy = F.normalize(torch.randn(count, dimensions, generator=generator), dim=1)
    shared = F.normalize(torch.randn(1, dimensions, generator=generator), dim=1)
    few = healthy[torch.randint(0, ITEMS, (count,), generator=generator)]
    around = {
        f"{cosine:g}": F.normalize(shared * (cosine / (1 - cosine)) ** 0.5 + healthy, dim=1) for cosine in MEAN_COSINES
    }
    return {
        "healthy": healthy,
        **around,
        "equal": shared.repeat(count, 1),
        "zeros": torch.zeros(count, dimensions),
        "clusters": F.normalize(few + CLUSTER * healthy, dim=1),
    }


def seconds_to_score(embeddings: Tensor) -> float:
    """Of ten images an item, leave-one-out."""
    every = np.arange(len(embeddings))
    started = time.perf_counter()
    score(embeddings, embeddings, every // 10, every // 10, Metric.cosine, K, equal_pairs(every, every))
    return time.perf_counter() - started


def tell(name: str, value: float, unit: str, peer: str, peer_value: float) -> None:
    """One JSON object."""
    told = {"calculator": "pytorch-metric-learning", "product": "matrix product"}[peer]
    figures = {"value": round(value, 2), "unit": unit, "peer": told, "peer_value": round(peer_value, 2)}
    print(json.dumps({"name": name, **figures, "ratio": round(peer_value / max(value, 1e-9), 3)}), flush=True)


def in_process(work: Callable[[Case, Tensor, Tensor, np.ndarray, np.ndarray], dict[str, float]], case: Case) -> dict:
    """Seconds, megabytes and scores of a measurement in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, (work, case))


def measured(
    work: Callable[[Case, Tensor, Tensor, np.ndarray, np.ndarray], dict[str, float]], case: Case
) -> dict[str, object]:
    """See `in_process`."""
    torch.set_num_threads(available_cores())
    data = embeddings(case)
    small = Case(256, 256, case.dimensions, case.depth, case.peer)
    work(small, *embeddings(small))  # imports and first calls are not what is measured
    before = resident()
    scores: dict[str, float] = {}
    turns: list[float] = []
    with Watch() as watch:
        while not turns or (len(turns) < TURNS and sum(turns) < LONG):
            started = time.perf_counter()
            scores = work(case, *data)
            turns.append(time.perf_counter() - started)
    return {"seconds": min(turns), "memory": watch.most - before, "scores": scores}


def embeddings(case: Case) -> tuple[Tensor, Tensor, np.ndarray, np.ndarray]:
    """Queries and gallery with their items."""
    generator = torch.Generator().manual_seed(0)
    centres = F.normalize(torch.randn(ITEMS, case.dimensions, generator=generator), dim=1)
    labels = torch.randint(0, ITEMS, (case.gallery,), generator=generator)
    gallery = torch.randn(case.gallery, case.dimensions, generator=generator).mul_(SPREAD).add_(centres[labels])
    gallery /= gallery.norm(dim=1, keepdim=True)
    items = labels.numpy()
    return gallery[: case.queries], gallery, items[: case.queries], items


def lapel_scores(case: Case, queries: Tensor, gallery: Tensor, query_items: np.ndarray, items: np.ndarray) -> dict:
    """Leave-one-out, by lapel."""
    exclude = equal_pairs(np.arange(len(queries)), np.arange(len(gallery)))
    return score(queries, gallery, query_items, items, Metric.cosine, K, exclude, depth=case.depth).means()


def calculator_scores(case: Case, queries: Tensor, gallery: Tensor, query_items: np.ndarray, items: np.ndarray) -> dict:
    """Leave-one-out, by pytorch-metric-learning."""
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    del case
    names = {"precision@1": "precision_at_1", "r_precision": "r_precision", "map@r": "mean_average_precision_at_r"}
    calculator = AccuracyCalculator(include=tuple(names.values()), k="max_bin_count", device=torch.device("cpu"))
    labels = torch.from_numpy(query_items), torch.from_numpy(items)
    found = calculator.get_accuracy(queries, labels[0], gallery, labels[1], ref_includes_query=True)
    return {ours: float(found[theirs]) for ours, theirs in names.items()}


def product(case: Case, queries: Tensor, gallery: Tensor, query_items: np.ndarray, items: np.ndarray) -> dict:
    """All similarities, a block after the other, and nothing else."""
    del case, query_items, items
    held = torch.empty(PRODUCT_ROWS, len(gallery))
    for start in range(0, len(queries), PRODUCT_ROWS):
        part = queries[start : start + PRODUCT_ROWS]
        torch.mm(part, gallery.T, out=held[: len(part)])
    return {}


PEERS = {"calculator": calculator_scores, "product": product}


class Watch:
    """The most memory that the process takes while it is looked at, in MB."""

    def __enter__(self) -> "Watch":
        self.most = resident()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def _look(self) -> None:
        while not self.ended.wait(0.02):
            self.most = max(self.most, resident())


def resident() -> float:
    """Megabytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
