"""The report: complete, correct, safe against names, and of bounded size."""

import base64
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import lapel
from lapel.files.writing import together
from lapel.report import (
    REPORT_FILE,
    Content,
    Difference,
    Hub,
    Hubs,
    MapPoints,
    Missed,
    Picture,
    Queries,
    Query,
    Rival,
    occurrences,
    project,
    thumbnails,
    write_report,
)
from lapel.report.drawings import CELLS, OTHERS, largest
from lapel.report.hubs import Occurrences
from lapel.report.page import card_lines, decimals_of, file_name, render
from lapel.report.pictures import SHEET, THUMB_SIDE, sheets

HOSTILE = '</script><script>alert("1")</script>" onerror=\'x\' <!-- ]]> & $x^2$ ñ'


def pixels_of(seed: int, channels: int = 1, height: int = 12, width: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (channels, height, width)).astype(np.uint8)


def points_of(count: int, names: list[str], channels: int = 1) -> MapPoints:
    generator = np.random.default_rng(0)
    pixels = np.stack([pixels_of(number, channels) for number in range(count)])
    groups = generator.integers(0, len(names), count)
    places = generator.standard_normal((count, 2)).astype(np.float32)
    captions = [names[group] for group in groups]
    return MapPoints(places, groups, names, captions, pixels, np.full(count, 0.75), "PCA", count + 5)


def content_of(names: list[str], channels: int = 1) -> Content:
    """A small report's content, of made-up numbers."""
    generator = np.random.default_rng(1)
    card = {
        "data": names[0], "split": "test", "queries": 40, "gallery": 41, "queries_without_match": 2,
        "queries_seen_in_training": 0, "queries_seen_in_validation": 0,
        "items_seen_in_training": True, "metric": "cosine", "intervals": "95% by 10 resamples of queries",
        "step": 12000, "graded": {}, "checkpoint": None,
    }  # fmt: skip
    result = {
        "recall@1": 0.8125, "map@r": 0.6251, "auc": 0.9, "intervals": {"recall@1": [0.7111, 0.9222]}, "protocol": card,
    }  # fmt: skip
    picture = Picture(pixels_of(3, channels), names[0], "folder/IMG_1.jpg")
    found = [replace(picture, similarity=0.91234, right=True), replace(picture, similarity=0.81234, right=False)]
    missed = [Missed(replace(picture, similarity=0.70711, right=True), 1025)]
    queries = [Query(picture, 0.25, 1234, found, missed)]
    table = pd.DataFrame({"name": names, "queries": 4, "map@r": 0.5})
    counts = generator.integers(0, 9, (len(names), len(names)))
    return Content(
        title=names[0],
        facts=[("Encoder", "tiny, 64 dimensions")],
        item=f"Here an item is a class ({names[0]}).",
        result=result,
        recalls=np.linspace(0.8, 1, 50),
        curve=np.linspace(1, 0.2, 101),
        similarities=generator.uniform(-1, 1, 500).astype(np.float32),
        alike=generator.random(500) < 0.5,
        categories=table,
        confusion=pd.DataFrame(counts, names, names),
        shown=[Queries("Worst queries", "By MAP@R.", queries), Queries("Best queries", "By MAP@R.", queries)],
        hubs=Hubs(occurrences(generator.integers(0, 41, (40, 10)), 41, 10), [Hub(picture, 7, 3)]),
        points=points_of(60, names, channels),
        history=[
            {"epoch": 1.0, "loss": 0.9, "recall@1": 0.5, "map@r": 0.4},
            {"epoch": 2.0, "loss": 0.4, "recall@1": 0.6, "map@r": 0.5},
        ],
        rival=None,
        config=f"name: {names[0]}\n",
    )


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.data = ""
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " "
        self.inside = "data" if dict(attrs).get("id") == "data" else tag

    def handle_endtag(self, tag: str) -> None:
        del tag
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "data":
            self.data += data
        elif self.inside not in ("script", "style"):
            self.text += data


def report_in(content: Content, folder: Path) -> Path:
    with together(folder, REPORT_FILE) as staged:
        write_report(content, staged)
    return folder / REPORT_FILE


def written(content: Content, folder: Path) -> Page:
    return Page(report_in(content, folder).read_text(encoding="utf-8"))


def test_names_are_text_wherever_they_stand(tmp_path: Path):
    plain, hostile = (written(content_of([name, "coat"]), tmp_path / name[:1]) for name in ("shirt", HOSTILE))
    drawn = {"use", "path", "g", "defs"}  # letters
    tags = [[tag for tag, _ in page.tags if tag not in drawn] for page in (plain, hostile)]
    assert tags[0] == tags[1]
    assert not any(key.startswith("on") for _, attributes in hostile.tags for key in attributes)
    assert HOSTILE in hostile.text
    assert json.loads(hostile.data)["captions"][0] in (HOSTILE, "coat")


def test_the_page_asks_for_nothing(tmp_path: Path):
    page = written(content_of(["shirt", "coat"]), tmp_path)
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for key in ("src", "href", "srcset", "action", "data", "xlink:href"):
            value = attributes.get(key)
            assert value is None or value.startswith(("data:", "#")), (tag, key, value)
    text = (tmp_path / "report.html").read_text()
    assert not re.search(r"@import|url\((?!#|\$\{data)|fetch\(|XMLHttpRequest|WebSocket|sendBeacon", text)
    assert "default-src 'none'" in text


def test_every_number_is_the_one_of_metrics_json(trained_run: Path):
    folder = trained_run / "evaluation"
    page, metrics = Page((folder / "report.html").read_text()), json.loads((folder / "metrics.json").read_text())
    for name, value in metrics.items():
        if isinstance(value, float):
            assert re.search(rf"{re.escape(name)}\s+{value:.4f}", page.text), name
    for low, high in metrics["intervals"].values():
        assert f"{low:.4f} to {high:.4f}" in page.text
    card = metrics["protocol"]
    assert f"{card['queries']:,} queries of the test part of wardrobe" in " ".join(page.text.split())
    assert card["split_hash"] in page.text
    assert "Training has seen none of these items" in page.text
    assert "widths:" in page.text  # the config
    names = {path.stem for path in (folder / "figures").iterdir()}
    assert names == {"categories", "map", "training"}  # of so few queries no curve, no hub, no vote
    assert f"Only {card['queries']} queries are too few to tell" in page.text
    for path in (folder / "figures").iterdir():
        assert min(Image.open(path).size) > 300


def test_scores_of_training_images_are_told_in_red(trained_run: Path):
    result = lapel.evaluate(lapel.compose("evaluate", [f"run={trained_run}", "split=train", "bootstrap.samples=0"]))
    folder = trained_run / "evaluation" / "train"
    page = Page((folder / "report.html").read_text())
    assert result["protocol"]["queries_seen_in_training"] > 0
    assert ("p", {"class": "banner danger", "role": "alert"}) in page.tags
    assert "These are images that the model was trained on" in page.text
    ordinary = Page((trained_run / "evaluation" / "report.html").read_text())
    assert "banner danger" not in [attributes.get("class") for _, attributes in ordinary.tags]


def test_no_report_where_none_is_wanted(trained_run: Path):
    lapel.evaluate(lapel.compose("evaluate", [f"run={trained_run}", "split=val", "report=false"]))
    assert (trained_run / "evaluation" / "val" / "metrics.json").is_file()
    assert not (trained_run / "evaluation" / "val" / "report.html").exists()


def test_the_same_content_gives_the_same_bytes(tmp_path: Path):
    content = content_of(["shirt", "coat", "bag"], channels=3)
    pages = [report_in(content, tmp_path / name).read_bytes() for name in ("a", "b")]
    assert pages[0] == pages[1]
    expected = {"recall", "precision_recall", "distances", "hubs", "categories", "confusion", "map", "training"}
    assert {path.stem for path in (tmp_path / "a" / "figures").iterdir()} == expected


CHANGES: dict[str, Callable[[Content], Content]] = {
    "no pairs": lambda content: replace(content, similarities=None, alike=None),
    "no curve": lambda content: replace(content, curve=None),
    "no training": lambda content: replace(content, history=[]),
    "no losses": lambda content: replace(content, history=[{"epoch": 1.0, "recall@1": 0.5, "map@r": 0.4}]),
    "no intervals": lambda content: replace(content, result={**content.result, "intervals": {}}),
    "one point": lambda content: replace(content, points=points_of(1, ["shirt"])),
    "no hubs": lambda content: replace(content, hubs=Hubs(Occurrences(np.zeros(5, np.int64), 10, 0.0, 1.0, 0.0), [])),
    "no hub section": lambda content: replace(content, hubs=None),
    "no recalls": lambda content: replace(content, recalls=None),
    "distances": lambda content: replace(
        content, result={**content.result, "protocol": {**content.result["protocol"], "metric": "euclidean"}}
    ),
    "unknown training": lambda content: replace(
        content, result={**content.result, "protocol": {**content.result["protocol"], "items_seen_in_training": None}}
    ),
}


@pytest.mark.parametrize(
    ("trained", "validated", "items", "told", "kinds"),
    [
        (42, 0, True, "These are images that the model was trained on", ["danger"]),
        (5, 0, True, "5 of the 42 images searched with are images that the model was trained on", ["danger", "calm"]),
        (0, 42, True, "By 42 of the 42 images searched with the checkpoint was chosen", ["", "calm"]),
        (0, 0, False, "Training has seen none of these items", ["calm"]),
        (0, 0, None, "It is not known whether training has seen images of these items", [""]),
        (None, None, None, "It is not known whether training has seen these images, or others", [""]),
    ],
)
def test_what_training_has_seen_is_told(
    trained: int | None, validated: int | None, items: bool | None, told: str, kinds: list[str], tmp_path: Path
):
    content = content_of(["shirt", "coat"])
    known = {
        "queries_seen_in_training": trained, "queries_seen_in_validation": validated, "items_seen_in_training": items,
    }  # fmt: skip
    card = {**content.result["protocol"], **known}
    page = written(replace(content, result={**content.result, "protocol": card}), tmp_path)
    assert told in page.text
    banners = [attributes["class"] for tag, attributes in page.tags if "banner" in (attributes.get("class") or "")]
    assert banners == [f"banner {kind}".strip() for kind in kinds]


@pytest.mark.parametrize("change", CHANGES)
def test_a_report_of_less(change: str, tmp_path: Path):
    page = written(CHANGES[change](content_of(["shirt", "coat"])), tmp_path)
    assert "0.8125" in page.text
    figures = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert ("distances" in figures) == (change != "no pairs")
    assert ("training" in figures) == (change != "no training")
    assert ("recall" in figures) == (change != "no recalls")
    assert ("hubs" in figures) == (change != "no hub section")
    anchors = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert {f"#{attributes['id']}" for _, attributes in page.tags if attributes.get("id")} >= anchors
    assert ("#hubs" in anchors) == (change != "no hub section")
    assert ("It is not known" in page.text) == (change == "unknown training")


@pytest.mark.parametrize("count", [1, 16, 70])
def test_any_number_of_categories(count: int, tmp_path: Path):
    page = written(content_of([f"category {number}" for number in range(count)]), tmp_path)
    assert ("Confusion matrix" in page.text) == (count > 1)
    assert (f"the other {count - 30}, which are in confusion.csv" in page.text) == (count > 30)


RIVAL = Rival(
    "runs-of-yesterday",
    "95% by a paired bootstrap of 10 resamples of queries",
    [
        Difference("recall@1", 0.8125, 0.75, (0.01, 0.11), 0.004),
        Difference("map@r", 0.6251, 0.63, (-0.02, 0.01), 0.5),
        Difference("auc", 0.9, 0.95),
    ],
    [
        Difference("shirt", 0.5, 0.75, (-0.3, -0.2), 0.01, queries=30),
        Difference("coat", 0.5, 0.5, None, None, queries=3),
    ],
    10,
)


def test_another_run_stands_beside_this_one(tmp_path: Path):
    text = re.sub(r"\s+", " ", written(replace(content_of(["shirt", "coat"]), rival=RIVAL), tmp_path).text)
    assert "Beside runs-of-yesterday" in text
    assert "recall@1 0.8125 0.7500 +0.0625 +0.0100 to +0.1100 0.004 better ▲ Share of queries with a" in text
    assert "map@r 0.6251 0.6300 -0.0049 -0.0200 to +0.0100 0.500 perhaps chance" in text
    assert "auc 0.9000 0.9500 -0.0500 Area under" in text
    assert "shirt 30 0.5000 0.7500 -0.2500 -0.3000 to -0.2000 worse ▼" in text
    assert "coat 3 0.5000 0.5000 +0.0000" in text
    assert "By category MAP@R of the queries of each category" in text
    assert "no interval is drawn, since chance alone could make any difference. category" in text


def test_columns_that_would_be_empty_are_left_out_and_it_is_said_why():
    content = content_of(["shirt", "coat"])

    def text_with(rival: Rival) -> str:
        return re.sub(r"\s+", " ", Page(render(replace(content, rival=rival), {})).text)

    categories = [replace(each, ends=None, chance=None) for each in RIVAL.categories]
    text = text_with(replace(RIVAL, categories=categories))
    assert "Of fewer than 10 queries no interval is drawn" in text
    assert "and no category here has as many. category queries this run the other difference shirt" in text
    assert "difference interval p verdict what it says recall@1" in text
    scores = [replace(each, ends=None, chance=None) for each in RIVAL.scores]
    text = text_with(replace(RIVAL, told=None, scores=scores, categories=categories))
    assert "score this run the other difference what it says recall@1 0.8125 0.7500 +0.0625 Share" in text
    assert "no interval is drawn" not in text


def test_a_picture_says_its_file_how_similar_it_is_and_what_it_kept_out(tmp_path: Path):
    page = written(content_of(["shirt", "coat"]), tmp_path)
    text = " ".join(page.text.split())
    assert "✓ shirt IMG_1.jpg 0.912" in text
    assert "✗ shirt IMG_1.jpg 0.812" in text
    assert "missed #1,025 shirt IMG_1.jpg 0.707" in text
    alternatives = [attributes.get("alt") for tag, attributes in page.tags if tag == "img"]
    assert alternatives[:4] == [
        "query: shirt",
        "rank 1, the same item: shirt",
        "rank 2, another item: shirt",
        "missed match, rank 1,025: shirt",
    ]


def test_similarities_have_the_decimals_that_tell_them_apart():
    picture = Picture(pixels_of(0), "shirt", "row 1")

    def list_of(*values: float) -> Query:
        return Query(picture, 1.0, 3, [replace(picture, similarity=value, right=True) for value in values], [])

    assert decimals_of(list_of(0.5, 0.4)) == 3
    assert decimals_of(list_of(0.99991, 0.99992)) == 5
    assert decimals_of(list_of(0.999900001, 0.999900002)) == 6
    assert decimals_of(list_of(0.25, 0.25)) == 3


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("a/b.jpg", "b.jpg"),
        ("row 5", "row 5"),
        ("x/" + "a" * 30 + "b" * 30 + "_017.jpg", "a" * 18 + "…" + "b" * 9 + "_017.jpg"),
    ],
)
def test_long_file_names_keep_their_ends(path: str, told: str):
    assert file_name(path) == told


def test_before_and_after_and_the_index_are_shown(tmp_path: Path):
    content = content_of(["shirt", "coat"])
    content.result["before"] = {"recall@1": 0.75}
    content.result["approximation"] = {"recall@1": 0.0125}
    text = re.sub(r"\s+", " ", written(content, tmp_path).text)
    assert "recall@1 0.7500 0.8125 +0.0625" in text
    assert "recall@1 0.8125 0.8250 +0.0125" in text


@pytest.mark.slow
def test_a_large_report_stays_small(tmp_path: Path):
    shown = shown_of_noise(6000, tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 4e6
    assert 500 < shown < 6000


def test_points_without_room_for_a_picture_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lapel.report.page.MOST_PICTURES", 400_000)
    assert shown_of_noise(600, tmp_path) in (256, 512)
    assert (tmp_path / "report.html").stat().st_size < 1e6


def shown_of_noise(count: int, folder: Path) -> int:
    """Points that are shown where no picture can be made small."""
    noise = np.random.default_rng(0).integers(0, 256, (count, 3, THUMB_SIDE, THUMB_SIDE)).astype(np.uint8)
    points = replace(points_of(count, ["shirt", "coat"]), pixels=noise)
    page = written(replace(content_of(["shirt", "coat"]), points=points), folder)
    shown = len(json.loads(page.data)["groups"])
    assert f"{shown:,} of {count + 5:,} images" in page.text
    return shown


def test_sheets_hold_each_picture_in_its_place():
    shades = np.arange(300) % 200 + 20
    pixels = np.broadcast_to(shades[:, None, None, None], (300, 1, 10, 6)).astype(np.uint8)
    found = sheets(pixels, 10**6)
    assert (found.pictures, len(found.addresses)) == (300, 2)
    for number in (0, 17, 255, 256, 299):
        found_address = found.addresses[number // SHEET**2]
        sheet = Image.open(io.BytesIO(base64.b64decode(found_address.partition(",")[2]))).convert("L")
        place = number % SHEET**2
        x, y = place % SHEET * 6 + 3, place // SHEET * 10 + 5
        assert abs(sheet.getpixel((x, y)) - shades[number]) < 12


def test_thumbnails_keep_their_shape():
    parts = [np.zeros((3, 3, 200, 100), np.uint8), np.full((2, 3, 200, 100), 9, np.uint8)]
    small = thumbnails(parts)
    assert small.shape == (5, 3, THUMB_SIDE, THUMB_SIDE // 2)
    assert small[4].max() == 9
    tiny = np.zeros((2, 1, 5, 5), np.uint8)
    assert thumbnails([tiny]).shape == tiny.shape


@pytest.mark.parametrize("count", [2, CELLS, CELLS + 7])
def test_the_confusion_of_the_largest_categories_leaves_nothing_out(count: int):
    """What is taken for a category that is not drawn stands in a last column, even where a category is called so."""
    names = [*(f"c{number}" for number in range(count - 1)), OTHERS]
    counts = np.random.default_rng(0).integers(0, 50, (count, count))
    counts[0] = 0
    whole = pd.DataFrame(counts, names, names)
    table = largest(whole)
    assert len(table) == min(count, CELLS)
    assert table.sum(axis=1).tolist() == whole.sum(axis=1)[table.index].tolist()
    assert table.iloc[:, : len(table)].equals(whole.loc[table.index, table.index])
    others = whole.sum(axis=1).drop(table.index)
    assert others.empty or others.max() <= table.sum(axis=1).min()


def test_hubs_are_counted_as_by_hand():
    lists = np.array([[0, 1, -1], [0, 2, 1], [0, -1, -1], [3, 0, 1]])
    found = occurrences(lists, 6, 2)
    assert found.counts.tolist() == [4, 1, 1, 1, 0, 0]
    assert found.never == pytest.approx(2 / 6)
    assert found.busiest == pytest.approx(4 / 7)
    centred = found.counts - found.counts.mean()
    assert found.skewness == pytest.approx((centred**3).mean() / (centred**2).mean() ** 1.5)
    assert occurrences(np.array([[0], [1]]), 2, 1).skewness == 0


def clusters_of(count: int, dimensions: int = 8) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    groups = np.arange(count) % 3
    centres = 10 * generator.standard_normal((3, dimensions))
    return (centres[groups] + generator.standard_normal((count, dimensions))).astype(np.float32), groups


def test_the_map_keeps_neighbours_together_and_is_the_same_each_time():
    embeddings, groups = clusters_of(60)
    places, method = project(embeddings)
    assert method == "t-SNE"
    assert places.dtype == np.float32
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + 1e9 * np.eye(60)
    assert (groups[distances.argmin(1)] == groups).all()
    assert np.array_equal(places, project(embeddings)[0])


def test_a_map_of_few_images_is_the_plane_of_largest_variance():
    generator = np.random.default_rng(0)
    embeddings = (generator.standard_normal((11, 5)) * [5, 0.1, 2, 0.1, 0.1]).astype(np.float32)
    places, method = project(embeddings)
    assert method == "PCA"
    centred = embeddings - embeddings.mean(0)
    _, spread, directions = np.linalg.svd(centred, full_matrices=False)
    assert np.abs(places) == pytest.approx(np.abs(centred @ directions[:2].T), abs=1e-4)
    assert np.linalg.norm(places, axis=0) == pytest.approx(spread[:2], rel=1e-4)


ALIKE = [np.ones((90, 8)), np.ones((1, 5)), np.ones((7, 1)), np.eye(90, 1), np.eye(2, 9)]


@pytest.mark.parametrize("embeddings", ALIKE)
def test_a_map_of_embeddings_that_hardly_differ_is_one_all_the_same(embeddings: np.ndarray):
    places, method = project(embeddings.astype(np.float32))
    assert method == "PCA"
    assert places.shape == (len(embeddings), 2)
    assert np.isfinite(places).all()


def test_the_card_is_told_in_words():
    lines = dict(
        card_lines({"queries": 12345, "step": 12345, "items_seen_in_training": None, "other_thing": [1, True]})
    )
    assert lines == {
        "Queries": "12,345",
        "Step": "12345",
        "Items seen in training": "not known",
        "Other thing": "1, yes",
    }
