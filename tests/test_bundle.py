"""The exported bundle: it answers as the model does, in any process, and is not left behind where it does not."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image

import lapel
from lapel.bundle.index import disagreements
from lapel.bundle.layout import sha256_of
from lapel.bundle.runners import TorchScriptRunner
from lapel.config import choices
from lapel.config.choices import choice
from lapel.config.data import Invert, Rows
from lapel.config.evaluation import Checkpoint
from lapel.config.export import ExportConfig, ExportOptions
from lapel.config.variant import Metric
from lapel.encoders.encoder import Encoder
from lapel.errors import LapelError
from lapel.retrieval import Neighbors, search
from lapel.runs.checkpoint import open_run

# What a shop's own code may do: no lapel in sight.
STRANGER = """
import json, sys
import faiss, numpy as np, torch
from PIL import Image
folder, photo = sys.argv[1:]
manifest = json.load(open(f"{folder}/manifest.json"))
image = Image.open(photo).convert("L" if manifest["input"]["channels"] == 1 else "RGB")
pixels = torch.from_numpy(np.array(image)).reshape(1, image.height, image.width, -1).permute(0, 3, 1, 2)
with torch.inference_mode():
    embedding = torch.jit.load(f"{folder}/encoder.ts")(pixels).numpy()
scores, rows = faiss.read_index(f"{folder}/index.faiss").search(embedding, 10)
assert "lapel" not in sys.modules
print(json.dumps([rows[0].tolist(), scores[0].tolist()]))
"""


@pytest.fixture(scope="module", params=["siam_cat_cos", "siam"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each metric, exported."""
    folder = tmp_path_factory.mktemp("run") / "one"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        lapel.train(lapel.compose("train", [*TINY, f"variant={request.param}", "trainer.max_epochs=1"]), folder)
        lapel.export(ExportConfig(run=str(folder)))
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(1).integers(0, 256, (50, 31), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_process_without_lapel_finds_the_same(exported: Path, photo: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", STRANGER, str(exported / "bundle"), str(photo)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows, scores = json.loads(done.stdout)
    bundle = lapel.load(exported / "bundle")
    if bundle.metric is Metric.euclidean:
        scores = (-np.sqrt(scores)).tolist()
    found = bundle.search(photo, k=10)
    assert found["row"].tolist() == rows
    assert found["score"].tolist() == pytest.approx(scores, rel=1e-5)


def test_the_bundle_embeds_and_searches_as_the_model_does(exported: Path) -> None:
    bundle = lapel.load(exported / "bundle")
    run = open_run(str(exported), Checkpoint.best)
    images = torch.randint(0, 256, (6, 3, 33, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = run.encoder()(images)
    embeddings = bundle.embed(images)
    np.testing.assert_allclose(embeddings, expected.numpy(), atol=1e-4)
    if bundle.metric is Metric.cosine:
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    gallery = torch.as_tensor(bundle.index.reconstruct_n(0, len(bundle.items)))
    near = search(expected, gallery, 5, bundle.metric)
    found = bundle.search(images, k=5)
    rows, scores = (found[column].to_numpy().reshape(6, 5) for column in ("row", "score"))
    assert not len(disagreements(Neighbors(rows, scores), near, bundle.metric))
    assert found["query"].tolist() == np.repeat(np.arange(6), 5).tolist()
    assert found["item"].tolist() == bundle.items["item"].iloc[found["row"]].tolist()


def test_images_of_several_kinds_and_sizes_give_one_table(exported: Path, photo: Path) -> None:
    bundle = lapel.load(exported / "bundle")
    with Image.open(photo) as image:
        mixed = [photo, str(photo), image.copy(), np.array(image), np.zeros((9, 14, 3), np.uint8)]
    embeddings = bundle.embed(mixed)
    assert embeddings.shape == (5, 16)
    assert all(np.array_equal(embeddings[0], each) for each in embeddings[1:4])
    assert not np.array_equal(embeddings[0], embeddings[4])


def test_images_of_many_sizes_are_embedded_together_and_in_their_order(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(3)
    sizes = [(16, 16), (40, 30), (9, 14), (40, 30), (16, 16), (30, 40)] * 5
    images = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    monkeypatch.setattr("lapel.bundle.runners.AT_ONCE", 8)
    bundle = lapel.load(exported / "bundle")
    alone = np.concatenate([bundle.embed(image) for image in images])
    together = bundle.embed(images)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    counted = Counted(bundle.encoder)
    monkeypatch.setattr(bundle.runner, "module", counted)
    np.testing.assert_array_equal(bundle.embed(images), together)
    assert counted.batches == [8, 8, 8, 6]


class Counted:
    """An encoder that notes how many images come at once."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.preprocess = module.preprocess
        self.batches: list[int] = []

    def embed_fitted(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        return self.module.embed_fitted(images)


class Before(torch.nn.Module):
    """An encoder as bundles once had it: with nothing but the whole of it."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.preprocess = encoder.preprocess

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """As the encoder's."""
        return self.encoder.finish(self.encoder.unfinished(images))


@pytest.mark.parametrize("invert", list(Invert))
def test_a_bundle_of_before_is_read(invert: Invert, exported: Path, tmp_path: Path) -> None:
    """It has gradients, too."""
    copy = Path(shutil.copytree(exported, tmp_path / "copy"))
    lapel.export(ExportConfig(run=str(copy), export=ExportOptions(invert=invert)))
    generator = np.random.default_rng(4)
    images = [generator.integers(0, 256, (size, 12), dtype=np.uint8) for size in (10, 16, 10, 31)]
    images.append(np.full((40, 20), 250, np.uint8))
    expected = lapel.load(copy / "bundle").embed(images)
    encoder = open_run(str(copy), Checkpoint.best).encoder(invert).requires_grad_()
    torch.jit.script(Before(encoder)).save(str(copy / "bundle" / "encoder.ts"))
    manifest = json.loads((copy / "bundle" / "manifest.json").read_text())
    manifest["files"]["encoder.ts"] = sha256_of(copy / "bundle" / "encoder.ts")
    (copy / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    np.testing.assert_allclose(lapel.load(copy / "bundle").embed(images), expected, atol=1e-5)


def test_the_exported_encoder_has_no_gradients(exported: Path) -> None:
    encoder = torch.jit.load(str(exported / "bundle" / "encoder.ts"))
    embeddings = encoder(torch.zeros(2, 1, 20, 20, dtype=torch.uint8))
    assert embeddings.numpy().shape == (2, 16)
    assert not any(each.requires_grad for each in encoder.parameters())


def test_a_row_does_not_find_itself(exported: Path) -> None:
    bundle = lapel.load(exported / "bundle")
    for row in (0, len(bundle.items) - 1):
        found = bundle.search_row(row, k=len(bundle.items) + 5)
        assert sorted(found["row"]) == [each for each in range(len(bundle.items)) if each != row]
        assert found["score"].is_monotonic_decreasing


def test_the_index_holds_the_gallery_or_all(exported: Path) -> None:
    gallery = lapel.load(exported / "bundle").items
    assert set(gallery["split"]) == {"test"}
    assert set(gallery["role"]) == {"gallery"}
    copy = Path(shutil.copytree(exported, exported.parent / f"copy of {exported.name}", dirs_exist_ok=True))
    lapel.export(ExportConfig(run=str(copy), export=ExportOptions(rows=Rows.all)))
    assert len(lapel.load(copy / "bundle").items) == 40 * 5


def test_the_manifest_says_what_a_reader_needs(trained_run: Path) -> None:
    manifest = lapel.load(trained_run / "bundle").manifest
    scores = json.loads((trained_run / "evaluation" / "metrics.json").read_text())
    assert manifest["scores"] == scores
    assert (manifest["metric"], manifest["normalized"], manifest["embedding"]) == ("cosine", True, 16)
    assert (manifest["input"]["height"], manifest["input"]["width"]) == (16, 16)
    assert manifest["config"]["variant"]["name"] == "siam_cat_cos"


def test_inversion_is_part_of_the_exported_encoder(exported: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(exported, tmp_path / "copy"))
    lapel.export(ExportConfig(run=str(copy), export=ExportOptions(invert=Invert.always)))
    image = np.random.default_rng(2).integers(0, 256, (16, 16), dtype=np.uint8)
    plain, inverting = lapel.load(exported / "bundle"), lapel.load(copy / "bundle")
    np.testing.assert_allclose(plain.embed(image), inverting.embed(255 - image), atol=1e-6)


def test_what_is_no_bundle_is_not_replaced(exported: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(exported, tmp_path / "run"))
    shutil.rmtree(run / "bundle")
    (run / "bundle").write_text("a note")
    with pytest.raises(LapelError, match="bundle: is no bundle, and would be lost; move it away"):
        lapel.export(ExportConfig(run=str(run)))
    assert (run / "bundle").read_text() == "a note"
    (run / "bundle").unlink()
    (run / "bundle").mkdir()
    lapel.export(ExportConfig(run=str(run)))  # an empty folder is nobody's
    (run / "bundle" / "manifest.json").rename(run / "bundle" / "notes.json")
    with pytest.raises(LapelError, match="is no bundle"):
        lapel.export(ExportConfig(run=str(run)))
    assert (run / "bundle" / "notes.json").is_file()


def test_a_format_declared_later_is_read(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CHOICES", "_DECLARED", "_BUILDERS"):
        monkeypatch.setattr(choices, name, dict(getattr(choices, name)))

    @choice("format", "copied", build="lapel.exporting.torchscript:write")
    class CopiedRunner(TorchScriptRunner):
        file = "copied.ts"

    run = Path(shutil.copytree(exported, tmp_path / "run"))
    lapel.export(ExportConfig(run=str(run), export=ExportOptions(formats=["copied"])))
    assert (run / "bundle" / CopiedRunner.file).is_file()
    assert isinstance(lapel.load(run / "bundle").runner, CopiedRunner)


@pytest.mark.parametrize("check", ["_check_encoder", "_check_index"])
def test_a_bundle_that_disagrees_is_not_left_and_an_older_one_stays(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    copy = Path(shutil.copytree(exported, tmp_path / "copy"))
    before = (copy / "bundle" / "manifest.json").read_bytes()
    if check == "_check_encoder":
        monkeypatch.setattr("lapel.exporting.export.LARGEST_DIFFERENCE", -1.0)
    else:
        monkeypatch.setattr("lapel.exporting.export.disagreements", lambda *_: np.array([3]))
    with pytest.raises(LapelError, match="not exported"):
        lapel.export(ExportConfig(run=str(copy)))
    assert (copy / "bundle" / "manifest.json").read_bytes() == before
    assert sorted(each.name for each in copy.iterdir()) == sorted(each.name for each in exported.iterdir())
    shutil.rmtree(copy / "bundle")
    with pytest.raises(LapelError, match="not exported"):
        lapel.export(ExportConfig(run=str(copy)))
    assert not (copy / "bundle").exists()


def test_loading_what_is_no_bundle_says_so(tmp_path: Path) -> None:
    with pytest.raises(LapelError, match="nowhere: no such folder"):
        lapel.load(tmp_path / "nowhere")
    with pytest.raises(LapelError, match=r"manifest\.json: is missing"):
        lapel.load(tmp_path)


def test_what_is_no_image_and_no_number_is_told(exported: Path) -> None:
    bundle = lapel.load(exported / "bundle")
    grey = np.zeros((9, 9), np.uint8)
    for wrong in ([], torch.zeros(0, 1, 8, 8, dtype=torch.uint8), torch.zeros(1, 8, 8), None, [None], b"bytes"):
        with pytest.raises(LapelError):
            bundle.embed(wrong)
    with pytest.raises(LapelError, match=r"k=2\.5: must be a whole number"):
        bundle.search(grey, k=2.5)  # type: ignore[arg-type]
    assert len(bundle.search(grey, k=np.int64(3))) == 3  # type: ignore[arg-type]
    assert len(bundle.search_row(bundle.search(grey)["row"].to_numpy()[0], k=3)) == 3
