"""Similarities of all queries with all of the gallery, a tile at a time."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lapel.config.evaluation import DEFAULT_MEMORY
from lapel.config.variant import Metric
from lapel.errors import LapelError

# Shape of one matrix product. It never varies with the memory allowed: another shape may round differently. Many
# queries, as each tile of them goes through the whole gallery; few enough gallery images that the product stays in the
# cache.
QUERY_TILE = 1024
GALLERY_TILE = 2048

# Queries of one product where whole rows are wanted: the least that can be held. A divisor of QUERY_TILE.
ROW_TILE = 256

# Length of an embedding: the products of longer ones may be more than float32 holds.
LONGEST = 1e18

# Numbers that are multiplied at once in float64: few enough to stay in the cache.
EXACT_AT_ONCE = 2**18


class Tiles:
    """float32 similarities of queries and gallery: cosines, or minus squared distances; -inf where excluded.

    Args:
        queries: `[queries, dimensions]`; unit vectors for cosine.
        gallery: `[gallery, dimensions]`, on the same device.
        metric: of the model that made the embeddings.
        exclude: int64 `[pairs, 2]`, (query, gallery) positions that never count, by ascending query, each once.

    Raises:
        LapelError: an embedding is not finite or longer than `LONGEST`, or the shapes do not fit.
    """

    def __init__(self, queries: Tensor, gallery: Tensor, metric: Metric, exclude: np.ndarray | None) -> None:
        check_embeddings(queries, gallery)
        self.given = queries, gallery
        self.queries, self.gallery, self.metric, self.exclude = queries.float(), gallery.float(), metric, exclude
        if metric is Metric.euclidean:
            offset = _common_offset(self.gallery)
            self.queries, self.gallery = self.queries - offset, self.gallery - offset
        self.squares = self.gallery.square().sum(1)

    def __len__(self) -> int:
        return len(self.queries)

    def query_tiles(self) -> list[slice]:
        """The queries, tile after tile."""
        return [slice(top, min(top + QUERY_TILE, len(self))) for top in range(0, len(self), QUERY_TILE)]

    def parts(self) -> list[slice]:
        """The gallery, part after part."""
        width = len(self.gallery)
        return [slice(left, min(left + GALLERY_TILE, width)) for left in range(0, width, GALLERY_TILE)]

    def product(self, rows: slice, part: slice, found: Tensor) -> Tensor:
        """Similarities `[rows, images of the part]` of some queries, written to `found`, which is given back."""
        tile, gallery = self.queries[rows], self.gallery[part]
        torch.mm(tile, gallery.T, out=found)
        if self.metric is Metric.euclidean:
            found.mul_(2).sub_(self.squares[part]).sub_(tile.square().sum(1, keepdim=True))
        self.leave_out(rows, part, found)
        return found

    def leave_out(self, rows: slice, part: slice, found: Tensor) -> None:
        """-inf where pairs are excluded."""
        if self.exclude is None:
            return
        first, last = np.searchsorted(self.exclude[:, 0], [rows.start, rows.stop])
        pairs = self.exclude[first:last]
        pairs = pairs[(pairs[:, 1] >= part.start) & (pairs[:, 1] < part.stop)]
        places = torch.from_numpy(pairs - [rows.start, part.start]).to(found.device)
        found[places[:, 0], places[:, 1]] = -torch.inf

    def exact(self, rows: slice, positions: np.ndarray) -> np.ndarray:
        """float64 `[rows, some]`: cosines, or minus distances, of queries and the gallery images at `positions`."""
        queries, gallery = self.given
        wide, places = queries[rows], torch.from_numpy(positions).to(gallery.device)
        step = max(1, EXACT_AT_ONCE // max(1, places.shape[1] * gallery.shape[1]))
        scores = [
            self._exact(some.double()[:, None], gallery[near].double())
            for some, near in zip(wide.split(step), places.split(step), strict=True)
        ]
        return torch.cat(scores).cpu().numpy()

    def _exact(self, queries: Tensor, near: Tensor) -> Tensor:
        if self.metric is Metric.cosine:
            return (queries * near).sum(2)
        return -(queries - near).square().sum(2).sqrt()

    def rows(self, memory: float = DEFAULT_MEMORY) -> Iterator[tuple[int, Tensor]]:
        """(first query, `[some queries, gallery]`): whole rows; the tensor is written over by the next.

        Args:
            memory: megabytes that the rows may take; those of `ROW_TILE` queries they always do.
        """
        step = ROW_TILE * max(1, int(min(memory * 2**20 / (4 * len(self.gallery) * ROW_TILE), len(self))))
        held = torch.empty(min(step, len(self)), len(self.gallery), device=self.gallery.device)
        for first in range(0, len(self), step):
            block = held[: len(self) - first]
            for top in range(0, len(block), ROW_TILE):
                for part in self.parts():
                    tile = slice(first + top, first + top + ROW_TILE)
                    self.product(tile, part, block[top : top + ROW_TILE, part])
            yield first, block

    def error(self) -> Tensor:
        """`[queries]`: how far a similarity may be from the exact one, at most.

        A float32 product of n terms, summed in any order, is off by at most n u |q| |g| to first order, u = 2^-24
        (Higham, "Accuracy and stability of numerical algorithms", 2002, section 3.1); twice that covers the rest.
        """
        lengths, longest = self.queries.norm(dim=1), self.squares.max().sqrt()
        terms = self.gallery.shape[1] + 4
        if self.metric is Metric.cosine:
            return 2 * terms * 2.0**-24 * lengths * longest
        return 2 * terms * 2.0**-24 * (lengths + longest).square()


def _common_offset(gallery: Tensor) -> Tensor:
    """Roughly the gallery's mean: distances of embeddings that share a long vector drown in the rounding of products.

    Its coordinates are multiples of a power of two near the embeddings' spread: what was exact, whole numbers for
    instance, stays so.
    """
    spread = float(gallery.std(0, correction=0).amax())
    grid = 2.0 ** math.floor(math.log2(spread)) if spread > 0 else 2.0**-10
    return (gallery.mean(0) / grid).round() * grid


def check_embeddings(queries: Tensor, gallery: Tensor) -> None:
    """Raise if embeddings cannot be compared.

    Raises:
        LapelError: see `Tiles`.
    """
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
        longest = float(embeddings.float().norm(dim=1).max())
        if longest > LONGEST:
            raise LapelError(f"the longest of the {name} embeddings is {longest:.3g}: must be at most {LONGEST:g}")
