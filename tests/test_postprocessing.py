"""Post-processing against slow, plain versions of its formulas, and against scikit-learn."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import Tensor

import lapel
from lapel.catalog import Catalog
from lapel.config.evaluation import EvaluateConfig, PostConfig
from lapel.config.variant import Metric
from lapel.errors import LapelError
from lapel.evaluation.expansion import augment_database, expand_queries
from lapel.evaluation.postprocessing import process
from lapel.evaluation.principal import principal_components, sizes
from lapel.evaluation.protocols import Embedded, joined, protocol_of
from lapel.retrieval import equal_pairs, rows_once, search
from lapel.retrieval.exact import nearest
from lapel.retrieval.reranking import Encoded, Reranked, encode

FEW = settings(max_examples=25, deadline=None)


def unit(seed: int, count: int, dimensions: int = 6) -> Tensor:
    drawn = torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn, dim=1)


def few_different(seed: int, count: int) -> Tensor:
    """Unit vectors of which many are the same: nearly everything ties."""
    return unit(seed, 5)[torch.randint(0, 5, (count,), generator=torch.Generator().manual_seed(seed))]


# -------------------------------------------------------------------------------------------- components


def test_components_are_those_of_scikit_learn():
    train = unit(0, 200) * torch.tensor([3.0, 1, 2, 0.5, 0.1, 0.05])
    others = unit(1, 20)
    expected = PCA(3, svd_solver="full").fit(train.numpy().astype(np.float64)).transform(others.numpy())
    found = principal_components(train).apply(others, 3, False, Metric.euclidean).numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-5)
    lengths = principal_components(train).apply(others, 3, False, Metric.cosine).norm(dim=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


def test_whitened_training_embeddings_vary_alike_in_every_direction():
    train = unit(0, 300) @ torch.randn(6, 6, generator=torch.Generator().manual_seed(2))
    found = principal_components(train).apply(train, 4, True, Metric.euclidean).double().numpy()
    np.testing.assert_allclose(np.cov(found.T), np.eye(4), atol=1e-4)


def test_whitening_makes_no_noise_of_dimensions_without_variance():
    train = unit(0, 100)
    train[:, 4:] = 0
    assert torch.isfinite(principal_components(train).apply(train, 6, True, Metric.euclidean)).all()
    assert principal_components(train).apply(train, 6, True, Metric.euclidean)[:, 4:].abs().max() < 0.1


def test_sizes_are_powers_of_two_and_all():
    assert sizes(64) == [8, 16, 32, 64]
    assert sizes(100) == [8, 16, 32, 64, 100]
    assert sizes(8) == [8]
    assert sizes(3) == [3]


# --------------------------------------------------------------------------------------------- expansion


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("neighbors", [1, 4, 50])
def test_expanded_queries_are_those_of_a_loop(alpha: float, neighbors: int):
    gallery = unit(0, 12)
    exclude = equal_pairs(np.arange(12), np.arange(12))
    found = expand_queries(gallery, gallery, exclude, neighbors, alpha)
    for query in range(12):
        similarity = (gallery @ gallery[query]).double()
        order = [place for place in torch.argsort(-similarity).tolist() if place != query][:neighbors]
        total = gallery[query].double()
        for place in order:
            total = total + max(float(similarity[place]), 0.0) ** alpha * gallery[place].double()
        np.testing.assert_allclose(found[query], total / total.norm(), atol=1e-5)


@pytest.mark.parametrize("neighbors", [1, 3, 50])
def test_augmented_images_are_those_of_a_loop(neighbors: int):
    gallery = unit(3, 12)
    alike = np.array([0, 0, *range(2, 12)])
    exclude = equal_pairs(alike, alike)
    found = augment_database(gallery, exclude, neighbors)
    for image in range(12):
        similarity = gallery @ gallery[image]
        order = [place for place in torch.argsort(-similarity).tolist() if alike[place] != alike[image]][:neighbors]
        total = gallery[image].double()
        for rank, place in enumerate(order, 1):
            total = total + (neighbors + 1 - rank) / (neighbors + 1) * gallery[place].double()
        np.testing.assert_allclose(found[image], total / total.norm(), atol=1e-5)


# -------------------------------------------------------------------------------------------- re-ranking


def encoded_by_loops(images: Tensor, first: int, second: int) -> np.ndarray:
    """V of each image by the paper's equations, set by set."""
    count = len(images)
    lists = [[image] for image in range(count)]
    if count > 1:
        near = search(images, images, count - 1, Metric.cosine, equal_pairs(np.arange(count), np.arange(count)))
        lists = [[image, *near.positions[image].tolist()] for image in range(count)]

    def reciprocal(image: int, k: int) -> set[int]:
        return {other for other in lists[image][: k + 1] if image in lists[other][: k + 1]}

    vectors = np.zeros((count, count))
    for image in range(count):
        expanded = set(reciprocal(image, first))
        for other in reciprocal(image, first):
            its = reciprocal(other, round(first / 2))
            if len(reciprocal(image, first) & its) >= 2 / 3 * len(its):
                expanded |= its
        for other in expanded:
            vectors[image, other] = np.exp(-(1 - float(images[image].double() @ images[other].double())))
    return np.stack([vectors[lists[image][:second]].mean(0) for image in range(count)])


def final_distance(vectors: np.ndarray, one: int, other: int, cosine: float, share: float) -> float:
    jaccard = 1 - np.minimum(vectors[one], vectors[other]).sum() / np.maximum(vectors[one], vectors[other]).sum()
    return (1 - share) * jaccard + share * (1 - cosine)


@FEW
@given(
    seed=st.integers(0, 1000),
    tied=st.booleans(),
    alone=st.booleans(),
    first=st.integers(1, 9),
    second=st.integers(1, 5),
    share=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_reranked_distances_are_those_of_the_paper(
    seed: int, tied: bool, alone: bool, first: int, second: int, share: float
):
    """Leave-one-out, where queries and gallery are the same images, and of two separate sets."""
    images = few_different(seed, 16) if tied else unit(seed, 16)
    places = (np.arange(16), np.arange(16)) if alone else (np.arange(6), np.arange(6, 16))
    expected = encoded_by_loops(images, first, second)
    vectors = encode(images, first, second)
    np.testing.assert_allclose(vectors.toarray(), expected, atol=1e-6)
    queries, gallery = images[places[0]], images[places[1]]
    exclude = equal_pairs(*places)
    tiles = Reranked(queries, gallery, exclude, Encoded(vectors, *places), share)
    ((_, rows),) = tiles.rows()
    exact = tiles.exact(slice(0, len(queries)), np.tile(np.arange(len(gallery)), (len(queries), 1)))
    for query, one in enumerate(places[0].tolist()):
        for place, other in enumerate(places[1].tolist()):
            cosine = float(images[one].double() @ images[other].double())
            distance = final_distance(expected, one, other, cosine, share)
            assert exact[query, place] == pytest.approx(-distance, abs=1e-6)
            assert float(rows[query, place]) == (pytest.approx(-distance, abs=1e-5) if one != other else -np.inf)
    listed = nearest(tiles, 3)
    for query, one in enumerate(places[0].tolist()):
        allowed = [place for place, other in enumerate(places[1]) if other != one]
        order = sorted(allowed, key=lambda place: (-exact[query, place], place))[:3]
        np.testing.assert_allclose(exact[query, listed.positions[query]], exact[query, order], atol=1e-12)


# ------------------------------------------------------------------------------------------- as a whole


def made(dimensions: int = 12) -> tuple[Catalog, Tensor]:
    """A catalogue of three parts, and embeddings of its rows."""
    items = np.tile(np.arange(12), 12)
    table = pd.DataFrame({
        "image": range(144), "item": items, "category": items, "split": np.repeat(["train", "val", "test"], 48),
        "role": "both",
    })  # fmt: skip
    names = [f"i{code}" for code in range(12)]
    catalog = Catalog("made", table, names, names, pixels=np.zeros((144, 8, 8), np.uint8))
    noisy = unit(0, 12, dimensions)[torch.from_numpy(items)] + 0.6 * unit(1, 144, dimensions)
    return catalog, torch.nn.functional.normalize(noisy, dim=1)


def processed(post: PostConfig, catalog: Catalog, embeddings: Tensor, metric: Metric = Metric.cosine) -> tuple:
    protocol = protocol_of(catalog, "test", None, None)
    sets = catalog.item_sets[protocol.queries]
    embedded = Embedded(embeddings[protocol.queries], embeddings[protocol.gallery], sets, sets, metric)
    found = process(
        EvaluateConfig(post=post), catalog, protocol, embedded, lambda rows: embeddings[torch.from_numpy(rows)]
    )
    return found, protocol


def test_nothing_of_the_test_part_decides_on_components():
    """The flaw: a size of PCA that was chosen, or directions that were fitted, on the images that are scored."""
    catalog, embeddings = made()
    changed = embeddings.clone()
    changed[96:] = unit(99, 48, 12)
    one, _ = processed(PostConfig(pca="auto"), catalog, embeddings)
    other, _ = processed(PostConfig(pca="auto"), catalog, changed)
    assert one.card == other.card
    assert set(one.card["map@r_on_val"]) == {"8", "12"}
    assert one.card["fitted_on"] == "train of made, 48 images"
    fitted = principal_components(embeddings[:48])
    expected = fitted.apply(changed[96:], other.card["pca"], False, Metric.cosine)
    np.testing.assert_array_equal(other.embedded.queries, expected)


def test_the_size_is_the_best_on_val():
    catalog, embeddings = made()
    found, _ = processed(PostConfig(pca="auto"), catalog, embeddings)
    scores = {int(size): score for size, score in found.card["map@r_on_val"].items()}
    assert found.card["pca"] == max(scores, key=lambda size: (scores[size], -size))


def test_steps_follow_one_another():
    catalog, embeddings = made()
    found, protocol = processed(
        PostConfig(pca="8", whiten=True, augment_database=2, expand_queries=3), catalog, embeddings
    )
    turned = principal_components(embeddings[:48]).apply(embeddings[96:], 8, True, Metric.cosine)
    gallery = augment_database(turned, protocol.exclude, 2)
    queries = expand_queries(turned, gallery, protocol.exclude, 3, 3.0)
    np.testing.assert_array_equal(found.embedded.gallery, gallery)
    np.testing.assert_array_equal(found.embedded.queries, queries)
    assert set(found.card) == {
        "fitted_on", "whiten", "pca", "augment_database", "expand_queries", "transductive",
    }  # fmt: skip


def test_a_reranked_protocol_holds_each_image_once():
    catalog, embeddings = made()
    found, protocol = processed(PostConfig(rerank=True, rerank_k1=4, rerank_k2=2), catalog, embeddings)
    rows, *_ = rows_once(protocol.queries, protocol.gallery)
    tiles = found.embedded.similarities(next(protocol.comparisons()))
    assert tiles.encoded.vectors.shape == (len(rows), len(rows)) == (48, 48)
    scores = joined(protocol, [(each, found.embedded.graded(each, [1], 256, 5)) for each in protocol.comparisons()])
    assert 0 < scores.means()["recall@1"] <= 1
    assert not (scores.neighbors.positions == np.arange(48)[:, None]).any()


def test_what_makes_no_sense_is_told():
    catalog, embeddings = made()
    with pytest.raises(LapelError, match=r"post.pca=13: must be at most 12"):
        processed(PostConfig(pca="13"), catalog, embeddings)
    for post in (PostConfig(rerank=True), PostConfig(expand_queries=1), PostConfig(augment_database=1)):
        with pytest.raises(LapelError, match="is for models that compare by cosine"):
            processed(post, catalog, embeddings, Metric.euclidean)
    without = replace(catalog, table=catalog.table.assign(split="test"))
    with pytest.raises(LapelError, match=r"split train has no image, and post.pca and post.whiten are fitted on it"):
        processed(PostConfig(whiten=True), without, embeddings)
    for text in ("0", "-1", "best", "1.5", ""):
        with pytest.raises(LapelError, match="must be auto, or a whole number"):
            PostConfig(pca=text)


def test_an_evaluation_tells_before_and_after(trained_run: Path, tmp_path: Path):
    copy = Path(shutil.copytree(trained_run, tmp_path / "run"))
    plain = json.loads((copy / "evaluation" / "metrics.json").read_text())
    options = ["post.pca=auto", "post.expand_queries=2", "post.rerank=true", "post.rerank_k1=4", "neighbors=true"]
    result = lapel.evaluate(lapel.compose("evaluate", [f"run={copy}", *options]))
    for name, value in result["before"].items():
        assert value == plain[name]
        difference, low, high = result["gain"][name]
        assert difference == pytest.approx(result[name] - value)
        assert low <= difference <= high
    folder = copy / "evaluation" / "pcaauto-expand2-alpha3-rerank4-6-0.3"
    card = json.loads((folder / "metrics.json").read_text())["protocol"]["post_processing"]
    assert card["rerank"] == "k1 4, k2 6, lambda 0.3"
    assert "Before and after post-processing" in (folder / "report.html").read_text()
    assert plain["protocol"]["post_processing"] is None
    lists = pd.read_parquet(folder / "neighbors.parquet")
    assert float(lists["score"].to_numpy().max()) <= 0  # minus the final distance


@pytest.mark.slow
def test_two_processes_process_as_one_does(trained_run: Path, tmp_path: Path):
    copy = Path(shutil.copytree(trained_run, tmp_path / "run"))
    options = ["post.pca=auto", "post.expand_queries=2", "post.rerank=true", "post.rerank_k1=4", "report=false"]
    one, two = (
        lapel.evaluate(lapel.compose("evaluate", [f"run={copy}", *options, f"processes={number}"])) for number in (1, 2)
    )
    assert one == two


def test_a_bundle_is_scored_as_it_is(trained_run: Path):
    with pytest.raises(LapelError, match="post: is for runs and encoders"):
        lapel.compose("evaluate", [f"bundle={trained_run / 'bundle'}", "post.whiten=true"])
