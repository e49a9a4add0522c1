"""Commands that take `key=value` literally, since Hydra's grammar rejects file names such as `my photo (1).png`."""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any, get_origin, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lapel.commands.terminal import log_to_terminal, print_version, told_in_one_line
from lapel.config.choices import COMMAND, choices_of
from lapel.config.composing import escape_interpolation, explain, to_config
from lapel.config.options import no_such_option
from lapel.errors import LapelError
from lapel.machine.messages import keep_quiet


def run_literal(name: str, work: Callable[..., None], is_subject: Callable[[str], bool] | None = None) -> None:
    """Read a command's config from `key=value` arguments, and work on it.

    Args:
        name: of the choice in the group `command` whose config it is.
        work: what is done with the config, and with a list of the subjects where there may be such.
        is_subject: which arguments are no options but what the command is to work on.
    """
    config_class = choices_of(COMMAND)[name]
    with told_in_one_line(config_class.program):
        log_to_terminal()
        subjects = [each for each in sys.argv[1:] if is_subject is not None and is_subject(each)]
        config = read_literally([each for each in sys.argv[1:] if each not in subjects], config_class)
        keep_quiet(config.quiet)
        if is_subject is None:
            work(config)
        else:
            work(config, subjects)


def read_literally(arguments: list[str], options: type) -> Any:
    """A config from `key=value` arguments, split at the first `=`; the value is taken as it stands.

    Raises:
        LapelError: an argument is no `key=value`, the key does not exist, or the value is not allowed.
    """
    if "--version" in arguments:
        print_version()
        raise SystemExit(0)
    node = OmegaConf.structured(options)
    hints = get_type_hints(options)
    allowed = [each.name for each in dataclasses.fields(options)]
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not key:
            raise LapelError(f"{argument}: must be key=value with one of the keys {', '.join(allowed)}")
        if key not in allowed:
            raise LapelError(no_such_option(key, allowed))
        try:
            if get_origin(hints[key]) is list:
                inside = value[1:-1] if value.startswith("[") and value.endswith("]") else value
                node[key] = [escape_interpolation(each) for each in inside.split(",")]
            else:
                node[key] = escape_interpolation(value)
        except OmegaConfBaseException as error:
            raise LapelError(explain(error, options)) from error
    return to_config(node)
