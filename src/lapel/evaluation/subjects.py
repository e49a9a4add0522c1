"""What is scored: a run, on its own data or on another catalogue, its bundle, or a pretrained encoder as it is."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lapel import datasets
from lapel.bundle.bundle import Bundle, load
from lapel.bundle.runners import Runner, TorchScriptRunner
from lapel.catalog import Catalog
from lapel.catalog.seen import Seen, images_hash
from lapel.config.choices import name_of
from lapel.config.composing import flat, from_plain, how_keys, to_plain
from lapel.config.data import DataConfig
from lapel.config.encoder import EncoderConfig, TrunkConfig
from lapel.config.evaluation import EvaluateConfig, Split
from lapel.config.objective import CrossEntropyConfig, Label
from lapel.config.train import TrainConfig
from lapel.config.variant import Metric
from lapel.encoders.encoder import Encoder, build
from lapel.errors import LapelError
from lapel.evaluation.deployed import DeployedIndex, deployed_index
from lapel.files.named import MANIFEST_FILE
from lapel.files.paths import from_here
from lapel.files.writing import read_yaml
from lapel.runs.checkpoint import TrainedRun, open_run
from lapel.runs.folder import called, evaluation_folder, evaluation_name, new_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Classifier:
    """A Cat variant's own.

    Args:
        layer: raw embeddings to logits.
        label: what it tells.
    """

    layer: nn.Linear
    label: Label


@dataclass(frozen=True)
class Subject:
    """What is scored.

    Args:
        name: of the run, or of the pretrained encoder and its data.
        encoder: uint8 images to embeddings, in evaluation mode; before normalisation where there is a classifier.
        finish: makes of those what the metric compares.
        metric: in which its embeddings are compared.
        data: what the encoder sees of the images.
        catalog: whose split is scored.
        make_folder: makes, or names, the folder for what is written.
        evaluation: name of what is scored among a run's evaluations; empty for the plain one.
        origin: what the protocol says of the weights.
        seen: the images that training has seen; None where nothing is known of it.
        trained_items: names of the items that it has seen; None where they are not known.
        classifier: of a Cat variant, where its classes are the catalogue's.
        run: its folder; None for a pretrained encoder.
        index: whose lists are scored in the place of exact search's.
    """

    name: str
    encoder: nn.Module
    finish: Callable[[Tensor], Tensor]
    metric: Metric
    data: DataConfig
    catalog: Catalog
    make_folder: Callable[[], Path]
    evaluation: str
    origin: dict[str, Any]
    seen: Seen | None = None
    trained_items: set[str] | None = None
    classifier: Classifier | None = None
    run: Path | None = None
    index: DeployedIndex | None = None

    @cached_property
    def folder(self) -> Path:
        """For what is written; a new one is not made before there is something to write."""
        return self.make_folder()


def subject_of(config: EvaluateConfig) -> Subject:
    """See `Subject`.

    Raises:
        LapelError: the run, its checkpoint, the bundle, the weights or the data are missing or damaged.
    """
    if config.encoder is not None:
        return _pretrained(config, config.encoder)
    if config.bundle is not None:
        return _deployed(config, load(config.bundle))
    run = open_run(config.run, config.checkpoint)
    scored = _scored_data(run.config.data, run.seen, config)
    folder = evaluation_folder(run.folder, config, scored.name)
    encoder = run.encoder()
    return Subject(
        name=called(run.folder),
        encoder=Raw(encoder),
        finish=encoder.finish,
        metric=run.config.variant.metric,
        data=scored.data,
        catalog=scored.catalog,
        make_folder=lambda: folder,
        evaluation=evaluation_name(config, scored.name),
        origin={"checkpoint": config.checkpoint.name, "step": run.step, **scored.origin},
        seen=run.seen,
        trained_items=scored.trained_items,
        classifier=_classifier(run, scored.catalog) if scored.own else None,
        run=run.folder,
    )


@dataclass(frozen=True)
class _Scored:
    """What a trained encoder is scored on.

    Args:
        data, catalog: as of a subject.
        name: of another catalogue's folder: what it is called, and a hash of the images that are scored; None for the
            run's own, by its config and its training part.
        trained_on: name of the catalogue of its training.
        trained_items: as of a subject.
    """

    data: DataConfig
    catalog: Catalog
    name: str | None
    trained_on: str
    trained_items: set[str] | None

    @property
    def own(self) -> bool:
        """Whether it is the run's data."""
        return self.name is None

    @property
    def origin(self) -> dict[str, Any]:
        """What the protocol says of another catalogue."""
        return {} if self.own else {"trained_on": self.trained_on}


def _scored_data(trained: DataConfig, seen: Seen, config: EvaluateConfig) -> _Scored:
    named = isinstance(config.data, DataConfig)
    data = _in_shape(config.data, trained) if isinstance(config.data, DataConfig) else _moved(trained, config.data.root)
    catalog = datasets.load(data)
    known = seen.is_training_part_of(catalog)
    if not known and not named:
        logger.warning("%s: has another training part than that of the run, is scored as other data", catalog.name)
    name = None if known and not named else f"on-{catalog.name}-{_hash_of(catalog, config.split.name)[:8]}"
    items = catalog.items_of(catalog.rows("train")) if known else None
    return _Scored(data, catalog, name, seen.catalog, items)


def _hash_of(catalog: Catalog, split: str) -> str:
    """Of the images of a split: their names, items, roles and pixels."""
    told = f"{catalog.split_hash(split)} {images_hash(catalog, split)}"
    return hashlib.sha256(told.encode()).hexdigest()


def _in_shape(other: DataConfig, trained: DataConfig) -> DataConfig:
    """Another source, with its images in the shape that the encoder was trained on."""
    return replace(other, size=list(trained.size), channels=trained.channels, resize=trained.resize)


def _moved(data: DataConfig, root: str | None) -> DataConfig:
    """A source in the folder `root`, where one is named."""
    return replace(data, root=root) if root else data


def _classifier(run: TrainedRun, catalog: Catalog) -> Classifier | None:
    """The first one of the run's objectives; None without one."""
    for name, objective in run.config.variant.objectives.items():
        if not isinstance(objective, CrossEntropyConfig):
            continue
        weights = run.losses.get(f"{name}.classifier.weight"), run.losses.get(f"{name}.classifier.bias")
        names = catalog.item_names if objective.label is Label.item else catalog.category_names
        if weights[0] is None or weights[1] is None or len(weights[0]) != len(names):
            return None
        layer = nn.Linear(weights[0].shape[1], len(names))
        with torch.no_grad():
            layer.weight.copy_(weights[0])
            layer.bias.copy_(weights[1])
        return Classifier(layer, objective.label)
    return None


def _deployed(config: EvaluateConfig, bundle: Bundle) -> Subject:
    trained, seen = _trained_config(bundle), bundle.seen
    scored = _scored_data(trained.data, seen, config)
    index = deployed_index(bundle, scored.catalog, config.split.name)
    index = replace(index, recall=_known_recall(bundle, config) if scored.own else None)
    run = from_here(bundle.folder.resolve().parent)
    inside = _is_run_of(run, trained)
    name = called(run) if inside else f"{trained.name}-bundle"
    return Subject(
        name=f"{bundle.folder.name} of {name}" if inside else name,
        encoder=_exported(bundle.runner),
        finish=_as_it_is,
        metric=bundle.metric,
        data=scored.data,
        catalog=scored.catalog,
        make_folder=lambda: evaluation_folder(run if inside else new_folder(name), config, scored.name),
        evaluation=evaluation_name(config, scored.name),
        origin={
            "checkpoint": bundle.manifest["checkpoint"],
            "step": bundle.manifest["step"],
            "bundle_sha256": bundle.manifest["files"],
            **index.card(scored.catalog.gallery(config.split.name)),
            **scored.origin,
        },
        seen=seen,
        trained_items=scored.trained_items,
        run=run if inside else None,
        index=index,
    )


def _is_run_of(folder: Path, trained: TrainConfig) -> bool:
    """Whether a folder is that of the run from which a bundle of this config was exported."""
    file = folder / "config.yaml"
    if not file.is_file():
        return False
    own = flat(read_yaml(file))
    aside = {"resume", *how_keys()}
    same = all(own.get(key) == value for key, value in flat(to_plain(trained)).items() if key not in aside)
    if not same:
        logger.warning("%s: is another run than the one that the bundle in it was exported from", folder)
    return same


def _trained_config(bundle: Bundle) -> TrainConfig:
    """Of the run that a bundle was exported from."""
    try:
        return from_plain(bundle.manifest["config"])
    except (KeyError, TypeError, AttributeError) as error:
        raise LapelError(f"{bundle.folder / MANIFEST_FILE}: is damaged ({type(error).__name__}: {error})") from error


def _known_recall(bundle: Bundle, config: EvaluateConfig) -> float | None:
    """recall@1 that the manifest has of what is scored on the bundle's own data; None where it has none."""
    known = config.split is Split.test and config.within is None and config.across is None
    return (bundle.manifest.get("scores") or {}).get("recall@1") if known else None


def _as_it_is(embeddings: Tensor) -> Tensor:
    """An exported encoder's embeddings: they come as the metric wants them."""
    return embeddings


def _pretrained(config: EvaluateConfig, chosen: EncoderConfig) -> Subject:
    data = config.data
    assert isinstance(data, DataConfig)
    headless = replace(chosen, embedding=None)
    metric = config.metric or Metric.cosine
    encoder = build(headless, data, metric).eval()
    catalog = datasets.load(data)
    trained = isinstance(chosen, TrunkConfig) and chosen.weights != "none"
    if not trained:
        logger.warning("encoder=%s: has random weights; encoder.weights= names trained ones", chosen.label)
    name = f"{name_of(data)}-{'pretrained' if trained else 'untrained'}-{chosen.label}"
    return Subject(
        name=name,
        encoder=Raw(encoder),
        finish=encoder.finish,
        metric=metric,
        data=data,
        catalog=catalog,
        make_folder=lambda: evaluation_folder(new_folder(name), config),
        evaluation=evaluation_name(config),
        origin={"checkpoint": None, "encoder": to_plain(headless)},
    )


def _exported(runner: Runner) -> nn.Module:
    return runner.module if isinstance(runner, TorchScriptRunner) else Run(runner)


class Run(nn.Module):
    """An exported encoder of a format that is not torch's own."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self.runner = runner

    def forward(self, images: Tensor) -> Tensor:
        """uint8 `[batch, channels, height, width]` to float32 `[batch, dimensions]`, as the metric wants them."""
        return torch.from_numpy(self.runner.embed(list(images.cpu().numpy()))).to(images.device)


class Raw(nn.Module):
    """An encoder whose embeddings are left as a classifier reads them."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        """uint8 `[batch, channels, height, width]` to float32 `[batch, dimensions]`, not normalised."""
        return self.encoder.unfinished(images)
