"""`make docs`: writes docs/options.md, every option of every command, from the config dataclasses as help does."""

from pathlib import Path

from lapel.config.choices import COMMAND, choices_of
from lapel.config.described import Command, Group, Option, described

PAGE = Path(__file__).parents[1] / "docs" / "options.md"

BEGINNING = """# Options

Reading order: ← [A bundle](bundle.md) · [Results](results.md) →

Every option of every command, with its default. `--help all` of a command prints its own, `--help GROUP`,
`--help GROUP=NAME` and `--help OPTION` a part of them. This page is written by `make docs`.

Options are given as `KEY=VALUE`, and groups as `GROUP=NAME`: `python train.py data=wardrobe optim.lr=0.01`. Where the
value holds blanks, brackets or quotes, a shell wants it quoted: `'encoder.frozen=[all]'`.
"""


def page() -> str:
    """The page's text."""
    commands = [described(config, name) for name, config in choices_of(COMMAND).items()]
    commands.sort(key=lambda command: -len(command.groups))  # that of training, which has most, first
    told: dict[str, str] = {}
    return "\n".join([BEGINNING, *(line for command in commands for line in _of_command(command, told))])


def _of_command(command: Command, told: dict[str, str]) -> list[str]:
    """A command; groups that one before has, too, are told of there.

    Args:
        command: whose options these are.
        told: group -> command under which it is, to be added to.
    """
    config = command.config
    lines = [f"## {config.program}", "", " ".join((config.__doc__ or "").split()), ""]
    lines += [line for name, text in config.subjects.items() for line in (f"- `{name}` {text}",)]
    lines += [""] if config.subjects else []
    lines += _table(command.options) if command.options else []
    for section in command.sections:
        lines += [f"### {config.program}: {section.name}", "", f"{section.text}.", "", *_table(section.options)]
    for group in command.groups:
        if group.name in told:
            lines += [f"### {config.program}: {group.name}", "", f"As under {told[group.name]}.", ""]
        else:
            told[group.name] = config.program
            lines += [f"### {config.program}: {group.name}", "", *_of_group(group)]
    return lines


def _of_group(group: Group) -> list[str]:
    lines = [f"{group.text}. " if group.text else ""]
    lines[0] += f"`{group.name}={group.default}` where nothing is said."
    lines += ["", f"| {group.name} | what it is | sets |", "|---|---|---|"]
    for each in group.choices:
        sets = " ".join(f"`{key}={_cell(value)}`" for key, value in each.sets.items())
        lines.append(f"| `{each.name}` | {_cell(each.text)} | {sets} |")
    lines += ["", *_table(group.options)] if group.options else [""]
    for names, options in group.own.items():
        lines += [f"With {', '.join(f'`{group.name}={each}`' for each in names)}:", "", *_table(options)]
    return lines


def _table(options: list[Option]) -> list[str]:
    lines = ["| option | default | allowed | what it is for |", "|---|---|---|---|"]
    for each in options:
        default = f"`{_cell(each.default)}`" if each.default else ""
        lines.append(f"| `{each.key}` | {default} | {_cell(each.allowed)} | {_cell(each.text)} |")
    return [*lines, ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
