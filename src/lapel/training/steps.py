"""The one loop over training steps, for a training, the search for a learning rate and the benches: Lightning's.

Lightning computes gradients, clips, steps, scales losses in fp16, and talks to other processes. What of it is switched
off stands here, with the reason; lapel does it itself, in callbacks and samplers.
"""

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy, Strategy

from lapel.config.train import TrainConfig
from lapel.config.trainer import DistributedStrategy, Precision
from lapel.errors import AWAITED
from lapel.machine.devices import choose_precision
from lapel.training.checkpoint_files import AtomicCheckpointIO
from lapel.training.module import SimilarityModule

LIGHTNINGS_PRECISION = {Precision.fp32: "32-true", Precision.bf16: "bf16-mixed", Precision.fp16: "16-mixed"}

# What Lightning says that does not apply here: the loader has no workers, since images lie ready; frozen parts are in
# evaluation mode; buffers are shared before validation; val is no loader of Lightning's; a resume begins amid an epoch;
# a machine of SLURM's is used without it where a training is one process.
IDLE_ADVICE = (
    ".*does not have many workers.*",
    ".*in eval mode at the start of training.*",
    ".*broadcast_buffers.*is deprecated.*",
    ".*no `val_dataloader`.*|.*isinstance.*LeafSpec.*",
    ".*resuming from a checkpoint that ended.*|.*mid-epoch.*",
    ".*`srun` command is available.*",
)


def run_steps(
    module: SimilarityModule,
    device: torch.device,
    callbacks: list[pl.Callback],
    ranks: int = 1,
    checkpoint: Path | None = None,
) -> None:
    """Make the optimizer steps of a module's course, or those that are left of it.

    Args:
        module: what is trained.
        device: of this process.
        callbacks: what happens around the steps.
        ranks: processes that train together.
        checkpoint: that training goes on from; None to begin.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # importing it sets INFO
    with warnings.catch_warnings():
        for message in IDLE_ADVICE:
            warnings.filterwarnings("ignore", message=message)
        trainer = _trainer(module, device, callbacks, ranks)
        with _given_back(trainer, module, callbacks):
            trainer.fit(module, ckpt_path=checkpoint)


@contextmanager
def _given_back(trainer: pl.Trainer, module: SimilarityModule, callbacks: list[pl.Callback]) -> Iterator[None]:
    """However it ends, signals are minded by whom they were before; Ctrl-C comes out as KeyboardInterrupt.

    After an error Lightning calls no `teardown`, makes SystemExit of KeyboardInterrupt, and leaves the process deaf to
    Ctrl-C. Well ended, it leaves it deaf to SIGTERM where a callback minded that: it takes its own handler back before
    the callback gives it.
    """
    before = {number: signal.getsignal(number) for number in AWAITED}
    try:
        yield
    except BaseException as error:
        for each in callbacks:
            each.teardown(trainer, module, "fit")
        if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from error
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def _trainer(
    module: SimilarityModule,
    device: torch.device,
    callbacks: list[pl.Callback],
    ranks: int,
) -> pl.Trainer:
    """Lightning's trainer, which makes the steps and leaves the rest to lapel's callbacks."""
    config, here = module.config, processes_here(ranks)
    plugins: list[Any] = [AtomicCheckpointIO()]  # Lightning's own writer stages files in another file system
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=here if ranks > 1 else ([device.index] if device.type == "cuda" else 1),
        num_nodes=ranks // here,
        strategy=_strategy(config) if ranks > 1 else "auto",
        precision=LIGHTNINGS_PRECISION[choose_precision(config.trainer.precision, device)],  # type: ignore[arg-type]
        accumulate_grad_batches=config.trainer.accumulate,
        gradient_clip_val=config.optim.clip,
        sync_batchnorm=config.trainer.sync_batchnorm,
        logger=False,  # callbacks write what TensorBoard shows
        callbacks=callbacks,
        # lapel starts its processes itself: Lightning would repeat the command line, a sweep's in each trial.
        plugins=[*plugins, TorchElasticEnvironment()] if ranks > 1 else plugins,
        # The course knows steps, epochs and stages; Lightning's epochs would begin anew at a resume.
        max_epochs=-1,
        max_steps=module.course.total_steps,
        # The sampler shards its batches: Lightning would wrap it in one that shuffles, and balanced ones were no more.
        use_distributed_sampler=False,
        # The keeper validates, each row once: Lightning pads to even shares and counts rows twice. And it saves, after
        # validating: a checkpoint of Lightning's at an epoch's end resumes without that epoch's validation.
        limit_val_batches=0,
        enable_checkpointing=False,
        # lapel's own bar, over the whole training; and its own first line.
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,  # nothing is logged through Lightning; at the default it warns of short trainings
    )


def processes_here(ranks: int) -> int:
    """Processes of the training on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", ranks)) if ranks > 1 else 1


def _strategy(config: TrainConfig) -> Strategy:
    """How the processes share the work."""
    if config.trainer.strategy is DistributedStrategy.fsdp:
        return FSDPStrategy(sharding_strategy="FULL_SHARD", state_dict_type="full", use_orig_params=True)
    # Statistics are shared before validation; where a stage changes what learns, not every weight has a gradient.
    unfreezes = any(stage.unfrozen is not None for stage in config.stages)
    return DDPStrategy(broadcast_buffers=False, find_unused_parameters=unfreezes)
