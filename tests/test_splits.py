"""Splits by hash: against plain loops, and what never happens to images of the same pixels."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapel.config.data import SplitRule
from lapel.datasets.splits import divide, hashed, identical_groups, save_division

FEW = settings(max_examples=60, deadline=None)
ROWS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 12)), min_size=1, max_size=40)


def names_of(count: int) -> list[str]:
    return [f"images/{number * 7}.jpg" for number in range(count)]


def place(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def test_a_name_is_placed_by_its_sha256():
    names = names_of(20)
    np.testing.assert_allclose(hashed(names), [place(name) for name in names], atol=2**-52)


def test_identical_fingerprints_share_a_group_and_unknown_ones_none():
    marks = np.array([[1, 2], [3, 4], [1, 2], [0, 0], [0, 0]], np.uint8)
    groups = identical_groups(marks)
    assert groups[0] == groups[2]
    assert len(set(groups.tolist())) == 4


@FEW
@given(rows=ROWS)
def test_the_hash_split_is_that_of_each_groups_first_name(rows: list[tuple[int, int]]):
    items, groups = np.array([f"item{item}" for item, _ in rows], dtype=object), np.array([group for _, group in rows])
    names = names_of(len(rows))
    split = divide(SplitRule.hash, names, items, groups, val_share=0.3, test_share=0.3)
    for row, group in enumerate(groups):
        members = [names[other] for other in range(len(names)) if groups[other] == group]
        first = place(min(members, key=lambda name: (len(name), name)))
        assert split[row] == ("test" if first < 0.3 else "val" if first < 0.6 else "train")


@FEW
@given(rows=ROWS, rule=st.sampled_from(list(SplitRule)))
def test_no_rule_divides_a_group(rows: list[tuple[int, int]], rule: SplitRule):
    items, groups = np.array([f"item{item}" for item, _ in rows], dtype=object), np.array([group for _, group in rows])
    split = divide(rule, names_of(len(rows)), items, groups, val_share=0.3, test_share=0.3)
    for group in set(groups.tolist()):
        assert len(set(split[groups == group])) == 1


@FEW
@given(rows=ROWS)
def test_unseen_items_stand_in_one_split(rows: list[tuple[int, int]]):
    items, groups = np.array([f"item{item}" for item, _ in rows], dtype=object), np.array([group for _, group in rows])
    split = divide(SplitRule.unseen, names_of(len(rows)), items, groups, val_share=0.3, test_share=0.3)
    for item in set(items.tolist()):
        assert len(set(split[items == item])) == 1


@pytest.mark.parametrize("rule", [SplitRule.hash, SplitRule.unseen])
def test_new_images_never_move_old_ones(rule: SplitRule):
    items = np.array([f"item{number % 9}" for number in range(60)], dtype=object)
    whole = divide(rule, names_of(60), items, np.arange(60), 0.2, 0.2)
    part = divide(rule, names_of(40), items[:40], np.arange(40), 0.2, 0.2)
    assert whole[:40].tolist() == part.tolist()


def test_the_order_of_rows_does_not_matter():
    items = np.array([f"item{number % 5}" for number in range(50)], dtype=object)
    groups, names = np.arange(50) // 2, names_of(50)
    order = np.random.default_rng(0).permutation(50)
    for rule in SplitRule:
        straight = divide(rule, names, items, groups, 0.2, 0.2)
        mixed = divide(rule, [names[row] for row in order], items[order], groups[order], 0.2, 0.2)
        assert mixed.tolist() == straight[order].tolist(), rule


def test_stratified_gives_each_item_its_share():
    items = np.repeat(np.array(["a", "b", "c"], dtype=object), [10, 20, 100])
    split = divide(SplitRule.stratified, names_of(130), items, np.arange(130), val_share=0.1, test_share=0.2)
    for item, count in (("a", 10), ("b", 20), ("c", 100)):
        assert (split[items == item] == "test").sum() == count // 5
        assert (split[items == item] == "val").sum() == count // 10


def test_the_shares_are_about_those_asked_for():
    split = divide(SplitRule.hash, names_of(5000), np.full(5000, "a", dtype=object), np.arange(5000), 0.1, 0.2)
    assert abs((split == "test").mean() - 0.2) < 0.02
    assert abs((split == "val").mean() - 0.1) < 0.02


def test_a_split_is_kept_under_the_hash_of_its_content(tmp_path: Path):
    names = ["a.jpg", 'odd, "b".jpg', "ü.jpg"]
    division = np.array(["train", "val", "test"], dtype=object)
    file = save_division(tmp_path, "mine", names, division)
    table = pd.read_csv(file)
    assert table["image"].tolist() == names
    assert table["split"].tolist() == ["train", "val", "test"]
    assert hashlib.sha256(file.read_bytes()).hexdigest().startswith(file.stem.removeprefix("mine-"))
    assert save_division(tmp_path, "mine", names, division) == file
    assert save_division(tmp_path, "mine", names, division[::-1]) != file
    assert len(list((tmp_path / "splits").iterdir())) == 2
