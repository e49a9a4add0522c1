"""What `lapel-train` is told: everything that defines a training run."""

from dataclasses import dataclass, field
from typing import ClassVar

from omegaconf import MISSING

from lapel.config.augment import AugmentConfig
from lapel.config.choices import choice, choices_of, name_of
from lapel.config.commands import CommandConfig
from lapel.config.data import AUTO, DataConfig
from lapel.config.encoder import EncoderConfig, TrunkConfig
from lapel.config.miner import MinerConfig
from lapel.config.objective import ObjectiveConfig
from lapel.config.optim import MuonConfig, OptimConfig
from lapel.config.options import option
from lapel.config.sampler import SamplerConfig
from lapel.config.stages import StageConfig
from lapel.config.trainer import DistributedStrategy, TrainerConfig
from lapel.config.variant import Metric, VariantConfig
from lapel.config.watchdog import WatchdogConfig
from lapel.errors import LapelError


@choice("command", "train", build="lapel.commands.train:main")
@dataclass
class TrainConfig(CommandConfig):
    """Trains a model that finds look-alikes, and keeps it in a run folder with its scores on val."""

    program: ClassVar[str] = "lapel-train"
    composed: ClassVar[bool] = True
    usage: ClassVar[str] = "[group=name …] [key=value …] [-m]"
    examples: ClassVar[tuple[tuple[str, str], ...]] = (
        ("", "Fashion-MNIST"),
        ("data=folder data.root=photos data.size=64", "photos/ITEM/1.jpg"),
        ("encoder=efficientnet_lite0 encoder.weights=lite0.pth", "pretrained weights"),
        ("-m variant=siam,siam_cat,triplet seed=0,1", "six runs"),
    )
    flags: ClassVar[dict[str, str]] = {
        **CommandConfig.flags,
        "-m": "a sweep: each combination of what is given as a,b,c",
    }
    often: ClassVar[tuple[str, ...]] = (
        "data.root",
        "data.size",
        "data.batch_size",
        "data.item",
        "data.category",
        "data.where",
        "data.table",
        "data.image",
        "encoder.embedding",
        "encoder.name",
        "encoder.weights",
        "encoder.frozen",
        "optim.lr",
        "trainer.max_epochs",
        "trainer.max_steps",
        "trainer.patience",
        "trainer.precision",
        "trainer.devices",
        "resume",
        "seed",
    )
    then: ClassVar[str] = (
        "Then: python evaluate.py, python export.py, lapel-search image=photo.jpg; each has --help, too."
    )

    data: DataConfig = MISSING
    encoder: EncoderConfig = MISSING
    variant: VariantConfig = MISSING
    sampler: SamplerConfig = MISSING
    augment: AugmentConfig = MISSING
    optim: OptimConfig = MISSING
    trainer: TrainerConfig = MISSING
    watchdog: WatchdogConfig = field(default_factory=WatchdogConfig)
    stages: list[StageConfig] = field(default_factory=list)
    """What learns when, as `[{epochs:1,unfrozen:[]},{epochs:4,lr:0.1}]`; by default all, for `trainer.max_epochs`."""
    loss: ObjectiveConfig | None = None
    """Takes the place of the variant's one objective on embeddings."""
    miner: MinerConfig | None = None
    """Chooses the pairs or triplets of that objective."""
    seed: int = option(0, at_least=0, at_most=2**32 - 1)
    """Seed of everything random."""
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
        if self.data.batch_size != AUTO:  # which is settled, and then checked, once the data is known
            _check_parts(self.data.batch_size, self.trainer)
            self.sampler.check_batch(self.images_at_once)
        for name, reach, most in (
            ("shift", self.augment.shift, min(self.data.size) - 1),
            ("erase", self.augment.erase, min(self.data.size)),
        ):
            if reach > most:
                size = "x".join(map(str, self.data.size))
                raise LapelError(f"augment.{name}={reach}: must be at most {most} for data.size={size}")
        if isinstance(self.optim, MuonConfig) and self.trainer.strategy is DistributedStrategy.fsdp:
            raise LapelError(
                "optim=muon: is for whole matrices, which trainer.strategy=fsdp cuts: optim=adamw, adam, sgd, or ddp"
            )
        _check_given(self.variant, self.sampler)
        _check_objectives(self.variant, 0 if self.data.batch_size == AUTO else self.images_at_once)
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
        names = [name for name, each in objectives.items() if not each.reads_raw]
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


def _check_given(variant: VariantConfig, sampler: SamplerConfig) -> None:
    """Raise if an objective asks for pairs or triplets that the sampler does not give."""
    for name, objective in variant.objectives.items():
        given = objective.given_by
        if given is not None and name_of(sampler) != given:
            key, otherwise = f"variant.objectives.{name}.{given}", getattr(type(objective), given).name
            raise LapelError(f"{key}=given: needs sampler={given}, or use {key}={otherwise}")


def _check_objectives(variant: VariantConfig, batch_size: int) -> None:
    """Raise if an objective cannot do what its miner, its memory or the variant's metric asks for, or none counts."""
    if not any(objective.weight for objective in variant.objectives.values()):
        raise LapelError(f"variant={variant.name}: all its objectives have weight=0, so nothing would be learnt")
    for name, objective in variant.objectives.items():
        key = f"variant.objectives.{name}"
        kind = name_of(objective)
        if variant.metric is Metric.euclidean and (objective.on_unit_vectors or objective.miner is not None):
            what = kind if objective.on_unit_vectors else f"{key}.miner"
            raise LapelError(f"{what}: compares unit vectors, and variant.metric=euclidean raw ones; use cosine")
        if objective.miner is not None and not objective.takes_miner:
            raise LapelError(f"{key}.miner={name_of(objective.miner)}: {kind} takes no miner")
        if objective.memory and not objective.takes_memory:
            allowed = ", ".join(name for name, each in choices_of("objective").items() if each.takes_memory)
            raise LapelError(f"{key}.memory={objective.memory}: not for {kind}; for {allowed}")
        if 0 < objective.memory < batch_size:
            raise LapelError(f"{key}.memory={objective.memory}: must be at least data.batch_size={batch_size}, or 0")
        if objective.memory and objective.miner is None and objective.given_by is not None:
            raise LapelError(f"{key}.memory={objective.memory}: the sampler's pairs and triplets are within a batch")
