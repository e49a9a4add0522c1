"""What every option is made of: a default, an allowed range, and the choices of a group by their names."""

import math
from collections.abc import Callable
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, ListConfig

from lapel.errors import LapelError

# kind ("group/name") -> dataclass: how a plain config finds its way back to the class it came from.
CHOICES: dict[str, type] = {}

AnyClass = TypeVar("AnyClass", bound=type)


def option(
    default: Any = NO_DEFAULT,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    free_text: bool = False,
) -> Any:
    """A dataclass field with a default and its allowed range.

    Args:
        default: the value when nothing is said; left out where the value must come from a yaml file.
        above, at_least, at_most: bounds of a number, or of each number of a list. `None` always passes.
        free_text: the value is any text (a path, a query), so commands quote it before Hydra's grammar sees it.
    """
    metadata = {"above": above, "at_least": at_least, "at_most": at_most, "free_text": free_text}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=MISSING if default is NO_DEFAULT else default, metadata=metadata)


def _allowed(metadata: Any) -> str:
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
    """Raise if a number, or a number of a list, lies outside the field's range. NaN never lies inside."""
    for number in value if isinstance(value, list | tuple | ListConfig) else [value]:
        bounded = isinstance(number, int | float) and not isinstance(number, bool)
        if bounded and not _in_range(number, metadata):
            raise LapelError(f"{key}={value}: must be {_allowed(metadata)}")


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


def choice(group: str, name: str, also_as: str | None = None) -> Callable[[AnyClass], AnyClass]:
    """Register a dataclass as the schema of `conf/<group>/<name>.yaml`.

    Args:
        group, name: of the choice.
        also_as: a second group in which the bare dataclass is a choice of the same name.
    """

    def register(cls: AnyClass) -> AnyClass:
        kind = f"{group}/{name}"
        CHOICES[kind] = cls
        ConfigStore.instance().store(group=f"schema/{group}", name=name, node=cls)
        if also_as:
            ConfigStore.instance().store(group=also_as, name=name, node=cls)
        return cls

    return register


def kind_of(options: Any) -> str:
    """ "group/name" of a config dataclass: `kind_of(TinyConfig()) == "encoder/tiny"`."""
    return next(kind for kind, cls in CHOICES.items() if cls is type(options))


def name_of(options: Any) -> str:
    """The name under which a choice is known: `name_of(TinyConfig()) == "tiny"`."""
    return kind_of(options).split("/", 1)[1]
