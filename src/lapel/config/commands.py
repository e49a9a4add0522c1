"""What every command's config has, and which commands there are."""

from dataclasses import dataclass
from typing import ClassVar

from lapel.config.choices import COMMAND, choices_of
from lapel.config.options import Options


@dataclass
class CommandConfig(Options):
    """What a command is told; its choice in the group `command` builds the command itself, which pyproject installs."""

    # The command's name on a command line, and whether Hydra composes its config, from `conf/<name>.yaml`; else its
    # arguments are `key=value`, taken literally.
    program: ClassVar[str]
    composed: ClassVar[bool] = False


def composed_commands() -> dict[str, type[CommandConfig]]:
    """Name -> config of each command whose config Hydra composes."""
    return {name: config for name, config in choices_of(COMMAND).items() if config.composed}
