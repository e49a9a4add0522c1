"""The FAISS index of a bundle: made from embeddings, written, read, and searched.

FAISS is imported where it is used: brought into a training, its own threads would stand beside torch's.
"""

from pathlib import Path
from typing import Any

import numpy as np

from lapel.bundle.entries import check_numbers, check_vectors
from lapel.bundle.layout import ITEMS_FILE
from lapel.config.choices import build, choice, choices_of
from lapel.config.variant import Metric
from lapel.errors import LapelError
from lapel.files.writing import opened
from lapel.retrieval.pairs import Neighbors

# Two searches may order rows differently whose scores are so near (relative to the score, for distances).
NEAR_TIE = 1e-5

# How FAISS compares what is compared in each metric: its METRIC_INNER_PRODUCT and METRIC_L2.
MEASURES = {Metric.cosine: 0, Metric.euclidean: 1}

# FAISS computes euclidean distances of fewer than 20 queries directly, and those of more from products, which is off by
# more than a near-tie where images are alike.
DIRECT_QUERIES = 16


@choice("index", "flat")
def flat_index(embeddings: np.ndarray, metric: Metric) -> Any:
    """An exact index over float32 `[rows, dimensions]`: inner products for cosine, squared distances else."""
    import faiss

    index = faiss.IndexFlat(embeddings.shape[1], MEASURES[metric])
    index.add(np.ascontiguousarray(embeddings, np.float32))  # pyright: ignore[reportCallIssue]
    return index


def build_index(kind: str, embeddings: np.ndarray, metric: Metric) -> Any:
    """An index of a type, by its name, over the rows of a bundle.

    Args:
        kind: name of a choice of the group `index`.
        embeddings: float32 `[rows, dimensions]`; unit vectors for cosine.
        metric: of the model.
    """
    return build(f"index/{kind}", embeddings=embeddings, metric=metric)


def check_kind(kind: str) -> None:
    """Raise where there is no index type of a name."""
    if kind not in choices_of("index"):
        raise LapelError(f"export.index={kind}: no such index type; allowed are {', '.join(choices_of('index'))}")


def write_index(index: Any, path: Path) -> None:
    """Write an index file."""
    import faiss

    with opened(path) as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # pyright: ignore[reportAttributeAccessIssue]


def read_index(path: Path) -> Any:
    """Read an index file.

    Raises:
        LapelError: it is missing, or none of FAISS's.
    """
    import faiss

    try:
        return faiss.read_index(str(path))
    except RuntimeError as error:
        raise LapelError(f"{path}: not a readable FAISS index ({' '.join(str(error).split())[:200]})") from error


def check_index(index: Any, metric: Metric, dimensions: int, rows: int, path: Path) -> None:
    """Raise unless an index can be searched for a bundle's rows, whoever made it.

    Args:
        index: FAISS's, of any type.
        metric, dimensions: of the encoder's embeddings.
        rows: that its entries stand for.
        path: of its file.

    Raises:
        LapelError: it compares in another metric, holds other vectors, or more or fewer of them, or some that cannot be
            compared, or names its entries otherwise than from 0 on.
    """
    names = {measure: each.name for each, measure in MEASURES.items()}
    if index.metric_type != MEASURES[metric]:
        told = names.get(index.metric_type, f"FAISS's metric {index.metric_type}")
        raise LapelError(f"{path}: compares as {told} does, and the manifest's metric is {metric.name}")
    if index.d != dimensions:
        raise LapelError(f"{path}: has {index.d} dimensions, and the encoder's embeddings have {dimensions}")
    if index.ntotal != rows:
        raise LapelError(f"{path}: holds {index.ntotal} entries, and {ITEMS_FILE} describes {rows}")
    check_numbers(index, str(path))
    check_vectors(index, metric is Metric.cosine, str(path))


def is_exact(index: Any) -> bool:
    """Whether it compares a query with every entry, as it was embedded."""
    import faiss

    return isinstance(index, faiss.IndexFlat)


def settings_of(index: Any) -> dict[str, int]:
    """How far an approximate index looks, which is kept in its file: cells of an IVF index, candidates of a graph."""
    settings = {"nprobe": index.nprobe} if hasattr(index, "nprobe") else {}
    return settings | ({"efSearch": index.hnsw.efSearch} if hasattr(index, "hnsw") else {})


def search_index(index: Any, queries: np.ndarray, k: int, metric: Metric) -> Neighbors:
    """The `k` nearest rows of each query, best first, with scores as `retrieval.search` gives them.

    Args:
        index: as from `build_index`.
        queries: float32 `[queries, dimensions]`; unit vectors for cosine.
        k: length of the lists; an approximate index may find fewer.
        metric: of the model.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    step = len(queries) if metric is Metric.cosine else DIRECT_QUERIES
    parts = [index.search(queries[start : start + step], k) for start in range(0, len(queries), step)]
    values, positions = (np.concatenate(each) for each in zip(*parts, strict=True))
    if metric is Metric.euclidean:  # FAISS gives squares
        values = -np.sqrt(np.maximum(values, 0))
    return Neighbors(positions, np.where(positions < 0, -np.inf, values).astype(np.float32))


def disagreements(first: Neighbors, second: Neighbors, metric: Metric) -> np.ndarray:
    """Queries for which two searches differ by more than the order of near-ties.

    At each rank both must show the same row; or scores that nearly tie, and rows of which each stands in the other list
    with nearly that score, or ties with the end of that list.

    Returns:
        int64 positions of the queries.
    """
    same = (first.positions == second.positions) & _near(first.scores, second.scores, metric)
    suspects = np.flatnonzero(~same.all(1)).tolist()
    wrong = [
        query
        for query in suspects
        if not _near(first.scores[query], second.scores[query], metric).all()
        or not _stands_in(first, second, query, metric)
        or not _stands_in(second, first, query, metric)
    ]
    return np.array(wrong, np.int64)


def _near(first: np.ndarray, second: np.ndarray, metric: Metric) -> np.ndarray:
    """Whether scores nearly tie; two ends of a list (-inf) do."""
    scale = np.maximum(np.abs(second), 1e-4) if metric is Metric.euclidean else 1.0
    with np.errstate(invalid="ignore"):
        return (first == second) | (np.abs(first - second) < NEAR_TIE * scale)


def _stands_in(shown: Neighbors, other: Neighbors, query: int, metric: Metric) -> bool:
    """Whether each row shown for a query stands in the other list with nearly its score, or ties with its end."""
    ranks = {row: rank for rank, row in enumerate(other.positions[query])}
    for row, score in zip(shown.positions[query], shown.scores[query], strict=True):
        expected = other.scores[query][ranks.get(row, -1)]
        if not _near(score, expected, metric):
            return False
    return True
