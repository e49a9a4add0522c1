"""Confidence intervals: by bootstrap, and by Wilson's formula where a share is all but 0 or 1."""

import numpy as np
from scipy import stats

# Resamples whose counts are held at once.
AT_ONCE = 50

# Fewer queries, or items, that were found (or not) than these: resamples of them hardly differ.
FEW = 10


def bootstrap(
    grades: dict[str, np.ndarray],
    clusters: np.ndarray | None,
    samples: int,
    confidence: float,
    seed: int,
    shares: bool = False,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the means: queries, or whole clusters of them, are drawn with replacement.

    Efron & Tibshirani, "An introduction to the bootstrap", 1993, section 13.3. Where the items of a test were never
    trained on, they are what was drawn at random, and the queries of one item are not independent: resample the items.

    Args:
        grades: metric -> float64 `[queries]`.
        clusters: int64 `[queries]`, of each query; None for each on its own.
        samples: resamples drawn.
        confidence: share of the resamples inside an interval.
        seed: of the draws.
        shares: whether grades are from 0 to 1: then those of which `few_differ` have Wilson's interval.

    Returns:
        Metric -> (lower, upper).
    """
    sums, sizes = _in_clusters(np.stack(list(grades.values())), clusters)
    means = _resampled_means(sums, sizes, samples, seed)
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(means, [tail, 1 - tail], axis=1)
    found = {name: (float(low), float(high)) for name, low, high in zip(grades, lower, upper, strict=True)}
    for name, each in grades.items():
        if shares and few_differ(each, clusters):
            found[name] = wilson(float(each.mean()), len(sizes), confidence)
    return found


def _in_clusters(values: np.ndarray, clusters: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sums `[metrics, clusters]` of values `[metrics, queries]`, and the clusters' sizes; queries are their own."""
    if clusters is None:
        return values, np.ones(values.shape[1])
    _, codes = np.unique(clusters, return_inverse=True)
    sums = np.stack([np.bincount(codes, weights=row) for row in values])
    return sums, np.bincount(codes).astype(np.float64)


def few_differ(grades: np.ndarray, clusters: np.ndarray | None) -> bool:
    """Whether grades are all 0 or 1, and too few of the queries, or clusters of them, have the rarer one."""
    if not np.isin(grades, (0.0, 1.0)).all():
        return False
    sums, sizes = _in_clusters(grades[None], clusters)
    return int(min((sums[0] > 0).sum(), (sums[0] < sizes).sum())) < FEW


def wilson(share: float, count: int, confidence: float) -> tuple[float, float]:
    """Wilson's interval of a share of `count` (Wilson, "Probable inference", JASA 1927).

    For 10 of 10 it begins at 0.72; resamples of ten equal grades would say that it is 1, surely.
    """
    z = stats.norm.ppf((1 + confidence) / 2)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return float(max(0.0, middle - reach)), float(min(1.0, middle + reach))


def paired_bootstrap(
    one: np.ndarray,
    other: np.ndarray,
    samples: int,
    confidence: float,
    seed: int,
    clusters: np.ndarray | None = None,
) -> tuple[float, float, float]:
    """Interval of the mean difference of two models on the same queries, and a two-sided p-value.

    Args:
        one, other: float64 `[queries]`, grades of the same queries.
        samples, confidence, seed, clusters: as for `bootstrap`.

    Returns:
        Lower and upper end of `other - one`, and twice the share of resamples on the far side of 0, at most 1.
    """
    means = _resampled_means(*_in_clusters((other - one)[None], clusters), samples, seed)[0]
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(means, [tail, 1 - tail])
    # Counted as if one more resample had no difference: a p-value of 0 cannot be told from so many draws.
    below, above = ((means <= 0).sum() + 1, (means >= 0).sum() + 1)
    return float(lower), float(upper), float(min(1.0, 2 * min(below, above) / (samples + 1)))


def spread_of_seeds(values: np.ndarray, confidence: float, share: bool = False) -> tuple[float, float]:
    """Student's interval of the mean over seeds; what lies between seeds, not between queries.

    Of two seeds it is so wide that it may go beyond what a score can be. No mean lies there: to cut off that part takes
    nothing from how often the interval holds the mean.

    Args:
        values: float64 `[seeds]`, at least 2.
        confidence: of the interval.
        share: whether the score is from 0 to 1: then the interval is, too.
    """
    reach = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    low, high = float(values.mean() - reach), float(values.mean() + reach)
    return (max(0.0, low), min(1.0, high)) if share else (low, high)


def _resampled_means(sums: np.ndarray, sizes: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """float64 `[metrics, samples]`: weighted means over clusters drawn with replacement."""
    generator = np.random.default_rng(seed)
    count = len(sizes)
    parts = []
    for start in range(0, samples, AT_ONCE):
        drawn = generator.integers(0, count, (min(AT_ONCE, samples - start), count))
        times = np.stack([np.bincount(row, minlength=count) for row in drawn]).astype(np.float64)
        parts.append((sums @ times.T) / (times @ sizes))
    return np.concatenate(parts, axis=1)
