"""Samplers by counting: what meets in a batch, in which shares, on how many processes, and after a resume."""

import logging
from collections import Counter
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapel.catalog import Catalog
from lapel.config.sampler import (
    BalancedConfig,
    CategoryBalancedConfig,
    PairsConfig,
    RandomConfig,
    SamplerConfig,
    TripletsConfig,
)
from lapel.errors import LapelError
from lapel.sampling import Batch, Division, Labels, Sampler, build, share
from lapel.sampling.batches import Deck
from lapel.sampling.partners import AcrossPartners, Partners
from lapel.sampling.tuples import PairSampler, TripletSampler
from lapel.sampling.whole import BalancedSampler, CategoryBalancedSampler, RandomSampler

FEW = settings(max_examples=30, deadline=None)

EVERY_CONFIG = [
    RandomConfig(),
    PairsConfig(),
    TripletsConfig(),
    BalancedConfig(images=2),
    CategoryBalancedConfig(categories=2, images=2),
]


def labels_of(items: list[int], categories: list[int] | None = None) -> Labels:
    """Rows are 5, 8, 11, …: a row taken for a position would show."""
    return Labels(
        np.arange(len(items)) * 3 + 5, np.array(items, np.int64), np.array(categories or [0] * len(items), np.int64)
    )


def wardrobe(items: int = 12, images: int = 4, categories: int = 3, seed: int = 0) -> Labels:
    """`items` of `images` each, dealt to `categories`, in random order."""
    order = np.random.default_rng(seed).permutation(items * images)
    codes = order // images
    return labels_of(codes.tolist(), (codes % categories).tolist())


def sampler_of(
    config: SamplerConfig, labels: Labels, batch_size: int, seed: int = 0, rank: int = 0, ranks: int = 1, parts: int = 1
) -> Sampler:
    match config:
        case RandomConfig():
            return RandomSampler(labels, batch_size, seed, Division(rank, ranks, parts))
        case PairsConfig():
            return PairSampler(config, labels, batch_size, seed, Division(rank, ranks, parts))
        case TripletsConfig():
            return TripletSampler(config, labels, batch_size, seed, Division(rank, ranks, parts))
        case BalancedConfig():
            return BalancedSampler(config, labels, batch_size, seed, Division(rank, ranks, parts))
        case CategoryBalancedConfig():
            return CategoryBalancedSampler(config, labels, batch_size, seed, Division(rank, ranks, parts))
        case _:
            raise TypeError


def positions(batch: Batch) -> np.ndarray:
    return (batch.rows - 5) // 3


def indices(batch: Batch) -> tuple[np.ndarray, ...]:
    assert batch.indices_tuple is not None
    return tuple(positions(batch)[each] for each in batch.indices_tuple)


def epochs(sampler: Sampler, count: int) -> list[Batch]:
    return list(sampler.batches(0, count * len(sampler)))


def rows_of(batches: list[Batch]) -> list[list[int]]:
    return [batch.rows.tolist() for batch in batches]


def looks_uniform(drawn: np.ndarray, allowed: list[int]) -> bool:
    """Whether exactly the allowed values were drawn, and chi-square is within six standard deviations of its mean."""
    values, counts = np.unique(drawn, return_counts=True)
    if values.tolist() != sorted(allowed):
        return False
    expected = len(drawn) / len(allowed)
    freedom = max(len(allowed) - 1, 1)
    return ((counts - expected) ** 2 / expected).sum() < freedom + 6 * np.sqrt(2 * freedom)


# ---------------------------------------------------------------------------------------------------------------- share


@FEW
@given(count=st.integers(0, 300), ranks=st.integers(1, 9))
def test_shares_are_contiguous_whole_and_differ_by_one_at_most(count: int, ranks: int):
    parts = [range(count)[share(count, rank, ranks)] for rank in range(ranks)]
    assert [place for part in parts for place in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


# ----------------------------------------------------------------------------------------------------------------- deck


@FEW
@given(size=st.integers(1, 9), hands=st.lists(st.integers(1, 12), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_a_deck_deals_all_before_any_comes_again(size: int, hands: list[int], seed: int):
    deck = Deck(np.arange(size) * 10, np.random.default_rng(seed))
    dealt = [deck.deal(count) for count in hands]
    assert [len(hand) for hand in dealt] == hands
    stream = np.concatenate(dealt).tolist()
    for start in range(0, len(stream), size):
        assert len(set(stream[start : start + size])) == len(stream[start : start + size])
    assert set(stream) <= set(range(0, size * 10, 10))


@FEW
@given(size=st.integers(1, 9), data=st.data(), seed=st.integers(0, 99))
def test_a_distinct_hand_holds_none_twice_and_all_come_equally_often(size: int, data: st.DataObject, seed: int):
    hands = data.draw(st.lists(st.integers(1, size), min_size=1, max_size=20))
    deck = Deck(np.arange(size), np.random.default_rng(seed))
    counts = np.zeros(size, int)
    for count in hands:
        hand = deck.deal_distinct(count)
        assert len(hand) == len(set(hand.tolist())) == count
        np.add.at(counts, hand, 1)
        assert counts.max() - counts.min() <= 1


def test_an_empty_hand_is_dealt():
    assert len(Deck(np.arange(3), np.random.default_rng(0)).deal(0)) == 0


def test_a_deck_is_shuffled_anew_each_time():
    deck = Deck(np.arange(20), np.random.default_rng(0))
    hands = [deck.deal(20).tolist() for _ in range(4)]
    assert len({tuple(hand) for hand in hands}) == 4


# ------------------------------------------------------------------------------------------------------------- partners


def test_positive_partners_are_the_other_images_of_the_item_all_equally_likely():
    items = [0, 1, 0, 2, 0, 1, 0, 0]
    partners = Partners(labels_of(items))
    generator = np.random.default_rng(0)
    for anchor in (0, 4, 7):
        drawn = partners.positive(np.full(4000, anchor), generator)
        assert looks_uniform(drawn, [place for place in (0, 2, 4, 6, 7) if place != anchor])
    assert set(partners.positive(np.full(50, 1), generator)) == {5}


def test_images_with_a_positive_are_found():
    assert Partners(labels_of([3, 1, 3, 2, 1, 0])).with_positive().tolist() == [0, 1, 2, 4]


@pytest.mark.parametrize("near", [True, False])
def test_negative_partners_are_equally_likely(near: bool):
    labels = labels_of([0, 1, 2, 0, 1, 3, 4, 4, 2, 1], [0, 0, 1, 0, 0, 1, 0, 0, 1, 0])
    partners = Partners(labels)
    generator = np.random.default_rng(1)
    for anchor in range(10):
        drawn = partners.negative(np.full(4000, anchor), np.full(4000, near), generator)
        same_category = labels.categories == labels.categories[anchor]
        allowed = (labels.items != labels.items[anchor]) & (same_category if near else ~same_category)
        assert looks_uniform(drawn, np.flatnonzero(allowed).tolist())


def test_a_category_of_one_item_falls_back_to_the_others():
    partners = Partners(labels_of([0, 0, 1, 1, 2, 2], [7, 7, 8, 8, 8, 8]))
    drawn = partners.negative(np.zeros(2000, int), np.ones(2000, bool), np.random.default_rng(0))
    assert looks_uniform(drawn, [2, 3, 4, 5])


def test_one_category_in_all_falls_back_to_itself():
    partners = Partners(labels_of([0, 0, 1, 1, 2]))
    drawn = partners.negative(np.full(2000, 2), np.zeros(2000, bool), np.random.default_rng(0))
    assert looks_uniform(drawn, [0, 1, 4])


def test_an_item_in_several_categories_is_never_its_own_negative():
    # Item 0 stands in both categories, in most images of the second.
    labels = labels_of([0, 1, 0, 0, 0, 2], [0, 0, 1, 1, 1, 1])
    partners = Partners(labels)
    generator = np.random.default_rng(0)
    assert looks_uniform(partners.negative(np.zeros(2000, int), np.ones(2000, bool), generator), [1])
    assert looks_uniform(partners.negative(np.zeros(2000, int), np.zeros(2000, bool), generator), [5])
    assert looks_uniform(partners.negative(np.full(2000, 3), np.ones(2000, bool), generator), [5])
    assert looks_uniform(partners.positive(np.zeros(2000, int), generator), [2, 3, 4])


def test_where_all_far_images_show_the_item_itself_a_near_one_is_taken():
    partners = Partners(labels_of([0, 1, 0], [0, 0, 1]))
    drawn = partners.negative(np.zeros(10, int), np.zeros(10, bool), np.random.default_rng(0))
    assert set(drawn) == {1}


def test_a_far_negative_is_found_among_many_images_of_the_item_itself():
    images = 3000
    items, categories = [0, 1, *[0] * images, 2], [0, 0, *[1] * images, 1]
    drawn = Partners(labels_of(items, categories)).negative(
        np.zeros(50, int), np.zeros(50, bool), np.random.default_rng(0)
    )
    assert set(drawn) == {images + 2}


@FEW
@given(
    codes=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=2, max_size=25),
    seed=st.integers(0, 99),
    near=st.booleans(),
)
def test_negatives_of_any_catalogue_show_another_item(codes: list[tuple[int, int]], seed: int, near: bool):
    # Each item has one category, as in every shipped catalogue.
    items = [item for item, _ in codes]
    category_of = dict(codes)
    if len(set(items)) < 2:
        return
    labels = labels_of(items, [category_of[item] for item in items])
    anchors = np.repeat(np.arange(len(items)), 5)
    drawn = Partners(labels).negative(anchors, np.full(len(anchors), near), np.random.default_rng(seed))
    assert (labels.items[drawn] != labels.items[anchors]).all()
    same = labels.categories[drawn] == labels.categories[anchors]
    for anchor, is_same in zip(anchors, same, strict=True):
        others = labels.categories[labels.items != labels.items[anchor]] == labels.categories[anchor]
        assert is_same == (near if others.any() and not others.all() else others.all())


# ---------------------------------------------------------------------------------------------------------------- pairs


@pytest.mark.parametrize("batch_size", [8, 20, 21])
@pytest.mark.parametrize("positives", [0.25, 0.5, 0.7])
@pytest.mark.parametrize("same_category", [0.0, 0.3, 1.0])
def test_pairs_have_exact_shares(batch_size: int, positives: float, same_category: float):
    labels = wardrobe()
    sampler = sampler_of(PairsConfig(positives=positives, same_category=same_category), labels, batch_size)
    pairs = batch_size // 2
    assert len(sampler) == 48 // batch_size
    for batch in epochs(sampler, 3):
        a1, p, a2, n = indices(batch)
        assert len(batch.rows) == 2 * pairs
        assert batch.part == slice(0, 2 * pairs)
        assert len(a1) == len(p) == round(pairs * positives)
        assert len(a2) == len(n) == pairs - round(pairs * positives)
        assert (labels.items[a1] == labels.items[p]).all()
        assert (a1 != p).all()
        assert (labels.items[a2] != labels.items[n]).all()
        assert (labels.categories[a2] == labels.categories[n]).sum() == round(len(a2) * same_category)


@pytest.mark.parametrize("positives", [0.0, 1.0])
def test_all_pairs_may_be_of_one_kind(positives: float):
    labels = wardrobe()
    for batch in epochs(sampler_of(PairsConfig(positives=positives), labels, 8), 1):
        a1, p, a2, n = indices(batch)
        assert (len(a1), len(a2)) == ((4, 0) if positives else (0, 4))
        assert (labels.items[a1] == labels.items[p]).all()
        assert (labels.items[a2] != labels.items[n]).all()


def test_negative_pairs_need_no_item_with_two_images():
    batches = epochs(sampler_of(PairsConfig(positives=0.0), labels_of(list(range(8))), 4), 1)
    assert [len(batch.rows) for batch in batches] == [4, 4]


def test_every_image_of_a_batch_stands_in_one_pair():
    for batch in epochs(sampler_of(PairsConfig(), wardrobe(), 20), 2):
        assert batch.indices_tuple is not None
        assert sorted(np.concatenate(batch.indices_tuple).tolist()) == list(range(20))


@pytest.mark.parametrize("config", [PairsConfig(positives=0.5), TripletsConfig()])
def test_items_of_one_image_anchor_no_positive_pair(config: SamplerConfig):
    items = [0, 0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 8]
    for batch in epochs(sampler_of(config, labels_of(items), 6), 10):
        assert set(indices(batch)[0]) <= {0, 1, 4, 5, 6}


def test_anchors_come_equally_often_within_an_epoch():
    labels = wardrobe()
    batches = epochs(sampler_of(PairsConfig(), labels, 8), 1)
    positive = Counter(np.concatenate([indices(batch)[0] for batch in batches]).tolist())
    negative = Counter(np.concatenate([indices(batch)[2] for batch in batches]).tolist())
    assert set(positive.values()) == set(negative.values()) == {1}
    assert len(positive) == len(negative) == 12


def test_where_a_category_has_one_item_only_pairs_are_valid_all_the_same():
    labels = labels_of([0, 0, 0, 1, 1, 2, 2, 3, 3], [0, 0, 0, 1, 1, 1, 1, 1, 1])
    for batch in epochs(sampler_of(PairsConfig(positives=0.25, same_category=1.0), labels, 8), 20):
        _, _, a2, n = indices(batch)
        assert (labels.items[a2] != labels.items[n]).all()
        alone = labels.categories[a2] == 0
        assert ((labels.categories[a2] == labels.categories[n]) == ~alone).all()


# ------------------------------------------------------------------------------------------------------------- triplets


@pytest.mark.parametrize("batch_size", [3, 12, 20])
@pytest.mark.parametrize("same_category", [0.0, 0.5, 1.0])
def test_triplets_are_valid_with_an_exact_share(batch_size: int, same_category: float):
    labels = wardrobe()
    triplets = batch_size // 3
    for batch in epochs(sampler_of(TripletsConfig(same_category=same_category), labels, batch_size), 3):
        a, p, n = indices(batch)
        assert len(batch.rows) == 3 * triplets
        assert len(a) == len(p) == len(n) == triplets
        assert (labels.items[a] == labels.items[p]).all()
        assert (a != p).all()
        assert (labels.items[a] != labels.items[n]).all()
        assert (labels.categories[a] == labels.categories[n]).sum() == round(triplets * same_category)
        assert batch.indices_tuple is not None
        assert sorted(np.concatenate(batch.indices_tuple).tolist()) == list(range(3 * triplets))


# ------------------------------------------------------------------------------------------------------------- balanced


@pytest.mark.parametrize("batch_size", [5, 8, 48])
def test_random_batches_show_every_image_once_before_any_comes_again(batch_size: int):
    labels = wardrobe()
    batches = epochs(sampler_of(RandomConfig(), labels, batch_size), 1)
    shown = np.concatenate([batch.rows for batch in batches])
    assert len(shown) == len(set(shown.tolist())) == 48 // batch_size * batch_size
    assert all(batch.indices_tuple is None for batch in batches)


@pytest.mark.parametrize(("items", "images", "batch_size"), [(4, 3, 12), (4, 2, 11), (None, 4, 24), (None, 5, 16)])
def test_balanced_batches_hold_as_many_images_of_each_item(items: int | None, images: int, batch_size: int):
    labels = wardrobe(items=8, images=6)
    expected = items or min(8, batch_size // images)
    for batch in epochs(sampler_of(BalancedConfig(items=items, images=images), labels, batch_size), 3):
        counts = Counter(labels.items[positions(batch)].tolist())
        assert batch.indices_tuple is None
        assert len(batch.rows) == batch_size
        assert len(counts) == expected
        assert set(counts.values()) <= {batch_size // expected, -(-batch_size // expected)}


def test_an_epoch_of_balanced_batches_uses_every_image_about_equally():
    labels = wardrobe(items=10, images=8)
    batches = epochs(sampler_of(BalancedConfig(items=5, images=2), labels, 10), 1)
    used = Counter(np.concatenate([positions(batch) for batch in batches]).tolist())
    assert used == dict.fromkeys(range(80), 1)


def test_few_items_fill_the_batch_with_more_images_each():
    labels = wardrobe(items=3, images=10)
    for batch in epochs(sampler_of(BalancedConfig(images=2), labels, 15), 2):
        assert Counter(labels.items[positions(batch)].tolist()) == {0: 5, 1: 5, 2: 5}


def test_a_balanced_batch_shows_no_image_twice_where_its_items_have_enough():
    labels = wardrobe(items=4, images=6)
    for batch in epochs(sampler_of(BalancedConfig(items=2, images=4), labels, 8), 30):
        assert len(set(batch.rows.tolist())) == 8


def test_balanced_batches_leave_out_items_with_too_few_images(caplog: pytest.LogCaptureFixture):
    labels = labels_of([0, 0, 0, 1, 2, 2, 2, 3, 3, 4, 4, 4])
    with caplog.at_level(logging.INFO, logger="lapel.sampling"):
        sampler = sampler_of(BalancedConfig(images=3), labels, 6)
    assert [record.getMessage() for record in caplog.records] == [
        "sampler=balanced leaves out 3 images of 2 items that have fewer than sampler.images=3; "
        "sampler.images=2 keeps more of them, sampler=random keeps all"
    ]
    for batch in epochs(sampler, 5):
        assert set(labels.items[positions(batch)]) <= {0, 2, 4}


def test_a_balanced_batch_is_mixed():
    labels = wardrobe(items=4, images=12)
    batch = next(sampler_of(BalancedConfig(items=4, images=6), labels, 24).batches(0, 1))
    items = labels.items[positions(batch)]
    assert sum(a != b for a, b in pairwise(items)) > 8


# ------------------------------------------------------------------------------------------------- seeds, ranks, resume


@pytest.mark.parametrize("config", EVERY_CONFIG)
@pytest.mark.parametrize("ranks", [2, 3])
def test_the_ranks_parts_make_up_the_batch_of_one_process(config: SamplerConfig, ranks: int):
    labels = wardrobe()
    alone = epochs(sampler_of(config, labels, 11), 2)
    shared = [epochs(sampler_of(config, labels, 11, rank=rank, ranks=ranks), 2) for rank in range(ranks)]
    for whole, *parts in zip(alone, *shared, strict=True):
        assert np.concatenate([batch.rows[batch.part] for batch in parts]).tolist() == whole.rows.tolist()
        assert {batch.number for batch in parts} == {whole.number}
        for batch in parts:
            np.testing.assert_array_equal(batch.rows, whole.rows)
            assert (batch.indices_tuple is None) == (whole.indices_tuple is None)
            for one, other in zip(batch.indices_tuple or (), whole.indices_tuple or (), strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("config", EVERY_CONFIG)
def test_batches_depend_on_seed_and_epoch_alone(config: SamplerConfig):
    labels = wardrobe()
    first = rows_of(epochs(sampler_of(config, labels, 12), 2))
    assert rows_of(epochs(sampler_of(config, labels, 12), 2)) == first
    assert rows_of(epochs(sampler_of(config, labels, 12, seed=1), 2)) != first
    assert first[:4] != first[4:]


@pytest.mark.parametrize("config", EVERY_CONFIG)
def test_steps_count_on_over_the_epochs(config: SamplerConfig):
    assert [batch.number for batch in epochs(sampler_of(config, wardrobe(), 12), 3)] == list(range(12))


@pytest.mark.parametrize("config", EVERY_CONFIG)
@pytest.mark.parametrize("done", [0, 1, 3, 4, 6, 12])
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_resume_goes_on_exactly(config: SamplerConfig, done: int, ranks: int):
    labels = wardrobe()
    whole = epochs(sampler_of(config, labels, 12), 3)
    rest = list(sampler_of(config, labels, 12, rank=ranks - 1, ranks=ranks).batches(done, 12))
    assert rows_of(rest) == rows_of(whole[done:])
    assert [batch.number for batch in rest] == list(range(done, 12))


@pytest.mark.parametrize("config", EVERY_CONFIG)
def test_an_epoch_has_whole_optimizer_steps(config: SamplerConfig):
    sampler = sampler_of(config, wardrobe(), 6, parts=3)
    assert len(sampler) == 6
    assert [len(batch.rows) for batch in sampler.batches(0, 7)] == [6] * 7


# --------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("config", EVERY_CONFIG)
def test_too_few_images_for_a_batch_are_refused(config: SamplerConfig):
    with pytest.raises(LapelError, match=r"batch_size=49: .* only 48 images"):
        sampler_of(config, wardrobe(), 49)


def test_balanced_batches_that_cannot_be_had_are_refused():
    labels = labels_of([0] * 4 + [1] * 4 + [2] * 4 + [3, 4, 5] * 3)
    with pytest.raises(LapelError, match=r"asks 4 items x 4 images; 3 of 6 items have 4 images"):
        sampler_of(BalancedConfig(items=4, images=4), labels, 16)
    with pytest.raises(LapelError, match=r"asks 2 items x 5 images; 0 of 6 items have 5 images"):
        sampler_of(BalancedConfig(images=5), labels, 10)
    with pytest.raises(LapelError, match=r"asks 2 items x 2 images; 1 of 1 items"):
        sampler_of(BalancedConfig(images=2), labels_of([0] * 8), 4)


@pytest.mark.parametrize("config", [PairsConfig(), TripletsConfig()])
def test_no_item_with_two_images_is_refused(config: SamplerConfig):
    with pytest.raises(LapelError, match="no item has two images"):
        sampler_of(config, labels_of(list(range(12))), 6)


@pytest.mark.parametrize("config", [PairsConfig(), TripletsConfig()])
def test_one_item_only_is_refused(config: SamplerConfig):
    with pytest.raises(LapelError, match="one item only"):
        sampler_of(config, labels_of([4] * 12), 6)


@pytest.mark.parametrize("config", [PairsConfig(same_category=0.8), TripletsConfig(same_category=0.8)])
def test_an_ignored_share_is_told_once(config: SamplerConfig, caplog: pytest.LogCaptureFixture):
    items = [0, 0, 1, 1, 2, 2]
    with caplog.at_level(logging.INFO, logger="lapel.sampling"):
        epochs(sampler_of(config, labels_of(items, items), 6), 3)
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [("INFO", "no two items share a category: sampler.same_category=0.8 is ignored")]


@pytest.mark.parametrize(
    ("config", "categories"),
    [(PairsConfig(same_category=0.0), [0, 0, 1, 1, 2, 2]), (PairsConfig(same_category=0.5), [0, 0, 1, 1, 1, 1])],
)
def test_nothing_is_told_where_nothing_is_ignored(
    config: SamplerConfig, categories: list[int], caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO, logger="lapel.sampling"):
        epochs(sampler_of(config, labels_of([0, 0, 1, 1, 2, 2], categories), 6), 1)
    assert not caplog.records


# ---------------------------------------------------------------------------------------------------------------- build


@pytest.mark.parametrize(
    ("config", "cls"),
    [(PairsConfig(), PairSampler), (TripletsConfig(), TripletSampler), (BalancedConfig(images=2), BalancedSampler)],
)
def test_build_draws_from_one_split_and_speaks_of_catalogue_rows(config: SamplerConfig, cls: type):
    items = np.repeat(np.arange(6), 4)
    table = pd.DataFrame(
        {
            "image": range(24),
            "item": items,
            "category": items // 2,
            "split": np.where(items % 2, "train", "test"),
            "role": "both",
        }
    )
    catalog = Catalog("tiny", table, [f"item-{code}" for code in range(6)], ["a", "b", "c"])
    sampler = build(config, catalog, "train", 6, seed=3, division=Division(1, 2))
    assert type(sampler) is cls
    assert len(sampler) == 2
    for batch in epochs(sampler, 5):
        assert set(items[batch.rows]) <= {1, 3, 5}
        assert batch.part == slice(3, 6)
        if isinstance(config, TripletsConfig):
            assert batch.indices_tuple is not None
            a, p, n = (items[batch.rows[each]] for each in batch.indices_tuple)
            assert (a == p).all()
            assert (a != n).all()


def test_build_refuses_an_unknown_config():
    table = pd.DataFrame({"image": [0], "item": [0], "category": [0], "split": "train", "role": "both"})
    with pytest.raises(TypeError, match="SamplerConfig is no choice of any group"):
        build(SamplerConfig(), Catalog("tiny", table, ["a"], ["a"]), "train", 2, seed=0)


# ---------------------------------------------------------------------------------------------- category balanced


@pytest.mark.parametrize(("categories", "images", "batch_size"), [(2, 2, 16), (3, 2, 24), (1, 4, 16), (2, 3, 19)])
def test_a_category_balanced_batch_holds_few_categories(categories: int, images: int, batch_size: int):
    labels = wardrobe(items=12, images=6, categories=3)
    sampler = sampler_of(CategoryBalancedConfig(categories=categories, images=images), labels, batch_size)
    for batch in epochs(sampler, 3):
        chosen = positions(batch)
        assert len(chosen) == batch_size
        assert len(np.unique(labels.categories[chosen])) == categories
        items, counts = np.unique(labels.items[chosen], return_counts=True)
        by_category = Counter((items % 3).tolist())
        assert min(by_category.values()) >= 2
        assert counts.min() >= images


def test_every_category_comes_equally_often():
    labels = wardrobe(items=12, images=6, categories=3)
    sampler = sampler_of(CategoryBalancedConfig(categories=1, images=2), labels, 8)
    seen = Counter(int(labels.categories[positions(batch)][0]) for batch in epochs(sampler, 4))
    assert max(seen.values()) - min(seen.values()) <= 4


def test_too_few_categories_are_told():
    labels = labels_of([0, 0, 1, 1, 2, 2, 3, 3], [0, 0, 0, 0, 1, 1, 2, 2])
    with pytest.raises(LapelError, match=r"asks 2 categories with 2 items x 2 images; 1 of 3 categories have them"):
        sampler_of(CategoryBalancedConfig(categories=2, images=2), labels, 8)


# ----------------------------------------------------------------------------------------------------- across


def across(labels: Labels, domains: list[int]) -> Labels:
    return Labels(labels.rows, labels.items, labels.categories, np.array(domains, np.int64))


def test_partners_across_domains_are_those_of_a_loop_all_equally_likely():
    labels = across(labels_of([0, 0, 0, 1, 1, 2, 2, 0], [0, 0, 0, 0, 0, 1, 1, 0]), [0, 0, 1, 0, 1, 0, 1, 1])
    partners = AcrossPartners(labels)
    generator = np.random.default_rng(0)
    assert labels.domains is not None
    for anchor in range(8):
        other = [row for row in range(8) if labels.domains[row] != labels.domains[anchor]]
        alike = [row for row in other if labels.items[row] == labels.items[anchor]]
        unlike = [row for row in other if labels.items[row] != labels.items[anchor]]
        anchors = np.full(2000, anchor)
        assert looks_uniform(partners.positive(anchors, generator), alike)
        for near in (True, False):
            same = [row for row in unlike if (labels.categories[row] == labels.categories[anchor]) == near]
            drawn = partners.negative(anchors, np.full(2000, near), generator)
            assert looks_uniform(drawn, same or unlike)


@FEW
@given(
    codes=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=30),
    seed=st.integers(0, 1000),
)
def test_partners_of_any_catalogue_differ_in_domain(codes: list[tuple[int, int, int]], seed: int):
    items, categories, domains = (list(each) for each in zip(*codes, strict=True))
    partners = AcrossPartners(across(labels_of(items, categories), domains))
    generator = np.random.default_rng(seed)
    other = [[row for row in range(len(items)) if domains[row] != domains[anchor]] for anchor in range(len(items))]
    with_positive = [a for a in range(len(items)) if any(items[row] == items[a] for row in other[a])]
    with_negative = [a for a in range(len(items)) if any(items[row] != items[a] for row in other[a])]
    assert partners.with_positive().tolist() == with_positive
    assert partners.with_negative().tolist() == with_negative
    for anchor in with_positive:
        found = int(partners.positive(np.array([anchor]), generator)[0])
        assert found in other[anchor]
        assert items[found] == items[anchor]
    for anchor in with_negative:
        for near in (True, False):
            found = int(partners.negative(np.array([anchor]), np.array([near]), generator)[0])
            assert found in other[anchor]
            assert items[found] != items[anchor]


@pytest.mark.parametrize("config", [PairsConfig(across="domain"), TripletsConfig(across="domain")])
def test_pairs_and_triplets_cross_the_domains(config: PairsConfig | TripletsConfig):
    table = pd.DataFrame(
        {
            "image": range(48),
            "item": np.arange(48) // 4,
            "category": np.arange(48) // 16,
            "split": "train",
            "role": "both",
            "domain": ["consumer", "shop", "shop", "consumer"] * 12,
        }
    )
    catalog = Catalog("shop", table, [str(each) for each in range(12)], ["a", "b", "c"])
    sampler = build(config, catalog, "train", 24, seed=0)
    for batch in epochs(sampler, 2):
        domains = table["domain"].to_numpy()[batch.rows]
        assert batch.indices_tuple is not None
        first, *others = batch.indices_tuple
        if isinstance(config, PairsConfig):
            a1, p, a2, n = batch.indices_tuple
            assert (domains[a1] != domains[p]).all()
            assert (domains[a2] != domains[n]).all()
        else:
            assert all((domains[first] != domains[other]).all() for other in others)
    with pytest.raises(LapelError, match=r"sampler\.across=colour: no such column"):
        build(type(config)(across="colour"), catalog, "train", 24, seed=0)
    catalog.table["domain"] = "shop"
    with pytest.raises(LapelError, match=r"sampler\.across=domain: is shop for every training image"):
        build(config, catalog, "train", 24, seed=0)
