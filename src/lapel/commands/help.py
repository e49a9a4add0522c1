"""What `--help` prints: one screen, one group, choice or option, or everything, as the config dataclasses tell it."""

import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import replace

from lapel.commands.starting import typed
from lapel.commands.terminal import told_in_one_line
from lapel.config.choices import COMMAND, choices_of
from lapel.config.described import NOTHING, Choice, Command, Group, Option, Section, described
from lapel.config.options import closest
from lapel.errors import LapelError

WIDTH = 100

# Everything, as a topic.
ALL = "all"

# Columns of a group's name.
NAMES = 10


def print_help(name: str) -> None:
    """Print help on a command, or on what the arguments of this process name besides `--help`.

    Args:
        name: of the choice in the group `command` whose config it is.
    """
    command = described(choices_of(COMMAND)[name], name)
    with told_in_one_line(command.config.program):
        lines = [line for topic in _topics(command) for line in told_of(command, topic)] or screen(command)
        print("\n".join(line.rstrip() for line in lines))


def _topics(command: Command) -> list[str]:
    """What help is asked on: names, and choices as `encoder=resnet18`; not what else stands on the line by chance."""
    arguments = [each.removeprefix("--help=") for each in sys.argv[1:]]
    groups = {group.name for group in command.groups}
    return [
        each
        for before, each in zip(["", *arguments], arguments, strict=False)
        if not each.startswith("-")
        and before not in ("--cfg", "-c")
        and each not in command.config.subjects
        and ("=" not in each or each.partition("=")[0] in groups)
    ]


# ------------------------------------------------------------------------------------------- one screen


def screen(command: Command) -> list[str]:
    """The first help: what the command does, examples, the choices, and the options that people change."""
    config = command.config
    program = typed(config.program)
    lines = [*_wrapped(_sentence(config.__doc__ or ""), ""), "", f"  {program} {config.usage}"]
    if config.subjects:
        lines += ["", *(f"  {name:<{NAMES}} {what}" for name, what in config.subjects.items())]
    lines += ["", "Examples", *_examples(command, program)]
    if command.groups:
        lines += ["", "Choices, as group=name; * where nothing is said", *_choices(command.groups)]
    often = _often(command)
    which = "Options that are changed most" if command.config.often else "Options"
    lines += ["", f"{which}, as key=value; here with their defaults"]
    widths = max(len(_with_default(each)) for each in often), max(len(each.allowed) for each in often)
    lines += [_in_one_line(option, *widths) for option in often]
    return [*lines, "", *_more(command, program)]


def _examples(command: Command, program: str) -> list[str]:
    lines = [(f"{program} {arguments}".rstrip(), why) for arguments, why in command.config.examples]
    width = max(len(each) for each, _ in lines)
    return [f"  {each:<{width}}   # {why}" for each, why in lines]


def _choices(groups: Iterable[Group]) -> Iterator[str]:
    for group in groups:
        names = [f"{each.name}*" if each.name == group.default else each.name for each in group.choices]
        if group.default == NOTHING:
            names = [f"none*, {names[0]}", *names[1:]]
        yield from _hanging(group.name, ", ".join(names))


def _hanging(name: str, text: str) -> list[str]:
    first = f"  {name:<{NAMES}} "
    return [
        first + line.lstrip() if number == 0 else line for number, line in enumerate(_wrapped(text, " " * len(first)))
    ]


def _in_one_line(option: Option, key_width: int, allowed_width: int) -> str:
    first = f"  {_with_default(option):<{key_width}}  {option.allowed:<{allowed_width}}  "
    return first + _short(option.text, WIDTH - len(first))


def _often(command: Command) -> list[Option]:
    """The options that people change, in the order of the command's own list; all where it has none."""
    options = {each.key: each for each in command.all_options()}
    return [options[key] for key in command.config.often or options]


def _with_default(option: Option) -> str:
    return f"{option.key}={option.default}"


def _short(text: str, width: int) -> str:
    """As many of a text's first clauses as fit."""
    ends = [match for match in range(1, len(text) + 1) if match == len(text) or text[match - 1 : match + 1] in _ENDS]
    whole = [end for end in ends if text[:end].count("(") == text[:end].count(")")]
    fitting = [end for end in whole if len(text[:end].rstrip(".;:, ")) <= width]
    return text[: fitting[-1]].rstrip(".;:, ") if fitting else textwrap.shorten(text, width, placeholder="…")


_ENDS = (". ", "; ", ": ", ", ", " (")


def _more(command: Command, program: str) -> list[str]:
    lines = {f"{program} --help {ALL}": "every option"}
    if command.groups:
        group = command.groups[0]
        lines[f"{program} --help {group.name}"] = (
            f"a group; likewise {group.name}={group.choices[0].name}, or {command.config.often[0]}"
        )
    if command.config.composed:
        lines |= {f"{program} ARGUMENTS {flag}": text for flag, text in command.config.flags.items()}
    width = max(map(len, lines))
    then = [f"  {command.config.then}"] if command.config.then else []
    return ["More", *(f"  {each:<{width}}   {what}" for each, what in lines.items()), *then]


# -------------------------------------------------------------------------------------- one topic, or all


def told_of(command: Command, topic: str) -> list[str]:
    """Help on a group, a choice, an option, or everything.

    Raises:
        LapelError: there is no such topic.
    """
    if topic == ALL:
        return _everything(command)
    name, _, chosen = topic.partition("=")
    for group in command.groups:
        if group.name == name:
            return _of_choice(group, chosen) if chosen else _of_group(group)
    for section in command.sections:
        if section.name == name:
            return _of_section(section)
    options = [each for each in _every(command) if each.key == name]
    if not options:
        names = [ALL, *(each.name for each in (*command.groups, *command.sections))]
        near = closest(name, [*names, *(each.key for each in command.all_options())])
        raise LapelError(f"--help {name}: no such option; allowed are options, and {', '.join(names)}{near}")
    return [line for option in options for line in _of_option(option)]


def _every(command: Command) -> Iterator[Option]:
    """Every option, one that several choices have as often as they differ about it."""
    for part in (command, *command.sections, *command.groups):
        yield from part.options
    for group in command.groups:
        for options in group.own.values():
            yield from options


def _everything(command: Command) -> list[str]:
    lines = [_sentence(command.config.__doc__ or "")]
    if command.options:
        lines += ["", "Options", *(line for option in command.options for line in _of_option(option))]
    for section in command.sections:
        lines += ["", *_of_section(section)]
    for group in command.groups:
        lines += ["", *_of_group(group)]
    return lines


def _of_group(group: Group) -> list[str]:
    lines = _wrapped(f"{group.name}: {group.text}" if group.text else group.name, "")
    for each in group.choices:
        sign = "*" if each.name == group.default else ""
        lines += _paragraph(f"{group.name}={each.name}{sign}", _of(each), "    ")
    lines += [line for option in group.options for line in _of_option(option)]
    for names, options in group.own.items():
        lines += ["", *_wrapped(f"With {_names_of(group, names)}", "  ")]
        lines += [line for option in options for line in _of_option(option)]
    return lines


def _names_of(group: Group, names: tuple[str, ...]) -> str:
    """Choices that have an option: all but a few are told by those that have it not."""
    others = [each.name for each in group.choices if each.name not in names]
    if len(names) > len(others) and len(names) > 3:
        return f"any {group.name} but {', '.join(others)}" if others else f"any {group.name}"
    return ", ".join(f"{group.name}={each}" for each in names)


def _of(choice: Choice) -> str:
    sets = " ".join(f"{key}={value}" for key, value in choice.sets.items())
    return f"{choice.text}. Sets {sets}" if sets else choice.text


def _of_choice(group: Group, name: str) -> list[str]:
    choice = group.choice(name)
    if choice is None:
        names = [each.name for each in group.choices]
        allowed = f"{', '.join(names)}{closest(name, names)}"
        raise LapelError(f"--help {group.name}={name}: no such {group.name}; allowed are {allowed}")
    lines = _paragraph(f"{group.name}={name}", _of(choice), "    ")
    own = [option for names, options in group.own.items() if name in names for option in options]
    for option in [*group.options, *own]:
        lines += _of_option(replace(option, default=choice.sets.get(option.key, option.default)))
    return lines


def _of_section(section: Section) -> list[str]:
    lines = _wrapped(f"{section.name}: {section.text}", "")
    return lines + [line for option in section.options for line in _of_option(option)]


def _of_option(option: Option) -> list[str]:
    allowed = f"   {option.allowed}" if option.allowed else ""
    return _paragraph(f"{_with_default(option)}{allowed}", option.text, "      ")


def _paragraph(head: str, text: str, indent: str) -> list[str]:
    return [f"  {head}", *_wrapped(text, indent)]


def _wrapped(text: str, indent: str) -> list[str]:
    """A text in lines; what is typed is never broken."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _sentence(text: str) -> str:
    return " ".join(text.split())
