"""An evaluation as a whole: protocols against loops, and what its files say."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY

import lapel
from lapel.catalog import Catalog
from lapel.config.evaluation import Checkpoint, EvaluateConfig
from lapel.config.variant import Metric
from lapel.errors import LapelError
from lapel.evaluation.protocols import Embedded, joined, protocol_of
from lapel.evaluation.verification import choose_pairs
from lapel.retrieval import Depth, equal_pairs, score
from lapel.runs.checkpoint import open_run


def catalogue(items: list[int], colours: list[str | None], roles: list[str] | None = None) -> Catalog:
    rows = len(items)
    table = pd.DataFrame({
        "image": range(rows), "item": np.array(items), "category": np.array(items), "split": "test",
        "role": roles or ["both"] * rows, "colour": colours,
    })  # fmt: skip
    names = [f"i{code}" for code in range(max(items) + 1)]
    return Catalog("made", table, names, names, pixels=np.zeros((rows, 8, 8), np.uint8))


@pytest.mark.parametrize("key", ["within", "across"])
@pytest.mark.parametrize("metric", list(Metric))
def test_parts_are_what_a_loop_over_the_queries_compares(key: str, metric: Metric):
    generator = np.random.default_rng(0)
    items = generator.integers(0, 5, 40).tolist()
    colours = [["red", "blue", "green", None][each] for each in generator.integers(0, 4, 40)]
    roles = [["query", "gallery", "both"][each] for each in generator.integers(0, 3, 40)]
    catalog = catalogue(items, colours, roles)
    protocol = protocol_of(catalog, "test", **{"within": None, "across": None, key: "colour"})
    embeddings = torch.nn.functional.normalize(torch.randn(40, 4, generator=torch.Generator().manual_seed(1)), dim=1)
    both = embeddings[protocol.queries], embeddings[protocol.gallery]
    sets = catalog.item_sets[protocol.queries], catalog.item_sets[protocol.gallery]
    embedded = Embedded(*both, *sets, metric)
    found = joined(protocol, ((each, embedded.graded(each, [1, 3], 256, 5)) for each in protocol.comparisons()))
    graded = []
    for place, query in enumerate(protocol.queries):
        colour = colours[query]
        allowed = [
            at for at, row in enumerate(protocol.gallery)
            if None not in (colour, colours[row]) and row != query and (colours[row] == colour) == (key == "within")
        ]  # fmt: skip
        if not any(items[protocol.gallery[at]] == items[query] for at in allowed):
            assert place not in found.queries
            continue
        alone = score(both[0][[place]], both[1][allowed], sets[0][[place]], sets[1][allowed], metric, [1, 3],
                      depth=Depth.all, listed=5)  # fmt: skip
        graded.append(alone.means())
        lists = [allowed[at] if at >= 0 else -1 for at in alone.neighbors.positions[0]]
        assert found.neighbors.positions[place].tolist() == lists
    assert len(graded) == len(found.queries)
    assert found.unmatched == len(protocol.queries) - len(graded)
    for name, grades in found.grades.items():
        np.testing.assert_allclose(grades, [each[name] for each in graded])


@pytest.mark.parametrize("key", ["within", "across"])
@pytest.mark.parametrize("most", [10_000, 60])
def test_pairs_of_a_protocol_are_those_it_compares(key: str, most: int):
    generator = np.random.default_rng(3)
    colours = [["red", "blue", "", None][each % 4] for each in generator.integers(0, 4, 30)]
    catalog = catalogue(generator.integers(0, 4, 30).tolist(), colours)
    protocol = protocol_of(catalog, "test", **{"within": None, "across": None, key: "colour"})
    sets = catalog.item_sets
    pairs = choose_pairs(sets, sets, protocol.exclude, most, 0, protocol.compared)
    chosen = set(zip(pairs.queries.tolist(), pairs.gallery.tolist(), strict=True))
    expected = {
        (one, other) for one in range(30) for other in range(30)
        if one != other and colours[one] and colours[other] and (colours[one] == colours[other]) == (key == "within")
    }  # fmt: skip
    assert chosen == expected if most > 900 else chosen < expected
    assert chosen


def test_graded_lists_of_a_part_are_those_of_the_part_alone(trained_run: Path):
    options = ["graded=[item:2]", "split=train", "report=false", "bootstrap.samples=0"]
    folder = trained_run / "evaluation"
    parts = lapel.evaluate(lapel.compose("evaluate", [f"run={trained_run}", "within=category", *options]))
    whole = lapel.evaluate(lapel.compose("evaluate", [f"run={trained_run}", *options]))
    # Of one category are all matches of an item: with fewer others in between, lists are at least as good.
    assert 0 < whole["ndcg@10"] <= parts["ndcg@10"] <= 1
    assert parts["auc"] != whole["auc"]
    for name in ("train", "train-within-category"):
        shutil.rmtree(folder / name)


def test_a_column_that_is_not_there_or_leaves_nothing_is_told():
    catalog = catalogue([0, 0, 1, 1], ["red"] * 4)
    with pytest.raises(LapelError, match="within=size: the catalogue has no such column; it has image, item"):
        protocol_of(catalog, "test", "size", None)
    with pytest.raises(LapelError, match="across=colour: leaves no query anything to search in"):
        protocol_of(catalog, "test", None, "colour")


def test_the_whole_gallery_is_one_part():
    catalog = catalogue([0, 0, 1, 1], ["red"] * 4)
    protocol = protocol_of(catalog, "test", None, None)
    np.testing.assert_array_equal(protocol.exclude, equal_pairs(np.arange(4), np.arange(4)))
    assert [part.tolist() for part in protocol.parts[0]] == [[0, 1, 2, 3], [0, 1, 2, 3]]


def test_metrics_tables_and_card_agree(trained_run: Path):
    folder = trained_run / "evaluation"
    metrics = json.loads((folder / "metrics.json").read_text())
    card = metrics["protocol"]
    items = pd.read_csv(folder / "items.csv")
    assert items["queries"].sum() == card["queries"]
    for name in ("recall@1", "map@r", "map", "mrr"):
        assert (items[name] * items["queries"]).sum() / card["queries"] == pytest.approx(metrics[name])
        low, high = metrics["intervals"][name]
        assert low <= metrics[name] <= high
    confusion = pd.read_csv(folder / "confusion.csv", index_col=0)
    total = confusion.to_numpy().sum()
    assert total == card["queries"] + card["queries_without_match"]
    assert np.trace(confusion.to_numpy()) / total == pytest.approx(metrics["category_accuracy@5"])
    assert card["items_seen_in_training"] is False  # the wardrobe's test garments are new
    assert "resamples of items" in card["intervals"]
    assert 0 <= metrics["eer"] <= 0.5 <= metrics["auc"] <= 1


def test_the_classifier_is_the_one_that_was_trained(working_folder: Path):
    folder = working_folder / "run"
    for options in ([], ["optim.ema=0.5"]):
        shutil.rmtree(folder, ignore_errors=True)
        lapel.train(lapel.compose("train", [*TINY, *options]), folder)
        result = lapel.evaluate(EvaluateConfig(run=str(folder), report=False))
        run = open_run(str(folder), Checkpoint.best)
        catalog, encoder = run.load_catalog(), run.encoder()
        state = torch.load(run.path, weights_only=True)["state_dict"]
        prefix = "averaged.means.module.losses.category." if options else "objectives.category.loss."
        weight, bias = (state[f"{prefix}classifier.{name}"] for name in ("weight", "bias"))
        rows = catalog.queries("test")
        assert catalog.pixels is not None
        images = torch.from_numpy(np.ascontiguousarray(catalog.pixels[catalog.table["image"].to_numpy()[rows]]))
        with torch.inference_mode():
            raw = encoder.unfinished(images[:, None] if images.dim() == 3 else images.permute(0, 3, 1, 2))
            chosen = (raw @ weight.T + bias).argmax(1).numpy()
        expected = (chosen == catalog.categories[rows]).mean()
        assert result["classifier_accuracy"] == pytest.approx(expected, abs=1.5 / len(rows))


def test_a_run_is_scored_on_other_data(trained_run: Path):
    copy = trained_run
    options = ["data=wardrobe", "data.drawing_seed=5", "data.items=30", "data.views=4", "bootstrap.samples=0"]
    result = lapel.evaluate(lapel.compose("evaluate", [f"run={copy}", "report=false", *options]))
    card = result["protocol"]
    assert (card["trained_on"], card["items_seen_in_training"]) == ("wardrobe", None)  # False would be a guess
    assert card["queries_seen_in_training"] == 0
    assert card["split_hash"] != json.loads((copy / "evaluation/metrics.json").read_text())["protocol"]["split_hash"]
    assert result["intervals"] == {}
    assert "classifier_accuracy" not in result
    folder = next((copy / "evaluation").glob("on-wardrobe-*"))
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(result))
    shutil.rmtree(folder)


def test_scores_of_training_images_say_so(trained_run: Path):
    result = lapel.evaluate(
        lapel.compose("evaluate", [f"run={trained_run}", "split=train", "report=false", "graded=[category:2]"])
    )
    assert result["protocol"]["queries_seen_in_training"] == result["protocol"]["queries"]
    assert 0 < result["ndcg@10"] <= 1
    shutil.rmtree(trained_run / "evaluation" / "train")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["within=colour", "across=colour"], "within and across"),
        (["graded=[category:0]"], "graded=[category:0]: must be column:gain with a gain above 0"),
        (["graded=[category]"], "must be column:gain"),
        (["graded=[item:1,item:5]"], "graded: item is named twice"),
        (["graded=[size:1]"], "graded.size: the catalogue has no such column"),
        (["bootstrap.confidence=1"], "bootstrap.confidence=1"),
        (["bootstrap.sample=1"], "did you mean samples"),
        (["bootstrap.samples=1"], "samples=1: must be at least 2, or 0 for no intervals"),
        (["vote=0"], "vote=0"),
        (["k=[0]"], "k=[0]"),
        (["bundle=runs/b"], "bundle and run: one of them alone is scored"),
        (["encoder=tiny", "data=wardrobe"], "encoder and run: one of them alone is scored"),
        (["neighbors_k=10"], "neighbors_k=10: does nothing without neighbors=true"),
        (["post.alpha=9"], "alpha=9.0: does nothing without post.expand_queries=N"),
        (["post.rerank_k2=9"], "rerank_k2=9: does nothing without post.rerank=true"),
    ],
)
def test_what_cannot_be_scored_is_told(options: list[str], told: str, trained_run: Path):
    before = sorted(str(each) for each in trained_run.rglob("*"))
    with pytest.raises(LapelError) as error:
        lapel.evaluate(lapel.compose("evaluate", [f"run={trained_run}", *options]))
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(str(each) for each in trained_run.rglob("*")) == before
