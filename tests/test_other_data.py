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
from lapel.config import ExportConfig

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
        run = (folder / "runs" / "latest").resolve()
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


def test_the_training_part_is_known_by_whatever_name_it_is_called(run: Path, trained: Path):
    mine = trained.parents[1] / "mine"
    result = scored(f"run={run}", "data=folder", f"data.root={mine}", "split=train", "bootstrap.samples=0")
    assert result["protocol"]["seen_in_training"] is True
    page = (run / "evaluation" / "mine-train" / "report.html").read_text()
    assert "These are images that the model was trained on." in page
    result = scored(f"run={run}", "data=folder", f"data.root={mine}", *QUICK)
    assert result["protocol"]["seen_in_training"] is False
    assert result["protocol"]["items_seen_in_training"] is True
    assert result["protocol"]["trained_on"] == "mine"


def test_another_split_of_the_same_data_is_a_danger(run: Path, trained: Path):
    mine = trained.parents[1] / "mine"
    options = ["data=folder", f"data.root={mine}", "data.test_share=0.5", "bootstrap.samples=0"]
    result = scored(f"run={run}", *options)
    assert result["protocol"]["seen_in_training"] is None
    page = (run / "evaluation" / "mine" / "report.html").read_text()
    assert 'class="banner danger"' in page
    assert "The model was trained on mine, divided otherwise" in page


@pytest.mark.parametrize("deployed", [False, True])
def test_data_that_was_moved_is_still_its_own(deployed: bool, run: Path, trained: Path, tmp_path: Path):
    moved = shutil.copytree(trained.parents[1] / "mine", tmp_path / "moved")
    subject = f"bundle={run / 'bundle'}" if deployed else f"run={run}"
    result = scored(subject, f"data.root={moved}", *QUICK)
    assert "trained_on" not in result["protocol"]
    assert result["protocol"]["items_seen_in_training"] is True
    assert result["recall@1"] == own_scores(run)["recall@1"]
    assert ("classifier_accuracy" in result) is not deployed


def test_another_folder_in_its_place_is_other_data(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """As many items, so that a classifier would fit, but other ones."""
    theirs = photos(tmp_path / "theirs", 6)
    for each in sorted(theirs.iterdir()):
        each.rename(theirs / f"other-{each.name}")
    before = own_scores(run)
    with caplog.at_level(logging.WARNING, "lapel"):
        result = scored(f"run={run}", f"data.root={theirs}", *QUICK)
    assert "theirs: has another training part than that of the run, is scored as other data" in caplog.text
    assert own_scores(run) == before
    assert json.loads((run / "evaluation" / "theirs" / "metrics.json").read_text())["recall@1"] == result["recall@1"]
    assert "classifier_accuracy" in before
    assert "classifier_accuracy" not in result
    card = result["protocol"]
    assert (card["trained_on"], card["seen_in_training"], card["items_seen_in_training"]) == ("mine", None, None)


def test_data_without_a_training_part_is_other_data(run: Path, tmp_path: Path):
    names = sorted(path.relative_to(tmp_path).as_posix() for path in photos(tmp_path / "shop", 3).glob("*/*.png"))
    table = pd.DataFrame({"image": names, "item": [name.split("/")[1] for name in names], "split": "test"})
    table.to_csv(tmp_path / "shop.csv", index=False)
    result = scored(f"run={run}", "data=table", f"data.table={tmp_path / 'shop.csv'}", *QUICK)
    assert result["protocol"]["queries"] == len(names)
    assert result["protocol"]["items_seen_in_training"] is None
