"""The work of an evaluation shared out: the same scores to the bit, whoever does what."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import lapel
from lapel.config.variant import Metric
from lapel.errors import LapelError
from lapel.evaluation import sharing
from lapel.evaluation.protocols import Embedded, Protocol, joined
from lapel.retrieval import Scores, equal_pairs
from lapel.retrieval.tiles import QUERY_TILE, ROW_TILE

# A part of more queries than are shared out at once.
MANY = ["data=wardrobe", "data.items=100", "data.drawing_seed=3", "split=train"]


def scores_of(protocol: Protocol, embedded: Embedded, queries: int, memory: float) -> Scores:
    parts = [part for each in protocol.comparisons() for part in each.split(queries)]
    return joined(protocol, [(each, embedded.graded(each, [1, 5], memory, 8)) for each in parts])


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("kinds", [1, 3])
def test_scores_do_not_depend_on_how_queries_are_shared_out(metric: Metric, kinds: int):
    generator = np.random.default_rng(0)
    count = 2 * QUERY_TILE + 17
    vectors = torch.nn.functional.normalize(torch.randn(count, 24, generator=torch.Generator().manual_seed(0)), dim=1)
    vectors[10:60] = vectors[5]  # copies, and near copies that float32 hardly tells apart
    vectors[60:90] = torch.nn.functional.normalize(vectors[5] + 1e-7 * torch.randn(30, 24), dim=1)
    items, codes = generator.integers(0, 40, (count, 1)), generator.integers(0, kinds, count)
    everything = np.arange(count)
    parts = [(np.flatnonzero(codes == code), np.flatnonzero(codes == code)) for code in range(kinds)]
    protocol = Protocol(everything, everything, equal_pairs(everything, everything), parts, "")
    embedded = Embedded(vectors, vectors, items, items, metric)
    whole = scores_of(protocol, embedded, count, 256)
    for queries, memory in ((QUERY_TILE, 256), (ROW_TILE, 0.01), (3 * ROW_TILE, 1)):
        other = scores_of(protocol, embedded, queries, memory)
        assert whole.grades.keys() == other.grades.keys()
        for name, grades in whole.grades.items():
            np.testing.assert_array_equal(grades, other.grades[name])
        np.testing.assert_array_equal(whole.curves, other.curves)
        np.testing.assert_array_equal(whole.neighbors.positions, other.neighbors.positions)
        np.testing.assert_array_equal(whole.neighbors.scores, other.neighbors.scores)


def evaluated(run: Path, options: list[str], folder: str) -> tuple[str, pd.DataFrame]:
    """metrics.json, but for the times in it, and the scores of each query."""
    subject = [] if any(each.startswith("bundle=") for each in options) else [f"run={run}"]
    lapel.evaluate(lapel.compose("evaluate", [*subject, "report=false", *options]))
    (place,) = (run / "evaluation").glob(folder)
    told = json.loads((place / "metrics.json").read_text())
    told.pop("milliseconds_per_query", None)
    return json.dumps(told), pd.read_parquet(place / "queries.parquet")


def assert_same(one: tuple[str, pd.DataFrame], other: tuple[str, pd.DataFrame]) -> None:
    assert one[0] == other[0]
    pd.testing.assert_frame_equal(one[1], other[1], check_exact=True)


@pytest.mark.slow
def test_two_processes_score_as_one_does(trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    copy = Path(shutil.copytree(trained_run, tmp_path / "run"))
    alone = evaluated(copy, MANY, "on-wardrobe-*")
    assert len(alone[1]) > ROW_TILE
    monkeypatch.setattr(sharing, "IMAGES", 128)
    monkeypatch.setattr(sharing, "QUERIES", ROW_TILE)
    assert_same(evaluated(copy, [*MANY, "processes=2"], "on-wardrobe-*"), alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "folder"),
    [
        (["split=train"], "train"),
        (["split=train", "within=category"], "train-within-category"),
        (["bundle=BUNDLE"], "bundle"),
        (["data=wardrobe", "data.items=60", "data.drawing_seed=3"], "on-wardrobe-*"),
        ([*MANY, "within=category"], "on-wardrobe-*"),
    ],
)
def test_any_number_of_processes_scores_as_one_does(
    options: list[str], folder: str, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    copy = Path(shutil.copytree(trained_run, tmp_path / "run"))
    options = [each.replace("BUNDLE", str(copy / "bundle")) for each in options]
    alone = evaluated(copy, options, folder)
    monkeypatch.setattr(sharing, "IMAGES", 128)
    monkeypatch.setattr(sharing, "QUERIES", ROW_TILE)
    for processes in (2, 3):
        assert_same(evaluated(copy, [*options, f"processes={processes}"], folder), alone)


@pytest.mark.skipif(torch.cuda.device_count() > 1, reason="there are so many GPUs")
def test_more_processes_than_gpus_are_told_where_gpus_are_asked_for(trained_run: Path):
    with pytest.raises(LapelError, match=r"accelerator=gpu|processes=2: must be at most"):
        lapel.evaluate(lapel.compose("evaluate", [f"run={trained_run}", "processes=2", "accelerator=gpu"]))
