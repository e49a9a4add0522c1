"""Verification: are two images of one item? Measures over pairs, by their similarity alone."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import auc, roc_curve
from torch import Tensor

from lapel.config.variant import Metric
from lapel.errors import NothingToScoreError
from lapel.retrieval.pairs import share_item

# Numbers of embeddings that are gathered at once: 8 MB for either side.
AT_ONCE = 2**21

# How often more pairs are drawn where some turn out to be excluded, or the same again.
DRAWS = 20


@dataclass(frozen=True)
class Pairs:
    """Pairs of a query and a gallery image, each once.

    Args:
        queries, gallery: int64 `[pairs]`, positions.
        alike: bool `[pairs]`, whether they are a match.
        complete: whether these are all that there are, or a sample.
    """

    queries: np.ndarray
    gallery: np.ndarray
    alike: np.ndarray
    complete: bool


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs of a query and a gallery image, by their similarity.

    Args:
        similarities: float32 `[pairs]`, the higher the more alike.
        alike, complete: as of `Pairs`.
    """

    similarities: np.ndarray
    alike: np.ndarray
    complete: bool

    def told(self, seed: int) -> str:
        """Which pairs these are, where a sample of them was drawn by a seed."""
        which, drawn = ("all ", "") if self.complete else ("", f", drawn by seed {seed}")
        return f"{which}{len(self.alike):,} pairs, {int(self.alike.sum()):,} of them matches{drawn}"


def choose_pairs(
    query_sets: np.ndarray,
    gallery_sets: np.ndarray,
    exclude: np.ndarray,
    most: int,
    seed: int,
    compared: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Pairs:
    """All pairs that are not excluded; where they are more than `most`, as many matches and others drawn evenly.

    ROC curves do not depend on the share of matches, and with the few of a random sample they would be rough.

    Args:
        query_sets, gallery_sets: int64 `[images, most]`, items of each image, filled up with -1.
        exclude: int64 `[pairs, 2]`, (query, gallery) positions that never count.
        most: pairs taken at most.
        seed: of the draw.
        compared: which pairs of positions are looked at, bool `[pairs]`; all by default.

    Raises:
        NothingToScoreError: no pair is a match, or none is not.
    """
    width = len(gallery_sets)
    forbidden = exclude[:, 0] * width + exclude[:, 1]

    def allowed(codes: np.ndarray) -> np.ndarray:
        codes = codes[~np.isin(codes, forbidden)]
        return codes if compared is None else codes[compared(*np.divmod(codes, width))]

    complete = len(query_sets) * width <= most
    if complete:
        codes = allowed(np.arange(len(query_sets) * width))
    else:
        generator = np.random.default_rng(seed)
        kinds = [
            _drawn(_Matches(query_sets, gallery_sets), allowed, most // 2, generator),
            _drawn(_Others(query_sets, gallery_sets), allowed, most // 2, generator),
        ]
        codes = np.concatenate(kinds)
    queries, gallery = np.divmod(codes, width)
    alike = share_item(query_sets[queries], gallery_sets[gallery])
    if alike.all() or not alike.any():
        kind = "is of two items" if alike.all() else "is of one item"
        raise NothingToScoreError(f"verification: no pair of a query and a gallery image {kind}")
    return Pairs(queries, gallery, alike, complete)


class _Matches:
    """Draws matches evenly."""

    def __init__(self, query_sets: np.ndarray, gallery_sets: np.ndarray) -> None:
        self.width = len(gallery_sets)
        places, columns = np.nonzero(gallery_sets >= 0)
        items = gallery_sets[places, columns]
        order = np.argsort(items, kind="stable")
        self.places = places[order]
        self.queries, columns = np.nonzero(query_sets >= 0)
        wanted = query_sets[self.queries, columns]
        self.starts = np.searchsorted(items[order], wanted, side="left")
        counts = np.searchsorted(items[order], wanted, side="right") - self.starts
        self.ends = counts.cumsum()

    def draw(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Codes of so many, with repetitions."""
        if not self.ends[-1]:
            return np.empty(0, dtype=np.int64)
        chosen = generator.integers(0, self.ends[-1], count)
        rows = np.searchsorted(self.ends, chosen, side="right")
        before = np.where(rows > 0, self.ends[rows - 1], 0)
        return self.queries[rows] * self.width + self.places[self.starts[rows] + chosen - before]


class _Others:
    """Draws pairs that are no match evenly."""

    def __init__(self, query_sets: np.ndarray, gallery_sets: np.ndarray) -> None:
        self.query_sets, self.gallery_sets = query_sets, gallery_sets

    def draw(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Codes of at most so many, with repetitions."""
        width = len(self.gallery_sets)
        queries, gallery = np.divmod(generator.integers(0, len(self.query_sets) * width, count), width)
        different = ~share_item(self.query_sets[queries], self.gallery_sets[gallery])
        return queries[different] * width + gallery[different]


def _drawn(
    kind: _Matches | _Others,
    allowed: Callable[[np.ndarray], np.ndarray],
    count: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """int64: codes of at most so many pairs of a kind, each once, in the order in which they were drawn."""
    found = np.empty(0, dtype=np.int64)
    for _ in range(DRAWS):
        found = np.concatenate([found, allowed(kind.draw(count, generator))])
        _, first = np.unique(found, return_index=True)
        found = found[np.sort(first)]
        if len(found) >= count:
            break
    return found[:count]


def similarities(queries: Tensor, gallery: Tensor, pairs: Pairs, metric: Metric) -> np.ndarray:
    """float32 `[pairs]`: cosine, or minus the euclidean distance."""
    parts, step = [], max(1, AT_ONCE // queries.shape[1])
    for start in range(0, len(pairs.queries), step):
        part = slice(start, start + step)
        left = queries[torch.from_numpy(pairs.queries[part]).to(queries.device)]
        right = gallery[torch.from_numpy(pairs.gallery[part]).to(gallery.device)]
        found = (left * right).sum(1) if metric is Metric.cosine else -(left - right).square().sum(1).sqrt()
        parts.append(found.cpu().numpy())
    return np.concatenate(parts)


def verification(similarity: np.ndarray, alike: np.ndarray, false_positive_rates: list[float]) -> dict[str, float]:
    """Area under the ROC curve, equal error rate, and the true positive rate at some false positive rates.

    - `auc`: chance that a match is more similar than a pair that is none, ties counted half.
    - `eer`: the error rate at which as large a share of matches is refused as of others accepted, where need be
      between two points of the curve.
    - `tpr@fpr=F`: share of matches accepted at the lowest threshold that accepts at most the share F of the others.

    Args:
        similarity: `[pairs]`.
        alike: bool `[pairs]`, which of them are matches.
        false_positive_rates: the F.
    """
    accepted, found, _ = roc_curve(alike, similarity, drop_intermediate=False)
    grades = {"auc": float(auc(accepted, found)), "eer": _equal_error_rate(accepted, found)}
    for rate in false_positive_rates:
        grades[f"tpr@fpr={rate:g}"] = float(found[accepted <= rate][-1])
    return grades


def _equal_error_rate(accepted: np.ndarray, found: np.ndarray) -> float:
    """Where the curve meets the diagonal from (0, 1) to (1, 0), straight between its points."""
    excess = found + accepted - 1  # ascending from -1 to 1
    after = int(np.searchsorted(excess, 0))
    if excess[after] == 0:
        return float(accepted[after])
    share = -excess[after - 1] / (excess[after] - excess[after - 1])
    return float(accepted[after - 1] + share * (accepted[after] - accepted[after - 1]))
