"""lapel-train."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lapel.commands.asked import helped
from lapel.commands.starting import ended_at_once, say_at_once, typed

if TYPE_CHECKING:
    from lapel.config.train import TrainConfig


def _train(config: "TrainConfig") -> float:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from lapel.commands.terminal import say_next
    from lapel.files.paths import from_here
    from lapel.machine.launchers import outer_rank
    from lapel.training import find_lr, join, train

    if outer_rank() > 0:
        return join()
    folder = from_here(Path(HydraConfig.get().runtime.output_dir)) if HydraConfig.initialized() else None
    if config.find_lr:
        return find_lr(config, folder)
    best = train(config, folder)
    if not (HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN):
        say_next(f"{typed('lapel-evaluate')} run={config.resume or folder}")
    return best


def _check_named(config: "TrainConfig") -> None:
    from lapel.files.named import check_data_root, check_run_or_bundle

    if config.init is not None and config.resume is None:
        check_run_or_bundle("init", config.init)
    check_data_root(config.data.root)


checked: set[str] = set()


def _check(config: "TrainConfig") -> None:
    """Raise where a filter cannot be read, or the encoder cannot be; trials of a sweep that share one ask once."""
    from lapel.config.composing import to_plain
    from lapel.config.data import PhotosConfig

    if isinstance(config.data, PhotosConfig) and config.data.where is not None:
        from lapel.catalog.filters import read_filter

        read_filter(config.data.where, "data.where")
    if config.encoder.takes_any_size and all(stage.unfrozen is None for stage in config.stages):
        return  # nothing can be wrong with it, and torch is not needed to know
    plain = to_plain(config)
    key = json.dumps([plain["encoder"], plain["data"]["size"], plain["data"]["channels"], plain["stages"]])
    if key not in checked:
        from lapel.encoders.checking import check_encoder

        check_encoder(config)
        checked.add(key)


def main() -> None:
    """`lapel-train`."""
    with ended_at_once("lapel-train"):
        if helped("train"):
            return
        say_at_once("lapel-train: getting ready: options, torch, data")
        from lapel.commands.hydra_app import ComposedCommand, run_composed
    run_composed(ComposedCommand("train", _train, "lapel.training", _check_named, keeps_folders=True, check=_check))
