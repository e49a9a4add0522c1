"""What every command's config has, and which commands there are."""

from dataclasses import dataclass
from typing import ClassVar

from lapel.config.choices import COMMAND, choices_of
from lapel.config.options import Options, option

# Where the configs of the commands and of the choices lie.
CONFIG_MODULE = "lapel.conf"


@dataclass
class CommandConfig(Options):
    """What a command is told; its choice in the group `command` builds the command itself, which pyproject installs."""

    # The command's name on a command line, and whether Hydra composes its config, from `conf/<name>.yaml`; else its
    # arguments are `key=value`, taken literally.
    program: ClassVar[str]
    composed: ClassVar[bool] = False

    # What help says of the command besides its docstring and its options: how its arguments stand, what they may name
    # besides options, examples (arguments, and what for), flags, the whole keys of the options that people change, and
    # what comes after the command.
    usage: ClassVar[str] = "[key=value …]"
    subjects: ClassVar[dict[str, str]] = {}
    examples: ClassVar[tuple[tuple[str, str], ...]]
    flags: ClassVar[dict[str, str]] = {"--cfg job": "prints and checks the whole config, and does nothing"}
    often: ClassVar[tuple[str, ...]] = ()
    then: ClassVar[str] = ""

    quiet: bool = option(False, how=True)
    """Say less (results, warnings and errors alone)."""


def composed_commands() -> dict[str, type[CommandConfig]]:
    """Name -> config of each command whose config Hydra composes."""
    return {name: config for name, config in choices_of(COMMAND).items() if config.composed}
