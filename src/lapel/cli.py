"""The commands. One wrapper serves all of them: read the command line, check the config, work, and say in one line what
is wrong where something is.

lapel-train, lapel-evaluate and lapel-export are Hydra applications; lapel-search takes `key=value` literally, since
Hydra's grammar rejects file names such as `my photo (1).png`.
"""

import argparse
import dataclasses
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from lapel.composing import (
    CONFIG_MODULE,
    HYDRA_VERSION_BASE,
    compose,
    explain,
    free_text_keys,
    to_config,
)
from lapel.config import COMMANDS, EvaluateConfig, ExportConfig, SearchConfig, TableFormat, TrainConfig
from lapel.errors import InterruptedTrainingError, LapelError
from lapel.runs import best_finished, new_folder, point_latest

logger = logging.getLogger(__name__)

# Whether the user asked, by HYDRA_FULL_ERROR=1, for tracebacks in place of one line.
FULL_ERRORS = os.environ.get("HYDRA_FULL_ERROR") == "1"

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

# Hydra's own options that hold a path.
HYDRA_FREE_TEXT = {"hydra.run.dir", "hydra.sweep.dir"}

# What a table of search results shows; json and csv have every column.
TABLE_COLUMNS = ["rank", "row", "score", "item", "category", "image"]


# -------------------------------------------------------------------------------------------- commands


def _train(config: TrainConfig) -> float:
    from lapel.training import train

    context = HydraConfig.get()
    if context.mode is RunMode.MULTIRUN:
        logger.info("trial %s: %s", context.job.num, " ".join(context.overrides.task) or "defaults")
    return train(config, _relative(Path(context.runtime.output_dir)))


def _evaluate(config: EvaluateConfig) -> float:
    from lapel.evaluation import evaluate

    result = evaluate(config)
    _print_scores(result)
    return result["map@r"]


def _export(config: ExportConfig) -> str:
    from lapel.bundle import export

    return str(export(config))


def search_command() -> None:
    """`lapel-search bundle=FOLDER image=FILE|row=N k=10 format=table|json|csv`."""
    with told_in_one_line("lapel-search"):
        config: SearchConfig = read_literally(sys.argv[1:], SearchConfig)
        from lapel.bundle import load

        bundle = load(config.bundle)
        found = bundle.search(config.image, config.k) if config.image else bundle.search_row(config.row or 0, config.k)
        _print_found(found.drop(columns="query"), config.format)


# --------------------------------------------------------------------------------------------- wrapper


@contextmanager
def told_in_one_line(program: str) -> Iterator[None]:
    """Print an error that the user can mend as one line and exit with 2; an interrupt with 130.

    HYDRA_FULL_ERROR=1 shows where it came from instead.
    """
    if FULL_ERRORS:
        yield
        return
    try:
        yield
    except LapelError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        interrupted = isinstance(error, InterruptedTrainingError)
        raise SystemExit(EXIT_INTERRUPTED if interrupted else EXIT_BAD_INPUT) from None
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        raise SystemExit(EXIT_INTERRUPTED) from None


def run_hydra(command: str, task: Callable[[DictConfig], Any]) -> None:
    """Run a task as a Hydra application on the command line's arguments.

    Before Hydra starts, free text is quoted, the config is checked as a whole, and the run folder is made: a name that
    was taken in the same second is told apart by a number.
    """
    _log_to_console()
    arguments = [quote_free_text(each, free_text_keys(COMMANDS[command]) | HYDRA_FREE_TEXT) for each in sys.argv[1:]]
    arguments = _as_search_path(arguments)
    parsed = get_args_parser().parse_args(arguments)
    only_shows = parsed.help or parsed.hydra_help or parsed.info or parsed.shell_completion
    made: Path | None = None
    if not parsed.multirun and not only_shows:
        config = compose(command, parsed.overrides)
        if command == "train" and not parsed.cfg and not _sets("hydra.run.dir", parsed.overrides):
            made = new_folder(config.name)
            arguments.append(f"hydra.run.dir='{made}'")
    elif parsed.multirun and not _sets("hydra.sweep.dir", parsed.overrides):
        made = new_folder("sweep")
        arguments.append(f"hydra.sweep.dir='{made}'")
    try:
        _start_hydra(command, task, arguments)
    finally:
        if parsed.multirun and made:
            _finish_sweep(made)


def hydra_command(command: str, work: Callable[[Any], Any]) -> Callable[[], None]:
    """A command that composes its config on the command line, checks it, and works on it."""
    program = f"lapel-{command}"

    def task(composed: DictConfig) -> Any:
        # Here too: an exception that leaves the task makes Hydra print lines of its own.
        with told_in_one_line(program):
            return work(to_config(composed))

    def run() -> None:
        with told_in_one_line(program):
            run_hydra(command, task)

    return run


train_command = hydra_command("train", _train)
evaluate_command = hydra_command("evaluate", _evaluate)
export_command = hydra_command("export", _export)


def _start_hydra(command: str, task: Callable[[DictConfig], Any], arguments: list[str]) -> None:
    """Hand over to Hydra, whose errors become one line."""
    sys.argv[1:] = arguments
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints several lines of its own and exits
    try:
        hydra.main(version_base=HYDRA_VERSION_BASE, config_path=f"pkg://{CONFIG_MODULE}", config_name=command)(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise LapelError(explain(error, COMMANDS[command])) from error
    finally:
        if not FULL_ERRORS:
            del os.environ["HYDRA_FULL_ERROR"]


def _finish_sweep(folder: Path) -> None:
    """Point `runs/latest` to the best finished trial; a sweep in which none began leaves nothing."""
    best = best_finished(folder)
    if best:
        point_latest(best)
        logger.info("best trial: %s", best)
    elif not any(each.is_dir() for each in folder.iterdir()):
        shutil.rmtree(folder)


def _sets(key: str, overrides: list[str]) -> bool:
    return any(override.split("=", 1)[0].lstrip("+") == key for override in overrides)


def _as_search_path(arguments: list[str]) -> list[str]:
    """`--config-dir DIR` as the override that means the same, which the check before Hydra understands too."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    known, rest = parser.parse_known_args(arguments)
    if known.config_dir is None:
        return arguments
    if not Path(known.config_dir).is_dir():
        raise LapelError(f"--config-dir {known.config_dir}: no such folder")
    return [*rest, f"hydra.searchpath=['file://{Path(known.config_dir).resolve()}']"]


def quote_free_text(argument: str, keys: set[str]) -> str:
    """An argument whose value is free text, quoted for Hydra's grammar; any other one as it is."""
    key, equals, value = argument.partition("=")
    if not equals or key.lstrip("+") not in keys or value in ("", "null") or _is_quoted(value):
        return argument
    if key not in HYDRA_FREE_TEXT:
        value = value.replace("${", r"\${")
    value = re.sub(r"(\\*)'", r"\1\1\\'", value)
    value = re.sub(r"(\\+)$", r"\1\1", value)
    return f"{key}='{value}'"


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def _relative(folder: Path) -> Path:
    """A folder as the user would write it: relative where it lies below the working directory."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _log_to_console() -> None:
    """lapel's own messages, plain; of others only warnings."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("lapel").setLevel(logging.INFO)


# ------------------------------------------------------------------------------------- literal options


def read_literally(arguments: list[str], options: type) -> Any:
    """A config from `key=value` arguments, split at the first `=`; the value is taken as it stands.

    Raises:
        LapelError: an argument is no `key=value`, the key does not exist, or the value is not allowed.
    """
    if {"-h", "--help"} & set(arguments):
        print(_help(options))
        raise SystemExit(0)
    node = OmegaConf.structured(options)
    allowed = [each.name for each in dataclasses.fields(options)]
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise LapelError(f"{argument}: must be key=value with one of the keys {', '.join(allowed)}")
        try:
            node[key] = value
        except OmegaConfBaseException as error:
            raise LapelError(explain(error, options)) from error
    return to_config(node)


def _help(options: type) -> str:
    lines = [(options.__doc__ or "").strip(), "", "Options, as key=value:"]
    for each in dataclasses.fields(options):
        default = f"  (default {getattr(each.default, 'name', each.default)})" if each.default is not None else ""
        lines.append(f"  {each.name}={_allowed_values(each.type)}{default}")
    return "\n".join(lines)


def _allowed_values(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(kind.__members__)
    inner = next((each for each in get_args(kind) if each is not type(None)), kind)
    return {str: "TEXT", int: "NUMBER"}[inner]


# ---------------------------------------------------------------------------------------------- output


def _print_scores(result: dict[str, Any]) -> None:
    protocol = result["protocol"]
    table = Table(title=f"{protocol['data']}, {protocol['split']}: {protocol['queries']} queries, {protocol['metric']}")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in result.items():
        if name != "protocol":
            table.add_row(name, f"{value:.4f}")
    Console().print(table)


def _print_found(found: Any, form: TableFormat) -> None:
    if form is TableFormat.json:
        records = json.loads(found.drop(columns="rank").to_json(orient="records", double_precision=10))
        print(json.dumps(records, indent=2, ensure_ascii=False))
    elif form is TableFormat.csv:
        print(found.to_csv(index=False), end="")
    else:
        table = Table(*TABLE_COLUMNS)
        for row in found[TABLE_COLUMNS].itertuples(index=False):
            table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row))
        Console().print(table)
