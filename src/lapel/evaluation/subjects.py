"""What is scored: a run on its own data or on another catalogue, or a pretrained encoder as it is."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lapel import datasets
from lapel.catalog import Catalog
from lapel.checkpoint import TrainedRun, open_run
from lapel.composing import to_plain
from lapel.config import CrossEntropyConfig, DataConfig, EncoderConfig, EvaluateConfig, Label, Metric, name_of
from lapel.encoder import Encoder, build
from lapel.runs import evaluation_folder, new_folder


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
        encoder: in evaluation mode.
        metric: in which its embeddings are compared.
        data: what the encoder sees of the images.
        catalog: whose split is scored.
        folder: for what is written.
        origin: what the protocol says of the weights.
        trained_on: names of the items that training has seen; None where nothing is known of it.
        classifier: of a Cat variant, where its classes are the catalogue's.
        run: its folder; None for a pretrained encoder.
    """

    name: str
    encoder: Encoder
    metric: Metric
    data: DataConfig
    catalog: Catalog
    folder: Path
    origin: dict[str, Any]
    trained_on: set[str] | None = None
    classifier: Classifier | None = None
    run: Path | None = None


def subject_of(config: EvaluateConfig) -> Subject:
    """See `Subject`.

    Raises:
        LapelError: the run, its checkpoint, the weights or the data are missing or damaged.
    """
    if config.encoder is not None:
        return _pretrained(config, config.encoder)
    run = open_run(config.run, config.checkpoint)
    origin: dict[str, Any] = {"checkpoint": config.checkpoint.name, "step": run.step}
    if isinstance(config.data, DataConfig):
        own, data = False, _seen_by(run.config.data, config.data)
        catalog = datasets.load(data)
        origin["trained_on"] = name_of(run.config.data)
    else:
        own, data = True, run.config.data
        catalog = run.load_catalog(config.data.root)
    return Subject(
        name=run.folder.name,
        encoder=run.encoder(),
        metric=run.config.variant.metric,
        data=data,
        catalog=catalog,
        folder=evaluation_folder(run.folder, config, None if own else catalog.name),
        origin=origin,
        trained_on=catalog.items_of(catalog.rows("train")) if own else None,
        classifier=_classifier(run, catalog) if own else None,
        run=run.folder,
    )


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


def _pretrained(config: EvaluateConfig, chosen: EncoderConfig) -> Subject:
    data = config.data
    assert isinstance(data, DataConfig)
    headless = replace(chosen, embedding=None)
    metric = config.metric or Metric.cosine
    encoder = build(headless, data, metric).eval()
    catalog = datasets.load(data)
    name = f"{name_of(data)}-pretrained-{chosen.label}"
    origin = {"checkpoint": None, "encoder": to_plain(headless)}
    folder = evaluation_folder(new_folder(name), config)
    return Subject(name, encoder, metric, data, catalog, folder, origin)


class Raw(nn.Module):
    """An encoder whose embeddings are left as a classifier reads them."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        """uint8 `[batch, channels, height, width]` to float32 `[batch, dimensions]`, not normalised."""
        return self.encoder.unfinished(images)
