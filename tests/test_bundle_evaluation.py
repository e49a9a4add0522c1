"""A bundle's evaluation: its index's lists against loops, what they cost, and bundles whose parts do not fit."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY

import lapel
from lapel.bundle.bundle import load
from lapel.bundle.index import MEASURES, flat_index, search_index, write_index
from lapel.catalog import SAME_PIXELS, Catalog
from lapel.commands import evaluate as evaluate_command
from lapel.config.data import Rows
from lapel.config.evaluation import Checkpoint
from lapel.config.export import ExportConfig, ExportOptions
from lapel.config.variant import Metric
from lapel.errors import LapelError
from lapel.evaluation.deployed import DeployedIndex
from lapel.evaluation.protocols import protocol_of
from lapel.evaluation.reporting import LISTED
from lapel.images.store import open_store
from lapel.retrieval import Scores, search
from lapel.runs.checkpoint import open_run


@pytest.fixture(scope="module")
def euclidean_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the other metric, exported."""
    folder = tmp_path_factory.mktemp("siam") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        lapel.train(lapel.compose("train", [*TINY, "variant=siam", "trainer.max_epochs=1"]), folder)
        lapel.export(ExportConfig(run=str(folder)))
    return folder


@pytest.fixture
def bundle(trained_run: Path, working_folder: Path) -> Path:
    """A bundle of its own, outside of any run."""
    return Path(shutil.copytree(trained_run / "bundle", working_folder / "shop"))


def evaluated(folder: Path, *options: str) -> dict[str, Any]:
    return lapel.evaluate(
        lapel.compose("evaluate", [f"bundle={folder}", "bootstrap.samples=0", "report=false", *options])
    )


def hashed_again(folder: Path) -> None:
    """Make a bundle whose files were changed one that loads."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in manifest["files"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def vectors_of(folder: Path) -> np.ndarray:
    index = load(folder).index
    return np.asarray(index.reconstruct_n(0, index.ntotal))  # a tensor, once FAISS's helpers for torch are imported


def ivf(vectors: np.ndarray, metric: Metric, cells: int = 4) -> Any:
    """An index that looks into one cell of several."""
    index: Any = faiss.index_factory(vectors.shape[1], f"IVF{cells},Flat", MEASURES[metric])
    index.cp.min_points_per_centroid = 1
    index.train(vectors)
    index.add(vectors)
    return index


def contents(folder: Path) -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


# ----------------------------------------------------------------------------------------------- scores


def graded_by_loop(lists: list[list[bool]], relevant: list[int], k: list[int], depth: int) -> dict[str, float]:
    """Means over queries with a match, of whole rankings, cut at `depth`."""
    found: dict[str, list[float]] = {}
    for hits, matches in zip(lists, relevant, strict=True):
        if not matches:
            continue
        ranks = [rank for rank, hit in enumerate(hits[:depth], 1) if hit]
        upper = [rank for rank in ranks if rank <= matches]
        one = {f"recall@{each}": float(any(rank <= each for rank in ranks)) for each in k}
        one |= {f"precision@{each}": sum(rank <= each for rank in ranks) / each for each in k}
        one["r_precision"] = len(upper) / matches
        one["map@r"] = sum(number / rank for number, rank in enumerate(upper, 1)) / matches
        one["mrr"] = 1 / ranks[0] if ranks else 0.0
        for name, value in one.items():
            found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


@pytest.mark.parametrize("run", ["trained_run", "euclidean_run"])
def test_an_approximate_index_costs_what_a_loop_finds(run: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run_folder = request.getfixturevalue(run)
    folder = Path(shutil.copytree(run_folder / "bundle", tmp_path / "bundle"))
    metric = load(folder).metric
    index = ivf(vectors_of(folder), metric)
    write_index(index, folder / "index.faiss")
    hashed_again(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        result = evaluated(folder, "k=[1,3]")
    trained = open_run(str(run_folder), Checkpoint.best)
    catalog = trained.load_catalog()
    store = open_store(catalog, trained.config.data)
    queries, gallery = catalog.queries("test"), catalog.gallery("test")
    embeddings = load(folder).embed(store.gather(queries)).astype(np.float64)
    vectors = vectors_of(run_folder / "bundle").astype(np.float64)
    by_index, by_all, shared = [], [], []
    for row, query in zip(embeddings, queries, strict=True):
        found = search_index(index, row[None].astype(np.float32), len(gallery), metric).positions[0]
        score = vectors @ row if metric is Metric.cosine else -np.linalg.norm(vectors - row, axis=1)
        exact = np.argsort(-score, kind="stable")
        same = catalog.items[gallery] == catalog.items[query]
        by_index.append([bool(same[place]) for place in found if place >= 0])
        by_all.append([bool(same[place]) for place in exact])
        shared.append(len(set(exact[:10]) & set(found[:10])) / 10)
    relevant = [sum(hits) for hits in by_all]
    depth = max(LISTED, *relevant)
    expected, exact = (graded_by_loop(lists, relevant, [1, 3], depth) for lists in (by_index, by_all))
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=1e-9), name
        assert result["approximation"][name] == pytest.approx(exact[name] - value, abs=1e-9), name
    assert set(result["approximation"]) == set(expected)
    assert result["overlap@10"] == pytest.approx(np.mean(shared))
    assert result["overlap@10"] < 0.9
    assert result["protocol"]["search"] == "index.faiss (IndexIVFFlat)"
    assert result["protocol"]["search_settings"] == {"nprobe": 1}


@pytest.mark.parametrize("run", ["trained_run", "euclidean_run"])
def test_a_flat_index_costs_nothing_and_scores_as_the_run(run: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(run)
    before = contents(folder / "bundle")
    options = ["bootstrap.samples=0", "within=category"]
    by_run = lapel.evaluate(lapel.compose("evaluate", [f"run={folder}", "report=false", *options]))
    result = evaluated(folder / "bundle", "within=category")
    near_ties = 1.5 / result["protocol"]["queries"]
    for name, cost in result["approximation"].items():
        assert abs(cost) <= near_ties
        if name != "mrr":  # of the run: however far down
            assert result[name] == pytest.approx(by_run[name], abs=near_ties)
    for name in ("auc", "category_accuracy@5"):
        assert result[name] == pytest.approx(by_run[name], abs=near_ties)
    assert "map" not in result
    assert result["overlap@10"] > 0.99
    written = json.loads((folder / "evaluation" / "bundle-within-category" / "metrics.json").read_text())
    assert written == json.loads(json.dumps(result))
    card, other = result["protocol"], by_run["protocol"]
    assert all(card[key] == other[key] for key in other)
    assert (card["search"], card["index_rows_passed_over"]) == ("index.faiss (IndexFlat" + (
        "IP)" if card["normalized"] else "L2)"), 0)  # fmt: skip
    assert card["bundle_sha256"] == load(folder / "bundle").manifest["files"]
    assert contents(folder / "bundle") == before
    shutil.rmtree(folder / "evaluation" / "bundle-within-category")


def test_rows_that_are_not_in_the_gallery_are_passed_over(trained_run: Path, working_folder: Path) -> None:
    copy = Path(shutil.copytree(trained_run, working_folder / "copy"))
    small = evaluated(copy / "bundle")
    lapel.export(ExportConfig(run=str(copy), export=ExportOptions(rows=Rows.all)))
    large = evaluated(copy / "bundle")
    assert large["approximation"] == pytest.approx(small["approximation"], abs=1e-9)
    assert all(large[name] == pytest.approx(small[name]) for name in ("recall@1", "map@r", "mrr", "overlap@10"))
    card = large["protocol"]
    assert card["index_rows"] == 200
    assert card["index_rows_passed_over"] == 200 - card["gallery"]
    evaluated(copy / "bundle", "split=val")  # whose gallery is there, too
    assert (copy / "evaluation" / "bundle-val" / "metrics.json").is_file()


def test_a_bundle_outside_of_a_run_gets_a_folder_below_runs(bundle: Path) -> None:
    before = contents(bundle)
    result = evaluated(bundle)
    (folder,) = Path("runs").iterdir()
    assert json.loads((folder / "evaluation/bundle/metrics.json").read_text()) == json.loads(json.dumps(result))
    assert "-bundle-" in folder.name
    assert contents(bundle) == before


@pytest.mark.parametrize(
    ("known", "kind", "name", "warns"),
    [
        (0.75, "flat", "recall@1", False),
        (0.7505, "flat", "recall@1", False),
        (0.76, "flat", "recall@1", True),
        (0.74, "flat", "recall@1", True),
        (0.76, "ivf", "recall@1", False),
        (0.76, "flat", "recall@5", False),
        (None, "flat", "recall@1", False),
    ],
)
def test_another_recall_than_at_export_is_warned_of(
    known: float | None, kind: str, name: str, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    vectors = np.eye(8, dtype=np.float32)
    index = flat_index(vectors, Metric.cosine) if kind == "flat" else ivf(vectors, Metric.cosine)
    lists = search(torch.from_numpy(vectors[:4]), torch.from_numpy(vectors), 1, Metric.cosine)
    scores = Scores(np.arange(4), {name: np.array([1.0, 1.0, 1.0, 0.0])}, np.ones(4, np.int64), lists, None)
    DeployedIndex(Path("index.faiss"), index, Metric.cosine, np.arange(8), known).warn_of_change(scores)
    assert ("index.faiss: recall@1 is 0.7500, and was" in caplog.text) == warns


def test_recall_at_export_is_that_of_the_same_queries(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["scores"] = {"recall@1": 2.0}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    evaluated(bundle)
    assert "and was 2.0000 at export" in caplog.text
    caplog.clear()
    evaluated(bundle, "within=category")
    assert "at export" not in caplog.text


def test_a_list_may_be_empty(trained_run: Path, working_folder: Path) -> None:
    """A query in whose cell nothing of the gallery lies is scored, and shown, as one without finds."""
    copy = Path(shutil.copytree(trained_run, working_folder / "copy"))
    lapel.export(ExportConfig(run=str(copy), export=ExportOptions(rows=Rows.all)))
    write_index(ivf(vectors_of(copy / "bundle"), Metric.cosine, cells=100), copy / "bundle" / "index.faiss")
    hashed_again(copy / "bundle")
    result = evaluated(copy / "bundle", "neighbors=true")
    listed = pd.read_parquet(copy / "evaluation/bundle/neighbors.parquet")
    assert 0 < len(set(listed["row"])) < result["protocol"]["queries"]
    assert result["approximation"]["recall@10"] > 0


# ------------------------------------------------------------------------------------------------ lists


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("within", [None, "colour"])
@pytest.mark.parametrize("kind", ["flat", "ivf"])
@pytest.mark.parametrize("k", [1, 4, 100])
def test_lists_are_the_whole_ranking_without_what_may_not_count(
    metric: Metric, within: str | None, kind: str, k: int
) -> None:
    """Leave-one-out, with look-alikes, and an index in another order that holds other splits."""
    generator = np.random.default_rng(0)
    rows = 150
    table = pd.DataFrame({
        "image": range(rows), "item": generator.integers(0, 9, rows), "category": 0, "role": "both",
        "split": np.where(generator.random(rows) < 0.6, "test", "train"),
        "colour": generator.choice(["red", "blue"], rows), SAME_PIXELS: generator.integers(0, 100, rows),
    })  # fmt: skip
    catalog = Catalog("made", table, [f"i{code}" for code in range(9)], ["c"])
    protocol = protocol_of(catalog, "test", within, None)
    vectors = generator.normal(size=(rows, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = generator.permutation(rows)
    index = flat_index(vectors[order], metric) if kind == "flat" else ivf(vectors[order], metric)
    deployed = DeployedIndex(Path("index.faiss"), index, metric, order)
    splits, pixels, colours = (table[name].to_numpy() for name in ("split", SAME_PIXELS, "colour"))
    seen = []
    for queries, near in deployed.lists(protocol, torch.from_numpy(vectors[protocol.queries]), k):
        for place, positions, scores in zip(queries, near.positions, near.scores, strict=True):
            query = protocol.queries[place]
            whole = search_index(index, vectors[query][None], rows, metric)
            allowed = [
                (order[entry], score) for entry, score in zip(whole.positions[0], whole.scores[0], strict=True)
                if entry >= 0 and splits[order[entry]] == "test" and pixels[order[entry]] != pixels[query]
                and (within is None or colours[order[entry]] == colours[query])
            ][:k]  # fmt: skip
            assert protocol.gallery[positions[: len(allowed)]].tolist() == [row for row, _ in allowed]
            np.testing.assert_allclose(scores[: len(allowed)], [score for _, score in allowed], atol=1e-5)
            assert (positions[len(allowed) :] == -1).all()
            assert np.isneginf(scores[len(allowed) :]).all()
            seen.append(place)
    assert sorted(seen) == list(range(len(protocol.queries)))


@pytest.mark.parametrize("metric", list(Metric))
def test_an_index_is_told_by_what_it_holds(metric: Metric) -> None:
    generator = np.random.default_rng(0)
    table = pd.DataFrame({
        "image": range(600), "item": np.arange(600), "category": 0, "role": "both", "split": "test"
    })  # fmt: skip
    catalog = Catalog("made", table, [f"i{code}" for code in range(600)], ["c"])
    protocol = protocol_of(catalog, "test", None, None)
    vectors = torch.nn.functional.normalize(torch.from_numpy(generator.normal(size=(600, 16)).astype(np.float32)))
    codes = faiss.index_factory(16, "PQ8x4", MEASURES[metric])
    codes.train(vectors.numpy())
    codes.add(vectors.numpy())
    rows = np.arange(600)
    for index in (flat_index(vectors.numpy(), metric), ivf(vectors.numpy(), metric), codes):
        DeployedIndex(Path("index.faiss"), index, metric, rows).check(protocol, vectors)
        with pytest.raises(LapelError, match=r"does not hold the embeddings of encoder\.ts"):
            DeployedIndex(Path("index.faiss"), index, metric, rows[::-1].copy()).check(protocol, vectors)
    collapsed = torch.ones_like(vectors) / 4
    DeployedIndex(Path("index.faiss"), flat_index(collapsed.numpy(), metric), metric, rows).check(protocol, collapsed)


# ----------------------------------------------------------------------------------------------- errors


def _other_dimensions(folder: Path) -> None:
    write_index(flat_index(vectors_of(folder)[:, :8], Metric.cosine), folder / "index.faiss")


def _other_embeddings(folder: Path) -> None:
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0].astype(np.float32)
    write_index(flat_index(vectors_of(folder) @ turned, Metric.cosine), folder / "index.faiss")


def _other_order(folder: Path) -> None:
    write_index(flat_index(vectors_of(folder)[::-1], Metric.cosine), folder / "index.faiss")


def _fewer_entries(folder: Path) -> None:
    write_index(flat_index(vectors_of(folder)[:-1], Metric.cosine), folder / "index.faiss")


def _other_metric(folder: Path) -> None:
    write_index(flat_index(vectors_of(folder), Metric.euclidean), folder / "index.faiss")


def _own_numbers(folder: Path) -> None:
    vectors = vectors_of(folder)
    index = faiss.IndexIDMap(faiss.IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(vectors, np.arange(len(vectors)) + 1000)  # pyright: ignore[reportCallIssue]
    write_index(index, folder / "index.faiss")


def _unknown_image(folder: Path) -> None:
    items = pd.read_parquet(folder / "items.parquet")
    items.loc[3, "image"] = 10**6
    items.to_parquet(folder / "items.parquet", index=False)


def _image_twice(folder: Path) -> None:
    items = pd.read_parquet(folder / "items.parquet")
    items.loc[3, "image"] = items["image"][2]
    items.to_parquet(folder / "items.parquet", index=False)


def _no_encoder(folder: Path) -> None:
    (folder / "encoder.ts").write_bytes(b"nothing")


def _no_config(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["config"]
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_other_dimensions, "index.faiss: has 8 dimensions, and the encoder's embeddings have 16"),
        (_other_embeddings, "index.faiss: does not hold the embeddings of encoder.ts"),
        (_other_order, "index.faiss: does not hold the embeddings of encoder.ts"),
        (_fewer_entries, "entries, and items.parquet describes"),
        (_other_metric, "index.faiss: compares as euclidean does, and the manifest's metric is cosine"),
        (_own_numbers, "index.faiss: names entry 10"),
        (_unknown_image, "images are not in the catalogue wardrobe, the first is 1000000 (test)"),
        (_image_twice, "more than once"),
        (_no_encoder, "encoder.ts: cannot embed an image"),
        (_no_config, "manifest.json: is damaged"),
    ],
)
def test_a_bundle_whose_parts_do_not_fit_is_told(damage: Callable[[Path], None], told: str, bundle: Path) -> None:
    damage(bundle)
    hashed_again(bundle)
    before = contents(bundle.parent)
    with pytest.raises(LapelError) as error:
        evaluated(bundle)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert contents(bundle.parent) == before
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["bundle=nowhere"], "bundle=nowhere: no such folder"),
        (["bundle="], "bundle=: must name a folder"),
        (["bundle=shop", "checkpoint=last"], "checkpoint=last: a bundle has that of its export alone"),
        (["bundle=shop", "data=wardrobe", "encoder=tiny"], "bundle and encoder: one of them alone"),
        (["bundle=shop", "split=val"], "gallery images of split val; a bundle exported with export.rows=all"),
        (["bundle=shop", "data=wardrobe", "data.items=10"], "are not in the catalogue wardrobe"),
        (["bundle=shop", "neighbors_k=0"], "neighbors_k=0: must be at least 1"),
        (["bundle=damaged"], "index.faiss: is not the file that was exported"),
    ],
)
def test_what_cannot_be_scored_ends_in_one_line(
    options: list[str], told: str, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(bundle, "damaged")
    _other_metric(Path("damaged"))
    monkeypatch.setattr(sys, "argv", ["lapel-evaluate", *options])
    with pytest.raises(SystemExit) as stop:
        evaluate_command.main()
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert told in lines[0]
    assert not Path("runs").exists()


def test_the_table_tells_the_cost(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lapel-evaluate", f"bundle={bundle}"])
    evaluate_command.main()
    printed = capsys.readouterr().out
    line = next(each for each in printed.splitlines() if "recall@1 " in each)
    value, _, exact, cost = line.split()[1:]
    assert float(value) + float(cost) == pytest.approx(float(exact), abs=2e-4)
    assert "ms per query, exact search" in printed


def test_exact_search_is_of_the_encoder_that_the_bundle_holds(bundle: Path, trained_run: Path) -> None:
    """Its embeddings are those of the index."""
    trained = open_run(str(trained_run), Checkpoint.best)
    catalog = trained.load_catalog()
    images = open_store(catalog, trained.config.data).gather(catalog.gallery("test"))
    own = search(torch.from_numpy(load(bundle).embed(images)), torch.from_numpy(vectors_of(bundle)), 1, Metric.cosine)
    np.testing.assert_allclose(own.scores, 1, atol=1e-5)
