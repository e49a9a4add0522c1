"""Confidence intervals by bootstrap."""

import numpy as np
from scipy import stats

# Resamples whose counts are held at once.
AT_ONCE = 50


def bootstrap(
    grades: dict[str, np.ndarray], clusters: np.ndarray | None, samples: int, confidence: float, seed: int
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

    Returns:
        Metric -> (lower, upper).
    """
    values = np.stack(list(grades.values()))
    if clusters is None:
        sums, sizes = values, np.ones(values.shape[1])
    else:
        _, codes = np.unique(clusters, return_inverse=True)
        sizes = np.bincount(codes).astype(np.float64)
        sums = np.stack([np.bincount(codes, weights=row) for row in values])
    means = _resampled_means(sums, sizes, samples, seed)
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(means, [tail, 1 - tail], axis=1)
    return {name: (float(low), float(high)) for name, low, high in zip(grades, lower, upper, strict=True)}


def paired_bootstrap(
    one: np.ndarray, other: np.ndarray, samples: int, confidence: float, seed: int
) -> tuple[float, float, float]:
    """Interval of the mean difference of two models on the same queries, and a two-sided p-value.

    Args:
        one, other: float64 `[queries]`, grades of the same queries.
        samples, confidence, seed: as for `bootstrap`.

    Returns:
        Lower and upper end of `other - one`, and twice the share of resamples on the far side of 0, at most 1.
    """
    difference = (other - one)[None]
    means = _resampled_means(difference, np.ones(len(one)), samples, seed)[0]
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(means, [tail, 1 - tail])
    # Counted as if one more resample had no difference: a p-value of 0 cannot be told from so many draws.
    below, above = ((means <= 0).sum() + 1, (means >= 0).sum() + 1)
    return float(lower), float(upper), float(min(1.0, 2 * min(below, above) / (samples + 1)))


def spread_of_seeds(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Student's interval of the mean over seeds; what lies between seeds, not between queries.

    Args:
        values: float64 `[seeds]`, at least 2.
        confidence: of the interval.
    """
    reach = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - reach), float(values.mean() + reach)


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
