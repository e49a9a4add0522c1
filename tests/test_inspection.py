"""lapel-data: reports, contact sheets, instructions, and duplicates against plain loops."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import photo_trees
import pytest
from PIL import Image

from lapel import datasets
from lapel.commands import data as data_command
from lapel.config.composing import compose
from lapel.inspection.audit import SmallPictures, compared, duplicate_pairs, exact_codes, group
from lapel.inspection.pixels import PixelReader


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], working_folder: Path):
    """Call lapel-data: exit code, what it printed, what it said to stderr."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(working_folder / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lapel-data", *arguments])
        try:
            data_command.main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_prepare_says_what_is_ready(run, working_folder: Path):
    root = photo_trees.fashion_product(working_folder / "data" / "fashion_product")
    (root / "images" / "101.jpg").unlink()
    code, printed, _ = run("prepare", "data=fashion_product", "data.max_bad=0.1")
    assert code == 0
    assert "fashion_product: 71 images, 6 items" in printed
    assert "left out: 1 (no image file)" in printed
    assert "decoded photos:" in printed
    assert run("prepare", "data=fashion_product", "data.max_bad=0.1")[1] == printed


@pytest.mark.parametrize(
    "name", ["fashion_product", "deepfashion_inshop", "deepfashion_category", "deepfashion_consumer2shop"]
)
def test_what_is_not_there_is_told_with_all_that_it_takes(run, name: str):
    code, printed, error = run("prepare", f"data={name}")
    assert code == 2
    for word in ("get:", "from:", "https://", "licence:", f"data/{name}/", f"lapel-data prepare data={name}"):
        assert word in printed
    assert len(error.strip().splitlines()) == 1


def test_check_reports_and_draws(run, working_folder: Path):
    root = photo_trees.fashion_product(working_folder / "data" / "fashion_product")
    (root / "images" / "103.jpg").write_text("no image")
    code, printed, _ = run("check", "data=fashion_product", "data.max_bad=0.1", "out=looked at")
    assert code == 0
    for word in ("71 images", "6 items", "2 categories", "32 x 24", "unreadable image", "103.jpg", "in train"):
        assert word in printed, word
    with Image.open("looked at/contact_sheet.png") as image:
        assert image.width > 300


@pytest.mark.parametrize(("shades", "found"), [([0, 1, 2], 3), ([0, 0, 0], 0)])
def test_queries_with_something_to_find_are_counted(run, shades: list[int], found: int):
    """Views of the same pixels find nothing in each other."""
    rows = ["image,item"]
    for item in range(20):
        for view, shade in enumerate(shades):
            Image.new("L", (16, 16), 10 * item + shade).save(f"{item}-{view}.png")
            rows.append(f"{item}-{view}.png,{item}")
    Path("photos.csv").write_text("\n".join(rows) + "\n")
    code, printed, _ = run("check", "data=table", "data.table=photos.csv", "data.split=unseen")
    assert code == 0
    counted = {line.split()[0]: line.split() for line in printed.splitlines() if line}
    for split in ("train", "val", "test"):
        images, queries, matched, gallery, items = map(int, counted[split][1:6])
        assert images == queries == gallery == 3 * items
        assert matched == found * items


def test_every_data_set_can_be_checked_and_audited(run):
    for action in ("check", "audit"):
        code, printed, _ = run(
            action, "data=wardrobe", "data.items=20", "data.views=3", "data.size=24", "data.channels=1"
        )
        assert code == 0
        assert "60 images" in printed
    assert "none is seen in training: an open-set split" in printed.replace("\n", " ")


def test_actions_and_options_that_do_not_exist_are_told(run):
    for arguments, told in (
        (["chekc", "data=wardrobe"], "chekc: must be one of prepare, check, audit"),
        (["check", "data=wardrob"], "did you mean wardrobe"),
        (["check", "bit=3"], "bit: no such option"),
        (["audit", "difference=-1"], "difference=-1"),
    ):
        code, _, error = run(*arguments)
        assert code == 2
        assert told in error
        assert len(error.strip().splitlines()) == 1
    assert "lapel-data prepare|check|audit" in run("--help")[1]
    assert "lapel-data prepare|check|audit" in run()[1]


def altered(folder: Path) -> list[str]:
    """Twelve different garments; then copies of the first: the same bytes, the same pixels, compressed, brighter."""
    for item in range(12):
        photo_trees.save(folder / f"{item}.png", photo_trees.photo(item, 0, 64, 64))
    with Image.open(folder / "0.png") as image:
        first = image.convert("RGB")
    shutil.copy(folder / "0.png", folder / "same_bytes.png")
    first.save(folder / "same_pixels.bmp")
    first.save(folder / "compressed.jpg", quality=80)
    brighter = np.clip(np.asarray(first).astype(int) + 4, 0, 255).astype(np.uint8)
    Image.fromarray(brighter).save(folder / "brighter.png")
    return [
        *(f"{item}.png" for item in range(12)),
        "same_bytes.png",
        "same_pixels.bmp",
        "compressed.jpg",
        "brighter.png",
    ]


def test_exact_and_near_duplicates_are_found_and_nothing_else(run, working_folder: Path):
    names = altered(working_folder / "photos")
    items = [f"item {number}" for number in range(12)] + ["item 0", "other", "item 0", "item 0"]
    split = ["train"] * 6 + ["val"] * 3 + ["test"] * 3 + ["train", "test", "val", "test"]
    pd.DataFrame({"image": names, "item": items, "split": split}).to_csv(
        working_folder / "photos/list.csv", index=False
    )
    code, printed, _ = run("audit", "data=table", "data.table=photos/list.csv", "data.size=64")
    assert code == 0
    found = pd.read_csv("reports/table/duplicates.csv")
    by_kind = {
        kind: {image for image, each in zip(found["image"], found["kind"], strict=True) if each == kind}
        for kind in ("exact", "near")
    }
    assert by_kind == {
        "exact": {"0.png", "same_bytes.png", "same_pixels.bmp"},
        "near": {"0.png", "same_bytes.png", "same_pixels.bmp", "compressed.jpg", "brighter.png"},
    }
    assert max(found["difference"].tolist()) < 8
    assert Path("reports/table/duplicates.png").is_file()
    rows = [line.split() for line in printed.splitlines() if "exact" in line or "near" in line]
    assert rows == [["exact", "1", "3", "1", "1"], ["near", "1", "5", "1", "1"]]


def test_pairs_are_those_of_a_loop(working_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lapel.inspection.audit.TILE", 7)
    generator = np.random.default_rng(0)
    base = generator.integers(0, 256, (10, 32, 32, 3)).astype(np.uint8)
    noisy = np.clip(base[:6] + generator.normal(0, 5, base[:6].shape), 0, 255).astype(np.uint8)
    pictures = SmallPictures(np.concatenate([base, noisy, base[2:3]]))
    found = {tuple(sorted(pair)) for pair in duplicate_pairs(pictures, bits=10, difference=8.0).tolist()}
    assert found == {(row, row + 10) for row in range(6)} | {(2, 16), (12, 16)}
    assert working_folder


def test_groups_of_a_catalogue_without_photos():
    config = compose("catalog", ["data=wardrobe", "data.items=20", "data.views=3", "data.size=24"])
    catalog = datasets.load(config.data)
    assert catalog.pixels is not None
    catalog.pixels[7] = catalog.pixels[3]
    codes = exact_codes(catalog)
    assert codes[7] == codes[3]
    assert len(set(codes.tolist())) == 59
    pictures = compared(catalog, PixelReader(catalog, config.data))
    exact = group(catalog, pictures, duplicate_pairs(pictures, 6, 8.0), "exact")
    assert exact.table["row"].tolist() == [3, 7]
    assert exact.groups == 1


# ------------------------------------------------------------------------------------------------------ memory


def test_a_second_prepare_loads_nothing_until_something_changed(
    run, working_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    root = photo_trees.fashion_product(working_folder / "data" / "fashion_product")
    first = run("prepare", "data=fashion_product")
    calls = []
    load = datasets.load
    monkeypatch.setattr(datasets, "load", lambda config: calls.append(1) or load(config))
    assert run("prepare", "data=fashion_product") == first
    assert calls == []
    photo_trees.save(root / "images" / "100.jpg", photo_trees.noise(1, 32, 24))
    changed = run("prepare", "data=fashion_product")
    assert changed[0] == 0
    assert changed[1] != first[1]  # another store
    assert len(calls) == 1
    shutil.rmtree(working_folder / "cache" / "lapel" / "stores")
    assert run("prepare", "data=fashion_product") == changed
    assert len(calls) == 2
    (working_folder / "cache" / "lapel" / "fashion_product").mkdir()
    run("prepare", "data=fashion_product")  # a place that is looked into has appeared
    assert len(calls) == 3


def test_what_failed_is_not_remembered(run, working_folder: Path):
    assert run("prepare", "data=fashion_product")[0] == 2
    photo_trees.fashion_product(working_folder / "data" / "fashion_product")
    assert run("prepare", "data=fashion_product")[0] == 0


def test_a_damaged_memory_is_made_again(run, working_folder: Path):
    photo_trees.fashion_product(working_folder / "data" / "fashion_product")
    first = run("prepare", "data=fashion_product")
    (kept,) = (working_folder / "cache" / "lapel" / "prepared").glob("*.json")
    for content in ("", "[]", '{"told": "x"}'):
        kept.write_text(content)
        assert run("prepare", "data=fashion_product") == first


def test_asking_again_needs_neither_hydra_nor_pandas(run, working_folder: Path):
    photo_trees.fashion_product(working_folder / "data" / "fashion_product")
    run("prepare", "data=fashion_product")
    program = (
        "import sys; sys.argv = ['lapel-data', 'prepare', 'data=fashion_product']; "
        "from lapel.commands.data import main; main(); "
        "print(sorted({'torch', 'hydra', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
