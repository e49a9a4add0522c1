"""Scores item by item and category by category."""

import numpy as np
import pandas as pd


def grades_by(names: np.ndarray, grades: dict[str, np.ndarray]) -> pd.DataFrame:
    """Mean grades of the queries of each name, the worst MAP@R first where there is one.

    Args:
        names: text `[queries]`, of each query's item or category.
        grades: metric -> float64 `[queries]`.
    """
    each, codes, counts = np.unique(names.astype(str), return_inverse=True, return_counts=True)
    means = {name: np.bincount(codes, weights=grade) / counts for name, grade in grades.items()}
    worst = means["map@r"] if "map@r" in means else next(iter(means.values()))
    order = np.lexsort((each, -counts, worst))
    return pd.DataFrame({"name": each, "queries": counts, **means}).iloc[order].reset_index(drop=True)
