"""lapel-data. What it says again of data that has not changed is told without loading anything else."""

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lapel.commands.asked import helped
from lapel.commands.starting import ended_at_once

if TYPE_CHECKING:
    from lapel.config.catalog import CatalogConfig

DATA_ACTIONS = ("prepare", "check", "audit")

# A catalogue is hundreds of thousands of small objects that stay: looking through them at every 700 new ones, as Python
# does by default, would take a tenth of the time of `prepare`.
OBJECTS_BETWEEN_COLLECTIONS = 100_000


def main() -> None:
    """`lapel-data prepare|check|audit data=NAME [overrides]`."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, 50, 50)
    with ended_at_once("lapel-data"):
        if len(sys.argv) == 1:
            sys.argv.append("--help")
        if helped("catalog"):
            return
        from lapel.commands.terminal import log_to_terminal, print_version, told_in_one_line
    with told_in_one_line("lapel-data"):
        log_to_terminal()
        arguments = sys.argv[1:]
        if "--version" in arguments:
            print_version()
        else:
            _run_data_action(arguments[0], arguments[1:])


def _run_data_action(action: str, overrides: list[str]) -> None:
    with ended_at_once("lapel-data"):
        from lapel.errors import LapelError
        from lapel.inspection.memory import remembered
        from lapel.machine.console import show
        from lapel.machine.messages import keep_quiet

    if action not in DATA_ACTIONS:
        raise LapelError(f"{action}: must be one of {', '.join(DATA_ACTIONS)}, then overrides as in data=wardrobe")
    told = remembered(overrides) if action == "prepare" else None
    if told is not None:
        show(told)
        return
    with ended_at_once("lapel-data"):
        from lapel.commands.hydra_app import quoted_arguments
        from lapel.config.composing import compose
        from lapel.files.named import check_data_root

        config = compose("catalog", quoted_arguments(overrides, "catalog"))
        check_data_root(config.data.root)
    keep_quiet(config.quiet)
    _look_at_data(action, config, overrides)


def _that_stops_for_none(config: "CatalogConfig") -> "CatalogConfig":
    """The config with any number of bad photos allowed: all of them are to be listed."""
    from dataclasses import replace

    from lapel.config.data import PhotosConfig

    if not isinstance(config.data, PhotosConfig):
        return config
    return replace(config, data=replace(config.data, max_bad=1.0))


def _look_at_data(action: str, config: "CatalogConfig", overrides: list[str]) -> None:
    with ended_at_once("lapel-data"):
        from lapel.config.choices import name_of
        from lapel.datasets.photos import NothingLeftError
        from lapel.errors import DataNotFoundError
        from lapel.inspection import prepare
        from lapel.inspection.memory import remember
        from lapel.machine.console import show

    try:
        catalog = prepare.prepare(_that_stops_for_none(config) if action == "check" else config)
    except DataNotFoundError:
        if told := prepare.instructions(name_of(config.data)):
            print(told)
        raise
    except NothingLeftError as error:
        if action == "check":
            from lapel.inspection.check import tell_left_out

            tell_left_out(error.dropped, _reports(config))
        raise
    if action == "prepare":
        told = prepare.report(catalog)
        remember(overrides, told, prepare.watched(config.data), prepare.made(catalog))
        show(told)
        return
    folder = _reports(config)
    if action == "check":
        from lapel.inspection.check import check

        check(config, catalog, folder)
    else:
        from lapel.inspection.audit import audit

        audit(config, catalog, folder)


def _reports(config: "CatalogConfig") -> Path:
    """The folder that what is found goes to."""
    from lapel.config.choices import name_of

    return Path(config.out) if config.out else Path("reports") / name_of(config.data)
