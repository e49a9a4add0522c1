"""A command as a Hydra application: free text quoted, the whole config checked before anything starts, folders made.

Hydra does the composing, the sweeps and their launchers; its many-line errors become one line here.
"""

import argparse
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lapel.commands.starting import ended_at_once
from lapel.commands.terminal import FOR_HYDRA, FULL_ERRORS, log_to_terminal, print_version, tell, told_in_one_line
from lapel.config.choices import tell_hydra
from lapel.config.commands import CONFIG_MODULE, composed_commands
from lapel.config.composing import (
    FOLDER_KEYS,
    HYDRA_VERSION_BASE,
    RUN_FOLDER,
    SWEEP_FOLDER,
    compose,
    composed_and_checked,
    escape_interpolation,
    explain,
    free_text_keys,
    to_config,
    to_plain,
)
from lapel.errors import InterruptedTrainingError, LapelError, why
from lapel.files.writing import written_whole
from lapel.machine.cores import wait_briefly
from lapel.machine.launchers import outer_rank, processes_outside
from lapel.machine.messages import keep_quiet
from lapel.runs.folder import best_finished, new_folder, point_latest

logger = logging.getLogger(__name__)

# A sweep of more trials is not composed as a whole before it starts: that takes a third of a second each.
MOST_CHECKED_TRIALS = 100

# Folder of a sweep with a line for each trial that failed.
FAILED = "failed"

# One quoted text, or several to sweep over.
_ONE_QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_QUOTED = re.compile(rf"{_ONE_QUOTED}(?:\s*,\s*{_ONE_QUOTED})*", re.DOTALL)


@dataclass(frozen=True)
class ComposedCommand:
    """A command that composes its config on the command line, checks it, and works on it.

    Args:
        name: a key of `composed_commands()`.
        work: what is done with the config; its value goes to Hydra's sweeper.
        room: that does it, and takes seconds to import: before a folder is made, which Ctrl-C would leave behind.
        check_named: raises where a folder that the config names is not there: before the room is imported.
        keeps_folders: whether each run has a folder of its own below `runs/`.
        check: raises where the config cannot be carried out, for all that can be known without doing anything: of a
            run that is shown and not begun, and of every trial of a sweep before the first one.
    """

    name: str
    work: Callable[[Any], Any]
    room: str
    check_named: Callable[[Any], None]
    keeps_folders: bool = False
    check: Callable[[Any], None] | None = None

    @property
    def program(self) -> str:
        """Its name on a command line."""
        return f"lapel-{self.name}"


def run_composed(command: ComposedCommand) -> None:
    """Do what the arguments of this process tell a command to do."""

    def task(composed: DictConfig) -> Any:
        # Here, not outside: an exception that leaves the task makes Hydra print lines of its own, and ends a sweep.
        with _as_asked(), told_in_one_line(command.program):
            log_to_terminal()  # a launcher's worker has not begun with it
            context = HydraConfig.get()
            keep_quiet(composed.quiet)
            if context.mode is not RunMode.MULTIRUN:
                return command.work(to_config(composed))
            logger.info("trial %s: %s", context.job.num, " ".join(context.overrides.task) or "defaults")
            try:
                return command.work(to_config(composed))
            except InterruptedTrainingError:
                raise
            except Exception as error:
                if FULL_ERRORS:
                    raise
                tell(command.program, f"error: trial {context.job.num}: {why(error)}")
                _note_failed(Path(context.sweep.dir), context.job.num, why(error))
                return float("nan")

    wait_briefly()
    with told_in_one_line(command.program):
        with ended_at_once(command.program):
            work = _prepared(command, task)
        work()


@contextmanager
def _as_asked() -> Iterator[None]:
    """Have HYDRA_FULL_ERROR as the user has set it, or not, where it was set for Hydra's sake: workers inherit it."""
    if FULL_ERRORS or FOR_HYDRA not in os.environ:
        yield
        return
    del os.environ["HYDRA_FULL_ERROR"]
    try:
        yield
    finally:
        os.environ["HYDRA_FULL_ERROR"] = "1"


def _note_failed(sweep: Path, trial: int, reason: str) -> None:
    """Leave word of a failed trial for the process that started the sweep, in which it may not have run."""
    (sweep / FAILED).mkdir(parents=True, exist_ok=True)
    with written_whole(sweep / FAILED / str(trial)) as temporary:
        temporary.write_text(f"{reason}\n")


def _prepared(command: ComposedCommand, task: Callable[[DictConfig], Any]) -> Callable[[], None]:
    """What the arguments ask for, once all that can be known of it without making anything is in order."""
    if "--version" in sys.argv[1:]:  # Hydra would print its own
        return print_version
    parsed, arguments = _flags_first(quoted_arguments(sys.argv[1:], command.name))
    if parsed.hydra_help or parsed.info or parsed.shell_completion:
        return partial(_start_hydra, command, task, arguments)
    log_to_terminal()  # not before --info, which Hydra prints through a log of its own
    _check_folder_options(parsed.overrides)
    if parsed.multirun:
        _check_sweep(command, parsed)
        import_module(command.room)
        return partial(_run_sweep, command, task, arguments, parsed)
    composed, config = composed_and_checked(command.name, _but_folders(parsed.overrides))
    keep_quiet(config.quiet)
    resumes = getattr(config, "resume", None) is not None
    if resumes and _value(RUN_FOLDER, parsed.overrides) is not None:
        raise LapelError(f"{RUN_FOLDER}: a resume goes on in its own folder")
    if parsed.cfg:
        if command.check is not None and not resumes:
            command.check(config)
        if parsed.cfg == "job" and not parsed.package:
            shown = OmegaConf.create(to_plain(config)) if composed is None else composed
            return partial(print, OmegaConf.to_yaml(shown, resolve=parsed.resolve), end="")
        return partial(_start_hydra, command, task, arguments)
    command.check_named(config)
    import_module(command.room)
    if resumes or (command.keeps_folders and outer_rank() > 0):  # in a folder that is there, or that another makes
        return partial(command.work, config)
    if command.keeps_folders and _value(RUN_FOLDER, parsed.overrides) is None:
        return partial(_run_in_folder, command, task, arguments, config.name)
    return partial(_start_hydra, command, task, arguments)


def _run_in_folder(
    command: ComposedCommand, task: Callable[[DictConfig], Any], arguments: list[str], name: str
) -> None:
    with _kept_unless_empty(new_folder(name)) as folder:
        _start_hydra(command, task, [*arguments, f"{RUN_FOLDER}='{folder}'"])


@contextmanager
def _kept_unless_empty(folder: Path) -> Iterator[Path]:
    """A folder that was made for what is done inside; gone again where that did not come to use it."""
    try:
        yield folder
    finally:
        with suppress(OSError):  # it holds something, or is gone
            folder.rmdir()


def _flags_first(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The arguments as Hydra's parser takes them, and in the order in which it does: flags, then all `key=value`."""
    parser = get_args_parser()
    parser.error = _raise_usage  # type: ignore[method-assign]  # argparse prints its whole usage
    parsed = parser.parse_intermixed_args(arguments)
    flags = list(arguments)
    for each in parsed.overrides:
        flags.remove(each)
    return parsed, [*flags, *parsed.overrides]


def _check_sweep(command: ComposedCommand, parsed: argparse.Namespace) -> None:
    if parsed.cfg:
        raise LapelError("--cfg shows one run: leave out -m")
    if _value("resume", parsed.overrides) is not None:
        raise LapelError("resume: goes on with one run: leave out -m")
    if processes_outside() > 1:
        raise LapelError("-m: a sweep starts its own processes: start it without torchrun or srun")
    _check_trials(command, parsed.overrides)


def _run_sweep(
    command: ComposedCommand, task: Callable[[DictConfig], Any], arguments: list[str], parsed: argparse.Namespace
) -> None:
    """Run every trial, and point `latest` to the best; what began in none leaves nothing."""
    given = _value(SWEEP_FOLDER, parsed.overrides)
    folder = Path(given) if given else new_folder("sweep") if command.keeps_folders else Path(tempfile.mkdtemp())
    if not given:
        arguments.append(f"{SWEEP_FOLDER}='{folder}'")
    shutil.rmtree(folder / FAILED, ignore_errors=True)  # of an earlier sweep in a folder that the user named
    failed: list[int] = []
    try:
        _start_hydra(command, task, arguments)
    finally:
        failed = sorted(int(each.name) for each in (folder / FAILED).glob("[0-9]*"))
        best = best_finished(folder) if command.keeps_folders else None
        if best:
            point_latest(best)
            logger.info("best trial: %s", best)
        elif not given and not (command.keeps_folders and _has_trials(folder)):
            shutil.rmtree(folder)  # made here; a folder that the user named is never removed
    if failed:
        raise LapelError(f"{len(failed)} trials failed: {', '.join(map(str, failed))}")


def _has_trials(folder: Path) -> bool:
    """Whether a trial has left something in a sweep's folder."""
    return any(each.is_dir() and each.name != FAILED for each in folder.iterdir())


def _check_trials(command: ComposedCommand, overrides: list[str]) -> None:
    """Compose each combination of a plain sweep, so that a mistake in the last is told before the first one trains."""
    if _value("hydra/sweeper", overrides) is not None:
        return
    try:
        parsed = OverridesParser.create().parse_overrides(_but_folders(overrides))
        trials = BasicSweeper.split_arguments(parsed, None)[0]
    except HydraException as error:
        raise LapelError(explain(error, composed_commands()[command.name])) from error
    for trial in trials if len(trials) <= MOST_CHECKED_TRIALS else trials[:1]:
        config = compose(command.name, list(trial))
        command.check_named(config)
        if command.check is not None:
            command.check(config)


def _but_folders(overrides: list[str]) -> list[str]:
    """The overrides that are for the config, and not for where a command puts its folders."""
    return [each for each in overrides if each.partition("=")[0].lstrip("+") not in FOLDER_KEYS]


def _check_folder_options(overrides: list[str]) -> None:
    for key in FOLDER_KEYS:
        if _value(key, overrides) == "":
            raise LapelError(f"{key}=: must name a folder")
    if _value("hydra.job.chdir", overrides) not in (None, "false", "False"):
        raise LapelError("hydra.job.chdir: lapel's paths are relative to where the command starts; must be false")


def _value(key: str, overrides: list[str]) -> str | None:
    """The value that the command line gives a key, without quotes; None where it gives none."""
    for override in reversed(overrides):
        name, equals, value = override.partition("=")
        if equals and name.lstrip("+") == key:
            return value[1:-1].replace("\\'", "'") if _is_quoted(value) else value
    return None


def _start_hydra(command: ComposedCommand, task: Callable[[DictConfig], Any], arguments: list[str]) -> None:
    """Hand over to Hydra, whose errors become one line."""
    tell_hydra()
    sys.argv[1:] = arguments
    if not FULL_ERRORS:  # else Hydra prints several lines of its own and exits
        os.environ |= {"HYDRA_FULL_ERROR": "1", FOR_HYDRA: "1"}
    try:
        hydra.main(version_base=HYDRA_VERSION_BASE, config_path=f"pkg://{CONFIG_MODULE}", config_name=command.name)(
            task
        )()
    except (HydraException, OmegaConfBaseException) as error:
        raise LapelError(explain(error, composed_commands()[command.name])) from error
    finally:
        if not FULL_ERRORS:
            del os.environ["HYDRA_FULL_ERROR"], os.environ[FOR_HYDRA]


def _raise_usage(message: str) -> NoReturn:
    raise LapelError(f"{message}; see --help")


# ------------------------------------------------------------------------------------------- arguments


def quoted_arguments(arguments: list[str], command: str) -> list[str]:
    """The arguments with free text quoted, and `--config-dir` as an override, which the check understands too."""
    keys = free_text_keys(composed_commands()[command]) | set(FOLDER_KEYS)
    for each in arguments:
        if each.startswith("="):
            raise LapelError(f"{each}: must be key=value")
    return _as_search_path([quote_free_text(each, keys) for each in arguments])


def _as_search_path(arguments: list[str]) -> list[str]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.error = _raise_usage  # type: ignore[method-assign]
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
    if not key.lstrip("+").startswith("hydra."):  # Hydra's folders may well interpolate
        value = escape_interpolation(value)
    value = re.sub(r"(\\*)'", r"\1\1\\'", value)
    value = re.sub(r"(\\+)$", r"\1\1", value)
    return f"{key}='{value}'"


def _is_quoted(value: str) -> bool:
    """Whether the whole value is one quoted text, or several for a sweep; `"base colour" == "red"` is neither."""
    return _QUOTED.fullmatch(value) is not None
