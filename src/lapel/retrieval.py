"""Exact search and its scores: pure functions of embeddings and labels, the same for validation, evaluation and export.

`search` lists the nearest gallery images of each query; `score` grades the lists. Both walk over the queries in tiles
of a fixed shape and hold a bounded number of similarities at a time, so a result depends neither on that bound nor on
how the tiles are shared out. Equal scores are ordered by gallery position, the lower first.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lapel.config import Metric
from lapel.errors import LapelError

# Shape of one matrix product. It never varies with the memory allowed: another shape may round differently.
QUERY_TILE = 128
GALLERY_TILE = 8192

# Megabytes of similarities held at once, unless told otherwise.
DEFAULT_MEMORY = 256.0

NO_POSITION = -1

# Candidates of a search beyond its k: two that float32 orders wrongly at the end of the list are both among them.
RESCORED = 8


@dataclass(frozen=True)
class Neighbors:
    """Nearest gallery images of each query, best first.

    Args:
        positions: int64 `[queries, k]` in the gallery; -1 where the gallery has no more.
        scores: float32 `[queries, k]`: the cosine, or minus the euclidean distance; -inf where there is no position.
    """

    positions: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Scores:
    """Grades of every query that has a match to find.

    Args:
        queries: int64 positions of those queries.
        grades: metric name -> float64 of each of them.
        unmatched: number of queries without any possible match, which are left out.
    """

    queries: np.ndarray
    grades: dict[str, np.ndarray]
    unmatched: int

    def means(self) -> dict[str, float]:
        """Metric name -> mean over the queries."""
        return {name: float(grade.mean()) for name, grade in self.grades.items()}


def rows_once(queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of both, each once and ascending, and where each query and each gallery row stands among them."""
    rows = np.union1d(queries, gallery)
    return rows, np.searchsorted(rows, queries), np.searchsorted(rows, gallery)


def equal_pairs(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """int64 `[pairs, 2]`: positions (query, gallery) at which two arrays of codes are equal, ascending.

    Of codes that name images, these are the pairs in which a query would find itself.
    """
    order = np.argsort(gallery, kind="stable")
    starts = np.searchsorted(gallery[order], queries, side="left")
    counts = np.searchsorted(gallery[order], queries, side="right") - starts
    places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(starts, counts)
    return np.column_stack([np.repeat(np.arange(len(queries)), counts), order[places]])


def search(
    queries: Tensor,
    gallery: Tensor,
    k: int,
    metric: Metric,
    exclude: np.ndarray | None = None,
    memory: float = DEFAULT_MEMORY,
) -> Neighbors:
    """The `k` nearest gallery images of each query, by comparing it with all of them.

    Args:
        queries: float32 `[queries, dimensions]`; unit vectors for cosine.
        gallery: float32 `[gallery, dimensions]`, on the same device.
        k: length of the lists, at least 1.
        metric: of the model that made the embeddings.
        exclude: int64 `[pairs, 2]`, (query, gallery) positions that never count, by ascending query: `equal_pairs`.
        memory: megabytes of similarities held at once.

    Raises:
        LapelError: an embedding is not finite, the shapes do not fit, or k is below 1.
    """
    if k < 1:
        raise LapelError(f"k={k}: must be at least 1")
    parts = []
    for start, similarities in _similarities(queries, gallery, metric, exclude, memory):
        candidates, _ = _top(similarities, k + RESCORED)
        rows = queries[start : start + len(similarities)]
        parts += [
            _rescore(rows[top : top + QUERY_TILE], gallery, candidates[top : top + QUERY_TILE], k, metric)
            for top in range(0, len(rows), QUERY_TILE)
        ]
    return Neighbors(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _rescore(
    queries: Tensor, gallery: Tensor, candidates: np.ndarray, k: int, metric: Metric
) -> tuple[np.ndarray, np.ndarray]:
    """The best `k` of each query's candidates by their scores in float64, in which near-ties come apart.

    In float32 a squared distance from products is off by about 1e-7 of the squared norms: for near images that is more
    than the distance itself.
    """
    places = torch.from_numpy(candidates).to(gallery.device)
    near = gallery[places.clamp_min(0)].double()
    wide = queries.double()[:, None]
    exact = (wide * near).sum(2) if metric is Metric.cosine else -(wide - near).square().sum(2).sqrt()
    exact[places == NO_POSITION] = -torch.inf
    scores = exact.cpu().numpy()
    order = np.lexsort((candidates, -scores))[:, :k]
    return np.take_along_axis(candidates, order, 1), np.take_along_axis(scores, order, 1).astype(np.float32)


def score(
    queries: Tensor,
    gallery: Tensor,
    query_items: np.ndarray,
    gallery_items: np.ndarray,
    metric: Metric,
    k: list[int],
    exclude: np.ndarray | None = None,
    memory: float = DEFAULT_MEMORY,
) -> Scores:
    """Retrieval metrics of each query against the gallery.

    With R the number of gallery images of the query's item (itself left out):

    - `recall@K`: 1 if any of the first K is a match, else 0 (metric learning's; information retrieval's is another).
    - `precision@K`: matches among the first K, over K.
    - `r_precision`: matches among the first R, over R.
    - `map@r`: the mean over ranks 1..R of precision@rank where that rank is a match, else 0
      (Musgrave, Belongie & Lim, "A metric learning reality check", ECCV 2020).
    - `mrr`: 1 over the rank of the first match, however far down.

    Args:
        queries, gallery, metric, exclude, memory: as in `search`.
        query_items: int64 `[queries]`, or `[queries, most]` where an image stands for several items, filled up with -1.
        gallery_items: int64 `[gallery]`, or `[gallery, most]`; sharing one item makes a match.
        k: the K of recall@K and precision@K.

    Raises:
        LapelError: as `search`; or no query has a match in the gallery.
    """
    query_sets, gallery_sets = query_items.reshape(len(query_items), -1), gallery_items.reshape(len(gallery_items), -1)
    relevant = _count_matches(query_sets, gallery_sets, exclude)
    if not relevant.any():
        raise LapelError("no query has a match in the gallery: there is nothing to score")
    if min(k) < 1:
        raise LapelError(f"k={min(k)}: must be at least 1")
    depth = max(int(relevant.max()), *k)
    parts = []
    for start, similarities in _similarities(queries, gallery, metric, exclude, memory):
        rows = slice(start, start + len(similarities))
        positions, _ = _top(similarities, depth)
        matches = _share_item(query_sets[rows, None], gallery_sets[positions]) & (positions != NO_POSITION)
        first = _first_match_rank(matches, similarities, query_sets[rows], gallery_sets, relevant[rows])
        parts.append(grade(matches, relevant[rows], first, k))
    found = np.flatnonzero(relevant)
    grades = {name: np.concatenate([part[name] for part in parts])[found] for name in parts[0]}
    return Scores(found, grades, int(len(relevant) - len(found)))


def grade(matches: np.ndarray, relevant: np.ndarray, first: np.ndarray, k: list[int]) -> dict[str, np.ndarray]:
    """Metrics of ranked lists; see `score` for the formulas.

    Args:
        matches: bool `[queries, depth]`, best first; depth is at least every K and every R.
        relevant: int64 `[queries]`, R; where it is 0 the query's grades mean nothing.
        first: int64 `[queries]`, rank of the first match, from 1.
        k: the K.

    >>> matches = np.array([[True, False, True]])
    >>> grade(matches, np.array([2]), np.array([1]), [1, 2])["map@r"]
    array([0.5])
    """
    ranks = np.arange(1, matches.shape[1] + 1)
    found = np.cumsum(matches, axis=1)
    total = np.maximum(relevant, 1)
    within = matches & (ranks <= relevant[:, None])
    grades = {f"recall@{each}": (found[:, each - 1] > 0).astype(np.float64) for each in k}
    grades |= {f"precision@{each}": found[:, each - 1] / each for each in k}
    grades["map@r"] = np.where(within, found / ranks, 0).sum(1) / total
    grades["r_precision"] = within.sum(1) / total
    grades["mrr"] = 1 / np.maximum(first, 1)
    return grades


def _share_item(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """bool `[…]`: whether two sets, int64 `[…, most]` filled up with -1, share an item."""
    if one.shape[-1] == other.shape[-1] == 1:
        return one[..., 0] == other[..., 0]
    return ((one[..., :, None] == other[..., None, :]) & (one[..., :, None] >= 0)).any((-2, -1))


def _count_matches(query_sets: np.ndarray, gallery_sets: np.ndarray, exclude: np.ndarray | None) -> np.ndarray:
    """int64 `[queries]`: gallery images of each query's items, excluded ones left out."""
    names, counts = np.unique(gallery_sets[gallery_sets >= 0], return_counts=True)
    places = np.searchsorted(names, query_sets[:, 0]).clip(max=len(names) - 1)
    relevant = np.where(names[places] == query_sets[:, 0], counts[places], 0)
    for row in np.flatnonzero((query_sets[:, 1:] >= 0).any(1)):  # their items may share gallery images
        relevant[row] = _share_item(query_sets[row], gallery_sets).sum()
    if exclude is not None:
        alike = _share_item(query_sets[exclude[:, 0]], gallery_sets[exclude[:, 1]])
        relevant = relevant - np.bincount(exclude[alike, 0], minlength=len(relevant))
    return relevant


def _similarities(
    queries: Tensor, gallery: Tensor, metric: Metric, exclude: np.ndarray | None, memory: float
) -> Iterator[tuple[int, Tensor]]:
    """(first query, float32 `[some queries, gallery]`): cosines, or minus squared distances; -inf where excluded."""
    _check_embeddings(queries, gallery)
    gallery, queries = gallery.float(), queries.float()
    if metric is Metric.euclidean:
        offset = _common_offset(gallery)
        gallery, queries = gallery - offset, queries - offset
    squares = gallery.square().sum(1)
    tiles = max(1, int(memory * 2**20 / (4 * len(gallery) * QUERY_TILE)))
    buffer = torch.empty(min(tiles * QUERY_TILE, len(queries)), len(gallery), device=gallery.device)
    for start in range(0, len(queries), tiles * QUERY_TILE):
        chunk = queries[start : start + tiles * QUERY_TILE]
        held = buffer[: len(chunk)]
        for top in range(0, len(chunk), QUERY_TILE):
            tile = chunk[top : top + QUERY_TILE]
            for left in range(0, len(gallery), GALLERY_TILE):
                part = slice(left, left + GALLERY_TILE)
                product = tile @ gallery[part].T
                if metric is Metric.euclidean:
                    product = 2 * product - squares[part] - tile.square().sum(1, keepdim=True)
                held[top : top + QUERY_TILE, part] = product
        if exclude is not None:
            first, last = np.searchsorted(exclude[:, 0], [start, start + len(chunk)])
            itself = torch.from_numpy(exclude[first:last]).to(held.device)
            held[itself[:, 0] - start, itself[:, 1]] = -torch.inf
        yield start, held


def _common_offset(gallery: Tensor) -> Tensor:
    """Roughly the gallery's mean: distances of embeddings that share a long vector drown in the rounding of products.

    Its coordinates are multiples of a power of two near the embeddings' spread: what was exact, whole numbers for
    instance, stays so.
    """
    spread = float(gallery.std(0, correction=0).amax())
    grid = 2.0 ** math.floor(math.log2(spread)) if spread > 0 else 2.0**-10
    return (gallery.mean(0) / grid).round() * grid


def _check_embeddings(queries: Tensor, gallery: Tensor) -> None:
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise LapelError(
            f"embeddings do not fit together: queries {list(queries.shape)}, gallery {list(gallery.shape)}; "
            "both must be [images, dimensions]"
        )
    if not len(queries) or not len(gallery):
        raise LapelError("nothing to search: there are no queries, or the gallery is empty")
    for name, embeddings in (("queries", queries), ("gallery", gallery)):
        finite = torch.isfinite(embeddings).all(1)
        if not finite.all():
            raise LapelError(
                f"{int((~finite).sum())} of {len(finite)} {name} embeddings are NaN or infinite, "
                f"the first at position {int((~finite).nonzero()[0])}"
            )


def _top(similarities: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and similarities of the `k` largest of each row, largest first, the lower position first among equals.

    Returns:
        int64 and float32 `[rows, k]`, filled up with -1 and -inf where a row has fewer.
    """
    width = min(k, similarities.shape[1])
    top = _top_on_gpu if similarities.is_cuda else _top_on_cpu
    positions, values = top(similarities, width)
    positions[np.isneginf(values)] = NO_POSITION
    missing = ((0, 0), (0, k - width))
    return (
        np.pad(positions, missing, constant_values=NO_POSITION),
        np.pad(values, missing, constant_values=-np.inf),
    )


def _top_on_gpu(similarities: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """By one key an entry, in which value and position are packed: no two are equal, so any topk is right."""
    bits = (similarities + 0.0).view(torch.int32)  # + 0.0 turns -0.0, whose bits differ, into 0.0
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()  # integers in the order of the floats
    backwards = torch.arange(similarities.shape[1] - 1, -1, -1, device=similarities.device)
    keys = torch.topk((ordered << 32) | backwards, k, dim=1).values
    positions = similarities.shape[1] - 1 - (keys & 0xFFFFFFFF)
    return positions.cpu().numpy(), similarities.gather(1, positions).cpu().numpy()


def _top_on_cpu(similarities: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """By NumPy's partition, a fraction of torch.topk's time for long lists, and a sort of what it lets through."""
    values = similarities.numpy()
    threshold = np.partition(values, values.shape[1] - k, axis=1)[:, values.shape[1] - k, None]
    chosen = values >= threshold
    for row in np.flatnonzero(chosen.sum(1) > k):  # equal values straddle the end of the list
        ties = np.flatnonzero(values[row] == threshold[row])
        chosen[row, ties[k - chosen[row].sum() :]] = False
    positions = np.nonzero(chosen)[1].reshape(len(values), k)
    order = np.argsort(-np.take_along_axis(values, positions, 1), axis=1, kind="stable")
    positions = np.take_along_axis(positions, order, 1)
    return positions, np.take_along_axis(values, positions, 1)


def _first_match_rank(
    matches: np.ndarray,
    similarities: Tensor,
    query_sets: np.ndarray,
    gallery_sets: np.ndarray,
    relevant: np.ndarray,
) -> np.ndarray:
    """int64 `[queries]`: rank of the first match, from 1; looked for below the end of the list where it has none."""
    first = matches.argmax(1) + 1
    for row in np.flatnonzero(~matches.any(1) & (relevant > 0)):
        values = similarities[row].cpu().numpy()
        candidates = np.flatnonzero(_share_item(query_sets[row], gallery_sets))
        best = candidates[np.argmax(values[candidates])]
        first[row] = 1 + (values > values[best]).sum() + (values[:best] == values[best]).sum()
    return first
