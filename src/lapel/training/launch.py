"""Starts a training's processes: this one, as many as there are devices, or those of an outer launcher.

lapel starts processes with torch's elastic launcher and one plain config; Lightning would repeat the command line,
which under a sweep would run the whole sweep again in each.
"""

import ctypes
import logging
import multiprocessing
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from lapel.config.composing import from_plain, to_plain
from lapel.config.train import TrainConfig
from lapel.errors import AWAITED, InterruptedTrainingError, LapelError, signal_of
from lapel.files.paths import RUNS, run_path
from lapel.files.writing import link_to, read_yaml, write_yaml
from lapel.machine.launchers import outer_rank, processes_outside, slurm_job
from lapel.machine.messages import CurrentStderr, keep_quiet
from lapel.runs.folder import (
    CHECKPOINTS,
    check_latest,
    claim_folder,
    held,
    is_started,
    logged_to,
    new_folder,
    undone_on_error,
)
from lapel.training.ending import end_noted
from lapel.training.process import fit

logger = logging.getLogger(__name__)

# Linux's name for "the signal that I get when my parent ends" (prctl(2)).
PR_SET_PDEATHSIG = 1

LOG_FILE = "train.log"

NOT_BEGUN = "stopped by a signal before training had begun"


def train(config: TrainConfig, folder: Path | str | None = None) -> float:
    """Train a model, in as many processes as `trainer.devices` says, or as torchrun or srun has started.

    Args:
        config: of the run, as from `lapel.compose("train", overrides)`; with `resume`, of the run that goes on.
        folder: run folder, new or empty; by default a new one in `runs/`.

    Returns:
        The best MAP@R on val.

    Raises:
        LapelError: the config cannot be carried out; a folder in which training has not begun is removed again.
        InterruptedTrainingError: by Ctrl-C or SIGTERM, after the step was finished and `checkpoints/last.ckpt` written.
    """
    resume = config.resume
    config = from_plain(to_plain(replace(config, resume=None)))  # checks again: a field may have been changed since
    check_latest()
    requeued = _requeued(config) if resume is None else None
    if requeued is not None:
        if folder is not None:
            Path(folder).rmdir()  # made for this attempt, and empty
        resume = str(requeued)
    if resume is not None:
        return _go_on(replace(config, resume=resume), run_path(resume))
    folder = new_folder(config.name) if folder is None else Path(folder)
    with _told_if_not_begun(folder), Others() as others, held(folder):
        claim_folder(folder)
        with undone_on_error(folder), logged_to(folder / LOG_FILE) as log, end_noted(config, folder, log):
            write_yaml(folder / "config.yaml", to_plain(config))
            if (job := slurm_job()) is not None:
                link_to(_link_of(job), folder)
            return _train(config, folder, others)


@contextmanager
def _told_if_not_begun(folder: Path) -> Iterator[None]:
    """Ctrl-C, or another signal, before training had begun says so."""
    try:
        yield
    except KeyboardInterrupt as error:
        if is_started(folder):
            raise
        raise InterruptedTrainingError(NOT_BEGUN, signal_of(error)) from error


def _go_on(config: TrainConfig, folder: Path) -> float:
    with Others() as others, held(folder), logged_to(folder / LOG_FILE) as log, end_noted(config, folder, log):
        return _train(config, folder, others)


def _train(config: TrainConfig, folder: Path, others: "Others") -> float:
    if processes_outside() > 1:
        others.tell(config, folder)
        best = fit(config, folder, 0, processes_outside())
    elif config.trainer.devices == 1:
        best = fit(config, folder)
    else:
        best = _train_in_processes(config, folder)
    logger.info("best val map@r %.4f; the run is in %s", best, folder)
    return best


def _link_of(job: str) -> Path:
    """Where a job of SLURM finds its run again; beside `runs/`, as `latest`."""
    return RUNS.parent / f".slurm-{job}"


def _requeued(config: TrainConfig) -> Path | None:
    """The folder of this run, where it is a job that SLURM has started again."""
    job = slurm_job()
    if job is None or int(os.environ.get("SLURM_RESTART_COUNT", "0")) == 0:
        return None
    link = _link_of(job)
    if not (link / "config.yaml").is_file() or read_yaml(link / "config.yaml") != to_plain(config):
        return None
    return Path(os.path.relpath(link.resolve()))


# -------------------------------------------------------------------------------- processes started here


def _train_in_processes(config: TrainConfig, folder: Path) -> float:
    """As many processes on this machine as there are devices; the first one's result."""
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=config.trainer.devices,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.5,
        start_method="spawn",
        signals_to_handle="SIGQUIT",  # at the others it would give the processes half a minute, and then kill them
    )
    level = logger.getEffectiveLevel()
    try:
        with passed_on() as signals:
            outcome = elastic_launch(launch, _train_one_process)(to_plain(config), str(folder), level)[0]
    except ChildFailedError as error:
        if signals:
            begun = (folder / CHECKPOINTS / "last.ckpt").is_file()
            told = f"stopped by a signal; {_again(folder)}" if begun else NOT_BEGUN
            raise InterruptedTrainingError(told, signals[0]) from error
        rank, failure = error.get_first_failure()
        how = f"was killed by signal {-failure.exitcode}" if failure.exitcode < 0 else "failed; its error is above"
        raise LapelError(f"training process {rank} {how}; {_again(folder)}") from error
    if "interrupted" in outcome:
        raise InterruptedTrainingError(outcome["interrupted"], outcome["signal"])
    if "error" in outcome:
        raise LapelError(outcome["error"])
    return outcome["best"]


def _again(folder: Path) -> str:
    return f"python train.py {shlex.quote(f'resume={folder}')} goes on from its last checkpoint"


@contextmanager
def passed_on() -> Iterator[list[int]]:
    """Pass the signals that end a training on to its processes, which finish their step, save and come back.

    Yields:
        The signals that came.

    Raises:
        InterruptedTrainingError: one came before there was a process.
    """
    came: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        came.append(number)
        processes = [each.pid for each in multiprocessing.active_children() if each.pid is not None]
        if not processes:
            raise InterruptedTrainingError(NOT_BEGUN, number)
        for process in processes:
            os.kill(process, number)

    if threading.current_thread() is not threading.main_thread():  # Python allows handlers there alone
        yield came
        return
    before = {number: signal.signal(number, pass_on) for number in AWAITED}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _train_one_process(plain: dict[str, Any], folder: str, level: int) -> dict[str, Any]:
    """What each process runs. What the user can mend travels as a value: an exception would come as a traceback."""
    _end_with_parent()
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[CurrentStderr()])
    logging.getLogger("lapel").setLevel(level if rank == 0 else logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces each rank
    keep_quiet(bool(plain.get("quiet")))
    try:
        if rank:
            return {"best": fit(from_plain(plain), Path(folder), rank, ranks)}
        with logged_to(Path(folder) / LOG_FILE):
            return {"best": fit(from_plain(plain), Path(folder), rank, ranks)}
    except InterruptedTrainingError as error:
        return {"interrupted": str(error), "signal": error.signal}
    except LapelError as error:
        return {"error": str(error)}
    except KeyboardInterrupt:  # a second Ctrl-C: the process that started this one knows of it
        raise SystemExit(1) from None


def _end_with_parent() -> None:
    """Be killed when the parent is, which holds the run folder: nobody must go on writing there."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


# --------------------------------------------------------------------- processes that torchrun or srun started


def join() -> float:
    """Train as one of several processes, but the first, which says what and where to train.

    Raises:
        LapelError: the first process could not begin.
    """
    _meet()
    told: list[Any] = [None]
    dist.broadcast_object_list(told)
    if told[0] is None:
        raise LapelError("the first process could not begin")
    logging.getLogger("lapel").setLevel(logging.WARNING)
    return fit(from_plain(told[0]["config"]), Path(told[0]["folder"]), outer_rank(), processes_outside())


class Others:
    """The processes that an outer launcher has started beside this one; the first tells them what to train."""

    def __init__(self) -> None:
        self.told = False

    def __enter__(self) -> "Others":
        if processes_outside() > 1:
            _meet()
        return self

    def tell(self, config: TrainConfig, folder: Path) -> None:
        """Say what to train, and where."""
        self.told = True
        dist.broadcast_object_list([{"config": to_plain(config), "folder": str(folder)}])

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None and not self.told and processes_outside() > 1:
            dist.broadcast_object_list([None])  # they wait, and would for long


def _meet() -> None:
    """Join the processes' group, which Lightning then finds."""
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
