"""Scores item by item and category by category."""

import numpy as np
import pandas as pd


def grades_by(names: np.ndarray, grades: dict[str, np.ndarray]) -> pd.DataFrame:
    """Mean grades of the queries of each name, the worst MAP@R first where there is one.

    Args:
        names: text `[queries]`, of each query's item or category.
        grades: metric -> float64 `[queries]`.
    """
    table = pd.DataFrame({"name": names, **grades})
    means = table.groupby("name", sort=True).mean()
    means.insert(0, "queries", table.groupby("name", sort=True).size())
    worst = "map@r" if "map@r" in grades else next(iter(grades))
    return means.sort_values([worst, "queries"], ascending=[True, False], kind="stable").reset_index()
