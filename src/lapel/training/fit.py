"""One process of a training run, from the catalogue to `train.json`."""

import logging
import platform
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console

from lapel import datasets, sampling
from lapel.checkpoint import AtomicCheckpointIO
from lapel.config import Precision, TrainConfig
from lapel.cores import available_cores
from lapel.devices import choose_device, choose_precision, describe
from lapel.images.store import open_store
from lapel.provenance import git_commit, package_versions
from lapel.runs import CHECKPOINTS, point_latest, write_json
from lapel.training.callbacks import MONITORED, Curves, Keeper, ProgressBar, Speed
from lapel.training.module import SimilarityModule
from lapel.training.warm_start import begin_with

logger = logging.getLogger(__name__)


def fit(config: TrainConfig, folder: Path, rank: int = 0, ranks: int = 1) -> float:
    """Train one process's share and write the run folder.

    Args:
        config: of the run.
        folder: run folder, which exists.
        rank, ranks: this process, and how many there are.

    Returns:
        The best MAP@R on val.

    Raises:
        LapelError: the data, the sampler or the device cannot do what the config asks, or the loss is not finite.
    """
    started = time.perf_counter()
    device = choose_device(config.trainer.accelerator, rank)
    torch.set_num_threads(config.trainer.threads or max(1, available_cores() // ranks))
    pl.seed_everything(config.seed, verbose=False)
    module = _prepare(config, device, rank, ranks)
    speed = Speed()
    curves = Curves(config.trainer.log_every, speed)
    keeper = Keeper(folder / CHECKPOINTS, config.trainer.checkpoint_every, speed, curves)
    bar = ProgressBar(speed, curves, Console(stderr=True))
    trainer = _trainer(config, folder, device, ranks, [speed, curves, keeper, bar])
    if rank == 0:
        point_latest(folder)
        (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    _run(trainer, module)
    if rank == 0:
        write_json(folder / "train.json", _summary(config, keeper, speed, device, started, ranks))
    return keeper.best


def _prepare(config: TrainConfig, device: torch.device, rank: int, ranks: int) -> SimilarityModule:
    """Data, sampler and model of one process."""
    catalog = datasets.load(config.data)
    store = open_store(catalog, config.data, device)
    sampler = sampling.build(config.sampler, catalog, "train", config.data.batch_size, config.seed, rank, ranks)
    module = SimilarityModule(config, catalog, store, sampler)
    if config.init is not None:
        begin_with(module.encoder, config.init)
    logger.info(
        "training %s on %s in %s: %d images, %d steps",
        config.name, describe(device), choose_precision(config.trainer.precision, device).name,
        len(catalog.rows("train")), module.total_steps,
    )  # fmt: skip
    return module


def _trainer(
    config: TrainConfig, folder: Path, device: torch.device, ranks: int, callbacks: list[pl.Callback]
) -> pl.Trainer:
    """Lightning's loop, without what lapel does itself: the sampler shards, and the keeper validates and saves."""
    bf16 = choose_precision(config.trainer.precision, device) is Precision.bf16
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # importing it sets INFO
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=ranks if ranks > 1 else ([device.index] if device.type == "cuda" else 1),
        strategy="ddp" if ranks > 1 else "auto",
        precision="bf16-mixed" if bf16 else "32-true",
        max_epochs=config.trainer.max_epochs,
        max_steps=config.trainer.max_steps or -1,
        logger=TensorBoardLogger(folder, name="tensorboard", version=""),
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,
        limit_val_batches=0,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _run(trainer: pl.Trainer, module: SimilarityModule) -> None:
    """Lightning's fit without the advice that does not apply here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # frozen ones are
        warnings.filterwarnings("ignore", message=".*no `val_dataloader`.*|.*isinstance.*LeafSpec.*")
        trainer.fit(module)


def _summary(
    config: TrainConfig,
    keeper: Keeper,
    speed: Speed,
    device: torch.device,
    started: float,
    ranks: int,
) -> dict[str, Any]:
    """What `train.json` says."""
    return {
        "name": config.name,
        "seed": config.seed,
        "monitor": f"val/{MONITORED}",
        "monitored": keeper.best,
        "seconds": time.perf_counter() - started,
        "training_seconds": speed.seconds,
        "images_per_second": speed.images_per_second(),
        "images": speed.images,
        "steps": keeper.history[-1]["step"],
        "epochs": keeper.history[-1]["epoch"],
        "history": keeper.history,
        "device": describe(device),
        "processes": ranks,
        "precision": choose_precision(config.trainer.precision, device).name,
        "versions": package_versions(),
        "python": platform.python_version(),
        "git_commit": git_commit(),
    }
