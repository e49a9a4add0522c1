"""The catalogue: what it refuses, which rows it gives, and the stratified draw."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapel.catalog.catalog import REQUIRED_COLUMNS, Catalog, stratified
from lapel.errors import LapelError

FEW = settings(max_examples=40, deadline=None)


def table_of(**columns: Any) -> pd.DataFrame:
    """Seven images of three items in two categories, with columns replaced as told."""
    base = {
        "image": ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png", "g.png"],
        "item": np.array([0, 0, 1, 1, 2, 2, 2]),
        "category": np.array([0, 0, 0, 0, 1, 1, 1]),
        "split": ["train", "train", "test", "val", "test", "test", "test"],
        "role": ["both", "both", "query", "both", "gallery", "both", "query"],
    }
    return pd.DataFrame({**base, **columns})


def catalog_of(
    table: pd.DataFrame | None = None, items: tuple[str, ...] = ("shirt-0", "shirt-1", "dress-0")
) -> Catalog:
    return Catalog("tiny", table_of() if table is None else table, list(items), ["shirt", "dress"])


def test_a_sound_table_is_taken_as_it_is():
    catalog = catalog_of()
    assert len(catalog) == 7
    assert catalog.items.tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert catalog.categories.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert catalog.items.dtype == catalog.categories.dtype == np.int64


def test_codes_are_copies():
    catalog = catalog_of()
    catalog.items[0] = 2
    catalog.categories[0] = 1
    assert catalog.items[0] == catalog.categories[0] == 0


# --------------------------------------------------------------------------------------------------------------- checks


@pytest.mark.parametrize("column", REQUIRED_COLUMNS)
def test_a_missing_column_is_named(column: str):
    with pytest.raises(LapelError, match=rf"catalogue tiny: columns \['{column}'\] are missing"):
        catalog_of(table_of().drop(columns=column))


def test_an_empty_table_is_refused():
    with pytest.raises(LapelError, match="catalogue tiny: holds no image"):
        catalog_of(table_of().iloc[:0])


@pytest.mark.parametrize("column", ["item", "category"])
@pytest.mark.parametrize(("code", "span"), [(-1, "-1 to"), (3, "0 to 3")])
def test_a_code_without_a_name_is_refused(column: str, code: int, span: str):
    codes = table_of()[column].to_numpy(copy=True)
    codes[0] = code
    with pytest.raises(LapelError, match=f"column {column} goes from {span}.*, has [23] names"):
        catalog_of(table_of(**{column: codes}))


@pytest.mark.parametrize("column", ["item", "category"])
@pytest.mark.parametrize("dtype", ["int32", "float64", "object", "uint8"])
def test_codes_of_another_type_are_refused(column: str, dtype: str):
    with pytest.raises(LapelError, match=f"column {column} is {dtype}, must be int64"):
        catalog_of(table_of(**{column: table_of()[column].to_numpy().astype(dtype)}))


@pytest.mark.parametrize(("column", "value"), [("split", "training"), ("role", "querry"), ("split", "nan")])
def test_a_split_or_role_of_another_name_is_refused(column: str, value: str):
    values = table_of()[column].tolist()
    values[3] = None if value == "nan" else value  # pandas shows nothing as nan
    with pytest.raises(LapelError, match=rf"column {column} holds \['{value}'\], allowed are \["):
        catalog_of(table_of(**{column: values}))


def test_an_index_with_gaps_is_refused():
    with pytest.raises(LapelError, match="the index must be 0, 1, 2"):
        catalog_of(table_of().iloc[[0, 2, 4]])
    assert len(catalog_of(table_of().iloc[[0, 2, 4]].reset_index(drop=True))) == 3


# ----------------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize(
    ("split", "rows", "queries", "gallery"),
    [("train", [0, 1], [0, 1], [0, 1]), ("val", [3], [3], [3]), ("test", [2, 4, 5, 6], [2, 5, 6], [4, 5])],
)
def test_rows_are_those_of_split_and_role(split: str, rows: list[int], queries: list[int], gallery: list[int]):
    catalog = catalog_of()
    assert catalog.rows(split).tolist() == rows
    assert catalog.queries(split).tolist() == queries
    assert catalog.gallery(split).tolist() == gallery
    assert catalog.rows(split).dtype == catalog.queries(split).dtype == catalog.gallery(split).dtype == np.int64


def test_a_split_without_images_is_refused():
    catalog = catalog_of(table_of(split="train"))
    for rows in (catalog.rows, catalog.queries, catalog.gallery):
        with pytest.raises(LapelError, match="catalogue tiny: split val has no image"):
            rows("val")


@pytest.mark.parametrize(("there", "missing"), [("query", "gallery"), ("gallery", "query")])
def test_a_split_without_a_role_is_refused(there: str, missing: str):
    catalog = catalog_of(table_of(role=there))
    with pytest.raises(LapelError, match=f"split test has no image with role {missing} or both"):
        (catalog.gallery if missing == "gallery" else catalog.queries)("test")


def test_described_rows_have_names_and_keep_their_order():
    described = catalog_of(table_of(colour=list("rgbcmyk"))).described(np.array([4, 0, 3]))
    assert described["image"].tolist() == ["e.png", "a.png", "d.png"]
    assert described["item"].tolist() == ["dress-0", "shirt-0", "shirt-1"]
    assert described["category"].tolist() == ["dress", "shirt", "shirt"]
    assert described["colour"].tolist() == ["m", "r", "c"]
    assert described.index.tolist() == [0, 1, 2]


def test_describing_leaves_the_table_as_it_is():
    catalog = catalog_of()
    catalog.described(np.arange(7))
    pd.testing.assert_frame_equal(catalog.table, table_of())


# ----------------------------------------------------------------------------------------------------------- split hash


def test_a_split_hash_is_a_function_of_the_content():
    assert catalog_of().split_hash("test") == catalog_of().split_hash("test")
    assert len(catalog_of().split_hash("test")) == 64
    assert catalog_of().split_hash("test") != catalog_of().split_hash("train")


@pytest.mark.parametrize(
    ("column", "row", "value"),
    [("image", 4, "other.png"), ("item", 4, 0), ("role", 4, "query"), ("split", 4, "train"), ("split", 0, "test")],
)
def test_a_split_hash_changes_with_its_rows(column: str, row: int, value: Any):
    table = table_of()
    table.loc[row, column] = value
    assert catalog_of(table).split_hash("test") != catalog_of().split_hash("test")


@pytest.mark.parametrize(
    ("column", "value"), [("image", "other.png"), ("item", 1), ("role", "query"), ("split", "val")]
)
def test_a_split_hash_does_not_change_with_other_splits(column: str, value: Any):
    table = table_of()
    table.loc[0, column] = value
    assert catalog_of(table).split_hash("test") == catalog_of().split_hash("test")
    assert catalog_of(table).split_hash("train") != catalog_of().split_hash("train")


def test_a_split_hash_speaks_of_names_not_of_codes():
    renumbered = table_of(item=np.array([2, 2, 0, 0, 1, 1, 1]))
    other = catalog_of(renumbered, ("shirt-1", "dress-0", "shirt-0"))
    assert other.split_hash("test") == catalog_of().split_hash("test")
    renamed = catalog_of(items=("shirt-0", "shirt-1", "dress-9"))
    assert renamed.split_hash("test") != catalog_of().split_hash("test")


def test_a_split_hash_changes_with_the_order_of_rows():
    swapped = table_of().iloc[[0, 1, 4, 3, 2, 5, 6]].reset_index(drop=True)
    assert catalog_of(swapped).split_hash("test") != catalog_of().split_hash("test")


# ----------------------------------------------------------------------------------------------------------- stratified


@FEW
@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=60), data=st.data(), seed=st.integers(0, 99))
def test_a_stratified_part_has_the_exact_count_and_a_proportional_share_of_each_label(
    labels: list[int], data: st.DataObject, seed: int
):
    count = data.draw(st.integers(0, len(labels)))
    rows = stratified(np.array(labels), count, seed)
    assert len(rows) == count
    assert (np.diff(rows) > 0).all()
    taken = Counter(labels[row] for row in rows)
    for label, size in Counter(labels).items():
        assert abs(taken[label] - size * count / len(labels)) < 1
    np.testing.assert_array_equal(rows, stratified(np.array(labels), count, seed))


def test_the_largest_remainders_get_one_more():
    # Shares of 5 out of 10: 2.5, 1.5 and 1.0; two are rounded down at first.
    labels = np.repeat([0, 1, 2], [5, 3, 2])
    taken = Counter(labels[stratified(labels, 5, 0)].tolist())
    assert taken == {0: 3, 1: 1, 2: 1}


def test_equal_classes_give_equally():
    labels = np.tile(np.arange(10), 50)
    assert set(Counter(labels[stratified(labels, 100, 1)].tolist()).values()) == {10}


def test_the_draw_depends_on_the_seed_and_spares_no_row():
    labels = np.repeat([0, 1], 20)
    drawn = [stratified(labels, 10, seed).tolist() for seed in range(40)]
    assert len({tuple(rows) for rows in drawn}) > 30
    assert set().union(*drawn) == set(range(40))
