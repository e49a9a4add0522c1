"""Scores of a model on one split, and what a reader needs to trust them."""

from lapel.evaluation.evaluating import evaluate

__all__ = ["evaluate"]
