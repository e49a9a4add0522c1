"""Flaws of published evaluations, each of which cannot be repeated here.

Musgrave, Belongie & Lim, "A metric learning reality check", ECCV 2020, section 2, lists several of them. That the size
of a PCA is never chosen on the images that are scored is shown in test_postprocessing.py.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import lapel
from lapel.catalog import SAME_PIXELS, Catalog
from lapel.config.evaluation import Checkpoint
from lapel.config.variant import Metric
from lapel.encoders.embed import embed
from lapel.errors import LapelError
from lapel.evaluation.protocols import Embedded, joined, protocol_of
from lapel.images.store import open_store
from lapel.retrieval import equal_pairs, score
from lapel.retrieval.tiles import Tiles
from lapel.runs.checkpoint import open_run


def test_a_cosine_model_is_not_scored_on_raw_vectors(trained_run: Path):
    """Its metric comes with the checkpoint, cannot be exchanged, and its scores are those of unit vectors."""
    with pytest.raises(LapelError, match="a run is scored in the metric it was trained in"):
        lapel.compose("evaluate", [f"run={trained_run}", "metric=euclidean"])
    run = open_run(str(trained_run), Checkpoint.best)
    assert run.config.variant.metric is Metric.cosine
    catalog, encoder = run.load_catalog(), run.encoder()
    rows = catalog.rows("train")
    vectors = embed(encoder, open_store(catalog, run.config.data), rows)
    np.testing.assert_allclose(vectors.norm(dim=1), 1, atol=1e-5)
    items, exclude = catalog.items[rows], equal_pairs(catalog.look_alikes[rows], catalog.look_alikes[rows])
    expected = score(vectors, vectors, items, items, Metric.cosine, [1], exclude).means()
    result = lapel.evaluate(
        lapel.compose("evaluate", [f"run={trained_run}", "split=train", "report=false", "bootstrap.samples=0"])
    )
    assert result["map@r"] == pytest.approx(expected["map@r"])
    assert result["protocol"]["normalized"] is True
    shutil.rmtree(trained_run / "evaluation" / "train")


@pytest.mark.parametrize("copied", [False, True])
def test_a_query_is_never_its_own_match(copied: bool):
    """Neither by its row nor by another row of the same pixels: embeddings that say nothing score as chance does."""
    count, items = 400, 100
    labels = np.arange(count) % items
    table = pd.DataFrame({
        "image": range(count), "item": labels, "category": labels, "split": "test", "role": "both",
    })  # fmt: skip
    vectors = torch.nn.functional.normalize(torch.randn(count, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    if copied:  # each image twice, under one name
        table[SAME_PIXELS] = np.arange(count) // items // 2 * items + np.arange(count) % items
        vectors = vectors[torch.tensor(table[SAME_PIXELS].tolist())]
    names = [f"i{code}" for code in range(items)]
    catalog = Catalog("made", table, names, names, pixels=np.zeros((count, 8, 8), np.uint8))
    protocol = protocol_of(catalog, "test", None, None)
    sets = catalog.item_sets
    embedded = Embedded(vectors, vectors, sets, sets, Metric.cosine)
    found = joined(protocol, [(each, embedded.graded(each, [1], 256, 1)) for each in protocol.comparisons()])
    assert found.means()["recall@1"] < 0.05
    assert not (found.neighbors.positions[:, 0] == np.arange(count)).any()
    counted = replace(embedded, tiles=lambda queries, gallery, metric, _: Tiles(queries, gallery, metric, None))
    flawed = joined(protocol, [(each, counted.graded(each, [1], 256, 1)) for each in protocol.comparisons()])
    assert flawed.means()["recall@1"] == 1.0  # what the mistake would have reported


def test_scores_of_training_images_do_not_pass_for_test_scores(trained_run: Path, tmp_path: Path):
    """They go to a folder of their own, and both the protocol and the report say what they are, the latter in red."""
    copy = Path(shutil.copytree(trained_run, tmp_path / "run"))
    before = (copy / "evaluation" / "metrics.json").read_bytes()
    config = lapel.compose("evaluate", [f"run={copy}", "split=train"])
    result = lapel.evaluate(config)
    assert (copy / "evaluation" / "metrics.json").read_bytes() == before
    assert result["protocol"]["queries_seen_in_training"] == result["protocol"]["queries"]
    page = (copy / "evaluation" / "train" / "report.html").read_text()
    assert 'class="banner danger"' in page
    assert "These are images that the model was trained on." in page
    assert ".banner.danger { border-color: #a40e26; background: #c62336;" in page
