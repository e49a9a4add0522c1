"""From a command line to checked config dataclasses, and from there through yaml files and checkpoints and back.

What is wrong with an override is told in one line: the key, the mistake, and what is allowed.
"""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, get_args, get_type_hints

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lapel.config.choices import CHOICES, kind_of, tell_hydra
from lapel.config.commands import CONFIG_MODULE, composed_commands
from lapel.config.options import Options, allowed_range, check_range, closest, no_such_option
from lapel.config.train import TrainConfig
from lapel.errors import LapelError
from lapel.files.paths import CONFIG_FILE, run_folder
from lapel.files.writing import read_yaml

HYDRA_VERSION_BASE = "1.3"

# Where a command puts its folders.
RUN_FOLDER = "hydra.run.dir"
SWEEP_FOLDER = "hydra.sweep.dir"
FOLDER_KEYS = (RUN_FOLDER, SWEEP_FOLDER)


def compose(command: str, overrides: list[str]) -> Any:
    """The checked config of a command: `compose("train", ["variant=siam", "seed=1"])`.

    Args:
        command: a key of `composed_commands()`.
        overrides: in Hydra's grammar, as on the command line.

    Raises:
        LapelError: a misspelt key, a choice that does not exist, a wrong type, a value out of range: in one line.
    """
    return composed_and_checked(command, overrides)[1]


def composed_and_checked(command: str, overrides: list[str]) -> tuple[DictConfig | None, Any]:
    """As `compose`, with what Hydra has composed before it; None for a run that goes on, of which it composes nothing.

    Raises:
        LapelError: as `compose`.
    """
    if command not in composed_commands():
        raise LapelError(f"command {command}: must be one of {', '.join(composed_commands())}")
    if isinstance(overrides, str):
        raise LapelError("overrides must be a list of texts, as in ['variant=siam', 'seed=1']")
    for key in FOLDER_KEYS:
        if any(each.lstrip("+").startswith(f"{key}=") for each in overrides):
            raise LapelError(f"{key}: is for the command line; lapel.train is given its folder")
    try:
        _check_switched(overrides)
        named = command == "train" and any(each.startswith("resume=") for each in overrides)
        if named and (given := _parsed(overrides)).get("resume") is not None:
            return None, resumed(given)
        composed = _composed(command, overrides)
        return composed, to_config(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise LapelError(explain(error, composed_commands()[command])) from error
    except (AssertionError, ValueError) as error:
        if (told := _explain_group(error, overrides, composed_commands()[command])) is None:
            raise
        raise LapelError(told) from error


def _composed(command: str, overrides: list[str]) -> DictConfig:
    tell_hydra()
    if GlobalHydra.instance().is_initialized():
        return hydra_compose(command, overrides)
    with initialize_config_module(CONFIG_MODULE, version_base=HYDRA_VERSION_BASE):
        return hydra_compose(command, overrides)


def _check_switched(overrides: list[str]) -> None:
    """Raise where options are changed of what another override switches, as in `report=false report.against=RUN`."""
    given = _parsed(overrides)
    for key, value in given.items():
        below = next((each for each in given if each.startswith(f"{key}.")), None)
        if isinstance(value, bool) and below is not None:
            told = f"{key}={str(value).lower()}"
            raise LapelError(f"{below}={given[below]}: is not to be said beside {told}; leave out one of them")


def _explain_group(error: Exception, overrides: list[str], command: type) -> str | None:
    """What is wrong with a group of options, where OmegaConf and Hydra forbear to say it; else None."""
    if isinstance(error, AssertionError):  # OmegaConf's, at an option of a group in which nothing is chosen
        if (key := _option_of_nothing(overrides, command)) is None:
            return None
        group = key.lstrip("+").partition(".")[0]
        return f"{key}: there is no {group} to change; choose one as well, with {group}=NAME"
    groups = {kind.partition("/")[0] for kind in CHOICES}
    for key, value in _parsed(overrides).items():
        if key in groups and not isinstance(value, str | list):
            return f"{key}={value}: must be a name"
    return None


def _parsed(overrides: list[str]) -> dict[str, Any]:
    """Whole key -> value of each override that has a plain one."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    return {each.key_or_group: each.value() for each in parsed if not each.is_sweep_override()}


def resumed(given: dict[str, Any]) -> TrainConfig:
    """The config of a run that goes on, with what may be changed about it.

    Args:
        given: whole key -> value, `resume` among them.

    Raises:
        LapelError: there is no such run, or something else is to be changed.
    """
    folder = str(given["resume"])
    file = run_folder("resume", folder) / CONFIG_FILE
    if not file.is_file():
        raise LapelError(f"resume={folder}: is no run folder: it has no {CONFIG_FILE}")
    plain = read_yaml(file)
    if plain.get("find_lr"):
        raise LapelError(f"resume={folder}: is a trial of learning rates (find_lr=true), and no training")
    for key, value in given.items():
        group, _, name = key.rpartition(".")
        if key == "resume" or group.partition(".")[0] == "hydra":
            continue
        holder = plain.get(group, {}) if group else plain
        if isinstance(holder, dict) and name in holder and holder[name] == value:
            continue
        if key not in how_keys() or not _has(plain, key):
            allowed = ", ".join(each for each in how_keys() if _has(plain, each))
            raise LapelError(
                f"resume={folder}: goes on as it was begun, {key} cannot be changed; allowed are {allowed}"
            )
        holder[name] = value
    try:
        config = from_plain(plain)
    except LapelError as error:
        raise LapelError(f"{file}: {error}") from error
    config.resume = folder
    return config


def _has(plain: dict[str, Any], key: str) -> bool:
    """Whether a plain config has an option; one of no group came with a later version, and may be set in any."""
    group, _, name = key.rpartition(".")
    return not group or name in plain.get(group, {})


def how_keys() -> list[str]:
    """Whole keys of the options that say where and how a training is computed, not what comes of it."""
    keys = dict.fromkeys(key for key, metadata in options_below(TrainConfig) if metadata.get("how"))
    return sorted(keys, key=lambda key: "." not in key)  # those of no group last


def options_below(cls: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Whole key and metadata of every option of a command, those of every choice of its groups included."""
    for each in fields(cls):
        yield prefix + each.name, each.metadata
        inner = [chosen for kind, chosen in CHOICES.items() if kind.startswith(f"{each.name}/")]
        declared = each.type if each.type is not Any else each.default_factory
        for chosen in [*inner, *([declared] if is_dataclass(declared) else [])]:
            yield from options_below(chosen, f"{prefix}{each.name}.")  # type: ignore[arg-type]


def to_config(composed: DictConfig) -> Any:
    """Turn what Hydra composed into checked dataclasses; a range error names the whole key."""
    for key, value, metadata in _leaves(composed, ""):
        check_range(key, value, metadata)
    try:
        return OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise LapelError(explain(error, OmegaConf.get_type(composed) or dict)) from error


def _leaves(node: DictConfig, prefix: str) -> Iterator[tuple[str, Any, Any]]:
    """Every (whole key, value, field metadata) below a composed node."""
    cls = OmegaConf.get_type(node)
    metadata = {each.name: each.metadata for each in fields(cls)} if is_dataclass(cls) else {}
    if removed := sorted(set(metadata) - set(map(str, node))):
        raise LapelError(f"{prefix}{removed[0]}: cannot be removed")
    for name in node:
        if metadata and name not in metadata:  # "+optim.lrr=1" passes Hydra
            raise LapelError(no_such_option(f"{prefix}{name}", list(metadata)))
        if OmegaConf.is_missing(node, name):
            continue
        value = node[name]
        if isinstance(value, DictConfig):
            yield from _leaves(value, f"{prefix}{name}.")
        elif isinstance(value, ListConfig) and any(is_dataclass(OmegaConf.get_type(each)) for each in value):
            for number, each in enumerate(value):
                yield from _leaves(each, f"{prefix}{name}.{number}.")
        else:
            yield f"{prefix}{name}", value, metadata.get(str(name), {})


def free_text_keys(cls: type) -> set[str]:
    """Keys of a command whose values are free text, those of every choice of its groups included."""
    return {key for key, metadata in options_below(cls) if metadata.get("free_text")}


def explain(error: Exception, command: type) -> str:
    """A Hydra or OmegaConf error as one line: the key, what is wrong with it, and what is allowed."""
    text = " ".join(str(error).split())
    cause = " ".join(str(error.__cause__).split()) if error.__cause__ else ""
    key = getattr(error, "full_key", None) or getattr(error.__cause__, "full_key", None)
    if missing := re.search(r"Could not find '([^']+)'(?: Available options in '([^']+)': (.*?) Config search)?", text):
        return _explain_missing_choice(missing)
    if unknown := re.search(r"Key '([^']+)' (?:is )?not in '(\w+)'", f"{cause} {text}"):
        return _explain_unknown_key(unknown[1], unknown[2], text)
    if group := re.search(r"Could not override '([^']+)'. No match in the defaults list", text):
        return no_such_option(group[1], [each.name for each in fields(command)])
    if "is not a ListConfig" in f"{cause} {text}":
        return f"{key}: must be a list, in brackets: {key}=[…]"
    if re.search(r"is not Optional|NoneType is not a subclass", f"{cause} {text}"):
        return f"{key or getattr(error, 'full_key', '')}: must not be null"
    if single := re.search(r"is not a subclass of (\w+)\. value: (.*?)(?: full_key|$)", f"{cause} {text}"):
        return f"{single[2]}: must be options, in braces, as in {_an_option(single[1])}"
    if ambiguous := re.match(r"Ambiguous value for argument '([^']+)'", text):
        return f"{ambiguous[1]}: several values are a sweep, which needs -m"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read as key=value; quote special characters, as in \"key='a (1), b'\""
    if key and (typed := _explain_type(key, error.__cause__ or error, command)):
        return typed
    reason = re.split(r"\s*full_key:|\s*Set the environment variable", cause or text)[0]
    return f"{key}: {reason}" if key else reason


# What OmegaConf says of a value of another type: the value, and the type that it should have.
_OTHER_TYPES = (
    r"Value '(?P<value>.*)' of type '\w+' could not be converted to (?P<type>Float|Integer)",
    r"Value '?(?P<value>.*?)'? (?:\(\w+\) )?is not a valid (?P<type>bool)",
    r"Cannot convert '\w+' to (?P<type>string): '(?P<value>.*)'",
    r"Invalid value '(?P<value>.*)', expected one of \[(?P<type>.*)\]",
    r"Value (?P<value>.*) \(\w+\) is not a valid input for <(?P<type>enum) ",
)


def _explain_type(key: str, error: BaseException, command: type) -> str:
    """A value of another type than its option: what is allowed there; empty where something else is said."""
    said = " ".join(str(error).split())
    match = next(filter(None, (re.search(each, said) for each in _OTHER_TYPES)), None)
    if match is None:
        return ""
    holder, name = getattr(error, "object_type", None), getattr(error, "key", None)
    if is_dataclass(holder):
        declared = next(each for each in fields(holder) if each.name == name)
        metadata, kind = declared.metadata, get_type_hints(holder)[declared.name]
    else:  # a number of a list
        metadata, kind = dict(options_below(command)).get(re.sub(r"\[\d+\]$", "", key), {}), None
    bounds = allowed_range(metadata)
    of_numbers = "" if bounds == "finite" else f", {bounds}"
    names = {
        "Float": f"a number{of_numbers}",
        "Integer": f"a whole number{of_numbers}",
        "bool": "true or false",
        "string": "a text",
        "enum": f"one of {', '.join(_members(kind))}",
    }
    told = names.get(match["type"]) or f"one of {match['type']}"
    return f"{key}={match['value']}: must be {told}"


def _members(kind: Any) -> list[str]:
    """Names of an enum's members, where a type is one, or an enum or nothing."""
    enums = [each for each in (kind, *get_args(kind)) if isinstance(each, type) and issubclass(each, Enum)]
    return [member for each in enums for member in each.__members__]


def escape_interpolation(text: str) -> str:
    """Text that OmegaConf takes letter by letter: `${` begins a reference there, unless a backslash goes before it."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def _explain_missing_choice(match: re.Match[str]) -> str:
    path, group, listed = match.groups()
    if not group:
        return f"{path}: no such config"
    name = path.removeprefix(f"{group}/")
    allowed = listed.split()
    return f"{group}={name}: no such {group}; allowed are {', '.join(allowed)}{closest(name, allowed)}"


def _option_of_nothing(overrides: list[str], command: type) -> str | None:
    """The first key that changes something inside a group that is empty by default and not chosen; None without one."""
    keys = [each.partition("=")[0] for each in overrides]
    empty = {each.name for each in fields(command) if each.default is None} - set(keys)
    return next((key for key in keys if key.lstrip("+").partition(".")[0] in empty), None)


def _options_of(class_name: str) -> list[str]:
    """Names of the options of a config class; none for another one."""
    known = {cls.__name__: cls for cls in _subclasses(Options)}
    return [each.name for each in fields(known[class_name])] if class_name in known else []


def _subclasses(cls: type) -> Iterator[type]:
    for each in cls.__subclasses__():
        yield each
        yield from _subclasses(each)


def _an_option(class_name: str) -> str:
    """An example of a group of options: its first one."""
    return f"{{{next(iter(_options_of(class_name)), 'name')}:1}}"


def _explain_unknown_key(key: str, class_name: str, text: str) -> str:
    allowed = _options_of(class_name)
    overridden = re.search(r"(?:Could not override|append to) '([^']+)'", text)
    if overridden and overridden[1].rpartition(".")[2] != key:  # inside of a value, as in stages=[{epoch:1}]
        return no_such_option(f"{overridden[1]}.{key}", allowed)
    return no_such_option(overridden[1] if overridden else key, allowed)


def to_plain(options: Any) -> Any:
    """A config dataclass as dicts, lists and scalars, each choice with its `kind`: what yaml and checkpoints hold."""
    if is_dataclass(options) and not isinstance(options, type):
        values = {each.name: to_plain(getattr(options, each.name)) for each in fields(options)}
        return {"kind": kind_of(options), **values} if type(options) in CHOICES.values() else values
    if isinstance(options, Enum):
        return options.name
    if isinstance(options, dict):
        return {key: to_plain(value) for key, value in options.items()}
    if isinstance(options, list | tuple):
        return [to_plain(value) for value in options]
    return options


def flat(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Whole key -> value of everything in nested dicts: `{"optim": {"lr": 1}}` to `{"optim.lr": 1}`."""
    found: dict[str, Any] = {}
    for name, value in plain.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def from_plain(plain: dict[str, Any], cls: type = TrainConfig) -> Any:
    """The inverse of `to_plain`, checked as `compose` checks.

    Raises:
        LapelError: an unknown key or kind, a wrong type or a value out of range.
    """
    try:
        return to_config(_structured(plain, cls))
    except OmegaConfBaseException as error:
        raise LapelError(explain(error, cls)) from error


def _structured(plain: dict[str, Any], cls: type | None) -> DictConfig:
    if (kind := plain.get("kind")) is not None:
        if kind not in CHOICES:
            raise LapelError(f"config kind {kind}: not known to this version of lapel")
        cls = CHOICES[kind]
    node = OmegaConf.structured(cls) if cls else OmegaConf.create()
    for key, value in plain.items():
        if key == "kind":
            continue
        if isinstance(value, dict) and "kind" in value:
            node[key] = _structured(value, None)
        elif isinstance(value, dict) and any(isinstance(inner, dict) for inner in value.values()):
            for name, inner in value.items():
                node[key][name] = _structured(inner, None)
        elif isinstance(value, dict) or (isinstance(value, list) and any(isinstance(inner, dict) for inner in value)):
            node.merge_with({key: value})  # plain assignment wants objects of the field's class
        else:
            node[key] = value
    return node
