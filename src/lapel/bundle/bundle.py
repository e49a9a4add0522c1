"""A bundle that is opened: embedding with its encoder, and searching in its index."""

import operator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lapel.bundle.index import read_index, search_index
from lapel.bundle.layout import INDEX_FILE, ITEMS_FILE, SEEN_FILE, bundle_folder, read_manifest
from lapel.bundle.runners import Runner, TorchScriptRunner, runners
from lapel.catalog.seen import Seen
from lapel.config.variant import Metric
from lapel.errors import LapelError
from lapel.photos.given import as_arrays
from lapel.retrieval.pairs import Neighbors


def load(folder: str | Path) -> "Bundle":
    """A bundle, after its files were checked against the manifest.

    Raises:
        LapelError: the folder or a file is missing, or a file is not the one that was exported; the message names it.
    """
    path = bundle_folder(folder)
    return Bundle(path, read_manifest(path))


@dataclass(frozen=True)
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
            images: one of, or a list of: image file, Pillow image, uint8 array `[height, width(, 3)]`; or a whole
                batch, a uint8 array or tensor `[batch, channels, height, width]`.

        Raises:
            LapelError: a file is missing or no image.
        """
        return self.runner.embed(as_arrays(images, self.manifest["input"]["channels"]))

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
        row = _whole("row", row)
        if not 0 <= row < len(self.items):
            raise LapelError(f"row={row}: must be from 0 to {len(self.items) - 1}")
        near = self._nearest(np.asarray(self.index.reconstruct(row))[None], _whole("k", k) + 1)
        others = near.positions[0] != row
        return self._table(Neighbors(near.positions[:, others][:, :k], near.scores[:, others][:, :k]))

    def _nearest(self, embeddings: np.ndarray, k: int) -> Neighbors:
        k = _whole("k", k)
        if k < 1:
            raise LapelError(f"k={k}: must be at least 1")
        return search_index(self.index, embeddings, min(k, len(self.items)), self.metric)

    def _table(self, near: Neighbors) -> pd.DataFrame:
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
