"""The nearest gallery rows of every query, as they are written: against the search of everything, and loops."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

import lapel
from lapel.bundle.bundle import load
from lapel.catalog import SAME_PIXELS, Catalog
from lapel.config.evaluation import Checkpoint
from lapel.config.variant import Metric
from lapel.evaluation import neighbors
from lapel.evaluation.neighbors import NEIGHBORS_FILE, exact_lists, write_neighbors
from lapel.evaluation.protocols import Embedded, Protocol, protocol_of
from lapel.files.writing import together
from lapel.images.store import open_store
from lapel.retrieval import Neighbors, search
from lapel.retrieval.exact import nearest_by_tile
from lapel.retrieval.tiles import QUERY_TILE, Tiles
from lapel.runs.checkpoint import open_run


def made(rows: int, roles: list[str], within: str | None = None) -> tuple[Catalog, Protocol, torch.Tensor]:
    """A catalogue with look-alikes and colours, one of them missing; its protocol, and embeddings of its rows."""
    generator = np.random.default_rng(0)
    colours = np.array(["red", "blue", None], dtype=object)[generator.integers(0, 3, rows)]
    table = pd.DataFrame({
        "image": range(rows), "item": generator.integers(0, rows, rows), "category": 0, "split": "test",
        "role": generator.choice(roles, rows), "colour": colours, SAME_PIXELS: generator.integers(0, rows // 2, rows),
    })  # fmt: skip
    catalog = Catalog("made", table, [f"i{code}" for code in range(rows)], ["c"])
    embeddings = torch.nn.functional.normalize(torch.from_numpy(generator.normal(size=(rows, 6)).astype(np.float32)))
    return catalog, protocol_of(catalog, "test", within, None), embeddings


def both(protocol: Protocol, embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return embeddings[protocol.queries], embeddings[protocol.gallery]


def embedded(protocol: Protocol, embeddings: torch.Tensor, metric: Metric) -> Embedded:
    queries, gallery = both(protocol, embeddings)
    return Embedded(queries, gallery, np.zeros((len(queries), 1)), np.zeros((len(gallery), 1)), metric)


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("k", [1, 7, 1000])
def test_tile_by_tile_is_the_search_of_everything(metric: Metric, k: int) -> None:
    _, protocol, embeddings = made(2 * QUERY_TILE + 16, ["both"])
    queries, gallery = both(protocol, embeddings)
    whole = search(queries, gallery, k, metric, protocol.exclude)
    parts = list(nearest_by_tile(Tiles(queries, gallery, metric, protocol.exclude), k))
    assert [tile.start for tile, _ in parts] == [0, QUERY_TILE, 2 * QUERY_TILE]
    np.testing.assert_array_equal(np.concatenate([near.positions for _, near in parts]), whole.positions)
    np.testing.assert_array_equal(np.concatenate([near.scores for _, near in parts]), whole.scores)


def write(folder: Path, protocol: Protocol, lists: Iterable[tuple[np.ndarray, Neighbors]]) -> None:
    with together(folder, NEIGHBORS_FILE) as staged:
        write_neighbors(staged, protocol, lists)


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("within", [None, "colour"])
@pytest.mark.parametrize("k", [5, 1000])
def test_the_file_holds_what_a_loop_finds(metric: Metric, within: str | None, k: int, tmp_path: Path) -> None:
    catalog, protocol, embeddings = made(200, ["query", "gallery", "both"], within)
    write(tmp_path, protocol, exact_lists(protocol, embedded(protocol, embeddings, metric), k))
    found = pd.read_parquet(tmp_path / "neighbors.parquet")
    assert found.dtypes.astype(str).to_dict() == {
        "row": "int64", "rank": "int32", "neighbor": "int64", "score": "float32"
    }  # fmt: skip
    colours, pixels = catalog.table["colour"].to_numpy(), catalog.look_alikes
    vectors = embeddings.double().numpy()
    lines = 0
    for query in protocol.queries:
        allowed = [
            row for row in protocol.gallery
            if pixels[row] != pixels[query]
            and (within is None or (colours[query] is not None and colours[row] == colours[query]))
        ]  # fmt: skip
        near = vectors[allowed]
        score = near @ vectors[query] if metric is Metric.cosine else -np.linalg.norm(near - vectors[query], axis=1)
        order = np.argsort(-score, kind="stable")[:k]
        mine = found[found["row"] == query]
        assert mine["neighbor"].tolist() == [allowed[place] for place in order]
        assert mine["rank"].tolist() == list(range(1, len(order) + 1))
        np.testing.assert_allclose(mine["score"], score[order], atol=1e-6)
        lines += len(order)
    assert len(found) == lines


def test_it_is_written_as_it_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Never more than one group and one tile are held."""
    monkeypatch.setattr(neighbors, "GROUP_LINES", 7 * QUERY_TILE)
    _, protocol, embeddings = made(5 * QUERY_TILE, ["both"])
    written = []
    write_table = pq.ParquetWriter.write_table
    monkeypatch.setattr(
        pq.ParquetWriter, "write_table", lambda self, table: (written.append(len(table)), write_table(self, table))[1]
    )
    given, most = 0, 0

    def watched() -> Iterator[tuple[np.ndarray, Neighbors]]:
        nonlocal given, most
        for queries, near in exact_lists(protocol, embedded(protocol, embeddings, Metric.cosine), 5):
            most = max(most, given - sum(written))
            given += near.positions.size
            yield queries, near

    write(tmp_path, protocol, watched())
    assert pq.ParquetFile(tmp_path / "neighbors.parquet").num_row_groups == len(written) == 3
    assert most < 7 * QUERY_TILE
    assert sum(written) == given == 25 * QUERY_TILE
    whole = search(*both(protocol, embeddings), 5, Metric.cosine, protocol.exclude)
    found = pd.read_parquet(tmp_path / "neighbors.parquet")
    assert found["neighbor"].tolist() == protocol.gallery[whole.positions].reshape(-1).tolist()
    np.testing.assert_array_equal(found["score"], whole.scores.reshape(-1))


def test_it_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    _, protocol, embeddings = made(300, ["both"])

    def broken() -> Iterator[tuple[np.ndarray, Neighbors]]:
        yield next(exact_lists(protocol, embedded(protocol, embeddings, Metric.cosine), 5))
        raise KeyboardInterrupt

    (tmp_path / "neighbors.parquet").write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, protocol, broken())
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"older"]


def test_a_run_tells_the_nearest_of_everything(trained_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"run={trained_run}", "split=val", "neighbors=true", "neighbors_k=3", "bootstrap.samples=0"]
    lapel.evaluate(lapel.compose("evaluate", options))
    assert capsys.readouterr().err == ""
    run = open_run(str(trained_run), Checkpoint.best)
    catalog = run.load_catalog()
    store, encoder = open_store(catalog, run.config.data), run.encoder()
    protocol = protocol_of(catalog, "val", None, None)
    with torch.inference_mode():
        queries, gallery = (encoder(store.gather(rows)) for rows in (protocol.queries, protocol.gallery))
    expected = search(queries, gallery, 3, Metric.cosine, protocol.exclude)
    found = pd.read_parquet(trained_run / "evaluation/val/neighbors.parquet")
    assert found["row"].tolist() == np.repeat(protocol.queries, 3).tolist()
    assert found["neighbor"].tolist() == protocol.gallery[expected.positions].reshape(-1).tolist()
    np.testing.assert_allclose(found["score"], expected.scores.reshape(-1), atol=1e-5)
    shutil.rmtree(trained_run / "evaluation" / "val")


def test_a_bundle_tells_what_its_index_finds(trained_run: Path) -> None:
    folder = trained_run / "bundle"
    lapel.evaluate(
        lapel.compose("evaluate", [f"bundle={folder}", "neighbors=true", "report=false", "bootstrap.samples=0"])
    )
    found = pd.read_parquet(trained_run / "evaluation/bundle/neighbors.parquet")
    bundle, run = load(folder), open_run(str(trained_run), Checkpoint.best)
    catalog = run.load_catalog()
    store, gallery = open_store(catalog, run.config.data), catalog.gallery("test")
    assert sorted(found["row"].unique()) == catalog.queries("test").tolist()
    for query, mine in found.groupby("row"):
        near = bundle.search(store.gather(np.array([query])), k=50)
        assert gallery[near["row"]].tolist() == mine["neighbor"].tolist()
        assert mine["rank"].tolist() == near["rank"].tolist()
        np.testing.assert_allclose(mine["score"], near["score"], atol=1e-5)
    shutil.rmtree(trained_run / "evaluation" / "bundle")
