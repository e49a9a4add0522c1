"""Exact search and its scores: pure functions of embeddings and labels, the same for validation, evaluation and export.

`search` lists the nearest gallery images of each query; `score` grades them. Both walk over tiles of a fixed shape and
hold a bounded number of similarities at a time, so a result depends neither on that bound nor on how the queries are
shared out. Equal scores are ordered by gallery position, the lower first.
"""

from lapel.retrieval.pairs import NO_POSITION, equal_pairs, rows_once
from lapel.retrieval.scoring import LEVELS, Depth, Graded, Scores, grade, grade_lists, score
from lapel.retrieval.search import Neighbors, search

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
