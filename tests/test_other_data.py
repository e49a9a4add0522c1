"""A run scored on data that may not be its own: where scores go, and what is said of what training has seen."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import photo_trees
import pytest

import lapel
from lapel import datasets
from lapel.config.export import ExportConfig

# A folder of photos that trains in a second.
SMALL = [
    "data=folder",
    "data.size=16",
    "data.batch_size=16",
    "encoder.widths=[8,16]",
    "sampler.images=2",
    "trainer=cpu",
    "trainer.max_epochs=1",
]
QUICK = ["report=false", "bootstrap.samples=0"]


def photos(root: Path, items: int, views: int = 8) -> Path:
    """A folder for each item."""
    for item in range(items):
        for view in range(views):
            photo_trees.save(root / f"item{item}" / f"v{view}.png", photo_trees.photo(item, view))
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on `mine`, which lies beside `runs`; evaluated and exported."""
    folder = tmp_path_factory.mktemp("other")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        lapel.train(lapel.compose("train", [*SMALL, f"data.root={photos(folder / 'mine', 6)}"]))
        run = (folder / "latest").resolve()
        lapel.evaluate(lapel.compose("evaluate", [f"run={run}", *QUICK]))
        lapel.export(ExportConfig(run=str(run)))
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copytree(trained, tmp_path / "run"))


def scored(*overrides: str) -> dict[str, Any]:
    return lapel.evaluate(lapel.compose("evaluate", [*overrides]))


def own_scores(run: Path) -> dict[str, Any]:
    return json.loads((run / "evaluation" / "metrics.json").read_text())


def folders(run: Path) -> list[Path]:
    """Of evaluations on other data."""
    return sorted((run / "evaluation").glob("on-*"))


def mine(trained: Path) -> Path:
    """The photos that it was trained on."""
    return trained.parents[1] / "mine"


def listed(folder: Path, parts: dict[str, str], renamed: bool = False) -> list[str]:
    """Overrides for a table of the run's own rows, in the parts that are given for theirs: `{"train": "test"}`."""
    catalog = datasets.load(lapel.compose("train", ["data=folder", f"data.root={folder}"]).data)
    rows = []
    for old, new in parts.items():
        for image in catalog.table["image"][catalog.rows(old)]:
            name, item = f"{folder.name}/{image}", image.split("/")[0]
            if renamed and new == "test":
                name, item = f"copy-{len(rows)}.png", f"new {item}"
                shutil.copy(folder / image, folder.parent / name)
            rows.append({"image": name, "item": item, "split": new})
    pd.DataFrame(rows).to_csv(folder.parent / "listed.csv", index=False)
    return ["data=table", f"data.table={folder.parent / 'listed.csv'}"]


def test_the_training_part_is_known_by_whatever_name_it_is_called(run: Path, trained: Path):
    options = ["data=folder", f"data.root={mine(trained)}"]
    result = scored(f"run={run}", *options, "split=train", "bootstrap.samples=0")
    assert result["protocol"]["queries_seen_in_training"] == result["protocol"]["queries"]
    page = (folders(run)[0] / "report.html").read_text()
    assert "These are images that the model was trained on." in page
    result = scored(f"run={run}", *options, *QUICK)
    assert result["protocol"]["queries_seen_in_training"] == 0
    assert result["protocol"]["items_seen_in_training"] is True
    assert result["protocol"]["trained_on"] == "mine"


def test_images_of_training_are_known_in_any_table_and_under_any_name(run: Path, trained: Path):
    result = scored(f"run={run}", *listed(mine(trained), {"train": "test"}), *QUICK)
    assert result["protocol"]["queries_seen_in_training"] == result["protocol"]["queries"]
    result = scored(f"run={run}", *listed(mine(trained), {"train": "test", "test": "train"}, renamed=True), *QUICK)
    card = result["protocol"]
    assert card["queries_seen_in_training"] == card["queries"]
    assert card["items_seen_in_training"] is True  # though the table calls them new
    assert "resamples of items" not in str(card["intervals"])


def test_the_share_that_training_has_seen_is_told_in_red(run: Path, trained: Path):
    options = ["data=folder", f"data.root={mine(trained)}", "data.test_share=0.7", "bootstrap.samples=0"]
    card = scored(f"run={run}", *options)["protocol"]
    assert 0 < card["queries_seen_in_training"] < card["queries"]
    page = (folders(run)[0] / "report.html").read_text()
    assert 'class="banner danger"' in page
    asked = card["queries"] + card["queries_without_match"]
    assert f"{card['queries_seen_in_training']} of the {asked} images searched with are images that" in page


def test_scores_of_the_part_that_chose_the_checkpoint_say_so(run: Path, trained: Path):
    card = scored(f"run={run}", *listed(mine(trained), {"val": "test"}), "bootstrap.samples=0")["protocol"]
    assert card["queries_seen_in_training"] == 0
    asked = card["queries"] + card["queries_without_match"]
    assert card["queries_seen_in_validation"] == asked
    page = (folders(run)[0] / "report.html").read_text()
    assert f"By {asked} of the {asked} images searched with the checkpoint was chosen." in page


@pytest.mark.parametrize("deployed", [False, True])
def test_data_that_was_moved_is_still_its_own(deployed: bool, run: Path, trained: Path, tmp_path: Path):
    moved = shutil.copytree(mine(trained), tmp_path / "moved")
    subject = f"bundle={run / 'bundle'}" if deployed else f"run={run}"
    result = scored(subject, f"data.root={moved}", *QUICK)
    assert "trained_on" not in result["protocol"]
    assert result["protocol"]["items_seen_in_training"] is True
    assert result["recall@1"] == own_scores(run)["recall@1"]
    assert ("classifier_accuracy" in result) is not deployed


@pytest.mark.parametrize("named_alike", [False, True])
def test_other_images_in_its_place_are_other_data(
    named_alike: bool, run: Path, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """As many items, so that a classifier would fit, but other ones; or other pixels under the very names."""
    theirs = shutil.copytree(mine(trained), tmp_path / "theirs")
    if named_alike:
        for number, each in enumerate(sorted(theirs.glob("*/*.png"))):
            photo_trees.save(each, photo_trees.noise(number, 32, 32))
    else:
        for each in sorted(theirs.iterdir()):
            each.rename(theirs / f"other-{each.name}")
    before = own_scores(run)
    with caplog.at_level(logging.WARNING, "lapel"):
        result = scored(f"run={run}", f"data.root={theirs}", *QUICK)
    assert "theirs: has another training part than that of the run, is scored as other data" in caplog.text
    assert own_scores(run) == before
    assert json.loads((folders(run)[0] / "metrics.json").read_text())["recall@1"] == result["recall@1"]
    assert "classifier_accuracy" in before
    assert "classifier_accuracy" not in result
    card = result["protocol"]
    assert (card["trained_on"], card["items_seen_in_training"]) == ("mine", None if named_alike else True)
    assert (card["queries_seen_in_training"] > 0) is not named_alike  # those that were trained on, under any name
    assert card["images_hash"] != before["protocol"]["images_hash"]


def test_catalogues_of_one_name_have_folders_of_their_own(run: Path, trained: Path, tmp_path: Path):
    """Other divisions of the same folder, and a folder that is called as a part is."""
    for options in ([], ["data.test_share=0.5"], ["data.test_share=0.6"]):
        scored(f"run={run}", "data=folder", f"data.root={mine(trained)}", *options, *QUICK)
    assert len(folders(run)) == 3
    scored(f"run={run}", "split=val", *QUICK)
    before = (run / "evaluation" / "val" / "metrics.json").read_bytes()
    scored(f"run={run}", "data=folder", f"data.root={photos(tmp_path / 'val', 5)}", "split=test", *QUICK)
    assert (run / "evaluation" / "val" / "metrics.json").read_bytes() == before


def test_data_without_a_training_part_is_other_data(run: Path, tmp_path: Path):
    names = sorted(path.relative_to(tmp_path).as_posix() for path in photos(tmp_path / "shop", 3).glob("*/*.png"))
    table = pd.DataFrame({"image": names, "item": [name.split("/")[1] for name in names], "split": "test"})
    table.to_csv(tmp_path / "shop.csv", index=False)
    result = scored(f"run={run}", "data=table", f"data.table={tmp_path / 'shop.csv'}", *QUICK)
    assert result["protocol"]["queries"] == len(names)
    assert result["protocol"]["items_seen_in_training"] in (None, True)


def test_a_bundle_in_another_run_s_folder_is_not_that_run_s(
    run: Path, trained_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(run / "bundle")
    shutil.copytree(trained_run / "bundle", run / "bundle")
    with caplog.at_level(logging.WARNING, "lapel"):
        result = scored(f"bundle={run / 'bundle'}", *QUICK)
    assert "is another run than the one that the bundle in it was exported from" in caplog.text
    assert not (run / "evaluation" / "bundle").exists()
    written = json.loads(next(Path("runs").glob("*-bundle-*/evaluation/bundle/metrics.json")).read_text())
    assert written["recall@1"] == result["recall@1"]
    assert written["protocol"]["queries_seen_in_training"] == 0


def test_a_query_that_is_compared_with_nothing_votes_for_nothing(run: Path, tmp_path: Path):
    names = sorted(path.relative_to(tmp_path).as_posix() for path in photos(tmp_path / "shop", 4).glob("*/*.png"))
    table = pd.DataFrame({"image": names, "item": [name.split("/")[1] for name in names], "split": "test"})
    kinds = {"item0": "", "item1": "women", "item2": "women", "item3": "men"}
    table["gender"] = [kinds[item] for item in table["item"]]
    table.to_csv(tmp_path / "shop.csv", index=False)
    options = ["data=table", f"data.table={tmp_path / 'shop.csv'}", "within=gender", "verification.pairs=50"]
    result = scored(f"run={run}", *options, *QUICK)
    assert result["protocol"]["queries"] == 24
    confusion = pd.read_csv(folders(run)[0] / "confusion.csv", index_col=0)
    right = sum(confusion.loc[name, name] for name in confusion.index if name in confusion)
    assert confusion.to_numpy().sum() == 24
    assert result["category_accuracy@5"] == pytest.approx(right / 24)
    assert result["protocol"]["verification"] == "50 pairs, 25 of them matches, drawn by seed 0"
