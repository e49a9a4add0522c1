"""Where Fashion-MNIST's files come from, how they are checked, and the catalogue, on small files in its format."""

import gzip
import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pytest

from lapel.config.data import FashionMnistConfig
from lapel.datasets import fashion_mnist
from lapel.errors import DataNotFoundError, LapelError

TRAIN, TEST = 200, 50


def idx(values: np.ndarray) -> bytes:
    """An IDX file: magic number with the number of dimensions, their lengths, the values."""
    return bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape) + values.tobytes()


@pytest.fixture
def contents(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """Four small files whose checksums count as the right ones; no other place has any, and nothing can be fetched."""
    generator = np.random.default_rng(0)
    files = {}
    for part, count in (("train", TRAIN), ("t10k", TEST)):
        files[f"{part}-images-idx3-ubyte"] = idx(generator.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx(np.arange(count, dtype=np.uint8) % 10)
    monkeypatch.setattr(
        fashion_mnist, "CHECKSUMS", {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    )
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "usr" / "fashion-mnist")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def refuse(timeout: float) -> dict[str, bytes]:
        raise OSError(f"no network within {timeout} s")

    monkeypatch.setattr(fashion_mnist, "_download_from_mirrors", refuse)
    monkeypatch.setattr(fashion_mnist, "_download_with_apt", refuse)
    return files


def write(folder: Path, contents: dict[str, bytes], packed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", ["", "FashionMNIST/raw"])
def test_catalogue_has_the_splits_and_the_pixels(
    contents: dict[str, bytes], tmp_path: Path, packed: bool, below: str
) -> None:
    write(tmp_path / "data" / below, contents, packed)
    catalog = fashion_mnist.load(FashionMnistConfig(root=str(tmp_path / "data"), val_images=40))
    assert [len(catalog.rows(split)) for split in ("train", "val", "test")] == [TRAIN - 40, 40, TEST]
    assert np.bincount(catalog.items[catalog.rows("val")]).tolist() == [4] * 10
    assert (catalog.items == catalog.categories).all()
    assert catalog.rows("test").tolist() == list(range(TRAIN, TRAIN + TEST))
    assert catalog.pixels is not None
    assert catalog.pixels[TRAIN].tobytes() == contents["t10k-images-idx3-ubyte"][16 : 16 + 784]
    assert catalog.items[TRAIN : TRAIN + 12].tolist() == [*range(10), 0, 1]


def test_validation_is_the_same_in_every_run(contents: dict[str, bytes], tmp_path: Path) -> None:
    config = FashionMnistConfig(root=str(write(tmp_path / "data", contents)), val_images=40)
    first, second = fashion_mnist.load(config), fashion_mnist.load(config)
    assert first.split_hash("val") == second.split_hash("val")


def test_debian_folder_comes_before_the_network(contents: dict[str, bytes]) -> None:
    write(fashion_mnist.DEBIAN_FOLDER, contents)
    assert fashion_mnist.read_files(FashionMnistConfig()) == contents


def test_what_is_fetched_is_kept_and_not_fetched_again(
    contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(fashion_mnist, "_download_with_apt", lambda timeout: calls.append(timeout) or contents)
    assert fashion_mnist.read_files(FashionMnistConfig()) == contents
    assert fashion_mnist.read_files(FashionMnistConfig()) == contents
    assert calls == [5.0]
    assert sorted(each.name for each in fashion_mnist.cache_folder().iterdir()) == sorted(contents)


def test_when_nobody_has_it_the_error_says_what_was_tried(contents: dict[str, bytes]) -> None:
    with pytest.raises(DataNotFoundError, match=r"mirrors: no network.*apt-get.*no network.*data\.root=FOLDER"):
        fashion_mnist.read_files(FashionMnistConfig())
    assert contents
    with pytest.raises(DataNotFoundError, match=r"data\.download=false"):
        fashion_mnist.read_files(FashionMnistConfig(download=False))


def test_a_root_that_is_no_folder_is_an_error(contents: dict[str, bytes], tmp_path: Path) -> None:
    assert contents
    with pytest.raises(LapelError, match="nowhere: no such folder"):
        fashion_mnist.read_files(FashionMnistConfig(root=str(tmp_path / "nowhere")))


def test_an_incomplete_set_names_the_missing_file(contents: dict[str, bytes], tmp_path: Path) -> None:
    folder = write(tmp_path / "data", contents)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(LapelError, match=r"t10k-labels-idx1-ubyte\.gz is missing"):
        fashion_mnist.read_files(FashionMnistConfig(root=str(folder)))


def damage_truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_no_gzip(path: Path) -> None:
    path.write_bytes(b"<html>not found</html>")


def damage_other_content(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))


def damage_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage", [damage_truncated, damage_empty, damage_no_gzip, damage_other_content, damage_folder]
)
def test_a_damaged_file_is_named(contents: dict[str, bytes], tmp_path: Path, damage) -> None:
    folder = write(tmp_path / "data", contents)
    damage(folder / "train-images-idx3-ubyte.gz")
    with pytest.raises(LapelError, match=r"train-images-idx3-ubyte\.gz: ") as error:
        fashion_mnist.read_files(FashionMnistConfig(root=str(folder)))
    assert not isinstance(error.value, DataNotFoundError)
    assert "\n" not in str(error.value)


def test_apt_unpacks_the_package_without_root(
    contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real function, with commands that do what apt-get and dpkg-deb do."""
    monkeypatch.undo()
    names = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(fashion_mnist, "CHECKSUMS", names)
    monkeypatch.setattr(fashion_mnist.shutil, "which", lambda program: f"/usr/bin/{program}")
    seen = []

    def pretend(command: list[str], cwd: Path, **_: object) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        if command[-2] == "download":
            (cwd / f"{fashion_mnist.DEBIAN_PACKAGE}_1_all.deb").write_bytes(b"")
        if command[0] == "dpkg-deb":
            write(Path(command[-1]) / "usr/share/datasets/fashion-mnist", contents)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fashion_mnist.subprocess, "run", pretend)
    assert fashion_mnist._download_with_apt(3.0) == contents
    assert all(any(each.startswith("Dir::State::lists=") for each in command) for command in seen[:2])
    assert tmp_path.is_dir()
