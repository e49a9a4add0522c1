"""What lapel says of people's tables and folders: how paths are written, what is bad, what looks like a mistake."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import photo_trees
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapel.catalog import Catalog
from lapel.commands import data as data_command
from lapel.config.composing import compose
from lapel.config.data import DataConfig
from lapel.datasets import load as load_data
from lapel.datasets.photos import allowed_bad
from lapel.errors import LapelError
from lapel.photos.tree import Tree
from lapel.training.process import prepare

ROWS = 24


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with photos img/p0.png … of 6 items, and the csv shop.csv that lists them."""
    for row in range(ROWS):
        photo_trees.save(tmp_path / "shop" / "img" / f"p{row}.png", photo_trees.photo(row % 6, row))
    write(tmp_path / "shop", [f"img/p{row}.png" for row in range(ROWS)])
    return tmp_path / "shop"


def write(shop: Path, images: list[str], **columns: list[Any]) -> None:
    table = pd.DataFrame({"image": images, "item": [f"s{row % 6}" for row in range(len(images))]} | columns)
    table.to_csv(shop / "shop.csv", index=False)


def load(*overrides: str) -> Catalog:
    config = compose("catalog", [*overrides, "data.size=16"])
    assert isinstance(config.data, DataConfig)
    return load_data(config.data)


def load_shop(shop: Path, *overrides: str) -> Catalog:
    return load("data=table", f"data.table={shop / 'shop.csv'}", *overrides)


def dropped(catalog: Catalog) -> dict[str, list[str]]:
    return {each.reason: each.names for each in catalog.dropped}


Run = Callable[..., str]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """What `lapel-data check` prints."""

    def run(*overrides: str) -> str:
        monkeypatch.setattr(sys, "argv", ["lapel-data", "check", *overrides, "data.size=16", "out=looked"])
        monkeypatch.setenv("COLUMNS", "200")
        data_command.main()
        return capsys.readouterr().out

    return run


# -------------------------------------------------------------------------------------------- how paths are written


def upper(name: str) -> str:
    return name.upper()


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (lambda name, shop: str(shop / name), "are absolute, and are read so"),
        (lambda name, _: name.replace("/", "\\"), "are written with backslashes"),
        (lambda name, _: name.upper(), "are written in other case"),
        (lambda name, shop: f"{shop}/{name}".replace("/", "\\"), "are absolute"),
        (lambda name, _: f" {name} ", "are written with blanks around them"),
        (lambda name, _: f"shop/{name}", "are written below the root's own name"),
        (lambda name, _: f"shop\\{name} ".replace("/", "\\"), "are written below the root's own name"),
        (lambda name, _: f"./{name}".replace("/", "//"), ""),
    ],
)
def test_paths_are_read_as_they_are_meant(
    written: Callable[[str, Path], str], told: str, shop: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lapel")
    plain = [f"img/p{row}.png" for row in range(ROWS)]
    given = [written(name, shop) for name in plain]
    write(shop, given)
    catalog = load_shop(shop)
    assert catalog.table["image"].tolist() == plain
    assert not catalog.dropped
    assert told in caplog.text
    if told:
        assert f"{given[0]} is img/p0.png" in caplog.text


def test_paths_of_another_system_are_told_as_what_they_are(shop: Path) -> None:
    write(shop, ["C:\\Photos\\p0.png", *(f"img/p{row}.png" for row in range(1, ROWS))])
    (told,) = dropped(load_shop(shop))["no image file"]
    assert told == f"C:\\Photos\\p0.png: an absolute path of another system, must be relative to {shop}"


def test_blanks_around_labels_are_told(shop: Path, caplog: pytest.LogCaptureFixture) -> None:
    items = [f"s{row % 6}{' ' * (row == 7)}" for row in range(ROWS)]
    write(shop, [f"img/p{row}.png" for row in range(ROWS)], item=items)
    caplog.set_level(logging.INFO, "lapel")
    assert load_shop(shop).item_names == [f"s{item}" for item in range(6)]
    assert "blanks around labels in item are left out, 1 times, as of 's1 '" in caplog.text


def test_links_in_circles_are_followed_once(shop: Path) -> None:
    for item in range(3):
        for view in range(3):
            photo_trees.save(shop / "tree" / f"item{item}" / f"{view}.png", photo_trees.photo(item, view))
    (shop / "tree" / "item0" / "again").symlink_to("..")
    (shop / "tree" / "item1" / "other").symlink_to("../item2")
    (shop / "tree" / "item2" / "other").symlink_to("../item1")
    (shop / "tree" / "up").symlink_to("../..")
    names = Tree(shop / "tree").names()
    plain = [f"item{item}/{view}.png" for item in range(3) for view in range(3)]
    assert sorted(names) == sorted(
        plain + [f"item1/other/{view}.png" for view in range(3)] + [f"item2/other/{view}.png" for view in range(3)]
    )


def test_what_systems_keep_in_folders_is_no_photo(shop: Path) -> None:
    for item in range(3):
        photo_trees.save(shop / "tree" / f"item{item}" / "0.png", photo_trees.photo(item, 0))
        for top in ("__MACOSX", "@eaDir", ".thumbnails", "$RECYCLE.BIN"):
            photo_trees.save(shop / "tree" / f"item{item}" / top / "0.png", photo_trees.photo(item, 0))
            photo_trees.save(shop / "tree" / top / f"item{item}" / "0.png", photo_trees.photo(item, 0))
    assert sorted(Tree(shop / "tree").names()) == [f"item{item}/0.png" for item in range(3)]


def test_of_a_set_without_a_readable_photo_all_are_listed(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in range(ROWS):
        (shop / "img" / f"p{row}.png").write_bytes(b"")
    arguments = ["lapel-data", "check", "data=table", f"data.table={shop / 'shop.csv'}", "data.size=16", "out=looked"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        data_command.main()
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert "no photo can be read (unreadable image: 24, as img/p0.png: an empty file)" in told.err
    assert all(f"  img/p{row}.png: an empty file\n" in told.out for row in range(ROWS))
    assert len(pd.read_csv("looked/left_out.csv")) == ROWS


def test_case_that_could_mean_two_files_means_none(shop: Path) -> None:
    photo_trees.save(shop / "img" / "P0.png", photo_trees.photo(0, 99))
    write(shop, ["IMG/P0.PNG", *(f"img/p{row}.png" for row in range(1, ROWS))])
    found = dropped(load_shop(shop))
    assert found["no image file"] == ["IMG/P0.PNG: differs by case from img/P0.png and img/p0.png"]


def test_addresses_are_told_as_what_they_are(shop: Path) -> None:
    write(shop, ["https://shop.example/p0.png", *(f"img/p{row}.png" for row in range(1, ROWS))])
    assert dropped(load_shop(shop)) == {"an address, no file": ["https://shop.example/p0.png"]}
    write(shop, [f"https://shop.example/p{row}.png" for row in range(ROWS)])
    with pytest.raises(LapelError, match=r"an address, no file: 24, as https://shop.example/p0.png"):
        load_shop(shop)


def test_a_suffix_that_names_lack_is_told_and_can_be_given(shop: Path) -> None:
    write(shop, [f"img/p{row}" for row in range(ROWS)])
    with pytest.raises(LapelError) as error:
        load_shop(shop)
    assert "img/p0: no such file (lacks .png), nor any other of 24 images" in str(error.value)
    assert "24 of them lack .png, the first is img/p0: data.suffix=.png adds it" in str(error.value)
    assert len(load_shop(shop, "data.suffix=.png")) == ROWS
    write(shop, [f"img/p{row}" if row < 9 else f"img/p{row}.png" for row in range(ROWS)])
    with pytest.raises(LapelError, match=r"9 of them lack .png, the first is img/p0: data.suffix=.png adds it"):
        load_shop(shop)


def test_a_root_that_is_one_folder_higher_is_told(shop: Path) -> None:
    with pytest.raises(LapelError, match=r"it is in shop: data.root=.*shop names that"):
        load("data=table", f"data.table={shop / 'shop.csv'}", f"data.root={shop.parent}")


@pytest.mark.parametrize("left_out", [True, False])
def test_a_training_says_what_is_left_out(left_out: bool, shop: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lapel")
    if left_out:
        (shop / "img" / "p3.png").unlink()
    config = compose("train", ["data=table", f"data.table={shop / 'shop.csv'}", "data.size=16", "data.batch_size=auto"])
    prepare(config)
    assert ("shop: left out 1 no image file; lapel-data check lists them" in caplog.text) == left_out


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_every_row_is_a_photo_or_told(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever spelling each path is in, its row has its own photo and label, or stands among what was left out."""
    shop = tmp_path_factory.mktemp("shop")
    for row in range(8):
        photo_trees.save(shop / "img" / f"Photo {row}.png", photo_trees.noise(row))
    understood: list[Callable[[str], str]] = [
        lambda name: name,
        lambda name: name.upper(),
        lambda name: name.replace("/", "\\"),
        lambda name: str(shop / name),
        lambda name: f"./{name}",
    ]
    refused: list[Callable[[str], str]] = [
        lambda name: f"http://a/{name}",
        lambda name: f"../{name}",
        lambda name: name[:-4],
        lambda _: "",
        lambda _: "img",
        lambda _: "nothing.png",
    ]
    spellings = [*understood, *refused]
    chosen = [data.draw(st.sampled_from(range(len(spellings)))) for _ in range(8)]
    write(shop, [spellings[how](f"img/Photo {row}.png") for row, how in enumerate(chosen)])
    options = ["data.max_bad=1", f"data.cache={shop / 'cache'}"]
    if not any(how < 5 for how in chosen):
        with pytest.raises(LapelError, match=r"no such file|no image is left"):
            load_shop(shop, *options)
        return
    catalog = load_shop(shop, *options)
    told = sum(len(each.names) for each in catalog.dropped)
    assert len(catalog) + told == 8
    for image, item in zip(catalog.table["image"], catalog.items, strict=True):
        row = int(image.removeprefix("img/Photo ").removesuffix(".png"))
        assert catalog.item_names[item] == f"s{row % 6}"
        assert chosen[row] < 5
    assert len(catalog) == sum(how < 5 for how in chosen)


# ------------------------------------------------------------------------------------------------------ bad photos


def test_check_lists_every_bad_photo_and_stops_for_none(shop: Path, check: Run) -> None:
    bad = [f"img/p{row}.png" for row in range(0, 18, 2)]
    for number, name in enumerate(bad):
        if number % 2:
            (shop / name).write_bytes(b"this is no image")
        else:
            (shop / name).unlink()
    printed = check("data=table", f"data.table={shop / 'shop.csv'}")
    assert "missing or unreadable: 9 photos; data.max_bad=0.001 allows 3: a training stops for them" in printed
    assert all(f"  {name}" in printed for name in bad)
    assert "img/p2.png: of no format that Pillow knows" in printed
    listed = pd.read_csv("looked/left_out.csv")
    assert sorted(each.partition(":")[0] for each in listed["image"]) == sorted(bad)
    with pytest.raises(LapelError, match="5 of 24 photos are missing or unreadable"):
        load_shop(shop)


def test_a_few_bad_photos_do_not_stop_a_small_set(shop: Path, check: Run) -> None:
    for row in range(3):
        (shop / "img" / f"p{row}.png").write_bytes(b"")
    assert len(load_shop(shop)) == ROWS - 3
    with pytest.raises(LapelError, match=r"3 of 24 photos are missing or unreadable, data.max_bad=0.0 allows 0"):
        load_shop(shop, "data.max_bad=0")
    assert "allows 3: a training goes on without them" in check("data=table", f"data.table={shop / 'shop.csv'}")


@pytest.mark.parametrize(
    ("share", "listed", "allowed"),
    [(0.001, 24, 3), (0.001, 8, 2), (0.001, 3, 0), (0.001, 10_000, 10), (0.001, 2000, 3), (0.5, 10, 5), (0, 1000, 0)],
)
def test_how_many_may_be_bad(share: float, listed: int, allowed: int) -> None:
    assert allowed_bad(share, listed) == allowed


def test_the_size_that_photos_are_decoded_to_is_told(shop: Path, check: Run) -> None:
    printed = check("data=table", f"data.table={shop / 'shop.csv'}")
    assert "decoded photos: 16 x 16 (height x width), in colour, in " in printed


# ------------------------------------------------------------------------------------------------------- mistakes


def test_one_photo_as_two_items_is_told(shop: Path, check: Run) -> None:
    images = [f"img/p{row}.png" for row in range(ROWS)]
    write(shop, [*images, "img/p0.png", "img/p1.png"], item=[*(f"s{row % 6}" for row in range(ROWS)), "s5", "s1"])
    found = dropped(load_shop(shop))
    assert found["named before, as another item"] == ["img/p0.png: is s5, and s0 before"]
    assert found["named before"] == ["img/p1.png"]
    (shop / "img" / "again.png").write_bytes((shop / "img" / "p0.png").read_bytes())
    write(shop, [*images, "img/again.png"], item=[*(f"s{row % 6}" for row in range(ROWS)), "s5"])
    printed = check("data=table", f"data.table={shop / 'shop.csv'}")
    assert "one photo, pixel for pixel, as several items, 1 times: img/p0.png (s0) and img/again.png (s5)" in printed


@pytest.mark.parametrize(
    ("items", "told"),
    [
        (["s"] * ROWS, "all images are of one item, 's': there is nothing to tell it from"),
        ([f"s{row}" for row in range(ROWS)], "each of the 24 items has one image: none has a match"),
        (["lone", *["s"] * 11, *["t"] * 12], "1 of 3 items have one image, and no match: 'lone'"),
        (
            ["Red dress", "red  Dress"] * 12,
            "items that differ by case or blanks alone, 1 times: 'Red dress' and 'red  D",
        ),
        (["s1", "s2"] * 12, ""),
    ],
)
def test_items_that_look_like_a_mistake_are_told(items: list[str], told: str, shop: Path, check: Run) -> None:
    write(shop, [f"img/p{row}.png" for row in range(ROWS)], item=items)
    printed = check("data=table", f"data.table={shop / 'shop.csv'}")
    assert told in printed
    assert ("doubtful" in printed) == bool(told)


def test_a_folder_around_all_items_is_told(tmp_path: Path, check: Run) -> None:
    for item in range(3):
        for view in range(4):
            photo_trees.save(tmp_path / "own" / "photos" / f"item{item}" / f"{view}.png", photo_trees.photo(item, view))
    printed = check("data=folder", f"data.root={tmp_path / 'own'}")
    assert "all 3 items are of one category, 'photos'; where it is a folder around all of them" in printed
    assert "doubtful" not in check("data=folder", f"data.root={tmp_path / 'own' / 'photos'}")


# --------------------------------------------------------------------------------------------------------- groups


@settings(deadline=None, max_examples=15)
@given(
    senders=st.lists(st.sampled_from(["anna", "bo", "cem", "", "dora"]), min_size=ROWS, max_size=ROWS),
    rule=st.sampled_from(["hash", "stratified", "unseen"]),
)
def test_a_group_is_in_one_part(senders: list[str], rule: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    shop = tmp_path_factory.mktemp("shop")
    for row in range(ROWS):
        photo_trees.save(shop / f"p{row}.png", photo_trees.noise(row % 20))  # the last four are the first ones again
    write(shop, [f"p{row}.png" for row in range(ROWS)], sender=senders)
    options = [f"data.split={rule}", "data.test_share=0.4", "data.val_share=0.2", f"data.cache={shop / 'cache'}"]
    table = load_shop(shop, *options, "data.group=sender").table
    for sender in set(senders) - {""}:
        assert len({split for split, each in zip(table["split"], senders, strict=True) if each == sender}) == 1
    for row in range(4):
        assert str(table["split"][row]) == str(table["split"][20 + row])
    alone = load_shop(shop, *options, "data.group=image").table["split"]
    np.testing.assert_array_equal(alone, load_shop(shop, *options).table["split"])


def test_a_group_that_is_no_column_is_told(shop: Path) -> None:
    with pytest.raises(LapelError, match=r"data.group=sender: no such column; there are image, item"):
        load_shop(shop, "data.group=sender")
