"""The bundle: a trained encoder, its index and its rows in one checked folder, and searching with it.

encoder.ts     TorchScript: uint8 [batch, 1 or 3, height, width] of any size -> embeddings that the metric wants
index.faiss    flat FAISS index: inner product for cosine, squared distance for euclidean
items.parquet  row N describes entry N of the index
seen.npz       fingerprints of the images that the model has seen
manifest.json  sha256 of the others, config, metric, input, scores, versions
"""

import copy
import hashlib
import json
import logging
import operator
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lapel.composing import to_plain
from lapel.config import EvaluateConfig, ExportConfig, Invert, Metric, Rows
from lapel.errors import LapelError
from lapel.paths import user_path
from lapel.provenance import git_commit, package_versions
from lapel.runs import evaluation_folder, write_json

if TYPE_CHECKING:  # torch and FAISS are imported where they are first needed: a manifest is read without them
    import torch

    from lapel.catalog import Catalog
    from lapel.checkpoint import TrainedRun
    from lapel.encoder import Encoder
    from lapel.retrieval import Neighbors
    from lapel.seen import Seen

logger = logging.getLogger(__name__)

ENCODER_FILE = "encoder.ts"
INDEX_FILE = "index.faiss"
ITEMS_FILE = "items.parquet"
SEEN_FILE = "seen.npz"
MANIFEST_FILE = "manifest.json"
FORMAT = 2

# What the manifest has the sha256 of.
FILES = (ENCODER_FILE, INDEX_FILE, ITEMS_FILE, SEEN_FILE)

# What export compares before it lets a bundle stand.
CHECKED_IMAGES = 256
CHECKED_DEPTH = 10
LARGEST_DIFFERENCE = 1e-4


# ---------------------------------------------------------------------------------------------- export


def export(config: ExportConfig) -> Path:
    """Write a run's bundle, check it against the model it came from, and put it in place of an older one.

    Returns:
        The bundle folder.

    Raises:
        LapelError: the run or its data are missing or damaged, or the bundle does not answer as the model does; then no
            new bundle is left, and an older one stays.
    """
    from lapel.checkpoint import open_run

    run = open_run(config.run, config.checkpoint)
    catalog = run.load_catalog(config.data.root)
    temporary = Path(tempfile.mkdtemp(dir=run.folder, prefix=".bundle-"))
    try:
        _write(temporary, config, run, catalog)
        folder = run.folder / "bundle"
        _replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    logger.info("exported a checked bundle to %s", folder)
    return folder


def _replace_folder(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`, which may exist."""
    new.chmod(0o755)
    old = folder.with_name(f".old-{new.name.lstrip('.')}")
    if folder.exists() or folder.is_symlink():
        folder.rename(old)
    new.replace(folder)
    if old.is_symlink():
        old.unlink()
    elif old.exists():
        shutil.rmtree(old)


def _write(folder: Path, config: ExportConfig, run: "TrainedRun", catalog: "Catalog") -> None:
    from lapel.encoder import embed
    from lapel.images.store import open_store
    from lapel.index import build_index, write_index

    data = run.config.data
    rows = np.arange(len(catalog)) if config.export.rows is Rows.all else catalog.gallery("test")
    store = open_store(catalog, data)
    encoder = run.encoder(config.export.invert)
    embeddings = embed(encoder, store, rows).numpy()
    script = _scripted(encoder, data.channels, data.height, data.width)
    script.save(str(folder / ENCODER_FILE))
    write_index(build_index(embeddings, run.config.variant.metric), folder / INDEX_FILE)
    catalog.described(rows).to_parquet(folder / ITEMS_FILE, index=False)
    run.seen.save(folder / SEEN_FILE)
    _write_manifest(folder, config, run, embeddings.shape)
    bundle = load(folder)
    _check_encoder(bundle, encoder, store.gather(rows[:CHECKED_IMAGES]))
    _check_index(bundle, embeddings)


def _scripted(encoder: "Encoder", channels: int, height: int, width: int) -> Any:
    """The encoder as TorchScript. torch announces its end with a warning at each use; its loaders stay.

    Library models are traced, since not all of them can be scripted; what is before them takes images of any size.
    """
    import torch

    from lapel.trunks import LibraryTrunk

    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the tracer also warns of each size that it takes for fixed, as it is
        if isinstance(encoder.trunk, LibraryTrunk):
            encoder = copy.deepcopy(encoder)
            traced: Any = torch.jit.trace(encoder.trunk, torch.zeros(2, channels, height, width))
            encoder.register_module("trunk", traced)
        return torch.jit.script(encoder)


def _write_manifest(folder: Path, config: ExportConfig, run: "TrainedRun", shape: tuple[int, ...]) -> None:
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
        "embedding": shape[1],
        "rows": shape[0],
        "rows_of": config.export.rows.name,
        "files": {name: _sha256(folder / name) for name in FILES},
        "checkpoint": config.checkpoint.name,
        "step": run.step,
        "scores": _scores(config, run),
        "config": to_plain(run.config),
        "versions": package_versions(),
        "git_commit": git_commit(),
    }
    write_json(folder / MANIFEST_FILE, manifest)


def _scores(config: ExportConfig, run: "TrainedRun") -> dict[str, Any] | None:
    """What evaluate.py found for the test part with this very encoder; None where it has not been asked."""
    path = evaluation_folder(run.folder, EvaluateConfig(checkpoint=config.checkpoint)) / "metrics.json"
    if config.export.invert is not Invert.never or not path.is_file():
        return None
    try:
        scores = json.loads(path.read_text())
        return scores if scores["protocol"]["step"] == run.step else None
    except (ValueError, KeyError, TypeError) as error:
        raise LapelError(f"{path}: is damaged ({error}); evaluate again, or remove it") from error


def _check_encoder(bundle: "Bundle", encoder: "Encoder", images: "torch.Tensor") -> None:
    """Raise unless the scripted encoder, as read back, gives the live one's embeddings."""
    import torch

    with torch.inference_mode():
        difference = float((bundle.encoder(images) - encoder(images)).abs().max())
    if not difference <= LARGEST_DIFFERENCE:
        raise LapelError(
            f"not exported: the scripted encoder differs from the model by {difference:.2g}, "
            f"allowed is {LARGEST_DIFFERENCE:g}"
        )


def _check_index(bundle: "Bundle", embeddings: np.ndarray) -> None:
    """Raise unless the index, as read back, finds what exact search finds."""
    import torch

    from lapel.index import disagreements, search_index
    from lapel.retrieval import search

    queries, depth = embeddings[:CHECKED_IMAGES], min(CHECKED_DEPTH, len(embeddings))
    found = search_index(bundle.index, queries, depth, bundle.metric)
    exact = search(torch.from_numpy(queries), torch.from_numpy(embeddings), depth, bundle.metric)
    wrong = disagreements(found, exact, bundle.metric)
    if len(wrong):
        raise LapelError(
            f"the exported index and exact search differ for {len(wrong)} of {len(queries)} queries: not exported"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ------------------------------------------------------------------------------------------------ load


def load(folder: str | Path) -> "Bundle":
    """A bundle, after its files were checked against the manifest.

    Raises:
        LapelError: the folder or a file is missing, or a file is not the one that was exported; the message names it.
    """
    path = user_path(folder)
    if not path.is_dir():
        raise LapelError(f"bundle={folder}: no such folder; make one with: lapel-export run=RUN")
    manifest = _read_manifest(path / MANIFEST_FILE)
    for name, expected in manifest["files"].items():
        if not (path / name).is_file():
            raise LapelError(f"{path / name}: is missing from the bundle; export it again")
        if _sha256(path / name) != expected:
            raise LapelError(f"{path / name}: is not the file that was exported (sha256 differs); export it again")
    items = pd.read_parquet(path / ITEMS_FILE)
    return Bundle(path, manifest, items)


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise LapelError(f"{path}: is missing; is {path.parent} a bundle?")
    try:
        manifest = json.loads(path.read_text())
        known = manifest["format"] == FORMAT and set(manifest["files"]) == set(FILES)
        known = known and manifest["metric"] in Metric.__members__ and manifest["input"]["channels"] in (1, 3)
    except (ValueError, KeyError, TypeError) as error:
        raise LapelError(f"{path}: is damaged ({error}); export the bundle again") from error
    if not known:
        raise LapelError(f"{path}: is of another format than this version of lapel reads ({FORMAT})")
    return manifest


@dataclass(frozen=True)
class Bundle:
    """An exported model with its index; `lapel.load(folder)` gives one.

    Args:
        folder: where it lies.
        manifest: content of manifest.json.
        items: the index's rows: image, item, category, split, role and the source's other columns.
    """

    folder: Path
    manifest: dict[str, Any]
    items: pd.DataFrame

    @property
    def metric(self) -> Metric:
        """How embeddings are compared."""
        return Metric[self.manifest["metric"]]

    @cached_property
    def encoder(self) -> Any:
        """The TorchScript module, on the CPU."""
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", (FutureWarning, DeprecationWarning))
            return torch.jit.load(str(self.folder / ENCODER_FILE), map_location="cpu").eval()

    @cached_property
    def index(self) -> Any:
        """The FAISS index."""
        from lapel.index import read_index

        return read_index(self.folder / INDEX_FILE)

    @property
    def seen(self) -> "Seen":
        """The images that the model has seen.

        Raises:
            LapelError: what is told of them is damaged.
        """
        from lapel.seen import Seen

        return Seen.load(self.folder / SEEN_FILE)

    def embed(self, images: Any) -> np.ndarray:
        """float32 `[images, dimensions]`.

        Args:
            images: one of, or a list of: image file, Pillow image, uint8 array `[height, width(, 3)]`; or a uint8
                tensor `[batch, channels, height, width]`.

        Raises:
            LapelError: a file is missing or no image.
        """
        import torch

        from lapel.images.preprocess import as_batch

        with torch.inference_mode():
            parts = [self.encoder(image) for image in as_batch(images, self.manifest["input"]["channels"])]
        return torch.cat(parts).numpy()

    def search(self, images: Any, k: int = 10) -> pd.DataFrame:
        """The look-alikes of images: a table with the columns query, rank, row, score and those of `items`.

        Args:
            images: as for `embed`; `query` counts them from 0.
            k: look-alikes of each, at most.
        """
        return self._table(self._nearest(self.embed(images), k))

    def search_row(self, row: int, k: int = 10) -> pd.DataFrame:
        """The look-alikes of a row of `items`, itself left out; a table as `search` gives.

        Raises:
            LapelError: there is no such row.
        """
        from lapel.retrieval import Neighbors

        row = _whole("row", row)
        if not 0 <= row < len(self.items):
            raise LapelError(f"row={row}: must be from 0 to {len(self.items) - 1}")
        near = self._nearest(np.asarray(self.index.reconstruct(row))[None], _whole("k", k) + 1)
        others = near.positions[0] != row
        return self._table(Neighbors(near.positions[:, others][:, :k], near.scores[:, others][:, :k]))

    def _nearest(self, embeddings: np.ndarray, k: int) -> "Neighbors":
        from lapel.index import search_index

        k = _whole("k", k)
        if k < 1:
            raise LapelError(f"k={k}: must be at least 1")
        return search_index(self.index, embeddings, min(k, len(self.items)), self.metric)

    def _table(self, near: "Neighbors") -> pd.DataFrame:
        queries, k = near.positions.shape
        rows = near.positions.reshape(-1)
        found = pd.DataFrame(
            {
                "query": np.repeat(np.arange(queries), k),
                "rank": np.tile(np.arange(1, k + 1), queries),
                "row": rows,
                "score": near.scores.reshape(-1),
            }
        )
        return pd.concat([found, self.items.iloc[rows].reset_index(drop=True)], axis=1)


def _whole(name: str, value: Any) -> int:
    """A whole number of any kind, NumPy's too."""
    try:
        return operator.index(value)
    except TypeError:
        raise LapelError(f"{name}={value}: must be a whole number") from None
