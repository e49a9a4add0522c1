"""The number of images of an optimizer step that a training part and its sampler allow."""

import logging
from dataclasses import replace

from lapel import sampling
from lapel.catalog import Catalog
from lapel.config.choices import name_of
from lapel.config.data import AUTO, AUTO_BATCH
from lapel.config.train import TrainConfig
from lapel.errors import LapelError
from lapel.sampling import Division, Sampler

logger = logging.getLogger(__name__)


def with_sampler(config: TrainConfig, catalog: Catalog, division: Division) -> tuple[TrainConfig, Sampler]:
    """The sampler of a run's training part, and the run's config with the number of images that it makes a step of.

    Args:
        config: of the run, with a number or `auto` for `data.batch_size`.
        catalog: its data.
        division: of a step's images over processes.

    Raises:
        LapelError: the sampler cannot make what is asked for; names a number that works, where there is one.
    """
    auto = config.data.batch_size == AUTO
    wanted = _with_batch_size(config, AUTO_BATCH - AUTO_BATCH % config.trainer.accumulate) if auto else config
    try:
        return wanted, _sampler(wanted, catalog, division)
    except LapelError as error:
        smaller = _largest_that_works(wanted, catalog)
        if smaller is None:
            if auto:
                few = len(catalog.rows("train"))
                raise LapelError(
                    f"{catalog.name}: no batch can be made of the training part's {few} images with "
                    f"sampler={name_of(config.sampler)}; more photos of each item, or sampler=random, may help"
                ) from error
            raise
        if auto:
            logger.info("data.batch_size=auto: %d images a step", smaller.data.batch_size)
            return smaller, _sampler(smaller, catalog, division)
        raise LapelError(
            f"{error}; data.batch_size={smaller.data.batch_size} works with sampler={name_of(config.sampler)}, and "
            "data.batch_size=auto takes it"
        ) from error


def _with_batch_size(config: TrainConfig, size: int) -> TrainConfig:
    """A run's config, checked again, with another number of images in an optimizer step."""
    return replace(config, data=replace(config.data, batch_size=size))


def _sampler(config: TrainConfig, catalog: Catalog, division: Division) -> Sampler:
    return sampling.build(config.sampler, catalog, "train", config.images_at_once, config.seed, division)


def _largest_that_works(config: TrainConfig, catalog: Catalog) -> TrainConfig | None:
    """The config with the largest smaller batch that can be made; what samplers say of each is not shown."""
    log = logging.getLogger(sampling.__name__)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        for size in range(min(config.data.batch_size - 1, len(catalog.rows("train"))), 1, -1):
            try:
                smaller = _with_batch_size(config, size)
                _sampler(smaller, catalog, Division(parts=config.trainer.accumulate))
            except LapelError:  # of a size that is too large, or that parts or processes do not divide
                continue
            return smaller
        return None
    finally:
        log.setLevel(level)
