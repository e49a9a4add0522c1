"""Search and scores against plain loops, and against pytorch-metric-learning's accuracy calculator."""

from collections.abc import Collection

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from torch import Tensor

from lapel.config.variant import Metric
from lapel.errors import LapelError
from lapel.retrieval import Depth, Scores, equal_pairs, grade_lists, score, search
from lapel.retrieval.exact import highest_by_keys, highest_by_partition, nearest_of_tile
from lapel.retrieval.pairs import count_matches
from lapel.retrieval.ranking import Ranking, Sought, ranking, rankings
from lapel.retrieval.scoring import grade_ranks, precisions_at_levels
from lapel.retrieval.tiles import GALLERY_TILE, QUERY_TILE, ROW_TILE, Tiles

METRICS = list(Metric)
FEW = settings(max_examples=40, deadline=None)


def embeddings_of(seed: int, count: int, dimensions: int = 8) -> Tensor:
    """Unit vectors in general position: no two similarities are equal."""
    drawn = torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn, dim=1)


def integers_of(seed: int, count: int, dimensions: int = 3) -> Tensor:
    """Few different vectors, whose similarities float32 holds exactly: nearly all of them tie."""
    drawn = torch.randint(-1, 2, (count, dimensions), generator=torch.Generator().manual_seed(seed))
    return drawn.float()


def clusters_of(seed: int, items: np.ndarray, spread: float, dimensions: int = 8) -> Tensor:
    """Unit vectors around one centre an item: most queries find a match near the top, and some do not."""
    centres = embeddings_of(seed, int(items.max()) + 1, dimensions)[torch.from_numpy(items)]
    noise = torch.randn(len(items), dimensions, generator=torch.Generator().manual_seed(seed + 1))
    return torch.nn.functional.normalize(centres + spread * noise, dim=1)


def exact_similarities(queries: Tensor, gallery: Tensor, metric: Metric) -> np.ndarray:
    """float64 `[queries, gallery]`, one at a time."""
    left, right = queries.double().numpy(), gallery.double().numpy()
    if metric is Metric.cosine:
        return np.array([[float(np.sum(a * b)) for b in right] for a in left])
    return np.array([[-float(np.sqrt(np.sum((a - b) ** 2))) for b in right] for a in left])


def excluded_of(query: int, exclude: np.ndarray | None) -> set[int]:
    return set() if exclude is None else {int(place) for each, place in exclude if each == query}


def some_pairs(seed: int, queries: int, gallery: int) -> np.ndarray:
    """Random (query, gallery) positions: none, one or several of a query."""
    return np.argwhere(np.random.default_rng(seed).random((queries, gallery)) < 0.15)


def each_itself(count: int) -> np.ndarray:
    """Leave-one-out of so many images."""
    return equal_pairs(np.arange(count), np.arange(count))


def ranked(row: np.ndarray, excluded: Collection[int] = ()) -> list[int]:
    """Positions by falling similarity, the lower one first among equals."""
    return sorted((place for place in range(len(row)) if place not in excluded), key=lambda place: (-row[place], place))


def search_loop(
    queries: Tensor, gallery: Tensor, k: int, metric: Metric, exclude: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    positions = np.full((len(queries), k), -1)
    scores = np.full((len(queries), k), -np.inf)
    for query, row in enumerate(exact_similarities(queries, gallery, metric)):
        order = ranked(row, excluded_of(query, exclude))[:k]
        positions[query, : len(order)] = order
        scores[query, : len(order)] = row[order]
    return positions, scores


def score_loop(
    queries: Tensor,
    gallery: Tensor,
    query_items: np.ndarray,
    gallery_items: np.ndarray,
    metric: Metric,
    k: list[int],
    exclude: np.ndarray | None = None,
) -> dict[int, dict[str, float]]:
    """Grades of each query that has a match, by their definitions."""
    graded = {}
    for query, row in enumerate(exact_similarities(queries, gallery, metric)):
        order = ranked(row, excluded_of(query, exclude))
        hits = [bool(gallery_items[place] == query_items[query]) for place in order]
        total = sum(hits)
        if total == 0:
            continue
        grades = {"mrr": 1 / (hits.index(True) + 1), "r_precision": sum(hits[:total]) / total}
        grades["map"] = sum(sum(hits[:rank]) / rank for rank in range(1, len(hits) + 1) if hits[rank - 1]) / total
        grades["map@r"] = sum(sum(hits[:rank]) / rank for rank in range(1, total + 1) if hits[rank - 1]) / total
        for each in k:
            grades[f"recall@{each}"] = float(any(hits[:each]))
            grades[f"precision@{each}"] = sum(hits[:each]) / each
        graded[query] = grades
    return graded


def assert_graded(found: Scores, expected: dict[int, dict[str, float]], queries: int) -> None:
    assert found.queries.tolist() == list(expected)
    assert found.unmatched == queries - len(expected)
    assert set(found.grades) == set(next(iter(expected.values())))
    for name, grades in found.grades.items():
        assert grades.dtype == np.float64
        np.testing.assert_allclose(grades, [each[name] for each in expected.values()], rtol=1e-12, err_msg=name)


def assert_same_scores(one: Scores, other: Scores) -> None:
    np.testing.assert_array_equal(one.curves, other.curves)
    np.testing.assert_array_equal(one.queries, other.queries)
    assert one.grades.keys() == other.grades.keys()
    for name in one.grades:
        np.testing.assert_array_equal(one.grades[name], other.grades[name])


# --------------------------------------------------------------------------------------------------------------- search


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 7, 60])
def test_search_equals_a_full_sort(metric: Metric, k: int):
    queries, gallery = embeddings_of(0, 20), embeddings_of(1, 60)
    found = search(queries, gallery, k, metric)
    positions, scores = search_loop(queries, gallery, k, metric)
    np.testing.assert_array_equal(found.positions, positions)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-6, atol=1e-7)
    assert found.positions.dtype == np.int64
    assert found.scores.dtype == np.float32


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 5, 40])
def test_ties_are_ordered_by_position(metric: Metric, k: int):
    queries, gallery = integers_of(0, 15), integers_of(1, 90)
    found = search(queries, gallery, k, metric)
    positions, scores = search_loop(queries, gallery, k, metric)
    np.testing.assert_array_equal(found.positions, positions)
    np.testing.assert_array_equal(found.scores, scores.astype(np.float32))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [3, 49, 50])
def test_search_leaves_out_the_query_itself(metric: Metric, k: int):
    gallery = integers_of(2, 50)
    queries = gallery[10:20]
    exclude = np.column_stack([np.arange(10), np.arange(10, 20)])
    exclude = np.delete(exclude, 3, axis=0)
    found = search(queries, gallery, k, metric, exclude)
    positions, scores = search_loop(queries, gallery, k, metric, exclude)
    np.testing.assert_array_equal(found.positions, positions)
    np.testing.assert_array_equal(found.scores, scores.astype(np.float32))
    for query, itself in exclude:
        assert itself not in found.positions[query]


@pytest.mark.parametrize("metric", METRICS)
def test_lists_longer_than_the_gallery_are_filled_up(metric: Metric):
    queries, gallery = embeddings_of(0, 3), embeddings_of(1, 4)
    found = search(queries, gallery, 9, metric, np.array([[0, 0], [2, 2]]))
    assert (found.positions >= 0).sum(1).tolist() == [3, 4, 3]
    positions, _ = search_loop(queries, gallery, 9, metric, np.array([[0, 0], [2, 2]]))
    np.testing.assert_array_equal(found.positions, positions)
    np.testing.assert_array_equal(np.isneginf(found.scores), found.positions == -1)


@FEW
@given(
    seed=st.integers(0, 10_000),
    queries=st.integers(1, 6),
    gallery=st.integers(1, 40),
    k=st.integers(1, 45),
    metric=st.sampled_from(METRICS),
)
def test_any_search_equals_a_full_sort(seed: int, queries: int, gallery: int, k: int, metric: Metric):
    exclude = some_pairs(seed, queries, gallery)
    tensors = integers_of(seed, queries, 2), integers_of(seed + 1, gallery, 2)
    found = search(*tensors, k, metric, exclude)
    positions, scores = search_loop(*tensors, k, metric, exclude)
    np.testing.assert_array_equal(found.positions, positions)
    np.testing.assert_array_equal(found.scores, scores.astype(np.float32))


@pytest.mark.parametrize("metric", METRICS)
def test_the_memory_allowed_changes_nothing(metric: Metric):
    queries, gallery = embeddings_of(3, 700, 16), embeddings_of(4, 500, 16)
    items = np.arange(700) % 60
    labels = items, items[:500]
    scores = [
        score(queries, gallery, *labels, metric, [1, 5], memory=memory, depth=Depth.all) for memory in (0.001, 1, 256)
    ]
    for other in scores[1:]:
        assert_same_scores(other, scores[0])


@pytest.mark.parametrize("metric", METRICS)
def test_a_gallery_of_several_tiles_is_searched_whole(metric: Metric):
    gallery = integers_of(5, GALLERY_TILE + 50, 4)
    gallery[GALLERY_TILE + 7] = torch.tensor([5.0, 5, 5, 5])
    queries = torch.tensor([[5.0, 5, 5, 5], [-1, 1, 0, 1]]).repeat(70, 1)
    found = search(queries, gallery, 3, metric)
    product = queries[:2].double().numpy() @ gallery.double().numpy().T
    if metric is Metric.euclidean:
        product = 2 * product - (gallery.double().numpy() ** 2).sum(1)
    expected = np.argsort(-product, axis=1, kind="stable")[:, :3]
    assert expected[0, 0] == GALLERY_TILE + 7
    np.testing.assert_array_equal(found.positions, np.tile(expected, (70, 1)))


def test_near_images_come_apart_in_euclidean_distance():
    # From products in float32 these squared distances (1e-8 to 2.5e-7) would be off by about 1e-5.
    gallery = torch.full((6, 4), 5.0) + torch.arange(6)[:, None] * torch.tensor([[1e-4, 0, 0, 0]])
    found = search(gallery[:1], gallery, 6, Metric.euclidean)
    assert found.positions.tolist() == [[0, 1, 2, 3, 4, 5]]
    np.testing.assert_allclose(found.scores[0], -1e-4 * np.arange(6), atol=5e-7)


def test_search_is_exact_where_all_images_are_alike():
    """An embedding that has nearly collapsed: all of length 10, about 0.01 apart."""
    generator = torch.Generator().manual_seed(0)
    offset = torch.nn.functional.normalize(torch.randn(16, generator=generator), dim=0) * 10
    gallery = offset + 0.01 * torch.randn(300, 16, generator=generator) / 4
    found = search(gallery[:10], gallery, 5, Metric.euclidean)
    positions, _ = search_loop(gallery[:10], gallery, 5, Metric.euclidean)
    np.testing.assert_array_equal(found.positions, positions)


# ---------------------------------------------------------------------------------------------------------------- score


@pytest.mark.parametrize("metric", METRICS)
def test_scores_of_two_disjoint_parts_equal_a_loop(metric: Metric):
    query_items = np.array([0, 1, 2, 3, 0, 9, 4, 4, 8, 2])
    gallery_items = np.random.default_rng(0).integers(0, 6, 40)
    queries, gallery = embeddings_of(6, 10), embeddings_of(7, 40)
    found = score(queries, gallery, query_items, gallery_items, metric, [1, 3, 10], depth=Depth.all)
    expected = score_loop(queries, gallery, query_items, gallery_items, metric, [1, 3, 10])
    assert found.unmatched == 2
    assert_graded(found, expected, 10)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("integers", [True, False])
def test_leave_one_out_scores_equal_a_loop(metric: Metric, integers: bool):
    # Item 7 has one image: left out of the gallery, nothing is there to find.
    items = np.array([0, 1, 2, 0, 1, 2, 0, 3, 3, 3, 7, 4, 4, 0, 5, 5, 5, 5])
    rows = np.arange(18) * 2
    embeddings = integers_of(8, 18) if integers else embeddings_of(8, 18)
    exclude = equal_pairs(rows, rows)
    found = score(embeddings, embeddings, items, items, metric, [1, 2, 30], exclude, depth=Depth.all)
    expected = score_loop(embeddings, embeddings, items, items, metric, [1, 2, 30], exclude)
    assert found.unmatched == 1
    assert_graded(found, expected, 18)


@FEW
@given(
    seed=st.integers(0, 10_000),
    query_items=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    gallery_items=st.lists(st.integers(0, 3), min_size=1, max_size=20),
    k=st.lists(st.integers(1, 25), min_size=1, max_size=3, unique=True),
    metric=st.sampled_from(METRICS),
)
def test_any_scores_equal_a_loop(
    seed: int, query_items: list[int], gallery_items: list[int], k: list[int], metric: Metric
):
    exclude = some_pairs(seed, len(query_items), len(gallery_items))
    tensors = integers_of(seed, len(query_items), 2), integers_of(seed + 1, len(gallery_items), 2)
    labels = np.array(query_items), np.array(gallery_items)
    expected = score_loop(*tensors, *labels, metric, k, exclude)
    if expected:
        assert_graded(score(*tensors, *labels, metric, k, exclude, depth=Depth.all), expected, len(query_items))
    else:
        with pytest.raises(LapelError, match="no query has a match"):
            score(*tensors, *labels, metric, k, exclude)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("tied", [True, False])
def test_the_first_match_is_found_below_the_end_of_the_list(metric: Metric, tied: bool):
    gallery = torch.ones(30, 2) if tied else torch.tensor([[1.0 - place / 100, 0.0] for place in range(30)])
    items = np.zeros(30, np.int64)
    items[21] = 1
    grades = score(torch.tensor([[1.0, 0.0]]), gallery, np.array([1]), items, metric, [1]).means()
    assert grades["mrr"] == pytest.approx(1 / 22)
    assert grades["recall@1"] == grades["map@r"] == grades["r_precision"] == 0


def test_means_are_over_the_queries_that_have_a_match():
    found = score(
        torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]),
        torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        np.array([0, 5, 0]),
        np.array([0, 1]),
        Metric.cosine,
        [1],
    )
    assert found.queries.tolist() == [0, 2]
    assert found.unmatched == 1
    expected = {"recall@1": 0.5, "precision@1": 0.5, "map@r": 0.5, "r_precision": 0.5, "mrr": 0.75}
    assert found.means() == expected


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("leave_one_out", [True, False])
def test_scores_equal_pytorch_metric_learning(metric: Metric, leave_one_out: bool):
    items = np.random.default_rng(1).integers(0, 12, 150)
    embeddings = clusters_of(9, items, spread=0.2)
    start = 0 if leave_one_out else 50
    gallery, gallery_items = embeddings[start:], items[start:]
    queries, query_items = (embeddings, items) if leave_one_out else (embeddings[:50], items[:50])
    ours = score(
        queries, gallery, query_items, gallery_items, metric, [1], each_itself(150) if leave_one_out else None
    ).means()
    distance = CosineSimilarity() if metric is Metric.cosine else LpDistance(normalize_embeddings=False)
    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r", "mean_reciprocal_rank"),
        k="max_bin_count",
        device=torch.device("cpu"),
        knn_func=CustomKNN(distance),
    )
    theirs = calculator.get_accuracy(
        queries,
        torch.from_numpy(query_items),
        gallery,
        torch.from_numpy(gallery_items),
        ref_includes_query=leave_one_out,
    )
    assert ours["precision@1"] == ours["recall@1"] == pytest.approx(theirs["precision_at_1"])
    assert ours["r_precision"] == pytest.approx(theirs["r_precision"])
    assert ours["map@r"] == pytest.approx(theirs["mean_average_precision_at_r"])
    assert 0.3 < ours["map@r"] < 0.95
    # Theirs looks no farther down than its k; here every first match is within.
    assert ours["mrr"] == pytest.approx(theirs["mean_reciprocal_rank"])


def test_a_graded_list_by_hand():
    hits = np.array([[False, True, True, False, True]])
    assert {name: float(each[0]) for name, each in grade_lists(hits, [1, 2, 5]).items()} == {
        "recall@1": 0.0,
        "recall@2": 1.0,
        "recall@5": 1.0,
        "precision@1": 0.0,
        "precision@2": 0.5,
        "precision@5": 0.6,
    }
    graded = grade_ranks(hits, np.array([2]), np.array([3]), Depth.all)
    assert {name: float(each[0]) for name, each in graded.items()} == {
        "map@r": pytest.approx((1 / 2 + 2 / 3) / 3),
        "r_precision": pytest.approx(2 / 3),
        "mrr": 0.5,
        "map": pytest.approx((1 / 2 + 2 / 3 + 3 / 5) / 3),
    }


# ---------------------------------------------------------------------------------------------------------- adversarial


@pytest.mark.parametrize("metric", METRICS)
def test_all_of_one_item_score_one(metric: Metric):
    embeddings, items = embeddings_of(10, 9), np.zeros(9, np.int64)
    means = score(embeddings, embeddings, items, items, metric, [1, 8], each_itself(9)).means()
    assert set(means.values()) == {1.0}


@pytest.mark.parametrize("metric", METRICS)
def test_equal_embeddings_get_no_credit(metric: Metric):
    """A collapsed model scores what the order of the gallery gives, here nothing at the top."""
    embeddings = torch.full((12, 4), 0.5)
    items = np.array([9, 9, 9, 9, 9, 0, 1, 2, 3, 4, 5, 6])
    queries, query_items = embeddings[:7], np.arange(7)
    found = score(queries, embeddings, query_items, items, metric, [1, 5], depth=Depth.all)
    assert found.means()["recall@5"] == 0
    np.testing.assert_allclose(found.grades["mrr"], 1 / np.arange(6, 13))
    assert_graded(found, score_loop(queries, embeddings, query_items, items, metric, [1, 5]), 7)


def test_nothing_to_find_is_refused():
    embeddings = embeddings_of(11, 4)
    with pytest.raises(LapelError, match="no query has a match"):
        score(embeddings, embeddings, np.arange(4), np.arange(4) + 4, Metric.cosine, [1])
    with pytest.raises(LapelError, match="no query has a match"):
        score(embeddings, embeddings, np.arange(4), np.arange(4), Metric.cosine, [1], each_itself(4))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_embeddings_that_are_not_finite_are_counted_and_refused(bad: float):
    fine, broken = embeddings_of(12, 6), embeddings_of(13, 6)
    broken[[2, 4], 1] = bad
    items = np.zeros(6, np.int64)
    with pytest.raises(LapelError, match="2 of 6 queries embeddings are NaN or infinite, the first at position 2"):
        search(broken, fine, 3, Metric.cosine)
    with pytest.raises(LapelError, match="2 of 6 gallery embeddings are NaN or infinite, the first at position 2"):
        score(fine, broken, items, items, Metric.euclidean, [1])


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(k: int):
    embeddings, items = embeddings_of(14, 4), np.zeros(4, np.int64)
    with pytest.raises(LapelError, match=f"k={k}: must be at least 1"):
        search(embeddings, embeddings, k, Metric.cosine)
    with pytest.raises(LapelError, match=f"k={k}: must be at least 1"):
        score(embeddings, embeddings, items, items, Metric.cosine, [5, k])


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((3,), (2, 3)), ((2, 3), (2, 3, 1))])
def test_embeddings_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]):
    with pytest.raises(LapelError, match="do not fit together"):
        search(torch.zeros(shapes[0]), torch.zeros(shapes[1]), 1, Metric.cosine)


@pytest.mark.parametrize(("queries", "gallery"), [(0, 3), (3, 0)])
def test_nothing_to_search_is_refused(queries: int, gallery: int):
    with pytest.raises(LapelError, match="nothing to search"):
        search(torch.zeros(queries, 2), torch.zeros(gallery, 2), 1, Metric.cosine)


def test_labels_that_float32_would_merge_stay_apart():
    base = 2**24
    gallery = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    items = np.array([base + 1, base, base + 2])
    grades = score(torch.tensor([[1.0, 0.0]]), gallery, np.array([base]), items, Metric.cosine, [1]).means()
    assert grades["recall@1"] == 0
    assert grades["mrr"] == 0.5
    assert grades["map@r"] == 0  # the one match is second; with merged labels it would be first of two


def test_embeddings_given_are_not_changed():
    embeddings = embeddings_of(15, 20)
    before = embeddings.clone()
    items = np.arange(20) // 2
    search(embeddings, embeddings, 3, Metric.euclidean, each_itself(20))
    score(embeddings, embeddings, items, items, Metric.cosine, [1], each_itself(20))
    assert torch.equal(embeddings, before)


# ----------------------------------------------------------------------------------------------------------------- tops


def top_loop(values: np.ndarray, k: int) -> list[list[int]]:
    return [ranked(row)[:k] for row in values]


@FEW
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 5),
    width=st.integers(1, 30),
    different=st.integers(1, 8),
    data=st.data(),
)
def test_both_tops_equal_a_sort(seed: int, rows: int, width: int, different: int, data: st.DataObject):
    k = data.draw(st.integers(1, width))
    pool = np.array([0.0, -0.0, 1.0, -np.inf, -1.5, 2.0**-140, -(2.0**-140), 3e38], np.float32)[:different]
    values = np.random.default_rng(seed).choice(pool, (rows, width))
    expected = top_loop(values, k)
    for top in (highest_by_partition, highest_by_keys):
        tops, columns = top(torch.from_numpy(values.copy()), k)
        assert columns.tolist() == expected, top.__name__
        np.testing.assert_array_equal(tops.numpy(), np.take_along_axis(values, np.array(expected), 1))


def test_both_tops_agree_on_ordinary_values():
    values = torch.randn(20, 300, generator=torch.Generator().manual_seed(0))
    for one, other in zip(highest_by_partition(values, 25), highest_by_keys(values, 25), strict=True):
        np.testing.assert_array_equal(one, other)


@FEW
@given(seed=st.integers(0, 10_000), k=st.integers(1, 40), integers=st.booleans(), metric=st.sampled_from(METRICS))
def test_tiles_give_their_highest(seed: int, k: int, integers: bool, metric: Metric):
    """Over several parts of the gallery, of which one has no whole number of blocks."""
    make = integers_of if integers else embeddings_of
    queries, gallery = make(seed, 5, 3), make(seed + 1, 2 * GALLERY_TILE + 77, 3)
    exclude = np.sort(np.random.default_rng(seed).integers(0, (5, len(gallery)), (20, 2)), axis=0)
    exclude = np.unique(exclude, axis=0)
    tiles = Tiles(queries, gallery, metric, exclude)
    values, positions = nearest_of_tile(tiles, slice(0, 5), k, torch.empty(QUERY_TILE * GALLERY_TILE))
    ((_, rows),) = tiles.rows()
    expected = [ranked(row, np.flatnonzero(np.isneginf(row)).tolist())[:k] for row in rows.numpy()]
    assert positions.tolist() == expected
    np.testing.assert_array_equal(values, np.take_along_axis(rows.numpy(), np.array(expected), 1))


# ---------------------------------------------------------------------------------------------------------------- ranks


def assert_ranked(found: Ranking, rows: np.ndarray, sought: Sought) -> None:
    """Against a sort of each whole row."""
    for place, query in enumerate(found.queries):
        row = rows[place]
        order = ranked(row, np.flatnonzero(np.isneginf(row)).tolist())
        alike = np.flatnonzero(np.isin(sought.gallery_sets[order], sought.query_sets[query]).any(1)) + 1
        total = int(sought.relevant[query])
        assert len(alike) == total
        assert found.first[place] == (alike[0] if total else 0)
        assert found.positions[place].tolist() == (order + [-1] * sought.least)[: sought.least]
        listed = order[: sought.least]
        np.testing.assert_array_equal(found.values[place][: len(listed)], row[listed])
        assert np.isneginf(found.values[place][len(listed) :]).all()
        hits = np.flatnonzero(found.hits[place]) + 1
        depth = total if sought.depth is Depth.within_r else len(row)
        np.testing.assert_array_equal(hits[hits <= depth], alike[alike <= depth])


NEAR = np.array([0.5, 0.0, -0.25, 1e-42, 3e30], np.float32)


@FEW
@given(
    seed=st.integers(0, 10_000),
    width=st.sampled_from([1, 7, 60, 900]),
    ties=st.sampled_from(["none", "some", "most", "last bit"]),
    depth=st.sampled_from([Depth.within_r, Depth.all]),
    items=st.sampled_from([1, 4, 60]),
)
def test_rankings_are_those_of_a_full_sort(seed: int, width: int, ties: str, depth: Depth, items: int):
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((6, width)).astype(np.float32)
    if ties == "some":
        rows = (rows * 200).round() / 200
    elif ties == "most":
        rows = np.sign(rows.round()) * np.float32(0.5)
    elif ties == "last bit":
        chosen = generator.choice(np.concatenate([NEAR, -NEAR]), rows.shape)
        rows = (chosen.view(np.int32) + generator.integers(0, 4, rows.shape).astype(np.int32)).view(np.float32)
    rows[generator.random(rows.shape) < 0.1] = -np.inf
    query_sets, gallery_sets = generator.integers(0, items, (6, 1)), generator.integers(0, items, (width, 1))
    alike = (query_sets == gallery_sets.T) & ~np.isneginf(rows)
    sought = Sought(query_sets, gallery_sets, alike.sum(1), depth, min(width, int(generator.integers(1, 40))))
    assert_ranked(ranking(rows, np.arange(6), sought), rows, sought)


@FEW
@given(seed=st.integers(0, 10_000), depth=st.sampled_from([Depth.within_r, Depth.all]), metric=st.sampled_from(METRICS))
def test_rankings_of_images_of_several_items(seed: int, depth: Depth, metric: Metric):
    generator = np.random.default_rng(seed)
    queries, gallery = embeddings_of(seed, ROW_TILE + 3, 2), embeddings_of(seed + 1, 50, 2)
    query_sets, gallery_sets = (some_sets(generator, count) for count in (len(queries), 50))
    exclude = some_pairs(seed, len(queries), 50)
    tiles = Tiles(queries, gallery, metric, exclude)
    sought = Sought(query_sets, gallery_sets, count_matches(query_sets, gallery_sets, exclude), depth, 7)
    ((_, rows),) = tiles.rows()
    seen = []
    for found in rankings(tiles, sought, 0.001, lambda each: each):
        seen += found.queries.tolist()
        assert_ranked_several(found, rows.numpy()[found.queries], sought)
    assert sorted(seen) == list(range(len(queries)))


def some_sets(generator: np.random.Generator, count: int) -> np.ndarray:
    """One or two different items of each image."""
    first = generator.integers(0, 9, count)
    second = np.where(generator.random(count) < 0.5, -1, (first + generator.integers(1, 9, count)) % 9)
    return np.column_stack([first, second])


def assert_ranked_several(found: Ranking, rows: np.ndarray, sought: Sought) -> None:
    for place, query in enumerate(found.queries):
        order = ranked(rows[place], np.flatnonzero(np.isneginf(rows[place])).tolist())
        wanted = set(sought.query_sets[query].tolist()) - {-1}
        alike = [rank for rank, each in enumerate(order, 1) if wanted & set(sought.gallery_sets[each].tolist())]
        assert len(alike) == sought.relevant[query]
        hits = np.flatnonzero(found.hits[place]) + 1
        depth = len(alike) if sought.depth is Depth.within_r else len(order)
        assert hits[hits <= depth].tolist() == [rank for rank in alike if rank <= depth]
        assert found.first[place] == (alike[0] if alike else 0)


def test_the_curve_is_the_precision_where_so_many_matches_are_found():
    generator = np.random.default_rng(5)
    hits = generator.random((30, 40)) < 0.3
    hits[:, 0] = True
    curves = precisions_at_levels(hits, hits.sum(1))
    for row, curve in zip(hits, curves, strict=True):
        ranks = np.flatnonzero(row) + 1
        for level, precision in enumerate(curve):
            number = next(count for count in range(1, len(ranks) + 1) if 100 * count >= level * len(ranks))
            assert precision == pytest.approx(number / ranks[number - 1])


# ------------------------------------------------------------------------------------------------------------- float64


@pytest.mark.parametrize("metric", METRICS)
def test_lists_are_those_of_float64_however_many_images_are_nearly_one(metric: Metric):
    """A collapsed model: 400 unit vectors within 1e-7 of each other, which float32's products cannot tell apart."""
    generator = torch.Generator().manual_seed(3)
    centre = torch.nn.functional.normalize(torch.randn(24, generator=generator), dim=0)
    gallery = torch.nn.functional.normalize(centre + 1e-7 * torch.randn(400, 24, generator=generator), dim=1)
    found = search(gallery[:20], gallery, 7, metric, each_itself(20))
    positions, scores = search_loop(gallery[:20], gallery, 7, metric, each_itself(20))
    np.testing.assert_allclose(found.scores, scores, atol=1e-7)
    apart = np.abs(np.diff(scores)) > 1e-15  # the loop's own sums are rounded too
    same = found.positions == positions
    assert same[:, :-1][apart].mean() > 0.95


def test_copies_of_one_image_are_listed_by_position():
    generator = torch.Generator().manual_seed(4)
    image = torch.nn.functional.normalize(torch.randn(1, 48, generator=generator), dim=1)
    gallery = torch.cat([image.repeat(GALLERY_TILE + 30, 1), -image])
    found = search(image.repeat(3, 1), gallery, 5, Metric.cosine)
    assert found.positions.tolist() == [[0, 1, 2, 3, 4]] * 3


# ---------------------------------------------------------------------------------------------------------- equal pairs


@FEW
@given(
    queries=st.lists(st.integers(0, 30), min_size=1, max_size=12),
    gallery=st.lists(st.integers(0, 30), min_size=1, max_size=12),
)
def test_equal_pairs_are_those_of_a_loop(queries: list[int], gallery: list[int]):
    expected = [
        [query, place] for query, code in enumerate(queries) for place, other in enumerate(gallery) if code == other
    ]
    assert equal_pairs(np.array(queries), np.array(gallery)).tolist() == expected


def test_an_item_named_twice_for_an_image_is_one_match():
    sets = np.array([[1, -1, -1], [1, 1, 1], [2, 1, 2], [-1, -1, -1]])
    assert count_matches(np.array([[1], [2], [-1], [3]]), sets, None).tolist() == [3, 1, 0, 0]


def test_a_gallery_without_items_has_no_matches():
    assert count_matches(np.array([[1], [2]]), np.array([[-1], [-1]]), None).tolist() == [0, 0]


@pytest.mark.parametrize("metric", list(Metric))
def test_embeddings_whose_products_overflow_are_refused(metric: Metric):
    short, long = torch.ones(2, 3), torch.tensor([[1.0, 1, 1], [1e20, 0, 0]])
    with pytest.raises(LapelError, match=r"longest of the gallery embeddings is .*: must be at most 1e\+18"):
        search(short, long, 1, metric)
    near = search(short, torch.tensor([[1e17, 0, 0], [2e17, 0, 0]]), 1, metric)
    assert near.positions[:, 0].tolist() == ([1, 1] if metric is Metric.cosine else [0, 0])


def test_any_amount_of_memory_is_taken():
    tiles = Tiles(embeddings_of(0, 5, 3), embeddings_of(1, 7, 3), Metric.cosine, None)
    ((_, rows),) = tiles.rows(float("inf"))
    assert rows.shape == (5, 7)
