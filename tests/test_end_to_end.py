"""The main job on real Fashion-MNIST, for a few steps: train, evaluate, export and search by the scripts themselves."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lapel.config.data import FashionMnistConfig
from lapel.datasets import fashion_mnist
from lapel.errors import DataNotFoundError

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first image of the test part, as a file."""
    try:
        catalog = fashion_mnist.load(FashionMnistConfig())
    except DataNotFoundError as error:
        pytest.skip(str(error))
    assert catalog.pixels is not None
    path = tmp_path_factory.mktemp("photo") / "ankle boot.png"
    Image.fromarray(catalog.pixels[60000]).save(path)
    return path


def command(folder: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_from_training_to_a_search(photo: Path, tmp_path: Path) -> None:
    command(tmp_path, str(ROOT / "train.py"), "trainer.max_steps=20", "trainer=cpu")
    command(tmp_path, str(ROOT / "evaluate.py"), "run=runs/latest")
    command(tmp_path, str(ROOT / "export.py"), "run=runs/latest")
    metrics = json.loads((tmp_path / "latest/evaluation/metrics.json").read_text())
    protocol = metrics["protocol"]
    assert (protocol["data"], protocol["queries"], protocol["gallery"]) == ("fashion_mnist", 10000, 10000)
    assert protocol["split_hash"] == "1adca4ddea64ac9b8966dd1d07e8a6e83fca8296f13c4f5ccf32f27cc34bb962"
    assert metrics["recall@1"] > 0.6
    search = str(Path(sys.executable).parent / "lapel-search")
    arguments = ["bundle=latest/bundle", "k=10", "format=json"]
    found = json.loads(
        subprocess.run(
            [search, f"image={photo}", *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
    )
    # The photo is row 0 of the index itself.
    assert found[0]["row"] == 0
    assert found[0]["score"] == pytest.approx(1, abs=1e-5)
    assert np.mean([each["item"] == "ankle boot" for each in found]) > 0.5
