"""What each command is told."""

from dataclasses import dataclass, field
from enum import Enum

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from lapel.config.augment import AugmentConfig
from lapel.config.data import DataConfig, Invert, MovedData
from lapel.config.encoder import EncoderConfig, TrunkConfig
from lapel.config.evaluation import Checkpoint, EvaluateConfig
from lapel.config.library_losses import WITH_MEMORY, WITHOUT_MINER, LibraryLossConfig
from lapel.config.miner import MinerConfig
from lapel.config.objective import (
    OWN_WITH_MEMORY,
    ContrastiveConfig,
    CrossEntropyConfig,
    ObjectiveConfig,
    Pairs,
    SupConConfig,
    TripletConfig,
    Triplets,
)
from lapel.config.optim import OptimConfig
from lapel.config.options import Options, name_of, option
from lapel.config.sampler import BalancedConfig, CategoryBalancedConfig, PairsConfig, SamplerConfig, TripletsConfig
from lapel.config.stages import StageConfig
from lapel.config.trainer import TrainerConfig
from lapel.config.variant import Metric, VariantConfig
from lapel.config.watchdog import WatchdogConfig
from lapel.errors import LapelError


@dataclass
class TrainConfig(Options):
    """Everything that defines a training run."""

    data: DataConfig = MISSING
    encoder: EncoderConfig = MISSING
    variant: VariantConfig = MISSING
    sampler: SamplerConfig = MISSING
    augment: AugmentConfig = MISSING
    optim: OptimConfig = MISSING
    trainer: TrainerConfig = MISSING
    watchdog: WatchdogConfig = field(default_factory=WatchdogConfig)
    stages: list[StageConfig] = field(default_factory=list)
    """What learns when; by default everything, for `trainer.max_epochs`."""
    loss: ObjectiveConfig | None = None
    """Takes the place of the variant's one objective on embeddings."""
    miner: MinerConfig | None = None
    """Chooses the pairs or triplets of that objective."""
    seed: int = option(0, at_least=0, at_most=2**32 - 1)
    """Seed of everything random: initial weights, batches, augmentation."""
    init: str | None = option(None, free_text=True)
    """Run or bundle whose encoder's weights training begins with; everything else begins anew."""
    resume: str | None = option(None, free_text=True)
    """Run folder whose training goes on where it stopped, as it was begun: only how it is computed may be changed."""
    find_lr: bool = False
    """Try out learning rates in place of training, and draw the loss over them."""

    @property
    def name(self) -> str:
        """Data, variant and encoder, by name: the beginning of the run folder's name."""
        loss = "" if self.loss is None else f"+{name_of(self.loss)}"
        return f"{name_of(self.data)}-{self.variant.name}{loss}-{self.encoder.label}"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._take_loss_and_miner()
        _check_parts(self.data.batch_size, self.trainer)
        _check_batch(self.images_at_once, self.sampler)
        for name, reach, most in (
            ("shift", self.augment.shift, min(self.data.size) - 1),
            ("erase", self.augment.erase, min(self.data.size)),
        ):
            if reach > most:
                size = "x".join(map(str, self.data.size))
                raise LapelError(f"augment.{name}={reach}: must be at most {most} for data.size={size}")
        _check_given(self.variant, self.sampler)
        _check_objectives(self.variant, self.images_at_once)
        _check_stages(self.stages, self.data.size, self.encoder)

    @property
    def images_at_once(self) -> int:
        """Images that the losses see together: those of an optimizer step, or a part of them."""
        return self.data.batch_size // self.trainer.accumulate

    def _take_loss_and_miner(self) -> None:
        """Put `loss` and `miner` where they belong: into the variant's one objective on embeddings."""
        if self.loss is None and self.miner is None:
            return
        objectives = self.variant.objectives
        names = [name for name, each in objectives.items() if not isinstance(each, CrossEntropyConfig)]
        key = "loss" if self.loss is not None else "miner"
        if len(names) != 1:
            has = f"has {len(names)} ({', '.join(names)})" if names else "has none"
            raise LapelError(
                f"{key}: is for a variant with one objective on embeddings, {self.variant.name} {has}; "
                "name it: objective@variant.objectives.NAME=…"
            )
        if self.loss is not None:
            objectives[names[0]] = self.loss
        if self.miner is not None:
            objectives[names[0]].miner = self.miner


def _check_parts(batch_size: int, trainer: TrainerConfig) -> None:
    """Raise if a batch cannot be shared out over processes and parts."""
    key = f"data.batch_size={batch_size}"
    if batch_size % trainer.accumulate:
        raise LapelError(f"{key}: must be a multiple of trainer.accumulate={trainer.accumulate}")
    if batch_size // trainer.accumulate < trainer.devices * 2:
        parts = f" and trainer.accumulate={trainer.accumulate} parts" if trainer.accumulate > 1 else ""
        raise LapelError(f"{key}: must be at least 2 images for each of trainer.devices={trainer.devices}{parts}")


def _check_stages(stages: list[StageConfig], size: list[int], encoder: EncoderConfig) -> None:
    """Raise if a stage wants larger images than there are, or to unfreeze a part of what has no named parts."""
    for number, stage in enumerate(stages):
        if stage.size is not None and (stage.size[0] > size[0] or stage.size[1] > size[1]):
            shown = "x".join(map(str, stage.size))
            raise LapelError(f"stages.{number}.size={shown}: must be at most data.size={'x'.join(map(str, size))}")
        if stage.trunk_lr is not None and not isinstance(encoder, TrunkConfig):
            raise LapelError(f"stages.{number}.trunk_lr: is for library trunks, and encoder={name_of(encoder)} is none")


def _check_batch(batch_size: int, sampler: SamplerConfig) -> None:
    """Raise if the batch cannot be made of whole pairs, triplets or items."""
    part = {PairsConfig: ("pairs", 2), TripletsConfig: ("triplets", 3)}.get(type(sampler))
    if part and batch_size < part[1]:
        raise LapelError(f"data.batch_size={batch_size}: must be at least {part[1]} for sampler={part[0]}")
    if isinstance(sampler, CategoryBalancedConfig) and batch_size < sampler.categories * 2 * sampler.images:
        raise LapelError(
            f"data.batch_size={batch_size}: must be at least sampler.categories x 2 items x sampler.images = "
            f"{sampler.categories} x 2 x {sampler.images}"
        )
    if isinstance(sampler, BalancedConfig) and batch_size < (sampler.items or 2) * sampler.images:
        raise LapelError(
            f"data.batch_size={batch_size}: must be at least sampler.items x sampler.images = "
            f"{sampler.items or 2} x {sampler.images}"
        )


def _check_given(variant: VariantConfig, sampler: SamplerConfig) -> None:
    """Raise if an objective asks for pairs or triplets that the sampler does not give."""
    for name, objective in variant.objectives.items():
        key = f"variant.objectives.{name}"
        given_pairs = isinstance(objective, ContrastiveConfig) and objective.pairs is Pairs.given
        if given_pairs and not isinstance(sampler, PairsConfig):
            raise LapelError(f"{key}.pairs=given: needs sampler=pairs, or use {key}.pairs=all")
        given_triplets = isinstance(objective, TripletConfig) and objective.triplets is Triplets.given
        if given_triplets and not isinstance(sampler, TripletsConfig):
            raise LapelError(f"{key}.triplets=given: needs sampler=triplets, or use {key}.triplets=semi_hard")


def _check_objectives(variant: VariantConfig, batch_size: int) -> None:
    """Raise if an objective cannot do what its miner, its memory or the variant's metric asks for, or none counts."""
    if not any(objective.weight for objective in variant.objectives.values()):
        raise LapelError(f"variant={variant.name}: all its objectives have weight=0, so nothing would be learnt")
    for name, objective in variant.objectives.items():
        key = f"variant.objectives.{name}"
        kind = name_of(objective)
        on_unit_vectors = isinstance(objective, LibraryLossConfig | SupConConfig)
        if variant.metric is Metric.euclidean and (on_unit_vectors or objective.miner is not None):
            what = kind if on_unit_vectors else f"{key}.miner"
            raise LapelError(f"{what}: compares unit vectors, and variant.metric=euclidean raw ones; use cosine")
        if objective.miner is not None and isinstance(objective, (*WITHOUT_MINER, SupConConfig, CrossEntropyConfig)):
            raise LapelError(f"{key}.miner={name_of(objective.miner)}: {kind} takes no miner")
        if objective.memory and not isinstance(objective, (*WITH_MEMORY, *OWN_WITH_MEMORY)):
            allowed = ", ".join(name_of(each()) for each in (*OWN_WITH_MEMORY, *WITH_MEMORY))
            raise LapelError(f"{key}.memory={objective.memory}: not for {kind}; for {allowed}")
        if 0 < objective.memory < batch_size:
            raise LapelError(f"{key}.memory={objective.memory}: must be at least data.batch_size={batch_size}, or 0")
        if objective.memory and objective.miner is None and _is_given(objective):
            raise LapelError(f"{key}.memory={objective.memory}: the sampler's pairs and triplets are within a batch")


def _is_given(objective: ObjectiveConfig) -> bool:
    """Whether an objective looks at the pairs or triplets of the sampler alone."""
    given_pairs = isinstance(objective, ContrastiveConfig) and objective.pairs is Pairs.given
    return given_pairs or (isinstance(objective, TripletConfig) and objective.triplets is Triplets.given)


class Rows(Enum):
    """gallery: the test part's gallery. all: every image of the catalogue."""

    gallery = "gallery"
    all = "all"


@dataclass
class ExportOptions(Options):
    """What goes into the bundle."""

    rows: Rows = Rows.gallery
    invert: Invert = Invert.never
    """Whether the exported encoder turns photos negative before it looks at them."""


@dataclass
class ExportConfig(Options):
    """Writes a run's encoder and index as a bundle, checked against the model it came from."""

    run: str = option("runs/latest", free_text=True)
    """Run folder; the bundle is its subfolder `bundle`."""
    checkpoint: Checkpoint = Checkpoint.best
    export: ExportOptions = field(default_factory=ExportOptions)
    data: MovedData = field(default_factory=MovedData)


class TableFormat(Enum):
    """How search results are printed."""

    table = "table"
    json = "json"
    csv = "csv"


@dataclass
class SearchConfig(Options):
    """Looks up the look-alikes of one image in a bundle."""

    bundle: str = option("runs/latest/bundle", free_text=True)
    """Bundle folder."""
    image: str | None = option(None, free_text=True)
    """Image file to search with."""
    row: int | None = option(None, at_least=0)
    """Row of items.parquet to search with, itself left out."""
    k: int = option(10, at_least=1)
    """Look-alikes to show."""
    format: TableFormat = TableFormat.table

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.image is None) == (self.row is None):
            raise LapelError("give either image=FILE or row=N")
        if self.image == "":
            raise LapelError("image=: must name a file")


@dataclass
class CatalogConfig(Options):
    """Looks at a data set: gets it ready, reports what it holds, or what leaks between its splits."""

    data: DataConfig = MISSING
    out: str | None = option(None, free_text=True)
    """Folder of pictures and tables; by default `reports/<data>`."""
    bits: int = option(6, at_least=0, at_most=31)
    """audit: bits of 64 in which the perceptual hashes of near duplicates may differ."""
    difference: float = option(8.0, at_least=0, at_most=255)
    """audit: grey levels, root mean square over the foreground, by which near duplicates may differ."""


COMMANDS: dict[str, type] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "catalog": CatalogConfig,
}
for _name, _cls in COMMANDS.items():
    ConfigStore.instance().store(group="schema", name=_name, node=_cls)
