"""Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): where its four files are found, how they are checked, and its catalogue.

The files are looked for in `data.root`, in the folder of Debian's package `dataset-fashion-mnist` and in lapel's cache;
then they are fetched from torchvision's mirrors or, where those do not answer, with `apt-get download`, which needs no
root.
Whatever their packing, what counts is the sha256 of the unpacked bytes.
"""

import gzip
import hashlib
import logging
import shutil
import subprocess
import tempfile
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from lapel.catalog import Catalog, stratified
from lapel.config.data import FashionMnistConfig
from lapel.errors import DataNotFoundError, LapelError
from lapel.files.cache import cache_folder as lapel_cache
from lapel.files.paths import user_path
from lapel.files.writing import together

logger = logging.getLogger(__name__)

ITEM_NAMES = [
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
]  # fmt: skip

# sha256 of the unpacked bytes. The gz files themselves differ between Debian and the mirrors.
CHECKSUMS = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"

# The validation part is the same in every run, whatever its seed: scores of different seeds can be compared.
VALIDATION_SEED = 0


def load(config: FashionMnistConfig) -> Catalog:
    """The catalogue: 60,000 images of train and val, then 10,000 of test; an item is its own category.

    Raises:
        LapelError: no complete set of files is found, or a file is truncated or not Fashion-MNIST's.
    """
    contents = read_files(config)
    images = [_parse_idx(contents[f"{part}-images-idx3-ubyte"]).reshape(-1, 28, 28) for part in ("train", "t10k")]
    labels = [_parse_idx(contents[f"{part}-labels-idx1-ubyte"]).astype(np.int64) for part in ("train", "t10k")]
    split = np.full(sum(map(len, labels)), "train", dtype=object)
    split[stratified(labels[0], config.val_images, VALIDATION_SEED)] = "val"
    split[len(labels[0]) :] = "test"
    items = np.concatenate(labels)
    table = pd.DataFrame(
        {"image": np.arange(len(items)), "item": items, "category": items, "split": split, "role": "both"}
    )
    return Catalog("fashion_mnist", table, ITEM_NAMES, ITEM_NAMES, np.concatenate(images))


def _parse_idx(content: bytes) -> np.ndarray:
    """The values of an IDX file: a header of 4 bytes and one 4-byte length a dimension, then uint8 values."""
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3])


def read_files(config: FashionMnistConfig) -> dict[str, bytes]:
    """Name -> unpacked bytes of the four files, checked, from the first place that has them all."""
    cache = cache_folder()
    folders = [*_folders_below(config.root), DEBIAN_FOLDER, cache]
    for folder in folders:
        if _has_files(folder):
            return {name: _read_checked(folder, name) for name in CHECKSUMS}
    if not config.download:
        raise DataNotFoundError(f"Fashion-MNIST: not in {', '.join(map(str, folders))}, and data.download=false")
    _fetch(cache, config.timeout)
    return {name: _read_checked(cache, name) for name in CHECKSUMS}


def cache_folder() -> Path:
    """Folder of the user's cache in which fetched files are kept, unpacked."""
    return lapel_cache() / "fashion-mnist"


def _folders_below(root: str | None) -> list[Path]:
    """The folders that `data.root` may mean: itself, and where torchvision puts the files below it."""
    if root is None:
        return []
    folder = user_path(root)
    if not folder.is_dir():
        raise LapelError(f"data.root={root}: no such folder")
    return [folder, folder / "FashionMNIST" / "raw"]


def _has_files(folder: Path) -> bool:
    """Whether a folder holds the four files, packed or not; some but not all of them is an error."""
    missing = [name for name in CHECKSUMS if not (folder / name).exists() and not (folder / f"{name}.gz").exists()]
    if missing and len(missing) < len(CHECKSUMS):
        raise LapelError(f"{folder}: holds part of Fashion-MNIST; {missing[0]}.gz is missing")
    return not missing


def _read_checked(folder: Path, name: str) -> bytes:
    """Unpacked bytes of a file, verified."""
    packed = folder / f"{name}.gz"
    path = packed if packed.exists() else folder / name
    try:
        content = path.read_bytes()
        if path is packed:
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise LapelError(f"{path}: cannot be read ({error}); replace or delete it") from error
    _verify(name, content, str(path))
    return content


def _verify(name: str, content: bytes, origin: str) -> None:
    if hashlib.sha256(content).hexdigest() != CHECKSUMS[name]:
        raise LapelError(
            f"{origin}: is not Fashion-MNIST's {name} (truncated or changed: {len(content)} bytes unpacked, sha256 "
            f"differs from {CHECKSUMS[name][:12]}…); replace or delete it"
        )


def _fetch(cache: Path, timeout: float) -> None:
    """Fill the cache from the first source that gives all four files.

    Raises:
        LapelError: no source did; the message says what each answered, and what to do by hand.
    """
    sources: list[tuple[str, Callable[[float], dict[str, bytes]]]] = [
        ("torchvision's mirrors", _download_from_mirrors),
        (f"apt-get download {DEBIAN_PACKAGE}", _download_with_apt),
    ]
    refusals = []
    for name, download in sources:
        logger.info("Fashion-MNIST is not on this machine: trying %s", name)
        try:
            contents = download(timeout)
        except (OSError, EOFError, zlib.error, subprocess.SubprocessError, LapelError) as error:
            refusals.append(f"{name}: {' '.join(str(error).split())}")
            continue
        _keep(cache, contents)
        return
    raise DataNotFoundError(
        f"Fashion-MNIST cannot be had ({'; '.join(refusals)}); "
        "put its four gz files into a folder and give data.root=FOLDER"
    )


def _keep(cache: Path, contents: dict[str, bytes]) -> None:
    """Write the files, together: a folder that holds some of them alone is an error."""
    with together(cache, next(iter(contents))) as staged:
        for name, content in contents.items():
            staged.file(name).write_bytes(content)
    logger.info("kept Fashion-MNIST in %s", cache)


def _download_from_mirrors(timeout: float) -> dict[str, bytes]:
    """The four files from the first of torchvision's mirrors that serves them unchanged."""
    from torchvision.datasets import FashionMNIST  # brings torch, which the other sources do without

    refusal: Exception = LapelError("no mirror is known")
    for mirror in FashionMNIST.mirrors:
        try:
            return {name: _download(f"{mirror}{name}.gz", name, timeout) for name in CHECKSUMS}
        except (OSError, EOFError, zlib.error, LapelError) as error:
            refusal = error
    raise refusal


def _download(address: str, name: str, timeout: float) -> bytes:
    with urllib.request.urlopen(address, timeout=timeout) as answer:
        content = gzip.decompress(answer.read())
    _verify(name, content, address)
    return content


def _download_with_apt(timeout: float) -> dict[str, bytes]:
    """The four files out of Debian's package, fetched with private lists and cache so that no root is needed."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise LapelError("this is no Debian or Ubuntu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for private in ("lists/partial", "cache/archives/partial"):
            (folder / private).mkdir(parents=True)
        apt = [
            "apt-get", "-qq",
            "-o", f"Dir::State::lists={folder}/lists",
            "-o", f"Dir::Cache={folder}/cache",
            "-o", f"Acquire::http::Timeout={max(1, round(timeout))}",
            "-o", "Acquire::Retries=1",
        ]  # fmt: skip
        _call([*apt, "update"], folder)
        _call([*apt, "download", DEBIAN_PACKAGE], folder)
        for package in folder.glob(f"{DEBIAN_PACKAGE}_*.deb"):
            _call(["dpkg-deb", "-x", str(package), str(folder / "unpacked")], folder)
        unpacked = folder / "unpacked" / DEBIAN_FOLDER.relative_to("/")
        return {name: _read_checked(unpacked, name) for name in CHECKSUMS}


def _call(command: list[str], folder: Path) -> None:
    """Run a command; what it says is told only where it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise LapelError(f"{command[0]} said: {(done.stderr or done.stdout).strip()[-300:]}")
