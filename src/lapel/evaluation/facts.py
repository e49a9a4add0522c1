"""What a report says of a run before its scores: when, by which code, on which data, and how it was trained."""

import time
from typing import Any

import numpy as np

from lapel.catalog import Catalog
from lapel.config.data import DataConfig, FolderConfig, PhotosConfig
from lapel.errors import counted
from lapel.evaluation.evaluated import Evaluated
from lapel.files.writing import read_yaml
from lapel.machine.provenance import git_commit
from lapel.runs.folder import read_train_summary
from lapel.runs.words import IN_STEPS, duration

# Letters of a commit that are told, and items that are named.
COMMIT = 12
NAMED = 3


def facts_of(found: Evaluated) -> list[tuple[str, str]]:
    """Label and text of all that is known; what is not is left out."""
    summary = {} if found.subject.run is None else read_train_summary(found.subject.run)
    known = [
        ("Evaluated", time.strftime("%-d %B %Y, %H:%M")),
        ("Data", _data(found)),
        ("Encoder", _encoder(found, summary)),
        ("Variant", _variant(found)),
        ("Training", _training(summary)),
        ("Checkpoint", _checkpoint(found, summary)),
        ("Code", _code(summary.get("git_commit"), git_commit())),
    ]
    return [(label, text) for label, text in known if text]


def _data(found: Evaluated) -> str:
    size = f"{found.subject.data.height} x {found.subject.data.width}"
    return f"{found.catalog.name}, {found.config.split.name} part, seen by the encoder at {size}"


def _config(found: Evaluated) -> dict[str, Any]:
    """The run's config; empty without a run."""
    return {} if found.subject.run is None else read_yaml(found.subject.run / "config.yaml")


def _encoder(found: Evaluated, summary: dict[str, Any]) -> str:
    encoder = _config(found).get("encoder") or found.subject.origin.get("encoder") or {}
    kind = str(encoder.get("kind", "")).rpartition("/")[2]
    name = encoder.get("name") or kind
    if not name:
        return ""
    count = summary.get("parameters")
    parameters = f", {count:,} parameters" if count else ""
    return f"{name}, {found.raw.shape[1]} dimensions{parameters}"


def _variant(found: Evaluated) -> str:
    name = _config(found).get("variant", {}).get("name")
    return f"{name}, compared by {found.subject.metric.name}" if name else f"compared by {found.subject.metric.name}"


def _training(summary: dict[str, Any]) -> str:
    if "steps" not in summary:
        return ""
    epochs = summary.get("epochs")
    parts = [
        counted(summary["steps"], "step") + (f", {epochs:.3g} epoch{'' if epochs == 1 else 's'}" if epochs else ""),
        f"{duration(summary['training_seconds'])} {IN_STEPS}" if "training_seconds" in summary else "",
        f"on {summary['device']}" if "device" in summary else "",
    ]
    return ", ".join(parts[:2]).rstrip(", ") + (f" {parts[2]}" if parts[2] else "")


def _checkpoint(found: Evaluated, summary: dict[str, Any]) -> str:
    name, step = found.subject.origin.get("checkpoint"), found.subject.origin.get("step")
    if not name or step is None:
        return ""
    of_best = f", {summary['monitor']} {summary['monitored']:.3f}" if name == "best" and "monitored" in summary else ""
    return f"{name}, of step {step:,}{of_best}"


def _code(trained: str | None, evaluated: str | None) -> str:
    if not trained or trained == evaluated:
        return _commit(evaluated) if evaluated else ""
    return f"trained by {_commit(trained)}" + (f", evaluated by {_commit(evaluated)}" if evaluated else "")


def _commit(told: str) -> str:
    """A commit, and whether files differed from it."""
    changed = " with changes" if told.endswith("+") else ""
    return told.removesuffix("+")[:COMMIT] + changed


def item_in_words(found: Evaluated) -> str:
    """What makes two images a match: what an item is in these data, with examples and how many there are."""
    catalog, rows = found.catalog, found.protocol.gallery
    codes, counts = np.unique(catalog.items[rows], return_counts=True)
    names = [catalog.item_names[code] for code in codes[:NAMED].tolist()]
    examples = ", ".join(names) + (", …" if len(codes) > NAMED else "")
    each = f"{np.median(counts):,g}"
    return (
        f"Two images match where they show the same item. Here an item is {_kind(catalog, found.subject.data)} "
        f"({examples}): {len(codes):,} among the images searched in, with {each} image{'' if each == '1' else 's'} "
        "each in the median."
    )


def _is_class(catalog: Catalog) -> bool:
    """Whether there is one level alone, so that an item is what others call a class."""
    return catalog.item_names == catalog.category_names and bool((catalog.items == catalog.categories).all())


def _kind(catalog: Catalog, data: DataConfig) -> str:
    """An item of a data source, in words."""
    if isinstance(data, FolderConfig) and data.item == ["item"]:
        return "a folder of photos"
    if isinstance(data, PhotosConfig):
        columns = " and ".join(data.item)
        return f"what the column {columns} says" if len(data.item) == 1 else f"what the columns {columns} say together"
    return "a class, not a product" if _is_class(catalog) else "one single thing, finer than its category"
