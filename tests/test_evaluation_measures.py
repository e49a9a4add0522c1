"""Measures of an evaluation against scikit-learn and plain loops."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import confusion_matrix, ndcg_score, roc_auc_score, roc_curve
from sklearn.neighbors import KNeighborsClassifier

from lapel.config.variant import Metric
from lapel.errors import LapelError
from lapel.evaluation.classification import confusion, nearest_classes
from lapel.evaluation.graded import column_codes, ndcg
from lapel.evaluation.intervals import bootstrap, paired_bootstrap
from lapel.evaluation.tables import grades_by
from lapel.evaluation.verification import Pairs, choose_pairs, similarities, verification
from lapel.retrieval import equal_pairs, search

FEW = settings(max_examples=40, deadline=None)


# ------------------------------------------------------------------------------------------------------- verification


@FEW
@given(
    seed=st.integers(0, 10_000),
    values=st.integers(1, 30),
    count=st.integers(2, 60),
    rate=st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]),
)
def test_verification_equals_scikit_learn(seed: int, values: int, count: int, rate: float):
    generator = np.random.default_rng(seed)
    similarity = generator.integers(0, values, count) / values
    alike = generator.random(count) < 0.4
    assume(0 < alike.sum() < count)
    found = verification(similarity, alike, [rate])
    assert found["auc"] == pytest.approx(roc_auc_score(alike, similarity))
    thresholds = [np.inf, *np.unique(similarity)[::-1]]
    points = [((similarity[~alike] >= each).mean(), (similarity[alike] >= each).mean()) for each in thresholds]
    assert found[f"tpr@fpr={rate:g}"] == max(hit for accepted, hit in points if accepted <= rate)
    # The equal error rate lies between the errors at the two thresholds around it.
    crossing = next(place for place, (accepted, hit) in enumerate(points) if accepted >= 1 - hit)
    (low, before), (high, after) = points[max(crossing - 1, 0)], points[crossing]
    assert low - 1e-12 <= found["eer"] <= high + 1e-12
    assert 1 - after - 1e-12 <= found["eer"] <= 1 - before + 1e-12


def test_the_equal_error_rate_of_overlapping_scores():
    generator = np.random.default_rng(0)
    similarity = np.concatenate([generator.normal(1, 1, 50_000), generator.normal(-1, 1, 50_000)])
    alike = np.arange(100_000) < 50_000
    assert verification(similarity, alike, [])["eer"] == pytest.approx(0.158655, abs=0.003)  # the normal's tail at -1
    accepted, hit, _ = roc_curve(alike, similarity)
    assert verification(similarity, alike, [])["eer"] == pytest.approx(
        accepted[np.argmin(np.abs(accepted + hit - 1))], abs=1e-4
    )


@FEW
@given(
    seed=st.integers(0, 10_000),
    queries=st.integers(1, 8),
    gallery=st.integers(2, 12),
    several=st.booleans(),
    share=st.sampled_from([0.2, 1.0]),
)
def test_pairs_are_what_they_say(seed: int, queries: int, gallery: int, several: bool, share: float):
    generator = np.random.default_rng(seed)
    width = 2 if several else 1
    query_sets, gallery_sets = generator.integers(0, 4, (queries, width)), generator.integers(0, 4, (gallery, width))
    if several:
        gallery_sets[generator.random(gallery) < 0.5, 1] = -1
    exclude = np.argwhere(generator.random((queries, gallery)) < 0.2)
    allowed = {(q, g) for q in range(queries) for g in range(gallery)} - set(map(tuple, exclude.tolist()))
    alike = {(q, g): bool(set(query_sets[q]) & (set(gallery_sets[g]) - {-1})) for q, g in allowed}
    most = max(2, int(share * queries * gallery))
    try:
        found = choose_pairs(query_sets, gallery_sets, exclude, most, seed)
    except LapelError:
        assert len(set(alike.values())) < 2 or share < 1
        return
    chosen = list(zip(found.queries.tolist(), found.gallery.tolist(), strict=True))
    assert len(set(chosen)) == len(chosen) <= most
    assert [alike[pair] for pair in chosen] == found.alike.tolist()
    assert found.complete == (queries * gallery <= most)
    if found.complete:
        assert set(chosen) == allowed


def test_a_sample_is_half_matches_and_even():
    items = np.repeat([0, 1, 2], [50, 100, 150])[:, None]
    exclude = equal_pairs(np.arange(300), np.arange(300))
    found = choose_pairs(items, items, exclude, 20_000, 1)
    again = choose_pairs(items, items, exclude, 20_000, 1)
    np.testing.assert_array_equal(found.queries, again.queries)
    assert found.alike.sum() == 10_000
    matches = found.queries[found.alike]
    expected = np.array([50 * 49, 100 * 99, 150 * 149]) / (50 * 49 + 100 * 99 + 150 * 149)
    np.testing.assert_allclose(np.bincount(items[matches, 0]) / 10_000, expected, atol=0.02)


@pytest.mark.parametrize("metric", list(Metric))
def test_similarities_of_pairs(metric: Metric):
    embeddings = torch.nn.functional.normalize(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    pairs = Pairs(np.array([0, 3, 7]), np.array([1, 3, 19]), np.array([True, False, True]), complete=False)
    left, right = embeddings[[0, 3, 7]].double(), embeddings[[1, 3, 19]].double()
    expected = (left * right).sum(1) if metric is Metric.cosine else -(left - right).norm(dim=1)
    np.testing.assert_allclose(similarities(embeddings, embeddings, pairs, metric), expected.numpy(), atol=1e-6)


def test_verification_needs_both_kinds():
    one = np.zeros((3, 1), np.int64)
    none = np.empty((0, 2), np.int64)
    with pytest.raises(LapelError, match=r"no pair .* is of two items"):
        choose_pairs(one, one, none, 100, 0)
    with pytest.raises(LapelError, match=r"no pair .* is of one item"):
        choose_pairs(one, one + 1, none, 100, 0)


# --------------------------------------------------------------------------------------------------------------- nDCG


@FEW
@given(seed=st.integers(0, 10_000), k=st.lists(st.integers(1, 12), min_size=1, max_size=2, unique=True))
def test_ndcg_equals_scikit_learn(seed: int, k: list[int]):
    generator = np.random.default_rng(seed)
    queries, gallery = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed)), 9
    embeddings = torch.randn(gallery, 4, generator=torch.Generator().manual_seed(seed + 1))
    codes = generator.integers(-1, 3, (6, 3)), generator.integers(-1, 3, (gallery, 3))
    gains = np.array([3.0, 1.0, 1.0])
    exclude = np.argwhere(generator.random((6, gallery)) < 0.2)
    found = search(queries, embeddings, max(k), Metric.euclidean, exclude).positions
    grades = ndcg(found, *codes, gains, k, exclude)
    for query in range(6):
        left = sorted(set(range(gallery)) - {place for each, place in exclude.tolist() if each == query})
        same = (codes[0][query] == codes[1][left]) & (codes[0][query] >= 0)
        relevance = same @ gains
        similarity = -(queries[query].double() - embeddings[left].double()).norm(dim=1).numpy()
        for each in k:
            value = grades[f"ndcg@{each}"][query]
            if relevance.sum() == 0:
                assert np.isnan(value)
            elif len(left) > 1:
                assert value == pytest.approx(ndcg_score(relevance[None], similarity[None], k=each))


def test_codes_tell_missing_values():
    import pandas as pd

    table = pd.DataFrame({"colour": ["red", None, "red", ""], "year": [2011.0, 2012.0, np.nan, 2011.0]})
    assert column_codes(table, ["colour", "year"]).tolist() == [[0, 0], [-1, 1], [0, -1], [-1, 0]]
    with pytest.raises(LapelError, match=r"graded\.size: the catalogue has no such column; it has colour, year"):
        column_codes(table, ["size"])


# ----------------------------------------------------------------------------------------------------- classification


@FEW
@given(seed=st.integers(0, 10_000), neighbors=st.sampled_from([1, 2, 3, 7]))
def test_neighbours_vote_as_scikit_learns_do(seed: int, neighbors: int):
    generator = np.random.default_rng(seed)
    gallery, classes = generator.normal(size=(30, 3)), generator.integers(0, 3, 30)
    queries = generator.normal(size=(10, 3))
    found = search(torch.from_numpy(queries).float(), torch.from_numpy(gallery).float(), 10, Metric.euclidean).positions
    voted = nearest_classes(found, classes, neighbors)
    model = KNeighborsClassifier(neighbors).fit(gallery.astype(np.float32), classes)
    chances = model.predict_proba(queries.astype(np.float32))
    for query in range(10):
        best = model.classes_[chances[query] == chances[query].max()]
        assert voted[query] == next(each for each in classes[found[query]] if each in best)


def test_confusion_equals_scikit_learn_and_leaves_out_what_found_nothing():
    true, predicted = np.array([0, 1, 2, 2, 1, 0]), np.array([0, 2, 2, 1, 1, -1])
    expected = confusion_matrix(true[:5], predicted[:5], labels=[0, 1, 2])
    np.testing.assert_array_equal(confusion(true, predicted, 3), expected)
    assert nearest_classes(np.array([[-1, -1]]), np.array([5]), 2).tolist() == [-1]


# ---------------------------------------------------------------------------------------------------------- intervals


def test_intervals_are_those_of_scipy():
    from scipy.stats import bootstrap as theirs

    values = np.random.default_rng(0).random(400) < 0.8
    low, high = bootstrap({"a": values.astype(float)}, None, 4000, 0.95, 1)["a"]
    interval = theirs(
        (values.astype(float),), np.mean, n_resamples=4000, method="percentile", rng=2
    ).confidence_interval
    assert (low, high) == pytest.approx(tuple(interval), abs=0.005)


def test_whole_items_are_drawn_where_they_are_what_was_sampled():
    """Each item's queries are all right or all wrong: there are 40 facts, and not 4,000."""
    items = np.repeat(np.arange(40), 100)
    grades = {"recall@1": (items % 4 > 0).astype(float)}
    low, high = bootstrap(grades, items, 2000, 0.95, 0)["recall@1"]
    narrow = bootstrap(grades, None, 2000, 0.95, 0)["recall@1"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.75 * 0.25 / 40), rel=0.15)
    assert narrow[1] - narrow[0] == pytest.approx((high - low) / 10, rel=0.15)


def test_items_of_many_queries_count_more():
    items, values = np.repeat([0, 1, 2, 3], [1, 1, 1, 97]), np.repeat([0.0, 0.0, 0.0, 1.0], [1, 1, 1, 97])
    draws = bootstrap({"m": values}, items, 3000, 0.5, 0)["m"]
    assert draws[1] > 0.9  # as soon as the large item is drawn once, the mean is near 1


@pytest.mark.parametrize(("right", "count"), [(10, 10), (0, 10), (9, 10), (3, 12), (1000, 1000)])
def test_shares_near_0_or_1_have_wilsons_interval(right: int, count: int):
    values = (np.arange(count) < right).astype(float)
    expected = stats.binomtest(right, count).proportion_ci(0.95, method="wilson")
    found = bootstrap({"recall@1": values}, None, 1000, 0.95, 0, shares=True)["recall@1"]
    assert found == pytest.approx((expected.low, expected.high))
    alike = np.repeat(np.arange(count), 3)
    in_items = bootstrap({"recall@1": np.repeat(values, 3)}, alike, 1000, 0.95, 0, shares=True)["recall@1"]
    assert in_items == pytest.approx((expected.low, expected.high))


def test_other_grades_are_resampled():
    generator = np.random.default_rng(0)
    common, graded = (generator.random(300) < 0.5).astype(float), np.linspace(0.9, 1, 20)
    for values in (common, graded):
        plain = bootstrap({"m": values}, None, 500, 0.95, 0)
        assert bootstrap({"m": values}, None, 500, 0.95, 0, shares=True) == plain
    assert bootstrap({"m": np.ones(10)}, None, 500, 0.95, 0)["m"] == (1.0, 1.0)  # of a change: no share


def test_a_paired_bootstrap_sees_what_two_intervals_cannot():
    generator = np.random.default_rng(3)
    base = generator.random(500)
    low, high, chance = paired_bootstrap(base, base + generator.normal(0.01, 0.02, 500), 2000, 0.95, 0)
    assert 0 < low < 0.01 < high
    assert chance < 0.01
    assert paired_bootstrap(base, base, 1000, 0.95, 0) == (0.0, 0.0, 1.0)


def test_tables_are_means_with_the_worst_first():
    table = grades_by(
        np.array(["b", "a", "b"]), {"recall@1": np.array([1.0, 1, 0]), "map@r": np.array([0.5, 0.9, 0.1])}
    )
    assert table.to_dict("list") == {
        "name": ["b", "a"], "queries": [2, 1], "recall@1": [0.5, 1.0], "map@r": [0.3, 0.9],
    }  # fmt: skip
