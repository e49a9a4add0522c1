"""Export: a run's encoder, index and rows as a bundle, which stands only if it answers as the model does."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lapel.bundle.bundle import Bundle, load
from lapel.bundle.index import build_index, check_kind, disagreements, is_exact, search_index, write_index
from lapel.bundle.layout import FILES, FORMAT, INDEX_FILE, ITEMS_FILE, SEEN_FILE, sha256_of
from lapel.bundle.runners import Runner, check_formats, runners
from lapel.catalog import TRAINED_ON, Catalog
from lapel.catalog.fingerprints import fingerprints
from lapel.config.choices import build, choices_of
from lapel.config.composing import to_plain
from lapel.config.data import Invert, Rows
from lapel.config.evaluation import EvaluateConfig
from lapel.config.export import ExportConfig
from lapel.config.variant import Metric
from lapel.encoders.embed import embed
from lapel.encoders.encoder import Encoder
from lapel.errors import LapelError
from lapel.files.named import MANIFEST_FILE
from lapel.files.writing import folder_written_whole, write_json
from lapel.images.store import open_store
from lapel.machine.provenance import git_commit, package_versions
from lapel.retrieval import search
from lapel.runs.checkpoint import TrainedRun, open_run
from lapel.runs.folder import METRICS_FILE, evaluation_folder

logger = logging.getLogger(__name__)

# What is compared before a bundle may stand.
CHECKED_IMAGES = 256
CHECKED_DEPTH = 10
LARGEST_DIFFERENCE = 1e-4

# Share of the exact finds below which an approximate index cannot be of these embeddings.
LEAST_OVERLAP = 0.5


def export(config: ExportConfig) -> Path:
    """Write a run's bundle, check it against the model it came from, and put it in the place of an older one.

    Returns:
        The bundle folder.

    Raises:
        LapelError: there is no such format or index type, the run or its data are missing or damaged, or the bundle
            does not answer as the model does; then no new bundle is left, and an older one stays.
    """
    check_formats(config.export.formats)
    check_kind(config.export.index)
    run = open_run(config.run, config.checkpoint)
    folder = run.folder / "bundle"
    _check_replaceable(folder)
    catalog = run.load_catalog(config.data.root)
    kept = config.export.rows or run.config.data.exported
    rows = np.arange(len(catalog)) if kept is Rows.all else catalog.gallery("test")
    items = _items(catalog, rows, run)
    with folder_written_whole(folder) as partial:
        _write(partial, config, run, catalog, rows, items)
    told = f"{len(rows):,} of {len(catalog):,} rows, {_trained_on(items):,} of them trained on"
    logger.info("exported a checked bundle to %s: %s", folder, told)
    return folder


def _check_replaceable(folder: Path) -> None:
    """Raise where something else than a bundle would be lost; say what of a link becomes."""
    if folder.is_symlink():
        logger.warning("%s: is a link to %s, which stays as it is; a folder takes its place", folder, folder.readlink())
    elif folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST_FILE).is_file()):
        raise LapelError(f"{folder}: is no bundle, and would be lost; move it away")


def _items(catalog: Catalog, rows: np.ndarray, run: TrainedRun) -> pd.DataFrame:
    """What a bundle tells of its rows: the source's columns, and which photos the model was trained on."""
    items = catalog.described(rows)
    items[TRAINED_ON] = np.isin(fingerprints(catalog, rows), run.seen.train)
    return items


def _trained_on(items: pd.DataFrame) -> int:
    """How many of a bundle's rows the model was trained on."""
    return int(items[TRAINED_ON].to_numpy().sum())


def _write(
    folder: Path, config: ExportConfig, run: TrainedRun, catalog: Catalog, rows: np.ndarray, items: pd.DataFrame
) -> None:
    store = open_store(catalog, run.config.data)
    encoder = run.encoder(config.export.invert)
    embeddings = embed(encoder, store, rows).numpy()
    encoders = _write_encoders(folder, config.export.formats, encoder)
    write_index(build_index(config.export.index, embeddings, run.config.variant.metric), folder / INDEX_FILE)
    items.to_parquet(folder / ITEMS_FILE, index=False)
    run.seen.save(folder / SEEN_FILE)
    _write_manifest(folder, config, run, embeddings.shape[1], items, [*encoders, *FILES])
    bundle = load(folder)
    for file in encoders:
        _check_encoder(runners()[file](folder / file), encoder, store.gather(rows[:CHECKED_IMAGES]))
    _check_index(bundle, embeddings)


def _write_encoders(folder: Path, formats: list[str], encoder: Encoder) -> list[str]:
    """Write the encoder in each format; the files' names."""
    files = []
    for name in formats:
        file = choices_of("format")[name].file
        build(f"format/{name}", encoder=encoder, path=folder / file)
        files.append(file)
    return files


def _write_manifest(
    folder: Path, config: ExportConfig, run: TrainedRun, dimensions: int, items: pd.DataFrame, files: list[str]
) -> None:
    data, metric = run.config.data, run.config.variant.metric
    manifest = {
        "format": FORMAT,
        "name": run.config.name,
        "metric": metric.name,
        "normalized": metric is Metric.cosine,
        "index_measure": "inner product" if metric is Metric.cosine else "squared euclidean distance",
        "input": {
            "dtype": "uint8",
            "layout": "batch, channel, height, width",
            "channels": data.channels,
            "height": data.height,
            "width": data.width,
            "resize": data.resize.name,
            "invert": config.export.invert.name,
        },
        "embedding": dimensions,
        "rows": len(items),
        "rows_of": (config.export.rows or data.exported).name,
        "rows_trained_on": _trained_on(items),
        "files": {name: sha256_of(folder / name) for name in files},
        "checkpoint": config.checkpoint.name,
        "step": run.step,
        "scores": _scores(config, run),
        "config": to_plain(run.config),
        "versions": package_versions(),
        "git_commit": git_commit(),
    }
    write_json(folder / MANIFEST_FILE, manifest)


def _scores(config: ExportConfig, run: TrainedRun) -> dict[str, Any] | None:
    """What evaluate.py found for the test part with this very encoder; None where it has not been asked."""
    path = evaluation_folder(run.folder, EvaluateConfig(checkpoint=config.checkpoint)) / METRICS_FILE
    if config.export.invert is not Invert.never or not path.is_file():
        return None
    try:
        scores = json.loads(path.read_text())
        return scores if scores["protocol"]["step"] == run.step else None
    except (ValueError, KeyError, TypeError) as error:
        raise LapelError(f"{path}: is damaged ({error}); evaluate again, or remove it") from error


def _check_encoder(runner: Runner, encoder: Encoder, images: torch.Tensor) -> None:
    """Raise unless an exported encoder, as read back, gives the live one's embeddings."""
    with torch.inference_mode():
        expected = encoder(images).numpy()
    difference = float(np.abs(runner.embed(list(images.numpy())) - expected).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise LapelError(
            f"not exported: {runner.file} differs from the model by {difference:.2g}, allowed is {LARGEST_DIFFERENCE:g}"
        )


def _check_index(bundle: Bundle, embeddings: np.ndarray) -> None:
    """Raise unless the index, as read back, finds what exact search finds; an approximate one most of it."""
    queries, depth = embeddings[:CHECKED_IMAGES], min(CHECKED_DEPTH, len(embeddings))
    found = search_index(bundle.index, queries, depth, bundle.metric)
    exact = search(torch.from_numpy(queries), torch.from_numpy(embeddings), depth, bundle.metric)
    if is_exact(bundle.index):
        wrong = disagreements(found, exact, bundle.metric)
        if len(wrong):
            raise LapelError(
                f"the exported index and exact search differ for {len(wrong)} of {len(queries)} queries: not exported"
            )
        return
    overlap = float((found.positions[:, :, None] == exact.positions[:, None, :]).any(2).mean())
    if overlap < LEAST_OVERLAP:
        raise LapelError(f"the exported index finds {overlap:.0%} of what exact search finds: not exported")
    logger.info("the index finds %.1f%% of what exact search finds among the first %d", 100 * overlap, depth)
