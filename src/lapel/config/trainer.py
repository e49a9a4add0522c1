"""Where and for how long to train."""

from dataclasses import dataclass
from enum import Enum

from lapel.config.options import Options, choice, option


class Accelerator(Enum):
    """auto: the GPU where there is one, else the CPU."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class Precision(Enum):
    """auto: bf16 autocast where the hardware computes in it (CUDA from Ampere on, CPUs with AMX), else fp32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


@choice("trainer", "base")
@dataclass
class TrainerConfig(Options):
    """Where and for how long to train."""

    accelerator: Accelerator = Accelerator.auto
    devices: int = option(1, at_least=1)
    """Processes, each with a device of its own (on the CPU: a share of the cores)."""
    precision: Precision = Precision.auto
    max_epochs: int = option(4, at_least=1)
    max_steps: int | None = option(None, at_least=1)
    """Stop after this many optimizer steps, if that comes before `max_epochs`."""
    checkpoint_every: int | None = option(None, at_least=1)
    """Write `last.ckpt` every so many steps, besides at the end of each epoch."""
    log_every: int = option(50, at_least=1)
    """Steps between two points of a TensorBoard curve."""
    threads: int | None = option(None, at_least=1)
    """CPU threads of each process; by default the cores, shared out over the processes."""
