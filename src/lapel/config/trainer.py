"""Where and for how long to train."""

from dataclasses import dataclass
from enum import Enum

from lapel.config.choices import choice
from lapel.config.options import Options, option


class Accelerator(Enum):
    """auto: the GPU where there is one, else the CPU."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class Precision(Enum):
    """Of the convolutions and matrix products in training; bf16 and fp16 under autocast."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class DistributedStrategy(Enum):
    """How several processes share the work: ddp holds the whole network in each, fsdp a part of it, on GPUs."""

    ddp = "ddp"
    fsdp = "fsdp"


@choice("trainer", "base")
@dataclass
class TrainerConfig(Options):
    """Where and for how long to train."""

    accelerator: Accelerator = option(Accelerator.auto, how=True)
    devices: int = option(1, at_least=1, how=True)
    """Processes, each with a device of its own, or with a share of the CPU's cores."""
    strategy: DistributedStrategy = DistributedStrategy.ddp
    sync_batchnorm: bool = False
    """Whether batch normalisation looks at the images of all processes; on GPUs."""
    precision: Precision = Precision.auto
    """Number format in training; for auto bf16 where the hardware computes in it, else fp32. That is CUDA from Ampere
    on, and CPUs with AVX512-BF16 or AMX. fp16 is for GPUs alone; its loss is scaled against underflow."""
    max_epochs: int = option(8, at_least=1)
    """Epochs of training, where there are no stages, which have epochs of their own."""
    max_steps: int | None = option(None, at_least=1)
    """Stop after this many optimizer steps, if that comes before `max_epochs`."""
    patience: int | None = option(None, at_least=1)
    """Epochs without a better MAP@R on val before it stops."""
    accumulate: int = option(1, at_least=1)
    """Batches whose gradients are averaged into one optimizer step; each has its part of `data.batch_size` images."""
    chunk: int | None = option(None, at_least=1)
    """Images that go through the encoder at once: their activations alone are held, and computed twice."""
    recompute: bool = False
    """Hold no activations inside the blocks of the trunk but compute them again (gradient checkpointing)."""
    compile: bool = option(False, how=True)
    """Compile a step up to its loss with torch.compile, on a GPU into one graph; where that cannot be, the trunk."""
    checkpoint_every: int | None = option(None, at_least=1, how=True)
    """Write `last.ckpt` every so many steps, besides at the end of each epoch."""
    checkpoint_minutes: float | None = option(None, above=0, how=True)
    """Write `last.ckpt` when so many minutes have passed since it was written."""
    log_every: int = option(50, at_least=1)
    """Steps between two points of a TensorBoard curve."""
    gallery_every: int = option(2, at_least=1)
    """Epochs between two pictures of val queries with their matches; one more comes at the end."""
    threads: int | None = option(None, at_least=1, how=True)
    """CPU threads of each process; by default the cores, shared out over the processes."""
