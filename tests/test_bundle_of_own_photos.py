"""The bundle of one's own photos: it holds all of them, marks those that were trained on, and loses no column."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import photo_trees
import pytest

import lapel
from lapel.catalog import SAME_PIXELS, TRAINED_ON
from lapel.commands import search
from lapel.config.data import Rows
from lapel.config.export import ExportConfig, ExportOptions

SMALL = ["trainer=cpu", "trainer.max_epochs=1", "data.size=16", "data.batch_size=16", "encoder.widths=[8,16]"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table of 60 photos of 12 items, exported; photo 59 is photo 0 again."""
    folder = tmp_path_factory.mktemp("shop")
    rows = [(f"p{row}.png", f"s{row // 5}", f"brand {row % 3}", "yes" if row % 2 else "no") for row in range(60)]
    for row, (name, *_) in enumerate(rows):
        photo_trees.save(folder / "photos" / name, photo_trees.photo(row // 5 if row < 59 else 0, row % 59))
    table = pd.DataFrame(rows, columns=["image", "item", "row", "trained_on"])
    table["year"] = [2011 if row % 2 else None for row in range(60)]
    table["year"] = table["year"].astype("Int64")
    table.to_csv(folder / "photos" / "shop.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        lapel.train(lapel.compose("train", ["data=table", "data.table=photos/shop.csv", *SMALL]), folder / "run")
    return folder


@pytest.fixture(autouse=True)
def own_cache(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(shop / "cache"))
    monkeypatch.chdir(shop)


def exported(shop: Path, tmp_path: Path, rows: Rows | None = None) -> lapel.Bundle:
    copy = shutil.copytree(shop / "run", tmp_path / "run", ignore=shutil.ignore_patterns("bundle"))
    lapel.export(ExportConfig(run=str(copy), export=ExportOptions(rows=rows)))
    return lapel.load(Path(copy) / "bundle")


def test_a_bundle_of_own_photos_holds_all_and_marks_those_trained_on(
    shop: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lapel")
    bundle = exported(shop, tmp_path)
    items = bundle.items
    assert items["image"].tolist() == [f"p{row}.png" for row in range(60)]
    trained = (items["split"] == "train").to_numpy()
    assert 0 < trained.sum() < 60
    assert items[TRAINED_ON].tolist() == trained.tolist()  # photos of the same pixels are in one part
    assert f"60 of 60 rows, {trained.sum()} of them trained on" in caplog.text
    assert (bundle.manifest["rows"], bundle.manifest["rows_of"]) == (60, "all")
    assert bundle.manifest["rows_trained_on"] == trained.sum()


def test_the_gallery_alone_is_exported_where_it_is_asked_for(
    shop: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lapel")
    bundle = exported(shop, tmp_path, Rows.gallery)
    assert set(bundle.items["split"]) == {"test"}
    assert f"{len(bundle.items)} of 60 rows, 0 of them trained on" in caplog.text


def test_columns_of_the_users_are_all_there_and_lapels_own_codes_are_not(shop: Path, tmp_path: Path) -> None:
    bundle = exported(shop, tmp_path)
    assert SAME_PIXELS not in bundle.items
    assert bundle.items["given_row"].tolist() == [f"brand {row % 3}" for row in range(60)]
    assert bundle.items["given_trained_on"].tolist() == ["yes" if row % 2 else "no" for row in range(60)]
    found = bundle.search_row(0, k=59)
    assert sorted(found["row"]) == list(range(1, 60))
    assert found["row"].iloc[0] == 59
    assert np.isclose(found["score"].iloc[0], 1, atol=1e-5)


def test_a_benchmark_exports_what_is_scored(trained_run: Path) -> None:
    bundle = lapel.load(trained_run / "bundle")
    assert set(bundle.items["role"]) == {"gallery"}
    assert set(bundle.items[TRAINED_ON]) == {False}


def test_the_bundle_of_all_rows_is_scored_as_its_run_is(shop: Path, tmp_path: Path) -> None:
    bundle = exported(shop, tmp_path)
    options = ["bootstrap.samples=0", "report=false"]
    of_run = lapel.evaluate(lapel.compose("evaluate", [f"run={bundle.folder.parent}", *options]))
    of_bundle = lapel.evaluate(lapel.compose("evaluate", [f"bundle={bundle.folder}", *options]))
    assert of_bundle["recall@1"] == of_run["recall@1"]
    assert of_bundle["protocol"]["index_rows"] == 60


# ------------------------------------------------------------------------------------ pictures of a search


Search = Callable[..., tuple[int, str]]


@pytest.fixture
def searched(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Search:
    """Searches with row 0, for a page `found.html`: exit code, and all that is said beside it."""

    def call(*options: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["lapel-search", "row=0", "k=3", "format=html", "out=found.html", *options])
        caplog.clear()
        try:
            search.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        logged = "".join(f"{each.getMessage()}\n" for each in caplog.records)
        return code, logged + capsys.readouterr().err

    caplog.set_level(logging.INFO, "lapel")
    return call


def shown() -> tuple[int, int]:
    """Pictures on the page, and tiles without."""
    page = Path("found.html").read_text()
    assert page.count("<figure") == 4
    assert "<span>p59.png</span>" in page  # the twin of row 0, by its name
    return page.count("data:image/webp"), page.count(">no picture<")


def test_pictures_are_where_training_was_begun_or_where_the_user_says(
    shop: Path, tmp_path: Path, searched: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = shutil.copytree(shop / "photos", tmp_path / "photos")
    bundle = f"bundle={shutil.copytree(exported(shop, tmp_path / 'copy').folder, tmp_path / 'runs' / 'a' / 'bundle')}"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert searched(bundle) == (0, "")
    assert shown() == (4, 0)

    photos.rename(tmp_path / "moved")
    hint = "4 of 4 pictures cannot be read where they were; root=FOLDER names the folder that has them\n"
    assert searched(bundle) == (0, hint)
    assert shown() == (0, 4)
    assert searched(bundle, f"root={tmp_path / 'moved'}") == (0, "")
    assert shown() == (4, 0)

    (tmp_path / "moved" / "p59.png").unlink()
    code, error = searched(bundle, f"root={tmp_path / 'moved'}")
    assert (code, error.count("\n")) == (0, 1)
    assert "1 of 4 pictures cannot be read in " in error
    assert shown() == (3, 1)

    Path("found.html").unlink()
    for root, told in (("none", "none/shop.csv: no such file"), (str(tmp_path / "elsewhere"), "elsewhere: ")):
        code, error = searched(bundle, f"root={root}")
        assert (code, error.count("\n")) == (2, 1)
        assert told in error
    assert not list(Path().iterdir())
