"""A bundle that is opened: embedding with its encoder, and searching in its index."""

import operator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lapel.bundle.entries import vector_of
from lapel.bundle.index import check_index, read_index, search_index
from lapel.bundle.layout import INDEX_FILE, ITEMS_FILE, SEEN_FILE, count_rows, read_manifest
from lapel.bundle.runners import Runner, TorchScriptRunner, runners
from lapel.catalog.seen import Seen
from lapel.config.variant import Metric
from lapel.errors import LapelError, counted
from lapel.files.named import bundle_folder
from lapel.photos.given import as_arrays
from lapel.retrieval.pairs import NO_POSITION, Neighbors


def load(folder: str | Path) -> "Bundle":
    """A bundle, after its files were checked against the manifest, and its index against the rows and the encoder.

    Raises:
        LapelError: the folder or a file is missing, a file is not the one that was exported, or the index is not one
            that can be searched for these rows; the message names it.
    """
    path = bundle_folder(folder)
    bundle = Bundle(path, read_manifest(path))
    check_index(bundle.index, bundle.metric, bundle.dimensions, count_rows(path / ITEMS_FILE), path / INDEX_FILE)
    return bundle


@dataclass(frozen=True, repr=False)
class Bundle:
    """An exported model with its index; `lapel.load(folder)` gives one.

    Args:
        folder: where it lies.
        manifest: content of manifest.json.
    """

    folder: Path
    manifest: dict[str, Any]

    @property
    def metric(self) -> Metric:
        """How embeddings are compared."""
        return Metric[self.manifest["metric"]]

    @property
    def dimensions(self) -> int:
        """Of its embeddings."""
        return self.manifest["embedding"]

    def __repr__(self) -> str:
        rows, encoder = counted(self.index.ntotal, "row"), self.runner.file
        return f"<Bundle {self.folder}: {rows}, {encoder}, {self.dimensions} dimensions, {self.metric.name}>"

    @cached_property
    def items(self) -> pd.DataFrame:
        """The index's rows: image, item, category, split, role and the source's other columns."""
        return pd.read_parquet(self.folder / ITEMS_FILE)

    @cached_property
    def runner(self) -> Runner:
        """What runs the encoder: of several formats the first that lapel knows."""
        file, runner = next(each for each in runners().items() if each[0] in self.manifest["files"])
        return runner(self.folder / file)

    @property
    def encoder(self) -> Any:
        """The TorchScript module, on the CPU.

        Raises:
            LapelError: the bundle has none.
        """
        file = self.folder / TorchScriptRunner.file
        if not isinstance(self.runner, TorchScriptRunner):
            raise LapelError(f"{file}: is not in this bundle; export it with export.formats=[torchscript]")
        return self.runner.module

    @cached_property
    def index(self) -> Any:
        """The FAISS index."""
        return read_index(self.folder / INDEX_FILE)

    @property
    def seen(self) -> Seen:
        """The images that the model has seen.

        Raises:
            LapelError: what is told of them is damaged.
        """
        return Seen.load(self.folder / SEEN_FILE)

    def embed(self, images: Any) -> np.ndarray:
        """float32 `[images, dimensions]`.

        Args:
            images: one of, or a list of: image file, a file's content as bytes, an open file, Pillow image, uint8 array
                `[height, width(, 3)]`; or a whole batch, a uint8 array or tensor `[batch, channels, height, width]`.

        Raises:
            LapelError: a file is missing or no image, or the encoder is another than the index is made for.
        """
        embeddings = self.runner.embed(as_arrays(images, self.manifest["input"]["channels"]))
        if (given := embeddings.shape[1]) != self.dimensions:
            raise LapelError(
                f"{self.folder / INDEX_FILE}: has {self.dimensions} dimensions, and {self.runner.file} gives "
                f"embeddings of {given}"
            )
        return embeddings

    def search(self, images: Any = None, k: int = 10, *, vector: Any = None) -> pd.DataFrame:
        """The look-alikes of images: a table with the columns query, rank, row, score and those of `items`.

        Args:
            images: as for `embed`; `query` counts them from 0.
            k: look-alikes of each, at most; an approximate index may find fewer.
            vector: in the place of images, what `embed` gives of them, `[dimensions]` or `[queries, dimensions]`; for
                the cosine of any length.

        Raises:
            LapelError: neither or both are given, or they cannot be searched with.
        """
        if (images is None) == (vector is None):
            raise LapelError("search: must have either images or vector")
        return self._table(self._nearest(self.embed(images) if vector is None else self._vectors(vector), k))

    def search_row(self, row: int, k: int = 10) -> pd.DataFrame:
        """The look-alikes of a row of `items`, itself left out; a table as `search` gives.

        Raises:
            LapelError: there is no such row, or the index keeps no vector of it.
        """
        row = _whole("row", row)
        if not 0 <= row < self.index.ntotal:
            raise LapelError(f"row={row}: must be from 0 to {self.index.ntotal - 1}")
        vectors = vector_of(self.index, row)[None]
        near = self._nearest(_unit(vectors) if self.metric is Metric.cosine else vectors, _whole("k", k) + 1)
        others = np.argsort(near.positions[0] == row, kind="stable")[: min(k, near.positions.shape[1] - 1)]
        return self._table(Neighbors(near.positions[:, others], near.scores[:, others]))

    def _vectors(self, given: Any) -> np.ndarray:
        """float32 `[queries, dimensions]` of what a caller has embedded, of length 1 for the cosine."""
        if hasattr(given, "detach"):  # a tensor of torch's, perhaps with its gradient, or on a GPU
            given = given.detach().cpu()
        try:
            array = np.asarray(given)
            vectors = np.atleast_2d(array.astype(np.float32))
            if array.dtype.kind not in "iuf":
                raise TypeError
        except (TypeError, ValueError):
            raise LapelError(f"vector is {type(given).__name__}: must be numbers [(queries, )dimensions]") from None
        if vectors.ndim != 2 or vectors.shape[1] != self.dimensions or not len(vectors):
            raise LapelError(f"vector is {list(np.shape(given))}: must be [(queries, )dimensions={self.dimensions}]")
        if not np.isfinite(vectors).all():
            raise LapelError("vector holds values that are not finite")
        if self.metric is Metric.euclidean:
            return vectors
        if not vectors.any(1).all():
            raise LapelError("vector is zero: it has no cosine")
        return _unit(vectors)

    def _nearest(self, embeddings: np.ndarray, k: int) -> Neighbors:
        k = _whole("k", k)
        if k < 1:
            raise LapelError(f"k={k}: must be at least 1")
        return search_index(self.index, embeddings, min(k, self.index.ntotal), self.metric)

    def _table(self, near: Neighbors) -> pd.DataFrame:
        """What was found, with what is known of it; where an approximate index has not filled a list, it is shorter."""
        queries, k = near.positions.shape
        found = pd.DataFrame(
            {
                "query": np.repeat(np.arange(queries), k),
                "rank": np.tile(np.arange(1, k + 1), queries),
                "row": near.positions.reshape(-1),
                "score": near.scores.reshape(-1),
            }
        )
        found = found[found["row"] != NO_POSITION].reset_index(drop=True)
        return pd.concat([found, self.items.iloc[found["row"]].reset_index(drop=True)], axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """float32 vectors of length 1; zeros stay."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _whole(name: str, value: Any) -> int:
    """A whole number of any kind, NumPy's too."""
    try:
        return operator.index(value)
    except TypeError:
        raise LapelError(f"{name}={value}: must be a whole number") from None
