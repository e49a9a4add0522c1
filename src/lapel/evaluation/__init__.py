"""Scores of a model on one split, and what a reader needs to trust them."""

from lapel.evaluation.evaluating import evaluate, evaluated_in_folder

__all__ = ["evaluate", "evaluated_in_folder"]
