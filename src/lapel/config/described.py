"""What can be told of a command's options: its groups with their choices, and each option's default, range and text.

All of it is read from the dataclasses and from `conf/`; help and docs/options.md only lay it out.
"""

import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from omegaconf import MISSING as TO_BE_CHOSEN

from lapel.config.choices import CHOICES, also_chosen_as
from lapel.config.commands import CONFIG_MODULE, CommandConfig
from lapel.config.options import allowed_range
from lapel.config.texts import text_of

# A choice that is given no value: `loss: null` in a list of defaults.
NOTHING = "null"


@dataclass(frozen=True)
class Option:
    """An option of a command.

    Args:
        key: whole, as it is typed.
        default: as it would be typed; empty where there is none.
        allowed: what a value may be, in few words; empty for any text.
        text: what it is for.
    """

    key: str
    default: str
    allowed: str
    text: str


@dataclass(frozen=True)
class Choice:
    """A choice of a group.

    Args:
        name: as it is typed.
        text: what it is, in a sentence.
        sets: whole key -> value, as they are typed, of what it sets otherwise than the group's other choices.
        kind: the dataclass of its options; None where it has none of its own, as a recipe.
    """

    name: str
    text: str
    sets: dict[str, str]
    kind: type | None


@dataclass(frozen=True)
class Group:
    """What is chosen as a whole, as `encoder=resnet18`.

    Args:
        name: of the group.
        text: what it is about.
        default: the choice that is made where nothing is said; `null` for none.
        choices: all that there are, by name.
        options: of every choice.
        own: names of choices -> the options that these have besides.
    """

    name: str
    text: str
    default: str
    choices: list[Choice]
    options: list[Option]
    own: dict[tuple[str, ...], list[Option]]

    def choice(self, name: str) -> Choice | None:
        """A choice by its name."""
        return next((each for each in self.choices if each.name == name), None)


@dataclass(frozen=True)
class Section:
    """Options that stand together, and of which nothing is chosen, as `watchdog`.

    Args:
        name: of the section; of its options' keys the beginning.
        text: what they are about.
        options: of it.
    """

    name: str
    text: str
    options: list[Option]


@dataclass(frozen=True)
class Command:
    """A command's options.

    Args:
        config: its dataclass.
        groups: what is chosen as a whole.
        sections: options that stand together.
        options: those that stand in neither.
    """

    config: type[CommandConfig]
    groups: list[Group]
    sections: list[Section]
    options: list[Option]

    def all_options(self) -> Iterator[Option]:
        """Every option, those of every choice included; one that several choices have comes once."""
        seen: set[str] = set()
        parts = [self.options, *(each.options for each in self.sections)]
        for group in self.groups:
            parts += [group.options, *group.own.values()]
        for option in (option for part in parts for option in part):
            if option.key not in seen:
                seen.add(option.key)
                yield option


def described(config: type[CommandConfig], name: str) -> Command:
    """All that can be told of a command.

    Args:
        config: its dataclass.
        name: of the command, which is that of its file in `conf/`, if it has one.
    """
    defaults = _default_choices(name) if config.composed else {}
    kinds = {each.name: _switched(each) or _dataclass_in(get_type_hints(config)[each.name]) for each in fields(config)}
    groups = [_group(group, default, kinds.get(group)) for group, default in defaults.items()]
    named = {group.name for group in groups}
    sections = [
        Section(key, _first_sentence(kind.__doc__ or ""), _options(kind, f"{key}{_number(config, key)}."))
        for key, kind in kinds.items()
        if kind is not None and key not in named
    ]
    return Command(config, groups, sections, _options(config, ""))


def _number(config: type, name: str) -> str:
    """What stands for the number of a part in a list of several, as messages have it: `stages.0.size`."""
    return ".N" if get_origin(get_type_hints(config)[name]) is list else ""


# ---------------------------------------------------------------------------------------------- options


def _options(kind: type, prefix: str, declared_by: type | None = None) -> list[Option]:
    """The options of a config dataclass, as the class that declares each has them.

    Args:
        kind: the dataclass.
        prefix: of their keys.
        declared_by: only of those that this class, one of its bases, declares.
    """
    found = [(each, _declarer(kind, each.name)) for each in fields(kind)]
    return [
        option
        for each, declarer in found
        if declared_by in (None, declarer) and (option := _option(declarer, each.name, prefix)) is not None
    ]


def _declarer(kind: type, name: str) -> type:
    """The class that declares an option first; those below it may give it another default."""
    return next(each for each in reversed(kind.__mro__) if name in vars(each).get("__annotations__", {}))


def _option(declarer: type, name: str, prefix: str) -> Option | None:
    """An option; None where it stands for a group or a section of options."""
    hint, each = get_type_hints(declarer)[name], _field(declarer, name)
    if _dataclass_in(hint) is not None and get_origin(hint) is not list:
        return None
    text = text_of(declarer, name) or _text_of_kind(hint)
    if (switched := _switched(each)) is not None:
        switch = fields(switched)[0]
        return Option(
            f"{prefix}{name}", typed(switch.default), allowed(get_type_hints(switched)[switch.name], switch), text
        )
    return Option(f"{prefix}{name}", typed(_default(each)), allowed(hint, each), text)


def _switched(each: Field[Any]) -> type | None:
    """The options of what is also switched as a whole by their first one, as `report=false`; None of another option."""
    kind = each.default_factory
    return kind if each.type is Any and isinstance(kind, type) and is_dataclass(kind) else None


def _field(kind: type, name: str) -> Field[Any]:
    return next(each for each in fields(kind) if each.name == name)


def _default(each: Field[Any]) -> Any:
    return each.default_factory() if each.default_factory is not MISSING else each.default


def _text_of_kind(hint: Any) -> str:
    """What the type of an option says of it, where it is one of few names: that explains them."""
    return next((" ".join((kind.__doc__ or "").split()) for kind in _kinds(hint) if issubclass(kind, Enum)), "")


def typed(value: Any) -> str:
    """A value as it is typed on a command line; empty for none that is said beforehand.

    >>> typed([80, 60]), typed(None), typed(True), typed(5e-3)
    ('[80,60]', 'null', 'true', '0.005')
    """
    if value is MISSING or value == TO_BE_CHOSEN:
        return ""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return NOTHING
    if isinstance(value, list):
        return f"[{','.join(map(typed, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{typed(each)}' for key, each in value.items())}}}"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def allowed(hint: Any, each: Field[Any]) -> str:
    """What a value of an option may be, in few words; empty for any text."""
    for kind in _kinds(hint):
        if issubclass(kind, Enum):
            return "|".join(kind.__members__)
        if kind is bool:
            return "true|false"
    return _bounds(each.metadata)


def _bounds(metadata: Any) -> str:
    least, most = metadata.get("at_least"), metadata.get("at_most")
    if least is not None and most is not None:
        return f"{typed(least)} to {typed(most)}"
    if metadata.get("above") is not None and most is not None:
        return f"above {typed(metadata['above'])}, to {typed(most)}"
    told = allowed_range(metadata)
    return "" if told == "finite" else told.replace("more than", "above")


def _kinds(hint: Any) -> list[type]:
    """The types that an annotation names, without None: `list[int] | None` names list, and int."""
    inner = [kind for part in get_args(hint) for kind in _kinds(part)]
    return inner if inner else [hint] if isinstance(hint, type) and hint is not type(None) else []


def _dataclass_in(hint: Any) -> type | None:
    return next((kind for kind in _kinds(hint) if is_dataclass(kind)), None)


# ----------------------------------------------------------------------------------------------- groups


def _default_choices(command: str) -> dict[str, str]:
    """Group -> choice that a command makes by itself, in the order of its `conf/<command>.yaml`."""
    listed = _read(files(CONFIG_MODULE) / f"{command}.yaml")["defaults"]
    pairs = [each for each in listed if isinstance(each, dict)]
    found = {group: choice for each in pairs for group, choice in each.items()}
    return {group: choice or NOTHING for group, choice in found.items() if not group.startswith("override ")}


def _group(name: str, default: str, base: type | None) -> Group:
    choices = [_choice(name, each) for each in _names(name)]
    kinds = list(dict.fromkeys(each.kind for each in choices if each.kind is not None))
    declarers = dict.fromkeys(_declarer(kind, each.name) for kind in kinds for each in fields(kind))
    own: dict[tuple[str, ...], list[Option]] = {}
    for declarer in declarers:
        if base is None or not issubclass(base, declarer):
            having = [each for each in choices if each.kind is not None and issubclass(each.kind, declarer)]
            options = _options(declarer, f"{name}.", declared_by=declarer)
            own.setdefault(tuple(each.name for each in having), []).extend(options)
    text = _first_sentence(base.__doc__ or "") if base else ""
    return Group(name, text, default, choices, _options(base, f"{name}.") if base else [], own)


def _folder(group: str) -> Traversable:
    return files(CONFIG_MODULE) / group


def _names(group: str) -> list[str]:
    """Names of a group's choices: of files in `conf/`, or of dataclasses that stand for them."""
    if not _folder(group).is_dir():
        return also_chosen_as(group)
    listed = [each.name for each in _folder(group).iterdir()]
    return sorted(each.removesuffix(".yaml") for each in listed if each.endswith(".yaml"))


def _choice(group: str, name: str) -> Choice:
    file = _folder(group) / f"{name}.yaml"
    if not file.is_file():  # a loss: the schema of the objective of that name
        kind = CHOICES[f"objective/{name}"]
        return Choice(name, _first_sentence(kind.__doc__ or ""), _otherwise(kind, f"{group}."), kind)
    content = {key: value for key, value in _read(file).items() if key != "defaults"}
    listed = _read(file).get("defaults", [])
    schemas = [_schema(each) for each in listed if isinstance(each, str)]
    kind = next((CHOICES[each] for each in schemas if each in CHOICES), None)
    text = _comment(file) or _first_sentence((kind.__doc__ if kind else "") or "")
    prefix = "" if "# @package _global_" in file.read_text(encoding="utf-8") else f"{group}."
    return Choice(name, text, _otherwise(kind, prefix) | _chosen(listed, prefix) | _flat(content, prefix), kind)


def _schema(entry: str) -> str:
    """ "encoder/trunk" of an entry `/schema/encoder/trunk@_here_` of a list of defaults."""
    return entry.removeprefix("/schema/").partition("@")[0]


def _chosen(listed: list[Any], prefix: str) -> dict[str, str]:
    """What a list of defaults chooses: `override /data: wardrobe`, and `/objective@objectives.pair: contrastive`."""
    pairs = [pair for each in listed if isinstance(each, dict) for pair in each.items()]
    named = {key.removeprefix("override ").removeprefix("/"): str(value) for key, value in pairs}
    return {key.replace("@", f"@{prefix}"): value for key, value in named.items()}


def _otherwise(kind: type | None, prefix: str) -> dict[str, str]:
    """Whole key -> default of those to which a dataclass gives another default than the class that declares them."""
    found: dict[str, str] = {}
    if kind is None:
        return found
    for each in fields(kind):
        declared = _field(_declarer(kind, each.name), each.name)
        if typed(_default(each)) != typed(_default(declared)):
            found[f"{prefix}{each.name}"] = typed(_default(each))
    return found


def _flat(content: dict[str, Any], prefix: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in content.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": typed(value)}
    return found


def _comment(file: Traversable) -> str:
    """The first sentence of the comment that a yaml file begins with; empty without one."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.lstrip("#").strip())
    paragraphs = [each for each in "\n".join(lines).split("\n\n") if each.strip()]
    return _first_sentence(paragraphs[0]) if paragraphs else ""


def _first_sentence(text: str) -> str:
    """Up to the first full stop that is none of an abbreviation, in one line."""
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    return re.split(r"(?<! al)\. ", paragraph)[0].removesuffix(".")


@cache
def _read(file: Traversable) -> dict[str, Any]:
    """What a file of `conf/` holds; Hydra's own reading would take several times as long."""
    return yaml.safe_load(file.read_text(encoding="utf-8")) or {}
