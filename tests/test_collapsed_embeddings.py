"""Embeddings that have collapsed: what they share, ties and copies, scored as float64 has them, without a stall."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lapel.config.variant import Metric
from lapel.retrieval import Depth, Neighbors, equal_pairs, score, search
from lapel.retrieval import copies as copies_module
from lapel.retrieval.copies import many_copies
from lapel.retrieval.exact import _settled_precisely, nearest_of_tile
from lapel.retrieval.regions import regions
from lapel.retrieval.tiles import DOUBLE, Tiles

FEW = settings(max_examples=40, deadline=None)
METRICS = list(Metric)
# What float32 can tell apart, once what all share is left out, or need not; and what it cannot.
TOLD = ["healthy", "0.9", "0.99", "0.9999", "equal", "zeros", "half zeros", "copies"]
KINDS = [*TOLD, "0.99999999", "clusters", "tight clusters", "binary", "far", "last bit"]


def embeddings(kind: str, count: int, dimensions: int, seed: int) -> Tensor:
    """Embeddings that have collapsed in some way; a number is their mean cosine, roughly."""
    generator = torch.Generator().manual_seed(seed)
    healthy = F.normalize(torch.randn(count, dimensions, generator=generator), dim=1)
    few = healthy[torch.randint(0, min(5, count), (count,), generator=generator)]
    if kind[0] == "0":
        shared = F.normalize(torch.randn(1, dimensions, generator=generator), dim=1)
        return F.normalize(shared * (float(kind) / (1 - float(kind))) ** 0.5 + healthy, dim=1)
    bits = torch.randint(0, 2, (count, dimensions), generator=generator, dtype=torch.int32)
    return {
        "healthy": healthy,
        "equal": healthy[:1].repeat(count, 1),
        "zeros": torch.zeros(count, dimensions),
        "half zeros": healthy * (torch.arange(count) % 2)[:, None],
        "copies": few,
        "clusters": F.normalize(few + 1e-3 * healthy, dim=1),
        "tight clusters": F.normalize(few + 1e-6 * healthy, dim=1),
        "binary": healthy.sign() / dimensions**0.5,
        "far": healthy + 1000,
        "last bit": (few.clone().view(torch.int32) + bits).view(torch.float32),
    }[kind]


def exact(queries: Tensor, gallery: Tensor, metric: Metric, exclude: np.ndarray | None) -> np.ndarray:
    """float64 scores of everything with everything, each by itself; -inf where excluded."""
    one, other = queries.double()[:, None], gallery.double()[None]
    products = (one * other).sum(2) if metric is Metric.cosine else -(one - other).square().sum(2).sqrt()
    found = products.numpy()
    if exclude is not None:
        found[exclude[:, 0], exclude[:, 1]] = -np.inf
    return found


def lists(scores: np.ndarray, k: int) -> Neighbors:
    """The `k` best of each row, the lower position first among equals."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, 1)
    missing = ((0, 0), (0, k - order.shape[1]))
    return Neighbors(
        np.pad(np.where(np.isneginf(best), -1, order), missing, constant_values=-1),
        np.pad(best, missing, constant_values=-np.inf).astype(np.float32),
    )


def differ(grades: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """bool: which grades are others, whatever the order in which they were added up."""
    return np.abs(grades - expected) > 1e-12


def some_pairs(seed: int, queries: int, gallery: int) -> np.ndarray:
    """Excluded pairs, many of them of one query."""
    generator = np.random.default_rng(seed)
    pairs = np.stack([generator.integers(0, queries, 40), generator.integers(0, gallery, 40)], 1)
    return np.unique(np.concatenate([pairs, [[0, each] for each in range(0, gallery, 2)]]), axis=0)


@FEW
@given(
    kind=st.sampled_from(KINDS), metric=st.sampled_from(METRICS), seed=st.integers(0, 1000), k=st.integers(1, 70),
    count=st.sampled_from([3, 12, 60, 300]), alone=st.booleans(),
)  # fmt: skip
@example(
    kind="last bit", metric=Metric.cosine, seed=25, k=1, count=300, alone=False
)  # less what all share, some are one
@example(kind="tight clusters", metric=Metric.euclidean, seed=0, k=9, count=300, alone=True)
def test_lists_are_those_of_float64(kind: str, metric: Metric, seed: int, k: int, count: int, alone: bool) -> None:
    """To the bit, ties by position, whatever is excluded; queries that are the gallery, and others."""
    gallery = embeddings(kind, count, 6, seed)
    queries = gallery if alone else torch.cat([gallery[: count // 2], embeddings("healthy", 9, 6, seed + 1)])
    every = np.arange(count)
    exclude = equal_pairs(every, every) if alone else some_pairs(seed, len(queries), count)
    found = search(queries, gallery, k, metric, exclude)
    expected = lists(exact(queries, gallery, metric, exclude), k)
    np.testing.assert_array_equal(found.positions, expected.positions)
    np.testing.assert_array_equal(found.scores, expected.scores)


@FEW
@given(kind=st.sampled_from(KINDS), metric=st.sampled_from(METRICS), seed=st.integers(0, 1000))
def test_grades_are_those_of_float64(kind: str, metric: Metric, seed: int) -> None:
    """Ranks are float32's: what is graded differs where two scores are nearer than that tells, and then by little."""
    count = 200
    gallery = embeddings(kind, count, 6, seed)
    items = np.random.default_rng(seed).integers(0, 20, count)
    every = np.arange(count)
    exclude = equal_pairs(every, every)
    scores = exact(gallery, gallery, metric, exclude)
    order = np.argsort(-scores, axis=1, kind="stable")[:, : count - 1]
    hits = items[order] == items[:, None]
    relevant = hits.sum(1)
    for depth in (Depth.within_r, Depth.all):
        found = score(gallery, gallery, items, items, metric, [1, 5], exclude, depth=depth)
        np.testing.assert_array_equal(found.grades["recall@1"], hits[relevant > 0, 0])
        np.testing.assert_array_equal(found.grades["precision@5"], hits[relevant > 0, :5].mean(1))
        first, within = hits.argmax(1) + 1, []
        for row, total in zip(hits, relevant, strict=True):
            precision = np.cumsum(row[:total]) / np.arange(1, total + 1)
            within.append((precision * row[:total]).sum() / total if total else np.nan)
        if kind in TOLD:
            assert np.mean(differ(found.grades["map@r"], np.array(within)[relevant > 0])) <= 0.02
            assert np.mean(differ(found.grades["mrr"], 1 / first[relevant > 0])) <= 0.02
            assert found.grades["map@r"].mean() == pytest.approx(np.nanmean(within), abs=1e-4)


@FEW
@given(kind=st.sampled_from(KINDS), metric=st.sampled_from(METRICS), seed=st.integers(0, 1000), k=st.integers(1, 20))
def test_float64_settles_what_float32_cannot(kind: str, metric: Metric, seed: int, k: int) -> None:
    gallery, queries = embeddings(kind, 90, 5, seed), embeddings(kind, 20, 5, seed + 1)
    exclude = some_pairs(seed, 20, 90)
    rows = np.array([0, 3, 4, 11, 19])
    tiles = Tiles(queries, gallery, metric, exclude)
    found = _settled_precisely(tiles, rows, k).neighbors()
    expected = lists(exact(queries, gallery, metric, exclude)[rows], k)
    np.testing.assert_array_equal(found.positions, expected.positions)
    np.testing.assert_array_equal(found.scores, expected.scores)


@FEW
@given(kind=st.sampled_from(KINDS), metric=st.sampled_from(METRICS), seed=st.integers(0, 1000))
def test_the_bound_on_rounding_holds(kind: str, metric: Metric, seed: int) -> None:
    """Of the differences between similarities of a query, in which no constant of the query counts."""
    gallery, queries = embeddings(kind, 50, 40, seed), embeddings(kind, 10, 40, seed + 1)
    tiles = Tiles(queries, gallery, metric, None)
    told = tiles.product(slice(0, 10), slice(0, 50), torch.empty(10, 50)).double()
    precise, wanted = tiles.precise(np.arange(10)), exact(queries, gallery, metric, None)
    if metric is Metric.euclidean:
        wanted = -np.square(wanted)
    for similarities, error in ((told, tiles.error()), (precise, tiles.error(DOUBLE))):
        off = similarities.numpy() - wanted
        spread = off.max(1) - off.min(1)
        assert (spread <= 2 * error.double().numpy() + 1e-300).all()


@pytest.mark.parametrize("metric", METRICS)
def test_many_embeddings_as_long_as_may_be_are_compared(metric: Metric) -> None:
    """Sums of a gallery's squares are more than float32 holds, those of an embedding are not."""
    gallery = 9e17 * embeddings("healthy", 600, 4, 0)
    found = search(gallery[:5], gallery, 3, metric)
    np.testing.assert_array_equal(found.positions, lists(exact(gallery[:5], gallery, metric, None), 3).positions)


# ---------------------------------------------------------------------------------------------------------- regions


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["clusters", "tight clusters", "last bit"])
def test_what_has_collapsed_to_a_few_is_compared_among_itself(
    kind: str, metric: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    """float64 compares next to nothing with the whole gallery: that, and looking at each pair, would be a stall."""
    count, precise, exactly = 600, [], []
    gallery, every = embeddings(kind, count, 32, 0), np.arange(count)
    expected = lists(exact(gallery, gallery, metric, exclude := equal_pairs(every, every)), 5)

    def counted(self: Tiles, rows: np.ndarray) -> Tensor:
        precise.append(len(rows) * len(self.gallery))
        return all_in_float64(self, rows)

    def looked_at(self: Tiles, rows: slice | np.ndarray, positions: np.ndarray) -> np.ndarray:
        exactly.append(positions.size)
        return each_in_float64(self, rows, positions)

    all_in_float64, each_in_float64 = Tiles.precise, Tiles.exact
    monkeypatch.setattr(Tiles, "precise", counted)
    monkeypatch.setattr(Tiles, "exact", looked_at)
    found = search(gallery, gallery, 5, metric, exclude)
    np.testing.assert_array_equal(found.positions, expected.positions)
    assert sum(precise) <= 0.02 * count**2
    assert sum(exactly) <= 60 * count


@FEW
@given(seed=st.integers(0, 1000), queries=st.integers(1, 60), width=st.integers(2, 80), groups=st.integers(1, 8))
def test_regions_hold_all_that_their_queries_could_find(seed: int, queries: int, width: int, groups: int) -> None:
    generator = np.random.default_rng(seed)
    possible = generator.integers(0, groups, queries)[:, None] == generator.integers(0, groups, width)
    possible &= generator.random(possible.shape) < 0.9
    possible[np.arange(queries), generator.integers(0, width, queries)] = True
    rows = np.flatnonzero(generator.random(queries) < 0.8)
    found = list(regions(possible, rows))
    taken = np.concatenate([np.empty(0, np.int64), *(region.rows for region in found)])
    assert len(np.unique(taken)) == len(taken)
    assert np.isin(taken, rows).all()
    for region in found:
        assert (np.diff(region.rows) > 0).all()
        assert region.positions.tolist() == np.flatnonzero(possible[region.rows].any(0)).tolist()
        assert len(region.positions) < width


def test_a_region_is_as_large_as_its_queries_are_many() -> None:
    """Alone, what few queries could find costs more than it saves; so does half of the gallery and more."""
    few = np.zeros((100, 400), bool)
    few[:50, :40], few[50:, 40:80] = True, True
    assert [len(region.rows) for region in regions(few, np.arange(100))] == [50, 50]
    assert not list(regions(few, np.array([0, 60])))
    most = np.zeros((100, 400), bool)
    most[:, 150:] = True
    assert not list(regions(most, np.arange(100)))


@pytest.mark.parametrize("every", [2, 7, 64])
def test_the_first_pass_takes_the_highest_of_a_gallery_in_which_likeness_recurs(every: int) -> None:
    """The columns of a block are as far apart as likeness may recur: then some hold all that is near, others none."""
    generator = torch.Generator().manual_seed(every)
    near = F.normalize(torch.randn(1, 8, generator=generator), dim=1)
    gallery = F.normalize(torch.randn(2048 + 900, 8, generator=generator), dim=1)
    gallery[::every] = F.normalize(near + 1e-2 * gallery[::every], dim=1)
    queries = torch.cat([near, gallery[:9]])
    tiles = Tiles(queries, gallery, Metric.euclidean, None)
    held = torch.empty(10 * 2048)
    values, positions = nearest_of_tile(tiles, slice(0, 10), 20, held)
    parts = [tiles.product(slice(0, 10), part, torch.empty(10, part.stop - part.start)) for part in tiles.parts()]
    every_value = torch.cat(parts, 1).numpy()
    order = np.argsort(-every_value, axis=1, kind="stable")[:, :20]
    np.testing.assert_array_equal(positions, order)
    np.testing.assert_array_equal(values, np.take_along_axis(every_value, order, 1))


# ----------------------------------------------------------------------------------------------------------- copies


def test_copies_are_found_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    different = torch.randn(30, 4, generator=generator)
    of = torch.randint(0, 30, (500,), generator=generator)
    found = many_copies(different[of])
    assert found is not None
    first = {int(each): position for position, each in reversed(list(enumerate(of)))}
    assert found.first.tolist() == sorted(first.values())
    for position, code in enumerate(of.tolist()):
        assert found.first[found.of[position]] == first[code]
    for number in range(len(found.first)):
        members = found.members[found.starts[number] : found.starts[number + 1]]
        assert members.tolist() == sorted(np.flatnonzero(found.of == number).tolist())
    assert many_copies(different) is None
    assert many_copies(torch.cat([different, different, different])) is None  # few of each
    assert many_copies(torch.tensor([[0.0, -0.0]] * 6 + [[-0.0, 0.0]] * 6)) is not None
    monkeypatch.setattr(copies_module, "_marks", lambda each: torch.zeros(len(each), dtype=torch.int64))
    assert many_copies(different) is None  # equal marks alone make no copies


@pytest.mark.parametrize("metric", METRICS)
def test_a_query_finds_the_copies_that_are_not_excluded(metric: Metric) -> None:
    gallery = F.normalize(torch.tensor([[1.0, 0], [0, 1]] * 15 + [[1.0, 1]]), dim=1)
    exclude = np.array([[0, position] for position in range(0, 28, 2)])  # all but the last copy of the first
    found = search(gallery[:1], gallery, 4, metric, exclude)
    assert found.positions[0].tolist() == [28, 30, 1, 3]
    exclude = np.array([[0, position] for position in range(0, 30, 2)])
    assert search(gallery[:1], gallery, 3, metric, exclude).positions[0].tolist() == [30, 1, 3]
