"""Scores of a model on one split, and what a reader needs to trust them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lapel.evaluation.evaluating import evaluate, evaluated_in_folder

__all__ = ["evaluate", "evaluated_in_folder"]


def __getattr__(name: str) -> Any:
    """Imported when it is first used: evaluations are compared without torch, by which they are made."""
    if name in __all__:
        return getattr(import_module("lapel.evaluation.evaluating"), name)
    raise AttributeError(f"module 'lapel.evaluation' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
