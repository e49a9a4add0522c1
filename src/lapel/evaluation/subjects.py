"""What is scored: a run, on its own data or on another catalogue, its bundle, or a pretrained encoder as it is."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lapel import datasets
from lapel.bundle import MANIFEST_FILE, Bundle, load
from lapel.catalog import Catalog
from lapel.checkpoint import TrainedOn, TrainedRun, open_run
from lapel.composing import from_plain, to_plain
from lapel.config import (
    CrossEntropyConfig,
    DataConfig,
    EncoderConfig,
    EvaluateConfig,
    Label,
    Metric,
    Split,
    TrainConfig,
    name_of,
)
from lapel.encoder import Encoder, build
from lapel.errors import LapelError
from lapel.evaluation.deployed import DeployedIndex, deployed_index
from lapel.runs import evaluation_folder, new_folder

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
        place: makes, or names, the folder for what is written.
        origin: what the protocol says of the weights.
        trained_on: names of the items that training has seen; None where nothing is known of it.
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
    place: Callable[[], Path]
    origin: dict[str, Any]
    trained_on: set[str] | None = None
    classifier: Classifier | None = None
    run: Path | None = None
    index: DeployedIndex | None = None

    @cached_property
    def folder(self) -> Path:
        """For what is written; a new one is not made before there is something to write."""
        return self.place()


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
    seen = _seen_data(run.config.data, run.trained_on, config)
    folder = evaluation_folder(run.folder, config, seen.name)
    encoder = run.encoder()
    return Subject(
        name=run.folder.name,
        encoder=Raw(encoder),
        finish=encoder.finish,
        metric=run.config.variant.metric,
        data=seen.data,
        catalog=seen.catalog,
        place=lambda: folder,
        origin={"checkpoint": config.checkpoint.name, "step": run.step, **seen.origin},
        trained_on=seen.items,
        classifier=_classifier(run, seen.catalog) if seen.own else None,
        run=run.folder,
    )


@dataclass(frozen=True)
class _Seen:
    """What a trained encoder is scored on.

    Args:
        own: whether it is the run's data, by its config and its training part; else another catalogue.
        data, catalog: as of a subject.
        trained_on: the catalogue of its training.
    """

    own: bool
    data: DataConfig
    catalog: Catalog
    trained_on: TrainedOn

    @property
    def name(self) -> str | None:
        """Of another catalogue."""
        return None if self.own else self.catalog.name

    @property
    def origin(self) -> dict[str, Any]:
        """What the protocol says of another catalogue."""
        return {} if self.own else {"trained_on": self.trained_on.catalog}

    @property
    def items(self) -> set[str] | None:
        """Names of those that training has seen; None where the catalogue has not its training part."""
        return self.catalog.items_of(self.catalog.rows("train")) if self.trained_on.is_of(self.catalog) else None


def _seen_data(trained: DataConfig, trained_on: TrainedOn, config: EvaluateConfig) -> _Seen:
    if isinstance(config.data, DataConfig):
        data = _seen_by(trained, config.data)
        return _Seen(False, data, datasets.load(data), trained_on)
    data = replace(trained, root=config.data.root) if config.data.root else trained
    catalog = datasets.load(data)
    own = trained_on.is_of(catalog)
    if not own:
        logger.warning("%s: has another training part than that of the run, is scored as other data", catalog.name)
    return _Seen(own, data, catalog, trained_on)


def _seen_by(trained: DataConfig, other: DataConfig) -> DataConfig:
    """Another source, with its images in the shape that the encoder was trained on."""
    return replace(other, size=list(trained.size), channels=trained.channels, resize=trained.resize)


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
    trained, trained_on = _origin(bundle)
    seen = _seen_data(trained.data, trained_on, config)
    index = deployed_index(bundle, seen.catalog, config.split.name)
    index = replace(index, recall=_known_recall(bundle, config) if seen.own else None)
    run = bundle.folder.resolve().parent
    inside = (run / "config.yaml").is_file()
    name = run.name if inside else f"{trained.name}-bundle"
    return Subject(
        name=f"{bundle.folder.name} of {name}" if inside else name,
        encoder=bundle.encoder,
        finish=_as_it_is,
        metric=bundle.metric,
        data=seen.data,
        catalog=seen.catalog,
        place=lambda: evaluation_folder(run if inside else new_folder(name), config, seen.name),
        origin={
            "checkpoint": bundle.manifest["checkpoint"],
            "step": bundle.manifest["step"],
            "bundle_sha256": bundle.manifest["files"],
            **index.card(seen.catalog.gallery(config.split.name)),
            **seen.origin,
        },
        trained_on=seen.items,
        run=run if inside else None,
        index=index,
    )


def _origin(bundle: Bundle) -> tuple[TrainConfig, TrainedOn]:
    """Of the run that a bundle was exported from: its config, and what it was trained on."""
    try:
        return from_plain(bundle.manifest["config"]), TrainedOn(**bundle.manifest["trained_on"])
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
    name = f"{name_of(data)}-pretrained-{chosen.label}"
    return Subject(
        name=name,
        encoder=Raw(encoder),
        finish=encoder.finish,
        metric=metric,
        data=data,
        catalog=catalog,
        place=lambda: evaluation_folder(new_folder(name), config),
        origin={"checkpoint": None, "encoder": to_plain(headless)},
    )


class Raw(nn.Module):
    """An encoder whose embeddings are left as a classifier reads them."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        """uint8 `[batch, channels, height, width]` to float32 `[batch, dimensions]`, not normalised."""
        return self.encoder.unfinished(images)
