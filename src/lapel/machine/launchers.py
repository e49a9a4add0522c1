"""Processes that another launcher has started: torchrun, or SLURM's srun. Imports no torch."""

import os
import re

# What torch.distributed reads, in torchrun's words, and where SLURM has it.
SLURMS_NAMES = {
    "RANK": "SLURM_PROCID",
    "WORLD_SIZE": "SLURM_STEP_NUM_TASKS",
    "LOCAL_RANK": "SLURM_LOCALID",
    "GROUP_RANK": "SLURM_NODEID",
}


def processes_outside() -> int:
    """How many processes the launcher has started; 1 without one."""
    _translate_slurm()
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def outer_rank() -> int:
    """This process's number among them."""
    return int(os.environ["RANK"]) if processes_outside() > 1 else 0


def slurm_job() -> str | None:
    """Number of the job of SLURM that this is; None outside of one."""
    return os.environ.get("SLURM_JOB_ID")


def _translate_slurm() -> None:
    """Put into torchrun's words what srun says of a step with several tasks."""
    if "RANK" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return
    names = {name: os.environ[slurms] for name, slurms in SLURMS_NAMES.items()}
    # "2(x3),1" or "4": tasks of each node.
    here = os.environ.get("SLURM_STEP_TASKS_PER_NODE", names["WORLD_SIZE"]).split(",")[0].partition("(")[0]
    job = int(slurm_job() or "0")
    os.environ.update(
        names,
        LOCAL_WORLD_SIZE=here,
        MASTER_ADDR=os.environ.get("MASTER_ADDR", _first_node(os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1"))),
        MASTER_PORT=os.environ.get("MASTER_PORT", str(15000 + job % 10000)),
    )


def _first_node(nodes: str) -> str:
    """The first of SLURM's list: `gpu[03-05,9]` begins with `gpu03`."""
    found = re.match(r"([^\[,]+)(?:\[(\d+))?", nodes)
    return found[1] + (found[2] or "") if found else nodes
