"""The one seam: what can be chosen by name, and what each name builds.

A choice says where its builder is, as `"module:name"`; that is imported when it is built and not before, so that a
config needs none of what it configures. A builder is a class or a function. It is given what is known at the place
where it is called, by name: of that it takes what its parameters name.
"""

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from importlib import import_module
from typing import Any, TypeVar

# The group of the commands, whose configs are no part of another.
COMMAND = "command"

# kind ("group/name") -> dataclass: how a plain config finds its way back to the class it came from.
CHOICES: dict[str, type] = {}

# kind -> what was declared under that name, dataclass or not; kind -> where its builder is, where that is elsewhere.
_DECLARED: dict[str, Any] = {}
_BUILDERS: dict[str, str] = {}

# Group -> names of the bare dataclasses that are choices of it besides those of their own group.
_ALSO: dict[str, list[str]] = {}

# Group, name and dataclass of every schema that Hydra has not been told of: to tell it all of them takes a third of a
# second, which help, and commands that compose nothing, need not spend.
_UNTOLD: list[tuple[str, str, type]] = []

Declared = TypeVar("Declared")


def choice(
    group: str, name: str, build: str | None = None, also_as: str | None = None
) -> Callable[[Declared], Declared]:
    """Declare a choice of a group: decorates its config dataclass, or what it builds where it has no options.

    A dataclass is the schema of `conf/<group>/<name>.yaml`, if Hydra has that group.

    Args:
        group, name: of the choice.
        build: where its builder is, as `"lapel.losses.supcon:SupConLoss"`; by default what is decorated.
        also_as: a second group in which the bare dataclass is a choice of the same name.
    """
    kind = f"{group}/{name}"

    def register(declared: Declared) -> Declared:
        _DECLARED[kind] = declared
        if build is not None:
            _BUILDERS[kind] = build
        if is_dataclass(declared):
            _register_schema(group, name, declared, also_as)
        return declared

    return register


def _register_schema(group: str, name: str, options: Any, also_as: str | None) -> None:
    if group != COMMAND:
        CHOICES[f"{group}/{name}"] = options
    _UNTOLD.append((f"schema/{group}", name, options))
    if also_as:
        _ALSO.setdefault(also_as, []).append(name)
        _UNTOLD.append((also_as, name, options))


def tell_hydra() -> None:
    """Tell Hydra of every schema that it does not know yet: to be called before it composes."""
    from lapel.config.schemas import store  # Hydra takes most of the third of a second

    while _UNTOLD:
        store(*_UNTOLD.pop(0))


def also_chosen_as(group: str) -> list[str]:
    """Names of the choices that a group has from another one: every loss is an objective."""
    return sorted(_ALSO.get(group, []))


def choices_of(group: str) -> dict[str, Any]:
    """Name -> what was declared, of every choice of a group, in the order in which they were."""
    return {kind.partition("/")[2]: each for kind, each in _DECLARED.items() if kind.startswith(f"{group}/")}


def kind_of(options: Any) -> str:
    """ "group/name" of a config dataclass: `kind_of(TinyConfig()) == "encoder/tiny"`."""
    for kind, cls in CHOICES.items():
        if cls is type(options):
            return kind
    raise TypeError(f"{type(options).__name__} is no choice of any group")


def name_of(options: Any) -> str:
    """The name under which a choice is known: `name_of(TinyConfig()) == "tiny"`."""
    return kind_of(options).split("/", 1)[1]


def builder(kind: str) -> Callable[..., Any]:
    """What builds a choice, imported now."""
    if kind not in _BUILDERS:
        return _DECLARED[kind]
    module, _, name = _BUILDERS[kind].partition(":")
    return getattr(import_module(module), name)


def build(kind: str, /, **known: Any) -> Any:
    """What a choice's builder makes of what is known: it is given those that its parameters name.

    Args:
        kind: "group/name".
        known: name -> value of everything that a builder of this group may ask for.
    """
    make = builder(kind)
    return make(**{name: known[name] for name in inspect.signature(make).parameters if name in known})
