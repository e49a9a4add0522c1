"""What a model has seen of images: those that it was trained on, and those by which its checkpoint was chosen.

Images are known again by their pixels, wherever they lie and whatever they are called.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lapel.catalog import Catalog
from lapel.catalog.fingerprints import fingerprints
from lapel.errors import LapelError


@dataclass(frozen=True)
class Seen:
    """What a run has seen.

    Args:
        catalog: name of its data.
        train_hash: split hash of the training part: names of its images, their items and roles.
        train, val: int64 fingerprints of the images of either part, ascending, each once.
    """

    catalog: str
    train_hash: str
    train: np.ndarray
    val: np.ndarray

    @classmethod
    def of(cls, catalog: Catalog) -> "Seen":
        """What a training on a catalogue will have seen."""
        return cls(catalog.name, catalog.split_hash("train"), _images(catalog, "train"), _images(catalog, "val"))

    def is_training_part_of(self, catalog: Catalog) -> bool:
        """Whether a catalogue has the very training part: names, items, roles and pixels."""
        if not catalog.has("train") or catalog.split_hash("train") != self.train_hash:
            return False
        return np.array_equal(_images(catalog, "train"), self.train)

    def save(self, path: Path) -> None:
        """Write it as an npz file."""
        with path.open("wb") as file:
            np.savez(
                file, catalog=np.array(self.catalog), train_hash=np.array(self.train_hash), train=self.train,
                val=self.val,
            )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> "Seen":
        """Read what `save` has written.

        Raises:
            LapelError: the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(str(file["catalog"]), str(file["train_hash"]), file["train"], file["val"])
        except (OSError, ValueError, KeyError) as error:
            raise LapelError(f"{path}: is damaged ({type(error).__name__}: {error})") from error


def _images(catalog: Catalog, split: str) -> np.ndarray:
    """int64: the fingerprints of a part, ascending, each once."""
    return np.unique(fingerprints(catalog, catalog.rows(split)))


def images_hash(catalog: Catalog, split: str) -> str:
    """sha256 over the fingerprints of a split's rows: equal where two evaluations saw the same pixels in one order."""
    return hashlib.sha256(fingerprints(catalog, catalog.rows(split)).astype("<i8").tobytes()).hexdigest()
