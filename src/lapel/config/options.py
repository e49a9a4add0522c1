"""What every option is made of: a default, an allowed range, and whether a resume may change it."""

import difflib
import math
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, field, fields
from typing import Any

from omegaconf import MISSING, DictConfig, ListConfig

from lapel.errors import LapelError


def option(
    default: Any = NO_DEFAULT,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    free_text: bool = False,
    how: bool = False,
) -> Any:
    """A dataclass field with a default and its allowed range.

    Args:
        default: the value when nothing is said; left out where the value must come from a yaml file.
        above, at_least, at_most: bounds of a number, or of each number of a list. `None` always passes.
        free_text: the value is any text (a path, a query), so commands quote it before Hydra's grammar sees it.
        how: the value says where and how something is computed, not what comes of it: a resume may change it.
    """
    metadata = {"above": above, "at_least": at_least, "at_most": at_most, "free_text": free_text, "how": how}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=MISSING if default is NO_DEFAULT else default, metadata=metadata)


def allowed_range(metadata: Any) -> str:
    """The allowed range in words: "at least 1 and at most 8"."""
    words = [("above", "more than"), ("at_least", "at least"), ("at_most", "at most")]
    bounds = [f"{word} {metadata[key]}" for key, word in words if metadata.get(key) is not None]
    return " and ".join(bounds) or "finite"


def _in_range(value: float, metadata: Any) -> bool:
    above, at_least, at_most = metadata.get("above"), metadata.get("at_least"), metadata.get("at_most")
    return (
        math.isfinite(value)
        and (above is None or value > above)
        and (at_least is None or value >= at_least)
        and (at_most is None or value <= at_most)
    )


def check_range(key: str, value: Any, metadata: Any) -> None:
    """Raise if a number, or a number of a list, lies outside the field's range, or a list holds others.

    NaN never lies inside.
    """
    for number in value if isinstance(value, list | tuple | ListConfig) else [value]:
        if number is not value and isinstance(number, list | tuple | dict | ListConfig | DictConfig):
            raise LapelError(f"{key}={value}: must be a list of single values")
        bounded = isinstance(number, int | float) and not isinstance(number, bool)
        if bounded and not _in_range(number, metadata):
            finite = "" if math.isfinite(number) or allowed_range(metadata) == "finite" else ", and finite"
            raise LapelError(f"{key}={value}: must be {allowed_range(metadata)}{finite}")


def no_such_option(whole_key: str, allowed: list[str]) -> str:
    """The message for a key that does not exist."""
    name = whole_key.rpartition(".")[2]
    there = f"; allowed here are {', '.join(allowed)}" if allowed else ""
    return f"{whole_key}: no such option{there}{closest(name, allowed)}"


def closest(word: str, allowed: list[str]) -> str:
    """What somebody may have meant, in brackets; empty where nothing is near."""
    close = difflib.get_close_matches(word, allowed, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


@dataclass
class Options:
    """Base of every config dataclass: checks the range of each field when it is made."""

    def __post_init__(self) -> None:
        for each in fields(self):
            check_range(each.name, getattr(self, each.name), each.metadata)

    def check_idle(self, names: list[str], active: bool, needed: str) -> None:
        """Raise where an option was changed that does nothing without another one.

        Args:
            names: of such options.
            active: whether the other one is on.
            needed: the other one, as it is given.
        """
        for name in names:
            if not active and getattr(self, name) != getattr(type(self), name):
                raise LapelError(f"{name}={getattr(self, name)}: does nothing without {needed}")
