"""The FAISS index against exact search, and the comparison of two searches."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lapel.bundle.index import disagreements, flat_index, read_index, search_index, write_index
from lapel.config.variant import Metric
from lapel.errors import LapelError
from lapel.retrieval import Neighbors, search

METRICS = list(Metric)


def embeddings_of(seed: int, count: int, dimensions: int = 8, unit: bool = True) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True) if unit else drawn * 3


def exact(queries: np.ndarray, gallery: np.ndarray, k: int, metric: Metric) -> Neighbors:
    return search(torch.from_numpy(queries), torch.from_numpy(gallery), k, metric)


def neighbors_of(positions: list[list[int]], scores: list[list[float]]) -> Neighbors:
    return Neighbors(np.array(positions), np.array(scores, np.float32))


def changed(neighbors: Neighbors, positions: dict[tuple[int, int], int]) -> Neighbors:
    other = neighbors.positions.copy()
    for place, row in positions.items():
        other[place] = row
    return replace(neighbors, positions=other)


def rescored(neighbors: Neighbors, scores: dict[tuple[int, int], float]) -> Neighbors:
    other = neighbors.scores.copy()
    for place, value in scores.items():
        other[place] = value
    return replace(neighbors, scores=other)


def both_ways(first: Neighbors, second: Neighbors, metric: Metric) -> list[int]:
    found = disagreements(first, second, metric)
    np.testing.assert_array_equal(disagreements(second, first, metric), found)
    assert found.dtype == np.int64
    return found.tolist()


# ---------------------------------------------------------------------------------------------------------------- index


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("queries", [1, 16, 50])
@pytest.mark.parametrize("k", [1, 10])
def test_the_index_finds_what_search_finds(metric: Metric, queries: int, k: int):
    gallery, wanted = embeddings_of(0, 200), embeddings_of(1, queries)
    found = search_index(flat_index(gallery, metric), wanted, k, metric)
    expected = exact(wanted, gallery, k, metric)
    np.testing.assert_array_equal(found.positions, expected.positions)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-6)
    assert found.positions.dtype == np.int64
    assert found.scores.dtype == np.float32
    assert both_ways(found, expected, metric) == []


@pytest.mark.parametrize("metric", METRICS)
def test_raw_embeddings_are_compared_as_the_metric_says(metric: Metric):
    gallery, wanted = embeddings_of(2, 100, unit=False), embeddings_of(3, 20, unit=False)
    found = search_index(flat_index(gallery, metric), wanted, 5, metric)
    np.testing.assert_array_equal(found.positions, exact(wanted, gallery, 5, metric).positions)


@pytest.mark.parametrize("metric", METRICS)
def test_a_row_of_the_gallery_finds_itself(metric: Metric):
    gallery = embeddings_of(4, 60)
    found = search_index(flat_index(gallery, metric), gallery, 1, metric)
    assert found.positions[:, 0].tolist() == list(range(60))
    np.testing.assert_allclose(found.scores, 1 if metric is Metric.cosine else 0, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_an_index_is_the_same_after_writing_and_reading(metric: Metric, tmp_path: Path):
    gallery, wanted = embeddings_of(5, 50), embeddings_of(6, 9)
    index = flat_index(gallery, metric)
    write_index(index, tmp_path / "index.faiss")
    again = read_index(tmp_path / "index.faiss")
    one, other = (search_index(each, wanted, 7, metric) for each in (index, again))
    np.testing.assert_array_equal(one.positions, other.positions)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert again.ntotal == 50
    assert again.d == 8


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("queries", [3, 40])
def test_lists_longer_than_the_index_are_filled_up_as_search_does(metric: Metric, queries: int):
    gallery, wanted = embeddings_of(7, 4), embeddings_of(8, queries)
    found = search_index(flat_index(gallery, metric), wanted, 6, metric)
    assert (found.positions[:, 4:] == -1).all()
    assert np.isneginf(found.scores[:, 4:]).all()
    assert both_ways(found, exact(wanted, gallery, 6, metric), metric) == []


def test_near_images_come_apart_in_an_index_of_distances():
    # 40 queries at once: FAISS would compute them from products, which float32 cannot tell apart here.
    gallery = np.full((6, 4), 5, np.float32)
    gallery[:, 0] += np.arange(6) * 1e-3
    wanted = np.repeat(gallery[:1], 40, axis=0)
    found = search_index(flat_index(gallery, Metric.euclidean), wanted, 6, Metric.euclidean)
    np.testing.assert_array_equal(found.positions, np.tile(np.arange(6), (40, 1)))
    assert both_ways(found, exact(wanted, gallery, 6, Metric.euclidean), Metric.euclidean) == []


@pytest.mark.parametrize("content", [b"", b"no index at all", None])
def test_a_file_that_is_no_index_is_named(content: bytes | None, tmp_path: Path):
    path = tmp_path / "index.faiss"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LapelError, match=r"index\.faiss: not a readable FAISS index"):
        read_index(path)


def test_a_truncated_index_is_named(tmp_path: Path):
    path = tmp_path / "index.faiss"
    write_index(flat_index(embeddings_of(9, 50), Metric.cosine), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(LapelError, match=r"index\.faiss: not a readable FAISS index"):
        read_index(path)


# -------------------------------------------------------------------------------------------------------- disagreements


@pytest.fixture(params=METRICS)
def metric(request: pytest.FixtureRequest) -> Metric:
    return request.param


@pytest.fixture
def found(metric: Metric) -> Neighbors:
    return exact(embeddings_of(10, 12), embeddings_of(11, 80), 5, metric)


def test_equal_searches_do_not_disagree(found: Neighbors, metric: Metric):
    assert both_ways(found, found, metric) == []
    copy = Neighbors(found.positions.copy(), found.scores.copy())
    assert both_ways(found, copy, metric) == []


def test_a_wrong_row_is_found(found: Neighbors, metric: Metric):
    stranger = next(row for row in range(80) if row not in found.positions[7])
    for place in range(4):
        assert both_ways(found, changed(found, {(7, place): stranger}), metric) == [7]


def test_a_row_missing_from_a_list_is_found(found: Neighbors, metric: Metric):
    other = rescored(changed(found, {(3, 4): -1}), {(3, 4): -np.inf})
    assert both_ways(found, other, metric) == [3]


def test_permuted_rows_with_the_scores_left_in_place_are_found(found: Neighbors, metric: Metric):
    first, second = (int(row) for row in found.positions[2, :2])
    assert abs(found.scores[2, 0] - found.scores[2, 1]) > 1e-3
    assert both_ways(found, changed(found, {(2, 0): second, (2, 1): first}), metric) == [2]


def test_ids_shifted_for_every_query_are_found(found: Neighbors, metric: Metric):
    assert both_ways(found, replace(found, positions=found.positions + 1), metric) == list(range(12))


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("off", [1e-3, -1e-3])
def test_a_score_off_by_a_thousandth_is_found(found: Neighbors, metric: Metric, place: int, off: float):
    other = rescored(found, {(5, place): float(found.scores[5, place]) + off})
    assert both_ways(found, other, metric) == [5]


def test_a_score_that_is_no_number_is_found(found: Neighbors, metric: Metric):
    assert both_ways(found, rescored(found, {(1, 2): np.nan}), metric) == [1]


def test_rounding_of_scores_is_accepted(found: Neighbors, metric: Metric):
    noise = np.random.default_rng(0).uniform(-1e-6, 1e-6, found.scores.shape).astype(np.float32)
    assert both_ways(found, replace(found, scores=found.scores * (1 + noise)), metric) == []


def test_swapped_near_ties_are_accepted(metric: Metric):
    sign = 1 if metric is Metric.cosine else -1
    first = neighbors_of([[4, 9, 2, 7]], [[sign * 0.5, sign * 0.5 - 1e-6, sign * 0.5 - 2e-6, sign * 0.5 - 0.1]])
    second = neighbors_of([[2, 4, 9, 7]], [[sign * 0.5, sign * 0.5 - 1e-6, sign * 0.5 - 2e-6, sign * 0.5 - 0.1]])
    assert both_ways(first, second, metric) == []


def test_another_row_that_ties_with_the_end_of_the_list_is_accepted(metric: Metric):
    sign = 1 if metric is Metric.cosine else -1
    scores = [[sign * 0.5 + 0.1, sign * 0.5, sign * 0.5 - 1e-6]]
    assert both_ways(neighbors_of([[4, 9, 2]], scores), neighbors_of([[4, 2, 8]], scores), metric) == []


def test_another_row_that_ties_amid_the_list_is_found(metric: Metric):
    sign = 1 if metric is Metric.cosine else -1
    scores = [[sign * 0.5, sign * 0.5 - 1e-6, sign * 0.5 - 0.1]]
    assert both_ways(neighbors_of([[4, 9, 2]], scores), neighbors_of([[4, 8, 2]], scores), metric) == [0]


def test_a_row_shown_twice_is_found(metric: Metric):
    sign = 1 if metric is Metric.cosine else -1
    scores = [[sign * 0.5, sign * 0.5 - 1e-6, sign * 0.5 - 0.1]]
    assert both_ways(neighbors_of([[4, 9, 2]], scores), neighbors_of([[4, 4, 2]], scores), metric) == [0]


def test_distances_are_compared_in_proportion():
    first, second = neighbors_of([[1, 2]], [[-1000.0, -2000.0]]), neighbors_of([[1, 2]], [[-1000.005, -2000.01]])
    assert both_ways(first, second, Metric.euclidean) == []
    assert both_ways(first, neighbors_of([[1, 2]], [[-1000.1, -2000.0]]), Metric.euclidean) == [0]


def test_only_the_queries_that_differ_are_listed(found: Neighbors, metric: Metric):
    strangers = [next(row for row in range(80) if row not in found.positions[query]) for query in range(12)]
    other = changed(found, {(query, 1): strangers[query] for query in (0, 6, 11)})
    assert both_ways(found, other, metric) == [0, 6, 11]
