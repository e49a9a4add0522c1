"""Exact search and its scores: pure functions of embeddings and labels, the same for validation, evaluation and export.

`search` lists the nearest gallery images of each query; `score` grades them. Both walk over tiles of a fixed shape and
hold a bounded number of similarities at a time, so a result depends neither on that bound nor on how the queries are
shared out. Equal scores are ordered by gallery position, the lower first.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lapel.retrieval.exact import search
    from lapel.retrieval.pairs import NO_POSITION, Neighbors, equal_pairs, rows_once
    from lapel.retrieval.scoring import LEVELS, Depth, Graded, Scores, grade, grade_lists, score

__all__ = [
    "LEVELS",
    "NO_POSITION",
    "Depth",
    "Graded",
    "Neighbors",
    "Scores",
    "equal_pairs",
    "grade",
    "grade_lists",
    "rows_once",
    "score",
    "search",
]

# Imported when they are first used: lists of neighbours are read without torch, in which they are searched and graded.
_HOMES = {
    "pairs": ("NO_POSITION", "Neighbors", "equal_pairs", "rows_once"),
    "scoring": ("LEVELS", "Depth", "Graded", "Scores", "grade", "grade_lists", "score"),
    "exact": ("search",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"lapel.retrieval.{module}"), name)
    raise AttributeError(f"module 'lapel.retrieval' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
