"""k-reciprocal re-ranking: similarities that also tell how many neighbours two images share.

Zhong, Zheng, Cao & Li, "Re-ranking person re-identification with k-reciprocal encoding", CVPR 2017, whose numbers of
equations are given.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from lapel.config.variant import Metric
from lapel.retrieval.exact import nearest
from lapel.retrieval.pairs import equal_pairs, numbered
from lapel.retrieval.tiles import SINGLE, Rows, Tiles

# Share of its own set that a reciprocal neighbour's must have in common with an image's to be added (eq. 5).
COMMON = 2 / 3

# Numbers that are gathered at once.
AT_ONCE = 2**22


@dataclass(frozen=True)
class Encoded:
    """The set of images, each once, with their k-reciprocal encodings.

    Args:
        vectors: sparse `[images, images]`, V of each image (eq. 7, averaged as in eq. 11).
        queries, gallery: int64, where each query and each gallery image stands in the set.
    """

    vectors: sparse.csr_array
    queries: np.ndarray
    gallery: np.ndarray


def encode(images: Tensor, first: int, second: int) -> sparse.csr_array:
    """k-reciprocal encodings V `[images, images]` of a set of images.

    Args:
        images: unit vectors, float32 `[images, dimensions]`.
        first: k1, neighbours that are looked at.
        second: k2, neighbours over which encodings are averaged.
    """
    count = len(images)
    every = np.arange(count)
    deepest = min(max(first, second), count - 1)
    found = nearest(Tiles(images, images, Metric.cosine, equal_pairs(every, every)), max(1, deepest)).positions
    # An image is the first of its own neighbours.
    lists = np.column_stack([every, found])[:, : deepest + 1]
    reciprocal, halves = _reciprocal(lists, first), _reciprocal(lists, round(first / 2))
    # R*: a neighbour's own set joins, where it has enough in common (eq. 5).
    common = (reciprocal @ halves.T).multiply(reciprocal).tocsr()
    sizes = np.asarray(halves.sum(axis=1)).reshape(-1)
    common.data = (common.data >= COMMON * sizes[np.asarray(common.indices)]).astype(np.float64)
    common.eliminate_zeros()
    expanded = sparse.csr_array(reciprocal + common @ halves)
    expanded.data = _kernel(images, expanded)
    near = _members(lists[:, : max(1, second)])
    return sparse.csr_array(near @ expanded) / min(max(1, second), lists.shape[1])


def _members(lists: np.ndarray) -> sparse.csr_array:
    """1 where an image (column) stands in a list (row)."""
    count, length = lists.shape
    ends = np.arange(0, count * length + 1, length)
    columns = lists.flatten()  # a copy, since it is sorted
    found = sparse.csr_array((np.ones(lists.size), columns, ends), shape=(count, count))
    found.sort_indices()
    return found


def _reciprocal(lists: np.ndarray, k: int) -> sparse.csr_array:
    """R(p, k): 1 where two images stand in each other's first k, or are the same (eq. 2)."""
    near = _members(lists[:, : k + 1])
    return sparse.csr_array(near.multiply(near.T))


def _kernel(images: Tensor, pattern: sparse.csr_array) -> np.ndarray:
    """exp(-d) of each entry of a pattern (eq. 7), with d = 1 - cosine."""
    rows = np.repeat(np.arange(len(images)), np.diff(pattern.indptr))
    step = max(1, AT_ONCE // images.shape[1])
    parts = []
    for start in range(0, len(rows), step):
        left, right = (
            images[torch.from_numpy(each[start : start + step].astype(np.int64)).to(images.device)].double()
            for each in (rows, np.asarray(pattern.indices))
        )
        parts.append(torch.exp((left * right).sum(1) - 1).cpu().numpy())
    return np.concatenate(parts)


class Reranked(Tiles):
    """Minus `(1 - share) Jaccard distance + share d` (eq. 12), with `d = 1 - cosine`; else as `Tiles`.

    The Jaccard distance is that of the encodings, `1 - sum min(V_q, V_g) / sum max(V_q, V_g)` (eq. 10). It is 1 but for
    the few images that have a neighbour in common with a query, and only those are held.

    Args:
        queries, gallery, exclude: as for `Tiles`, of unit vectors.
        encoded: the set that the images belong to, in the order of these queries and this gallery.
        share: lambda, of the original distance.
    """

    def __init__(
        self, queries: Tensor, gallery: Tensor, exclude: np.ndarray | None, encoded: Encoded, share: float
    ) -> None:
        super().__init__(queries, gallery, Metric.cosine, exclude, whole=True)
        self.encoded, self.share = encoded, share
        self.columns = sparse.csr_array(encoded.vectors[encoded.gallery].T)  # image of the set -> gallery, V_g
        self.sums = np.asarray(encoded.vectors.sum(axis=1)).reshape(-1)
        self._rows, self._shared = slice(0, 0), sparse.csr_array((0, len(gallery)))

    def product(self, rows: slice, part: slice, found: Tensor) -> Tensor:
        """See `Tiles`."""
        super().product(rows, part, found)
        found.sub_(1).mul_(self.share).sub_(1 - self.share)
        shared = self._similarities(rows)[:, part.start : part.stop].tocoo()
        places = torch.from_numpy(np.stack([shared.row, shared.col]).astype(np.int64)).to(found.device)
        gained = torch.from_numpy((1 - self.share) * shared.data).float().to(found.device)
        found[places[0], places[1]] += gained
        self.leave_out(rows, part, found)  # once more: nothing times -inf is no number
        return found

    def precise(self, rows: np.ndarray) -> Tensor:
        """See `Tiles`."""
        found = super().precise(rows).sub_(1).mul_(self.share).sub_(1 - self.share)
        shared = torch.from_numpy(self._of_queries(rows).toarray()).to(found.device)
        found.add_(shared, alpha=1 - self.share)
        self.leave_out(rows, slice(0, found.shape[1]), found)
        return found

    def exact(self, rows: Rows, positions: np.ndarray) -> np.ndarray:
        """See `Tiles`."""
        shared = self._similarities(rows) if isinstance(rows, slice) else self._of_queries(rows)
        kept = np.stack([shared[[row]].toarray()[0][each] for row, each in enumerate(positions)])
        return self.share * (super().exact(rows, positions) - 1) - (1 - self.share) * (1 - kept)

    def error(self, unit: float = SINGLE) -> Tensor:
        """See `Tiles`."""
        return self.share * super().error(unit) + 8 * unit

    def _similarities(self, rows: slice) -> sparse.csr_array:
        """1 minus the Jaccard distance of some queries and all of the gallery; the last ones are kept."""
        if (self._rows.start, self._rows.stop) != (rows.start, rows.stop):
            self._shared = self._of_queries(np.arange(rows.start, min(rows.stop, len(self))))
            self._rows = rows
        return self._shared

    def _of_queries(self, rows: np.ndarray) -> sparse.csr_array:
        held = [self._of_query(image) for image in self.encoded.queries[rows].tolist()]
        return sparse.csr_array(sparse.vstack(held))

    def _of_query(self, image: int) -> sparse.csr_array:
        inside = slice(*self.encoded.vectors.indptr[image : image + 2])
        neighbors, weights = np.asarray(self.encoded.vectors.indices)[inside], self.encoded.vectors.data[inside]
        starts = self.columns.indptr[neighbors]
        counts = self.columns.indptr[neighbors + 1] - starts
        places = numbered(counts) + np.repeat(starts, counts)
        smaller = np.minimum(self.columns.data[places], np.repeat(weights, counts))
        width = len(self.encoded.gallery)
        shared = np.bincount(np.asarray(self.columns.indices)[places], weights=smaller, minlength=width)
        found = np.flatnonzero(shared)
        larger = self.sums[image] + self.sums[self.encoded.gallery[found]] - shared[found]
        return sparse.csr_array((shared[found] / larger, found, [0, len(found)]), shape=(1, width))
