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
from lapel.runs import check_latest, claim_folder, logged_to, new_folder, undone_on_error, write_yaml
from lapel.training.fit import fit

logger = logging.getLogger(__name__)


def train(config: TrainConfig, folder: Path | str | None = None) -> float:
    """Train a model, in as many processes as `trainer.devices` says.

    Args:
        config: of the run, as from `lapel.compose("train", overrides)`.
        folder: run folder, new or empty; by default a new one in `runs/`.

    Returns:
        The best MAP@R on val.

    Raises:
        LapelError: the config cannot be carried out; a folder in which training has not begun is removed again.
        InterruptedTrainingError: by Ctrl-C or SIGTERM, after the step was finished and `checkpoints/last.ckpt` written.
    """
    config = from_plain(to_plain(config))  # checks again: a field may have been changed since it was made
    check_latest()
    folder = new_folder(config.name) if folder is None else Path(folder)
    claim_folder(folder)
    with undone_on_error(folder), logged_to(folder / "train.log"):
        write_yaml(folder / "config.yaml", to_plain(config))
        best = fit(config, folder) if config.trainer.devices == 1 else _train_in_processes(config, folder)
        logger.info("best val map@r %.4f; the run is in %s", best, folder)
    return best


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
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces each rank
    try:
        if rank:
            return {"best": fit(from_plain(plain), Path(folder), rank, ranks)}
        with logged_to(Path(folder) / "train.log"):
            return {"best": fit(from_plain(plain), Path(folder), rank, ranks)}
    except InterruptedTrainingError as error:
        return {"interrupted": str(error)}
    except LapelError as error:
        return {"error": str(error)}
