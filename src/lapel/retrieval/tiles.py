"""Similarities of all queries with all of the gallery, a tile at a time."""

import math
from collections.abc import Iterator
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from lapel.config.evaluation import DEFAULT_MEMORY
from lapel.config.variant import Metric
from lapel.errors import LapelError
from lapel.retrieval.copies import Copies, many_copies
from lapel.retrieval.pairs import numbered

# Shape of one matrix product. It never varies with the memory allowed: another shape may round differently. Many
# queries, as each tile of them goes through the whole gallery; few enough gallery images that the product stays in the
# cache.
QUERY_TILE = 1024
GALLERY_TILE = 2048

# Queries of one product where whole rows are wanted: the least that can be held. A divisor of QUERY_TILE.
ROW_TILE = 256

# Queries whose similarities are copied at once: what is held besides them is a fraction of a `ROW_TILE`'s.
COPIED_AT_ONCE = 32

# Queries: some that follow each other, or int64 positions of any.
Rows = slice | np.ndarray

# Unit roundoff of float32 and float64.
SINGLE, DOUBLE = 2.0**-24, 2.0**-53

# Length of an embedding: the products of longer ones may be more than float32 holds.
LONGEST = 1e18

# Numbers that are multiplied at once in float64: few enough to stay in the cache.
EXACT_AT_ONCE = 2**18


class Tiles:
    """float32 similarities of queries and gallery: cosines, or minus squared distances; -inf where excluded.

    Embeddings that share a long vector have cosines that differ by less than float32 tells of numbers near 1. What they
    share is left out: with m near the gallery's mean, q.g is (q-m).(g-m) + m.(g-m) + q.m, of which the last is one
    number for each query, and is not added. Where they share none, m is 0, and these are the cosines themselves.

    Args:
        queries: `[queries, dimensions]`; unit vectors for cosine.
        gallery: `[gallery, dimensions]`, on the same device.
        metric: of the model that made the embeddings.
        exclude: int64 `[pairs, 2]`, (query, gallery) positions that never count, by ascending query, each once.
        whole: whether similarities are wanted whole, and of each image by itself.

    Raises:
        LapelError: an embedding is not finite or longer than `LONGEST`, or the shapes do not fit.
    """

    def __init__(
        self, queries: Tensor, gallery: Tensor, metric: Metric, exclude: np.ndarray | None, whole: bool = False
    ) -> None:
        check_embeddings(queries, gallery)
        self.given = queries, gallery
        self.queries, self.gallery, self.metric, self.exclude = queries.float(), gallery.float(), metric, exclude
        self.whole = whole
        self.lengths = self.queries.norm(dim=1), self.gallery.norm(dim=1).max()
        self.offset = _common_offset(self.gallery)
        if whole and metric is Metric.cosine:
            self.offset = torch.zeros_like(self.offset)
        self.shared = None
        if self.offset.any():
            self.queries, self.gallery = self.queries - self.offset, self.gallery - self.offset
            self.shared = self._along_offset() if metric is Metric.cosine else None
        self.squares = self.gallery.square().sum(1)

    def __len__(self) -> int:
        return len(self.queries)

    @cached_property
    def copies(self) -> Copies | None:
        """The copies in the gallery, looked for when they are first asked for."""
        return None if self.whole else many_copies(self.given[1].float())

    def query_tiles(self) -> list[slice]:
        """The queries, tile after tile."""
        return [slice(top, min(top + QUERY_TILE, len(self))) for top in range(0, len(self), QUERY_TILE)]

    def parts(self) -> list[slice]:
        """The gallery, part after part."""
        width = len(self.gallery)
        return [slice(left, min(left + GALLERY_TILE, width)) for left in range(0, width, GALLERY_TILE)]

    def product(self, rows: Rows, part: slice, found: Tensor) -> Tensor:
        """Similarities `[rows, images of the part]` of some queries, written to `found`, which is given back."""
        self._compare(rows, part, found)
        self.leave_out(rows, part, found)
        return found

    def _compare(self, rows: Rows, part: slice, found: Tensor) -> None:
        tile, gallery = self.queries[rows], self.gallery[part]
        torch.mm(tile, gallery.T, out=found)
        if self.metric is Metric.euclidean:
            found.mul_(2).sub_(self.squares[part]).sub_(tile.square().sum(1, keepdim=True))
        elif self.shared is not None:
            found.add_(self.shared[part].float())

    def _along_offset(self) -> Tensor:
        """float64 `[gallery]`: m.(g-m) of each image."""
        offset = self.offset.double()
        return torch.cat([(part.double() - offset) @ offset for part in self.given[1].split(GALLERY_TILE)])

    def leave_out(self, rows: Rows, part: slice, found: Tensor) -> None:
        """-inf where pairs are excluded."""
        if self.exclude is None:
            return
        pairs = excluded_pairs(self.exclude, rows)
        pairs = pairs[(pairs[:, 1] >= part.start) & (pairs[:, 1] < part.stop)]
        places = torch.from_numpy(pairs - [0, part.start]).to(found.device)
        found[places[:, 0], places[:, 1]] = -torch.inf

    def exact(self, rows: Rows, positions: np.ndarray) -> np.ndarray:
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

    def precise(self, rows: np.ndarray) -> Tensor:
        """What `product` tells, in float64: `[rows, gallery]`, of queries at some positions and the whole gallery."""
        offset = self.offset.double()
        queries = self.given[0][torch.from_numpy(rows).to(self.gallery.device)].double() - offset
        found = queries.new_empty(len(queries), len(self.gallery))
        for part in self.parts():
            gallery = self.given[1][part].double() - offset
            torch.mm(queries, gallery.T, out=found[:, part])
            if self.metric is Metric.euclidean:
                found[:, part].mul_(2).sub_(gallery.square().sum(1)).sub_(queries.square().sum(1, keepdim=True))
            elif self.shared is not None:
                found[:, part].add_(self.shared[part])
        self.leave_out(rows, slice(0, len(self.gallery)), found)
        return found

    def rows(self, memory: float = DEFAULT_MEMORY) -> Iterator[tuple[int, Tensor]]:
        """(first query, `[some queries, gallery]`): whole rows; the tensor is written over by the next.

        Args:
            memory: megabytes that the rows may take; those of `ROW_TILE` queries they always do.
        """
        step = ROW_TILE * max(1, int(min(memory * 2**20 / (4 * len(self.gallery) * ROW_TILE), len(self))))
        held = torch.empty(min(step, len(self)), len(self.gallery), device=self.gallery.device)
        fill = self._fill if self.copies is None else partial(self._fill_copied, self.copies)
        for first in range(0, len(self), step):
            block = held[: len(self) - first]
            for top in range(0, len(block), ROW_TILE):
                fill(slice(first + top, first + top + ROW_TILE), block[top : top + ROW_TILE])
            yield first, block

    def _fill(self, rows: slice, found: Tensor) -> None:
        for part in self.parts():
            self.product(rows, part, found[:, part])

    def _fill_copied(self, copies: Copies, rows: slice, found: Tensor) -> None:
        """As `_fill`, but images of one embedding have one similarity to the last bit: that of the first of them."""
        for part in self.parts():
            self._compare(rows, part, found[:, part])
        first = torch.from_numpy(copies.first[copies.of]).to(found.device)
        for some in found.split(COPIED_AT_ONCE):
            some.copy_(some.index_select(1, first))
        self.leave_out(rows, slice(0, found.shape[1]), found)

    def different(self, copies: Copies) -> tuple["Tiles", int]:
        """The tiles of the different embeddings; and how many images, at most, a query is not to find of those left."""
        exclude, more = copies.excluded(self.exclude)
        first = torch.from_numpy(copies.first).to(self.gallery.device)
        return Tiles(self.given[0], self.given[1][first], self.metric, exclude), more

    def among(self, rows: np.ndarray, positions: np.ndarray) -> "Tiles":
        """The tiles of some queries and of some gallery images alone, both by ascending positions."""
        queries, gallery = (
            whole[torch.from_numpy(some).to(whole.device)]
            for whole, some in zip(self.given, (rows, positions), strict=True)
        )
        if self.exclude is None:
            return Tiles(queries, gallery, self.metric, None)
        pairs = excluded_pairs(self.exclude, rows)
        pairs = pairs[np.isin(pairs[:, 1], positions)]
        pairs[:, 1] = np.searchsorted(positions, pairs[:, 1])
        return Tiles(queries, gallery, self.metric, pairs)

    def error(self, unit: float = SINGLE) -> Tensor:
        """`[queries]`: how far a similarity may be from the one that `exact` tells, at most.

        A product of n terms, summed in any order, is off by at most n u |q| |g| to first order, u = 2^-24 in float32
        (Higham, "Accuracy and stability of numerical algorithms", 2002, section 3.1); twice that covers the rest. What
        `exact` itself rounds counts, too, where little is left of the embeddings without what they share.

        Args:
            unit: u, of the numbers in which it is told.
        """
        lengths, longest = self.queries.norm(dim=1), self.squares.max().sqrt()
        terms = self.gallery.shape[1] + 4
        if self.metric is Metric.euclidean:
            return 2 * terms * unit * (lengths + longest).square()
        rounded = 2 * terms * DOUBLE * self.lengths[0] * self.lengths[1]
        added = 0.0 if self.shared is None else 2 * unit * float(self.shared.abs().max())
        return 2 * terms * unit * lengths * longest + added + rounded


def excluded_pairs(exclude: np.ndarray, rows: Rows) -> np.ndarray:
    """int64 `[pairs, 2]`: (number among some queries, gallery position) of what is excluded for them.

    Args:
        exclude: int64 `[pairs, 2]`, (query, gallery) positions, by ascending query.
        rows: the queries.
    """
    if isinstance(rows, slice):
        first, last = np.searchsorted(exclude[:, 0], [rows.start, rows.stop])
        return exclude[first:last] - [rows.start, 0]
    starts, ends = (np.searchsorted(exclude[:, 0], rows, side) for side in ("left", "right"))
    places = numbered(ends - starts) + np.repeat(starts, ends - starts)
    return np.column_stack([np.repeat(np.arange(len(rows)), ends - starts), exclude[places, 1]])


def _common_offset(gallery: Tensor) -> Tensor:
    """Roughly the gallery's mean: distances of embeddings that share a long vector drown in the rounding of products.

    Its coordinates are multiples of a power of two near the embeddings' spread: what was exact, whole numbers for
    instance, stays so.
    """
    mean = gallery.mean(0)
    # In parts, since torch.std takes several times as long, and all at once would be held twice.
    parts = [(part - mean).square().sum(0, dtype=torch.float64) for part in gallery.split(GALLERY_TILE)]
    spread = float((torch.stack(parts).sum(0).amax() / len(gallery)).sqrt())
    grid = 2.0 ** math.floor(math.log2(spread)) if spread > 0 else 2.0**-10
    return (mean / grid).round() * grid


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
