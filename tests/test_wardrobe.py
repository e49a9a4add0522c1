"""The drawn wardrobe: pure functions of their seeds, open-set splits, and views that show the same garment."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from lapel.catalog import Catalog
from lapel.config.data import WardrobeConfig
from lapel.datasets.wardrobe import CATEGORIES, design, draw, load
from lapel.datasets.wardrobe.garments import COLOURS, PATTERNS, RULES, luminance
from lapel.errors import LapelError


@pytest.fixture(scope="module")
def small() -> WardrobeConfig:
    return WardrobeConfig(size=24, items=40, views=6)


@pytest.fixture(scope="module")
def catalog(small: WardrobeConfig) -> Catalog:
    return load(small)


def pixels_of(catalog: Catalog) -> np.ndarray:
    assert catalog.pixels is not None
    return catalog.pixels


# ------------------------------------------------------------------------------------------------------------- garments


def test_design_is_a_pure_function():
    assert [design(3, item) for item in range(20)] == [design(3, item) for item in range(20)]
    assert design(3, 0) != design(4, 0)


def test_no_two_garments_are_the_same():
    assert len({design(0, item) for item in range(500)}) == 500


def test_every_category_and_pattern_occurs():
    garments = [design(0, item) for item in range(500)]
    assert {garment.category for garment in garments} == set(CATEGORIES)
    assert {garment.pattern for garment in garments} == set(PATTERNS)
    assert {garment.colour_name for garment in garments} == set(COLOURS)


def test_garments_obey_the_rules_of_their_category():
    for item in range(300):
        garment = design(0, item)
        rules = RULES[garment.category]
        assert rules.length[0] <= garment.length <= rules.length[1]
        assert rules.width[0] <= garment.width <= rules.width[1]
        assert any(low <= garment.reach <= high for low, high in rules.reaches)
        assert garment.neckline in rules.necklines
        assert garment.cut in rules.cut_words
        assert set(garment.details) <= set(rules.details)


def test_the_pattern_shows_in_grey():
    for item in range(300):
        garment = design(0, item)
        # The second colour is chosen 50 away from the first, then dyed by up to 14.
        assert abs(luminance(garment.colour) - luminance(garment.second)) >= 50 - 14


# ------------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("size", [8, 28, 48, 97, 224])
def test_pictures_have_the_size_asked_for(size: int):
    picture = draw(design(0, 1), 0, 1, 0, size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8


def test_draw_is_a_pure_function():
    garment = design(0, 5)
    np.testing.assert_array_equal(draw(garment, 0, 5, 2, 48), draw(garment, 0, 5, 2, 48))
    assert np.any(draw(garment, 0, 5, 2, 48) != draw(garment, 0, 5, 3, 48))
    assert np.any(draw(garment, 0, 5, 2, 48) != draw(garment, 1, 5, 2, 48))


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("pattern", sorted(set(PATTERNS)))
def test_every_category_can_be_drawn_in_every_pattern(category: str, pattern: str):
    item = next(item for item in range(500) if design(0, item).category == category)
    plain = replace(design(0, item), pattern="plain")
    patterned = draw(replace(plain, pattern=pattern), 0, item, 0, 48)
    assert (pattern == "plain") == np.array_equal(patterned, draw(plain, 0, item, 0, 48))


def test_details_can_be_seen():
    for category in CATEGORIES:
        item = next(item for item in range(500) if design(0, item).category == category)
        bare = replace(design(0, item), details=())
        for detail in RULES[category].details:
            detailed = replace(bare, details=(detail,))
            assert np.any(draw(detailed, 0, item, 0, 96) != draw(bare, 0, item, 0, 96)), f"{category} with {detail}"


def test_a_scene_is_the_same_at_every_size():
    garment = design(0, 7)
    small, large = draw(garment, 0, 7, 1, 48), draw(garment, 0, 7, 1, 96)
    halved = large.reshape(48, 2, 48, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - small).mean() < 4


# ------------------------------------------------------------------------------------------------------------ catalogue


def test_load_is_a_pure_function(small: WardrobeConfig, catalog: Catalog):
    again = load(small)
    assert again.table.equals(catalog.table)
    np.testing.assert_array_equal(pixels_of(again), pixels_of(catalog))


def test_each_row_shows_its_item_and_view(small: WardrobeConfig, catalog: Catalog):
    assert catalog.table["image"].tolist() == list(range(240))
    assert catalog.table["view"].tolist() == list(range(6)) * 40
    for row in (0, 17, 239):
        item, view = int(catalog.items[row]), row % small.views
        expected = draw(design(small.drawing_seed, item), small.drawing_seed, item, view, small.height)
        np.testing.assert_array_equal(pixels_of(catalog)[row], expected)


def test_another_seed_draws_another_wardrobe(small: WardrobeConfig, catalog: Catalog):
    other = load(replace(small, drawing_seed=1))
    assert other.item_names != catalog.item_names
    assert np.any(pixels_of(other) != pixels_of(catalog))


def test_more_items_and_views_leave_the_others_as_they_are(small: WardrobeConfig, catalog: Catalog):
    larger = load(replace(small, items=45, views=7))
    assert larger.item_names[:40] == catalog.item_names
    before = pixels_of(catalog).reshape(40, 6, 24, 24, 3)
    np.testing.assert_array_equal(pixels_of(larger).reshape(45, 7, 24, 24, 3)[:40, :6], before)


def test_one_channel_is_pillows_grey(small: WardrobeConfig, catalog: Catalog):
    grey = load(replace(small, channels=1))
    assert pixels_of(grey).shape == (240, 24, 24)
    assert pixels_of(grey).dtype == np.uint8
    assert pixels_of(catalog).shape == (240, 24, 24, 3)
    weighed = pixels_of(catalog) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(pixels_of(grey) - weighed).max() <= 1
    assert grey.table.equals(catalog.table)


def test_splits_are_open_set(catalog: Catalog):
    assert set(catalog.table.groupby("item")["split"].nunique()) == {1}
    assert catalog.table.groupby("split")["item"].nunique().to_dict() == {"train": 26, "val": 4, "test": 10}


def test_splits_hold_about_the_same_share_of_each_category():
    catalog = load(WardrobeConfig(size=8, items=400, views=3, test_share=0.25, val_share=0.1))
    splits = catalog.table["split"].to_numpy()[::3]
    for category in range(len(CATEGORIES)):
        of_category = splits[catalog.categories[::3] == category].tolist()
        assert abs(of_category.count("test") - 0.25 * len(of_category)) <= 1
        # Validation is stratified over what the test leaves, so both roundings come into it.
        assert abs(of_category.count("val") - 0.1 * len(of_category)) <= 2


@pytest.mark.parametrize(("views", "query_views"), [(3, {0}), (5, {0}), (6, {0, 1}), (8, {0, 1})])
def test_the_first_views_are_queries(views: int, query_views: set[int]):
    catalog = load(WardrobeConfig(size=8, items=20, views=views))
    assert set(catalog.table["role"][catalog.rows("train")]) == {"both"}
    for split in ("val", "test"):
        assert set(catalog.table["view"][catalog.queries(split)]) == query_views
        assert set(catalog.table["view"][catalog.gallery(split)]) == set(range(views)) - query_views


@pytest.mark.parametrize("views", [3, 6])
def test_every_query_has_a_match_and_a_rival_in_its_gallery(views: int):
    catalog = load(WardrobeConfig(size=8, items=10, views=views))
    for split in ("val", "test"):
        gallery = set(catalog.items[catalog.gallery(split)])
        assert set(catalog.items[catalog.queries(split)]) == gallery
        assert len(gallery) >= 2


def test_extra_columns_say_what_is_drawn(small: WardrobeConfig, catalog: Catalog):
    described = catalog.described(np.arange(len(catalog)))
    for row in range(0, len(catalog), 6):
        garment = design(small.drawing_seed, row // 6)
        said = described.loc[row, ["item", "category", "view", "colour", "pattern", "cut"]].tolist()
        item_name = f"{garment.category}-{row // 6:04d}"
        assert said == [item_name, garment.category, 0, garment.colour_name, garment.pattern, garment.cut]


def test_views_differ_and_yet_are_nearer_than_other_items(catalog: Catalog):
    pictures = pixels_of(catalog).astype(np.float32)
    distances = np.stack([np.abs(pictures - picture).mean(axis=(1, 2, 3)) for picture in pictures])
    same = catalog.items[:, None] == catalog.items
    different_views = same & ~np.eye(len(same), dtype=bool)
    assert distances[different_views].min() > 2
    assert distances[different_views].mean() < 0.9 * distances[~same].mean()
    # Pixels alone must not solve the task: there would be nothing to learn.
    nearest = np.where(np.eye(len(same), dtype=bool), np.inf, distances).argmin(axis=1)
    assert 0.1 < same[np.arange(len(same)), nearest].mean() < 0.9


# --------------------------------------------------------------------------------------------------------------- limits


def test_large_shares_of_few_items_are_refused():
    with pytest.raises(LapelError, match="leaves 1 items to train on, must leave at least 2"):
        load(WardrobeConfig(items=10, val_share=0.4, test_share=0.5))


def test_small_shares_give_two_items_a_split():
    table = load(WardrobeConfig(size=8, items=10, views=3, val_share=0.01, test_share=0.01)).table
    assert table.groupby("split")["item"].nunique().to_dict() == {"train": 6, "val": 2, "test": 2}


@pytest.mark.parametrize("options", [{"items": 9}, {"views": 2}, {"test_share": 0.6}, {"val_share": 0.0}])
def test_options_out_of_range_are_refused(options: dict[str, float]):
    with pytest.raises(LapelError):
        WardrobeConfig(**options)  # pyright: ignore[reportArgumentType]


def test_the_module_needs_no_torch():
    code = "import sys, lapel.datasets.wardrobe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
