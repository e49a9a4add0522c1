"""What the report is made of: queries and what they missed, photos as they are, words, and another run beside it."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import photo_trees
import pytest
import torch
from PIL import Image

import lapel
from lapel.catalog import Catalog
from lapel.config.composing import from_plain, to_plain
from lapel.config.data import FashionMnistConfig, FashionProductConfig, FolderConfig
from lapel.config.evaluation import EvaluateConfig, ReportConfig
from lapel.config.variant import Metric
from lapel.datasets import load
from lapel.errors import LapelError
from lapel.evaluation import facts, reporting, shown
from lapel.evaluation.evaluated import Evaluated
from lapel.evaluation.familiarity import Familiarity
from lapel.evaluation.intervals import paired_bootstrap
from lapel.evaluation.protocols import Embedded, protocol_of, score_protocol
from lapel.evaluation.subjects import Subject
from lapel.images.store import open_store
from lapel.pictures.originals import Originals
from lapel.retrieval.words import SCORES, told
from lapel.runs.folder import read_train_summary
from lapel.runs.words import duration

ROOT = Path(__file__).parent.parent


def catalogue(items: list[int], size: int = 9) -> Catalog:
    """Grey images of 9 x 6, all of the test part, each searched with and searched in."""
    names = [f"item {code}" for code in range(max(items) + 1)]
    codes = np.array(items, dtype=np.int64)
    table = pd.DataFrame(
        {"image": range(len(items)), "item": codes, "category": codes, "split": "test", "role": "both"}
    )
    pixels = np.random.default_rng(0).integers(0, 256, (len(items), size, 6)).astype(np.uint8)
    return Catalog("made", table, names, names, pixels=pixels)


def evaluated(items: list[int], embeddings: np.ndarray, metric: Metric = Metric.cosine) -> Evaluated:
    catalog, vectors = catalogue(items), torch.from_numpy(embeddings.astype(np.float32))
    protocol = protocol_of(catalog, "test", None, None)
    embedded = Embedded(vectors, vectors, catalog.item_sets, catalog.item_sets, metric)
    subject = Subject(
        "made", torch.nn.Identity(), torch.nn.Identity(), metric, FashionMnistConfig(), catalog, Path, "", {}
    )  # fmt: skip
    scores = score_protocol(protocol, embedded, [1], 64.0, 50)
    return Evaluated(EvaluateConfig(), subject, protocol, vectors, embedded, Familiarity(0, 0, True), scores)


def originals_of(found: Evaluated) -> Originals:
    return Originals(found.catalog, open_store(found.catalog, FashionMnistConfig()))


def unit(count: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((count, 6))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def names_in(group: "shown.Queries") -> list[str]:
    return [each.picture.name for each in group.queries]


@pytest.mark.parametrize("count", [4, 12, 13, 16, 60])
def test_no_query_is_among_the_best_and_among_the_worst(count: int):
    found = evaluated((np.arange(count) % 4).tolist() if count > 4 else [0, 0, 1, 1], unit(count))
    groups = shown.shown_queries(found, originals_of(found))
    all_names = [name for group in groups for name in names_in(group)]
    assert len(all_names) == len(set(all_names))
    if count <= 12:
        assert [group.heading for group in groups] == ["All queries"]
        assert len(all_names) == count
    else:
        assert [group.heading for group in groups] == ["Worst queries", "Queries in between", "Best queries"]
        worst, between, best = ([each.score for each in group.queries] for group in groups)
        assert max(worst) <= min(between) <= max(between) <= min(best)
        assert worst == sorted(worst)
        assert best == sorted(best, reverse=True)


def test_what_is_in_between_is_no_better_than_the_best_of_few_items():
    """The best are one of each item: others are better than the last of them."""
    found = evaluated([each % 3 for each in range(60)], unit(60, seed=4))
    groups = shown.shown_queries(found, originals_of(found))
    worst, between, best = ([each.score for each in group.queries] for group in groups)
    assert (found.scores.grades["map@r"] > min(best)).sum() > len(best)
    assert max(worst) <= min(between) <= max(between) <= min(best)


def test_where_all_are_as_good_none_is_the_best():
    found = evaluated([each // 2 for each in range(40)], np.repeat(np.eye(20), 2, axis=0))
    (group,) = shown.shown_queries(found, originals_of(found))
    assert group.heading == "Some of the queries"
    assert {each.score for each in group.queries} == {1.0}


@pytest.mark.parametrize("metric", [Metric.cosine, Metric.euclidean])
def test_missed_matches_have_the_rank_and_the_similarity_of_the_whole_ranking(metric: Metric):
    vectors, items = unit(48, seed=3), [each % 4 for each in range(48)]
    found = evaluated(items, vectors, metric)
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    similar = vectors @ vectors.T if metric is Metric.cosine else -distances
    np.fill_diagonal(similar, -np.inf)
    seen = 0
    for group in shown.shown_queries(found, originals_of(found)):
        for query in group.queries:
            row = int(query.picture.name.removeprefix("row "))
            order = np.argsort(-similar[row], kind="stable")
            listed = order[: shown.FOUND]
            assert [each.name for each in query.found] == [f"row {each}" for each in listed]
            assert [each.similarity for each in query.found] == pytest.approx(similar[row, listed].tolist(), abs=1e-5)
            later = [place for place in range(shown.FOUND, 47) if items[order[place]] == items[row]][: shown.MISSED]
            assert [each.rank for each in query.missed] == [place + 1 for place in later]
            assert [each.picture.name for each in query.missed] == [f"row {order[place]}" for place in later]
            expected = [similar[row, order[place]] for place in later]
            assert [each.picture.similarity for each in query.missed] == pytest.approx(expected, abs=1e-5)
            seen += len(later)
    assert seen > 20


def test_what_comes_after_the_last_match_is_neither_right_nor_wrong():
    found = evaluated([0, 0, 1, 1, 2, 2], np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [1, 1], [0.9, 1.1]]))
    (group,) = shown.shown_queries(found, originals_of(found))
    marks = {each.picture.name: [picture.right for picture in each.found] for each in group.queries}
    assert marks["row 0"] == [True, None, None, None, None]
    assert all(not each.missed for each in group.queries if each.score == 1)


def test_of_few_images_no_curve_no_hub_and_no_vote_is_drawn():
    for count, enough in ((11, False), (120, True)):
        found = evaluated([each % 4 for each in range(count)], unit(count))
        tables = {"categories": pd.DataFrame({"name": ["a"]}), "confusion": pd.DataFrame([[1]])}
        store = open_store(found.catalog, FashionMnistConfig())
        content = reporting.report_content(found, store, {}, None, tables)
        for part in (content.recalls, content.curve, content.hubs, content.confusion):
            assert (part is not None) == enough
        assert content.recalls is None or len(content.recalls) == 50
        assert content.points.method == ("t-SNE" if enough else "PCA")


# ------------------------------------------------------------------------------------------- photos


def test_photos_are_shown_in_their_own_proportions_upright_and_cut_to_their_box(tmp_path: Path):
    root = tmp_path / "photos"
    for item in range(2):
        for view, (width, height) in enumerate([(40, 20), (30, 60)]):
            photo_trees.save(root / f"item {item}" / f"{view}.png", photo_trees.photo(item, view, width, height))
    turned = photo_trees.photo(2, 0, 60, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    (root / "item 2").mkdir()
    turned.save(root / "item 2" / "turned.jpg", exif=exif)
    photo_trees.save(root / "item 2" / "grey.png", photo_trees.photo(2, 1, 16, 8).convert("L"))
    config = FolderConfig(root=str(root), cache=str(tmp_path / "cache"), size=16, channels=1, test_share=0.4)
    catalog = load(config)
    originals = Originals(catalog, open_store(catalog, config))
    rows = np.arange(len(catalog))
    names = originals.names(rows)
    shapes = {name: each.shape for name, each in zip(names, originals.small(rows, 40), strict=True)}
    assert shapes["item 0/0.png"] == (3, 20, 40)
    assert shapes["item 1/1.png"] == (3, 40, 20)
    assert shapes["item 2/turned.jpg"] == (3, 40, 20)
    assert shapes["item 2/grey.png"] == (3, 8, 16)
    proportions = dict(zip(names, originals.proportions(rows).tolist(), strict=True))
    assert proportions == pytest.approx({name: shape[2] / shape[1] for name, shape in shapes.items()})
    gone = names.index("item 0/0.png")
    (root / "item 0" / "0.png").unlink()
    assert originals.small(np.array([gone]), 40)[0].shape == (1, 16, 16)  # what the encoder sees


def test_a_box_is_cut_and_gives_the_proportions(tmp_path: Path):
    photo_trees.save(tmp_path / "a.png", photo_trees.photo(0, 0, 60, 60))
    photo_trees.save(tmp_path / "b.png", photo_trees.photo(0, 1, 60, 60))
    rows = ["image,item,left,top,right,bottom", "a.png,x,10,0,40,60", "b.png,x,,,,"]
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    data = lapel.compose("train", ["data=table", f"data.table={tmp_path / 'list.csv'}", "data.size=16"]).data
    catalog = load(replace(data, cache=str(tmp_path / "cache")))
    originals = Originals(catalog, open_store(catalog, data))
    rows_of = dict(zip(originals.names(np.arange(2)), range(2), strict=True))
    for name, shape in (("a.png", (3, 60, 30)), ("b.png", (3, 60, 60))):
        row = np.array([rows_of[name]])
        assert originals.small(row, 60)[0].shape == shape
        assert originals.proportions(row).tolist() == [shape[2] / shape[1]]


def test_arrays_are_shown_as_they_are():
    catalog = catalogue([0, 0, 1, 1])
    config = FashionMnistConfig(size=28)
    (picture,) = Originals(catalog, open_store(catalog, config)).small(np.array([2]), 160)
    assert catalog.pixels is not None
    np.testing.assert_array_equal(picture[0], catalog.pixels[2])


# ------------------------------------------------------------------------------------------- words


def test_what_an_item_is_is_told():
    found = evaluated([0, 0, 0, 1, 1, 1], unit(6))
    assert "an item is a class, not a product (item 0, item 1): 2 among" in facts.item_in_words(found)
    assert "3 images each" in facts.item_in_words(found)
    for data, words in (
        (FashionProductConfig(), "what the column articleType says"),
        (FashionProductConfig(item=["articleType", "gender"]), "what the columns articleType and gender say together"),
        (FolderConfig(), "a folder of photos"),
    ):
        assert f"an item is {words}" in facts.item_in_words(replace(found, subject=replace(found.subject, data=data)))


def test_the_page_begins_with_what_is_known_of_the_run(trained_run: Path):
    page = (trained_run / "evaluation" / "report.html").read_text()
    summary = read_train_summary(trained_run)
    known = dict(re.findall(r"<div><dt>(\w+)</dt><dd>(.*?)</dd></div>", page))
    assert known["Encoder"] == f"tiny, 16 dimensions, {summary['parameters']:,} parameters"
    assert known["Variant"] == "siam_cat_cos, compared by cosine"
    spent = duration(summary["training_seconds"])
    assert known["Training"].startswith(f"{summary['steps']} steps, 2 epochs, {spent} in training steps on ")
    assert known["Data"] == "wardrobe, test part, seen by the encoder at 16 x 16"
    assert known["Checkpoint"].endswith(f"val/map@r {summary['monitored']:.3f}")
    assert re.search(r"\d{4}, \d\d:\d\d$", known["Evaluated"])


def test_times_and_commits_are_told_as_people_do():
    assert [duration(each) for each in (8.4, 524.4, 7500)] == ["8 s", "8 min 44 s", "2 h 5 min"]
    one, other = "a" * 40, "b" * 40
    assert facts._code(one, one) == "a" * 12
    assert facts._code(f"{one}+", other) == f"trained by {'a' * 12} with changes, evaluated by {'b' * 12}"
    assert facts._code(None, None) == ""


def test_every_score_is_told_in_words(trained_run: Path):
    metrics = json.loads((trained_run / "evaluation" / "metrics.json").read_text())
    assert [name for name, value in metrics.items() if isinstance(value, float) and not told(name).text] == []
    assert told("recall@10").text == "Share of queries with at least one match among the first 10 images."
    assert told("precision@1").text == "Share of matches at the first rank."
    assert "share 0.001 of false ones" in told("tpr@fpr=0.001").text
    assert told("map").title == "MAP"
    assert told("another").text == ""


def test_the_documentation_has_the_same_words():
    page = (ROOT / "docs" / "evaluation.md").read_text()
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    words = {row[1].strip(): row[2].strip() for row in rows}
    for each in SCORES:
        assert words[f"`{each.name}`"] == each.text


# ------------------------------------------------------------------------------------------- another run


@pytest.fixture(scope="module")
def rivals(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and another one whose queries are scored a little otherwise."""
    folder = tmp_path_factory.mktemp("rivals")
    for name in ("mine", "other"):
        shutil.copytree(
            trained_run, folder / name, ignore=shutil.ignore_patterns("tensorboard", "bundle", "val*", "*within*")
        )
    table = pd.read_parquet(folder / "other/evaluation/queries.parquet")
    table["map@r"] = np.clip(table["map@r"] + np.linspace(0.2, 0.4, len(table)), 0, 1)
    table.to_parquet(folder / "other/evaluation/queries.parquet", index=False)
    metrics = json.loads((folder / "other/evaluation/metrics.json").read_text())
    metrics["map@r"] = table["map@r"].to_numpy().mean().item()
    (folder / "other/evaluation/metrics.json").write_text(json.dumps(metrics))
    return folder / "mine", folder / "other"


def test_the_differences_are_those_of_a_paired_bootstrap(rivals: tuple[Path, Path]):
    mine, other = rivals
    before = (mine / "evaluation" / "metrics.json").read_text()
    lapel.evaluate(lapel.compose("evaluate", [f"run={mine}", f"report.against={other}"]))
    assert json.loads((mine / "evaluation" / "metrics.json").read_text()) == json.loads(before)
    tables = [pd.read_parquet(run / "evaluation" / "queries.parquet") for run in (mine, other)]
    values = [each["map@r"].to_numpy() for each in tables]
    items = tables[0]["item"].to_numpy()  # training has seen none of them: they are what was drawn
    low, high, chance = paired_bootstrap(values[1], values[0], 1000, 0.95, 0, items)
    page = re.sub(r"<[^>]*>", " ", (mine / "evaluation" / "report.html").read_text())
    text = " ".join(page.split())
    assert "Beside other" in text
    difference = values[0].mean() - values[1].mean()
    told_of = f"{values[0].mean():.4f} {values[1].mean():.4f} {difference:+.4f} {low:+.4f} to {high:+.4f} {chance:.3f}"
    assert f"map@r {told_of} worse ▼" in text
    assert re.search(r"recall@1 [\d.]+ [\d.]+ \+0\.0000 \+0\.0000 to \+0\.0000 1\.000 equal", text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["report.against={mine}"], "is the run that is scored; name another one"),
        (["report.against={folder}/none"], "no such run folder"),
        (["report.against={other}", "split=val"], r"has no evaluation in .*/evaluation/val; .* split=val makes one"),
        (["report.against={other}", "within=category"], r"within-category; .* within=category makes one"),
    ],
)
def test_a_rival_that_cannot_stand_beside_is_told_before_anything_is_scored(
    rivals: tuple[Path, Path], options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lapel.evaluation.evaluating.open_store", None)
    mine, other = rivals
    given = [each.format(mine=mine, other=other, folder=mine.parent) for each in options]
    with pytest.raises(LapelError, match=message):
        lapel.evaluate(lapel.compose("evaluate", [f"run={mine}", *given]))


def test_a_rival_scored_on_other_images_is_told(rivals: tuple[Path, Path], tmp_path: Path):
    mine, other = rivals
    shutil.copytree(other, tmp_path / "third")
    file = tmp_path / "third" / "evaluation" / "metrics.json"
    metrics = json.loads(file.read_text())
    metrics["protocol"]["images_hash"] = "another"
    file.write_text(json.dumps(metrics))
    with pytest.raises(LapelError, match=r"was scored with images_hash=another, and this is .* side by side"):
        lapel.evaluate(lapel.compose("evaluate", [f"run={mine}", f"report.against={tmp_path / 'third'}"]))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ReportConfig()),
        (["report=true"], ReportConfig()),
        (["report=false"], ReportConfig(make=False)),
        (["report.against=runs/a"], ReportConfig(against="runs/a")),
    ],
)
def test_the_report_is_switched_or_told_more(options: list[str], expected: ReportConfig):
    config = lapel.compose("evaluate", options)
    assert config.report == expected
    assert from_plain(to_plain(config), EvaluateConfig).report == expected
    assert EvaluateConfig(report=expected.make).report.make == expected.make


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["report=false", "report.against=runs/a"], "report.against=runs/a: is not to be said beside report=false"),
        (["report.against=runs/a", "report=false"], "report.against=runs/a: is not to be said beside report=false"),
        (["report.make=false", "report.against=runs/a"], "report.against=runs/a: does nothing without report=true"),
        (["report.agaisnt=runs/a"], r"report\.agaisnt: no such option; .*did you mean against"),
        (["report=5"], "report=5: must be true or false"),
        (["report.against="], "report.against=: must name a run folder"),
    ],
)
def test_mistakes_about_the_report_are_told_in_one_line(options: list[str], message: str):
    with pytest.raises(LapelError, match=message) as error:
        lapel.compose("evaluate", options)
    assert "\n" not in str(error.value)
