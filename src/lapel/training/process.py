"""One process of a training run, from the catalogue to `train.json`."""

import logging
import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist

from lapel import datasets
from lapel.catalog import Catalog
from lapel.config.train import TrainConfig
from lapel.config.trainer import DistributedStrategy, Precision
from lapel.encoders.checking import check_stages
from lapel.encoders.encoder import Encoder
from lapel.encoders.encoder import build as build_encoder
from lapel.errors import LapelError, counted
from lapel.files.writing import write_json
from lapel.images.store import open_store
from lapel.machine.cores import available_cores
from lapel.machine.devices import choose_device, choose_precision, describe
from lapel.machine.memory import keep_freed_memory
from lapel.machine.provenance import git_commit, package_versions
from lapel.retrieval.findable import matches_of_queries
from lapel.runs.checkpoint import load_checkpoint
from lapel.runs.folder import (
    CHECKPOINTS,
    FINISHED,
    STUCK,
    SUMMARY_FILE,
    has_ended,
    point_latest,
    read_train_summary,
)
from lapel.sampling import Division
from lapel.training.batch_size import with_sampler
from lapel.training.callbacks import (
    MONITORED,
    Curves,
    EventFiles,
    Interrupt,
    Keeper,
    Pictures,
    ProgressBar,
    Speed,
    Watchdog,
)
from lapel.training.module import SimilarityModule
from lapel.training.resuming import restored
from lapel.training.steps import processes_here, run_steps
from lapel.training.warm_start import begin_with

logger = logging.getLogger(__name__)


def fit(config: TrainConfig, folder: Path, rank: int = 0, ranks: int = 1) -> float:
    """Train one process's share and write the run folder; with `resume` from its last checkpoint on.

    Args:
        config: of the run.
        folder: run folder, which exists.
        rank, ranks: this process, and how many there are.

    Returns:
        The best MAP@R on val.

    Raises:
        LapelError: the data, the sampler or the device cannot do what the config asks, or training diverged.
    """
    started = time.perf_counter()
    module, device = prepare(config, rank, ranks)
    config = module.config
    last = folder / CHECKPOINTS / "last.ckpt"
    resumed = restored(config, module.catalog, last, folder, rank) if config.resume else None
    speed, interrupt, events = Speed(), Interrupt(), EventFiles(folder, config)
    curves = Curves(config.trainer.log_every, speed, folder / CHECKPOINTS, events)
    pictures = Pictures(events, config.trainer.gallery_every)
    keeper = Keeper(folder / CHECKPOINTS, config.trainer, speed, curves, interrupt, pictures, events)
    bar = ProgressBar(speed, curves)
    watchdog = Watchdog(config.watchdog, curves, events)
    callbacks = [speed, interrupt, curves, watchdog, keeper, bar, events]
    summary = folder / SUMMARY_FILE

    def summarize() -> None:
        write_json(summary, _summary(module, keeper, speed, device, started, ranks))

    if resumed is not None and resumed.undrawn:
        _draw_again(module, device, load_checkpoint(last), keeper, rank)
    if resumed is not None and resumed.ended:
        logger.info("%s: its training has ended; nothing is left to do", folder)
        if rank == 0 and not (summary.is_file() and has_ended(read_train_summary(folder))):
            speed.load_state_dict(resumed.callbacks[Speed.__qualname__])
            keeper.load_state_dict(resumed.callbacks[Keeper.__qualname__])
            summarize()
        return resumed.best
    if rank == 0:
        point_latest(folder)
        (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        summary.unlink(missing_ok=True)  # of an attempt that ended early
    try:
        run_steps(module, device, callbacks, ranks, None if resumed is None else last)
    except BaseException:
        if rank == 0 and keeper.history:
            with suppress(OSError):  # what was reached is told, where that can be written
                summarize()
        raise
    if rank == 0:
        summarize()
    return keeper.best


def _draw_again(
    module: SimilarityModule, device: torch.device, checkpoint: dict[str, Any], keeper: Keeper, rank: int
) -> None:
    """Draw the pictures of the epoch that a checkpoint ended: the process that wrote it had no time for them."""
    if rank and not dist.is_initialized():  # the first process validates alone
        return
    module.load_state_dict(checkpoint["state_dict"])
    module.on_load_checkpoint(checkpoint)
    keeper.load_state_dict(checkpoint["callbacks"][Keeper.__qualname__])
    found = module.to(device).validated()
    if rank == 0:
        keeper.draw(module, *found)


def prepare(config: TrainConfig, rank: int = 0, ranks: int = 1) -> tuple[SimilarityModule, torch.device]:
    """Data, sampler and model of one process, and its device.

    Raises:
        LapelError: as `fit`.
    """
    device = choose_device(config.trainer.accelerator, int(os.environ.get("LOCAL_RANK", rank)) if ranks > 1 else rank)
    _check_device(config, device)
    keep_freed_memory()
    torch.set_num_threads(config.trainer.threads or max(1, available_cores() // processes_here(ranks)))
    pl.seed_everything(config.seed, verbose=False)
    encoder = _encoder(config)  # ahead of the data: decoding may take an hour, and a size that does not fit no second
    catalog = datasets.load(config.data)
    _check_validation(catalog)
    if catalog.dropped:
        told = ", ".join(f"{len(each.names):,} {each.reason}" for each in catalog.dropped)
        logger.info("%s: left out %s; lapel-data check lists them", catalog.name, told)
    store = open_store(catalog, config.data, device)
    config, sampler = with_sampler(config, catalog, Division(rank, ranks, config.trainer.accumulate))
    module = SimilarityModule(config, encoder, catalog, store, sampler)
    logger.info(
        "training %s on %s in %s: %s, %s",
        config.name, describe(device), choose_precision(config.trainer.precision, device).name,
        counted(len(catalog.rows("train")), "image"), counted(module.course.total_steps, "step"),
    )  # fmt: skip
    return module, device


def _encoder(config: TrainConfig) -> Encoder:
    """The encoder of a new training, with the weights that it begins with; what follows draws as if it had none."""
    encoder = build_encoder(config.encoder, config.data, config.variant.metric)
    check_stages(encoder, config)
    if config.init is not None and config.resume is None:
        with torch.random.fork_rng(devices=[]):
            begin_with(encoder, config.init)
    return encoder


def _check_validation(catalog: Catalog) -> None:
    """Raise where val has no query with a match, which else would be found out at the end of the first epoch."""
    matches = matches_of_queries(catalog, "val")
    if not matches.any():
        queries = counted(len(matches), "query", "queries")
        images = counted(len(catalog.gallery("val")), "gallery image")
        raise LapelError(
            f"{catalog.name}: val has {queries} and {images}, and no two different ones of an item: there is nothing "
            "to validate on; a larger data.val_share, or data.split=unseen, may help"
        )


def _check_device(config: TrainConfig, device: torch.device) -> None:
    """Raise where the CPU is asked for what GPUs alone can do."""
    if device.type == "cuda":
        return
    for key, wanted in (
        ("trainer.precision=fp16", config.trainer.precision is Precision.fp16),
        ("trainer.sync_batchnorm=true", config.trainer.sync_batchnorm),
        ("trainer.strategy=fsdp", config.trainer.strategy is DistributedStrategy.fsdp),
    ):
        if wanted:
            raise LapelError(f"{key}: needs a GPU, and training is on the CPU")


def _summary(
    module: SimilarityModule, keeper: Keeper, speed: Speed, device: torch.device, started: float, ranks: int
) -> dict[str, Any]:
    """What `train.json` says."""
    config = module.config
    return {
        "name": config.name,
        "seed": config.seed,
        "monitor": f"val/{MONITORED}",
        "monitored": keeper.best,
        "seconds": time.perf_counter() - started,
        "training_seconds": speed.seconds,
        "warm_up_seconds": module.warm_up_seconds,
        "images_per_second": speed.images_per_second(),
        "images": speed.images,
        "steps": keeper.history[-1]["step"],
        "epochs": keeper.history[-1]["epoch"],
        "history": keeper.history,
        **_end(config, keeper),
        "device": describe(device),
        "processes": ranks,
        "parameters": sum(each.numel() for each in module.encoder.parameters()),
        "precision": choose_precision(config.trainer.precision, device).name,
        "versions": package_versions(),
        "python": platform.python_version(),
        "git_commit": git_commit(),
    }


def _end(config: TrainConfig, keeper: Keeper) -> dict[str, str]:
    """How a training ended that came to its end; nothing of any other."""
    if not keeper.ended:
        return {}
    patience = config.trainer.patience
    if keeper.stuck:
        return {"end": STUCK, "why": f"no better {MONITORED} on val for {patience} epochs (trainer.patience)"}
    return {"end": FINISHED, "why": f"all {keeper.history[-1]['step']} steps are made"}
