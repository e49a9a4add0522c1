"""What lies in a bundle's folder, and how it is checked when it is opened.

encoder.ts     TorchScript: uint8 [batch, 1 or 3, height, width] of any size -> embeddings that the metric wants
index.faiss    FAISS index: inner product for cosine, squared distance for euclidean
items.parquet  row N describes entry N of the index
seen.npz       fingerprints of the images that the model has seen
manifest.json  sha256 of the others, config, metric, input, scores, versions
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lapel.bundle.runners import runners
from lapel.config.variant import Metric
from lapel.errors import LapelError
from lapel.files.named import MANIFEST_FILE

INDEX_FILE = "index.faiss"
ITEMS_FILE = "items.parquet"
SEEN_FILE = "seen.npz"
FORMAT = 2

# What is known of each row besides the source's own columns.
ITEM_COLUMNS = ("image", "item", "category", "split")

# What every bundle has, besides an encoder and the manifest.
FILES = (INDEX_FILE, ITEMS_FILE, SEEN_FILE)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The content of manifest.json, after the files that it names were checked against it.

    Raises:
        LapelError: a file is missing, or is not the one that was exported; the message names it.
    """
    manifest = _parsed(folder / MANIFEST_FILE)
    for name, expected in manifest["files"].items():
        if not (folder / name).is_file():
            raise LapelError(f"{folder / name}: is missing from the bundle; export it again")
        if sha256_of(folder / name) != expected:
            raise LapelError(f"{folder / name}: is not the file that was exported (sha256 differs); export it again")
    return manifest


def _parsed(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise LapelError(f"{path}: is missing; is {path.parent} a bundle?")
    try:
        manifest = json.loads(path.read_text())
        files = set(manifest["files"])
        encoders = set(runners())
        known = manifest["format"] == FORMAT and set(FILES) < files and bool(files & encoders)
        known = known and files <= {*FILES, *encoders}
        known = known and manifest["metric"] in Metric.__members__ and manifest["input"]["channels"] in (1, 3)
        known = known and isinstance(manifest["embedding"], int)
    except (ValueError, KeyError, TypeError) as error:
        raise LapelError(f"{path}: is damaged ({error}); export the bundle again") from error
    if not known:
        raise LapelError(f"{path}: is of another format than this version of lapel reads ({FORMAT})")
    return manifest


def sha256_of(path: Path) -> str:
    """Hexadecimal, of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def count_rows(path: Path) -> int:
    """Rows of items.parquet, of which nothing else is read than what it says of itself.

    Raises:
        LapelError: it is damaged, or lacks a column.
    """
    try:
        about = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise LapelError(f"{path}: cannot be read ({' '.join(str(error).split())[:200]})") from error
    if missing := [name for name in ITEM_COLUMNS if name not in about.schema.names]:
        raise LapelError(f"{path}: has no column {', '.join(missing)}")
    return about.num_rows
