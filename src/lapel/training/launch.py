"""Starts the processes of a training run: this one alone, or several under torch's elastic agent.

The command line is read once, before: the processes get the finished config and the run folder. (Lightning's own
launcher repeats the command line instead, which in a Hydra multirun runs the whole sweep again.)
"""

import logging
import os
from pathlib import Path
from typing import Any

from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from lapel.composing import from_plain, to_plain
from lapel.config import TrainConfig
from lapel.errors import InterruptedTrainingError, LapelError
from lapel.runs import check_unused, logged_to, new_folder, removed_unless_started, write_yaml
from lapel.training.fit import fit

logger = logging.getLogger(__name__)


def train(config: TrainConfig, folder: Path | None = None) -> float:
    """Train a model, in as many processes as `trainer.devices` says.

    Args:
        config: of the run, as from `lapel.compose("train", overrides)`.
        folder: run folder; by default a new one in `runs/`.

    Returns:
        The best MAP@R on val.

    Raises:
        LapelError: the config cannot be carried out; a folder in which training has not begun is removed again.
        InterruptedTrainingError: by Ctrl-C or SIGTERM, after the step was finished and `checkpoints/last.ckpt` written.
    """
    folder = folder or new_folder(config.name)
    check_unused(folder)
    with removed_unless_started(folder), logged_to(folder / "train.log"):
        write_yaml(folder / "config.yaml", to_plain(config))
        best = _train_here(config, folder) if config.trainer.devices == 1 else _train_in_processes(config, folder)
        logger.info("best val map@r %.4f; the run is in %s", best, folder)
    return best


def _train_here(config: TrainConfig, folder: Path) -> float:
    return fit(config, folder)


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
    )
    outcome = elastic_launch(launch, _train_one_process)(to_plain(config), str(folder), logger.getEffectiveLevel())[0]
    if "interrupted" in outcome:
        raise InterruptedTrainingError(outcome["interrupted"])
    if "error" in outcome:
        raise LapelError(outcome["error"])
    return outcome["best"]


def _train_one_process(plain: dict[str, Any], folder: str, level: int) -> dict[str, Any]:
    """What each process runs. What the user can mend travels as a value: an exception would come as a traceback."""
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("lapel").setLevel(level if rank == 0 else logging.WARNING)
    try:
        if rank:
            return {"best": fit(from_plain(plain), Path(folder), rank, ranks)}
        with logged_to(Path(folder) / "train.log"):
            return {"best": fit(from_plain(plain), Path(folder), rank, ranks)}
    except InterruptedTrainingError as error:
        return {"interrupted": str(error)}
    except LapelError as error:
        return {"error": str(error)}
