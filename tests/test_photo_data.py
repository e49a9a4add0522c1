"""Data sets of photo files: every format end to end, what can be wrong with them, and the store of decoded photos."""

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import photo_trees
import pytest
import torch
from PIL import Image

import lapel
from lapel import datasets
from lapel.catalog import SAME_PIXELS, Catalog
from lapel.config.data import DataConfig
from lapel.config.evaluation import EvaluateConfig
from lapel.config.export import ExportConfig
from lapel.datasets.fashion_product import parse_styles
from lapel.errors import DataNotFoundError, LapelError
from lapel.images.store import FileStore, HeldStore, MappedStore, open_store
from lapel.photos.decoding import decode
from lapel.photos.tree import Tree, leaves_root

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lapel"


def data_config(*overrides: str) -> Any:
    return lapel.compose("train", [*overrides]).data


def load(*overrides: str) -> Catalog:
    return datasets.load(data_config(*overrides))


def dropped(catalog: Catalog) -> dict[str, list[str]]:
    return {each.reason: each.names for each in catalog.dropped}


def photos_table(root: Path, items: int = 6, views: int = 4) -> pd.DataFrame:
    """Photos `p<number>.png` below a root, and the table that lists them."""
    rows = []
    for item in range(items):
        for view in range(views):
            name = f"p{len(rows)}.png"
            photo_trees.save(root / name, photo_trees.photo(item, view))
            rows.append({"image": name, "item": f"item {item}", "colour": "red" if item % 2 else "blue"})
    return pd.DataFrame(rows)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A csv with its photos beside it."""
    photos_table(tmp_path / "mine").to_csv(tmp_path / "mine" / "photos.csv", index=False)
    return tmp_path / "mine" / "photos.csv"


# ------------------------------------------------------------------------------------------------ every format


FORMATS = {
    "fashion_product": (photo_trees.fashion_product, ["data=fashion_product", "data.val_share=0.3"], {"sampler=pairs"}),
    "inshop": (photo_trees.inshop, ["data=deepfashion_inshop", "data.crop=box", "data.val_share=0.4"], set()),
    "inshop_highres": (
        lambda root: photo_trees.inshop(root, high_resolution=True),
        ["data=deepfashion_inshop", "data.high_resolution=true", "data.val_share=0.4"],
        {"sampler=triplets", "variant=triplet"},
    ),
    "category": (
        photo_trees.category,
        ["data=deepfashion_category", "data.crop=box"],
        set(),
    ),
    "category_old": (lambda root: photo_trees.category(root, "Anno"), ["data=deepfashion_category"], set()),
    "category_fine": (
        photo_trees.category_fine,
        ["data=deepfashion_category", "data.annotations=fine", "data.crop=box"],
        set(),
    ),
    "consumer2shop": (
        photo_trees.consumer2shop,
        ["data=deepfashion_consumer2shop", "data.crop=box"],
        {"sampler=pairs", "sampler.across=domain"},
    ),
}


SLOW_FORMATS = {"inshop_highres", "category_old", "category_fine"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW_FORMATS else []) for name in FORMATS]
)
def test_every_format_trains_evaluates_exports_and_searches(name: str, working_folder: Path):
    make, overrides, more = FORMATS[name]
    root = make(working_folder / "tree")
    small = ["data.size=16", "data.batch_size=16", "encoder.widths=[8,16]", "trainer=cpu", "trainer.max_epochs=1"]
    images = [] if any(each.startswith("sampler=") for each in more) else ["sampler.images=2"]
    config = lapel.compose("train", [*overrides, f"data.root={root}", *sorted(more), *small, *images])
    lapel.train(config)
    result = lapel.evaluate(EvaluateConfig(report=False))
    assert 0 < result["recall@10"] <= 1
    lapel.export(ExportConfig())
    bundle = lapel.load("latest/bundle")
    assert len(bundle.search_row(0, 3)) == 3
    assert bundle.items["image"].str.len().min() > 0


def test_fashion_product_reads_commas_and_na_and_reports_what_has_no_image(tmp_path: Path):
    root = photo_trees.fashion_product(tmp_path / "tree")
    (root / "images" / "100.jpg").unlink()
    catalog = load("data=fashion_product", f"data.root={root}", "data.max_bad=0.1")
    assert dropped(catalog) == {"no image file": ["images/100.jpg"]}
    table = catalog.table.set_index("id")
    assert table.loc[106, "productDisplayName"] == "Shirt, blue, with dots"
    assert set(table["baseColour"]) == {"NA"}
    assert catalog.item_names == [f"Type{number}" for number in range(6)]
    assert catalog.category_names == ["Sub0", "Sub1"]
    assert [catalog.item_names[code] for code in catalog.items[:6]] == ["Type0"] * 5 + ["Type1"]


def test_an_archive_is_read_where_it_lies_as_its_folder_is(tmp_path: Path):
    root = photo_trees.fashion_product(tmp_path / "tree")
    unpacked = load("data=fashion_product", f"data.root={root}")
    for compression, outer in ((zipfile.ZIP_STORED, ""), (zipfile.ZIP_DEFLATED, "myntradataset/")):
        folder = tmp_path / f"packed{compression}"
        folder.mkdir()
        with zipfile.ZipFile(folder / "archive.zip", "w", compression) as archive:
            for path in sorted(root.rglob("*.*")):
                archive.write(path, outer + path.relative_to(root).as_posix())
        for given in (folder, folder / "archive.zip"):
            packed = load("data=fashion_product", f"data.root={given}")
            assert packed.split_hash("train") == unpacked.split_hash("train")
            assert packed.photos is not None
            assert unpacked.photos is not None
            np.testing.assert_array_equal(packed.photos.built.pixels(), unpacked.photos.built.pixels())


def test_a_damaged_member_of_an_archive_is_a_bad_photo(tmp_path: Path):
    root = photo_trees.fashion_product(tmp_path / "tree")
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as opened:
        for path in sorted(root.rglob("*.*")):
            opened.write(path, path.relative_to(root).as_posix())
        place = opened.getinfo("images/103.jpg").header_offset
    content = bytearray(archive.read_bytes())
    content[place + 400] ^= 0xFF
    archive.write_bytes(bytes(content))
    catalog = load("data=fashion_product", f"data.root={archive}", "data.max_bad=0.1")
    assert dropped(catalog) == {"unreadable image": ["images/103.jpg: damaged in its archive (checksum differs)"]}


def test_images_of_the_same_pixels_share_a_split_and_never_count_as_a_find(tmp_path: Path):
    root = photo_trees.fashion_product(tmp_path / "tree")
    for number in range(101, 172, 2):
        shutil.copy(root / "images" / "100.jpg", root / "images" / f"{number}.jpg")
    catalog = load("data=fashion_product", f"data.root={root}")
    table = catalog.table
    groups = catalog.look_alikes
    for group in set(groups.tolist()):
        assert len(set(table["split"].to_numpy()[groups == group])) == 1
    assert np.bincount(groups).max() == 37


def test_inshop_keeps_the_official_protocol(tmp_path: Path):
    root = photo_trees.inshop(tmp_path / "tree")
    catalog = load("data=deepfashion_inshop", f"data.root={root}", "data.val_share=0.4")
    assert (len(catalog.queries("test")), len(catalog.gallery("test"))) == (20, 30)
    by_split = {split: set(catalog.items[catalog.rows(split)]) for split in ("train", "val", "test")}
    assert not by_split["train"] & by_split["val"]
    assert not (by_split["train"] | by_split["val"]) & by_split["test"]
    assert catalog.category_names == ["Dresses", "Shirts_Polos"]
    assert set(catalog.table["colour"]) == {"Blue"}
    assert SAME_PIXELS not in catalog.table


def test_the_box_is_what_is_seen(tmp_path: Path):
    root = photo_trees.inshop(tmp_path / "tree")
    catalog = load(
        "data=deepfashion_inshop", f"data.root={root}", "data.crop=box", "data.size=20", "data.val_share=0.4"
    )
    path = root / "Img" / catalog.table["image"].iloc[7]
    with Image.open(path) as image:
        expected = np.asarray(image.crop((4, 2, 28, 30)).resize((20, 20), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert catalog.photos is not None
    np.testing.assert_array_equal(catalog.photos.built.pixels()[7], expected)


def test_category_labels_begin_at_one(tmp_path: Path):
    for make, more in ((photo_trees.category, []), (photo_trees.category_fine, ["data.annotations=fine"])):
        root = make(tmp_path / make.__name__)
        catalog = load("data=deepfashion_category", f"data.root={root}", *more)
        shown = catalog.described(np.arange(len(catalog)))
        assert all(
            image.startswith(f"img/{item}_product") for image, item in zip(shown["image"], shown["item"], strict=True)
        )
        assert set(shown["category"]) == {"upper-body", "lower-body", "full-body"}


def test_a_shop_photo_of_two_items_and_splits_is_one_row(tmp_path: Path):
    root = photo_trees.consumer2shop(tmp_path / "tree")
    catalog = load("data=deepfashion_consumer2shop", f"data.root={root}")
    table = catalog.table
    (row,) = [row for row, items in enumerate(table["items"]) if len(items) > 1]
    assert table["splits"].tolist()[row] == ["train", "test"]
    assert row in catalog.gallery("train")
    assert row in catalog.gallery("test")
    assert row not in catalog.gallery("val")
    domains = table["domain"].to_numpy()
    assert set(domains[catalog.queries("test")]) == {"consumer"}
    assert set(domains[catalog.gallery("test")]) == {"shop"}
    first, last = table["items"].tolist()[row]
    rows = catalog.items == last
    assert set(catalog.linked_items[rows]) == {first}  # one of the two is no negative of the other


# ---------------------------------------------------------------------------------------------- your own data


def test_a_table_in_csv_or_parquet(listed: Path):
    pd.read_csv(listed).to_parquet(listed.with_suffix(".parquet"))
    for path in (listed, listed.with_suffix(".parquet")):
        catalog = load("data=table", f"data.table={path}", "data.size=16")
        assert len(catalog) == 24
        assert catalog.item_names == [f"item {number}" for number in range(6)]
        assert catalog.categories.tolist() == catalog.items.tolist()


def test_several_columns_make_an_item(listed: Path):
    catalog = load("data=table", f"data.table={listed}", "data.item=[colour,item]", "data.category=colour")
    assert catalog.item_names[0] == "blue / item 0"
    assert catalog.category_names == ["blue", "red"]


def test_where_keeps_rows_and_moves_none(listed: Path):
    whole = load("data=table", f"data.table={listed}")
    part = load("data=table", f"data.table={listed}", "data.where='colour == \"red\"'")
    assert len(part) == 12
    assert set(part.table["colour"]) == {"red"}
    split = dict(zip(whole.table["image"], whole.table["split"], strict=True))
    assert all(split[image] == each for image, each in zip(part.table["image"], part.table["split"], strict=True))


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("color == 'red'", "there is no column color"),
        ("colour", "colour alone is no condition"),
        ("colour ==", "cannot be read"),
        ("@pd.io", "cannot be read"),
        ("colour.__class__ == 'x'", "colour.__class__ is no column"),
        ("colour.to_csv('x.csv') == 1 or colour == 'red'", "is no column"),
        ("colour == 'green'", "keeps none of 24 rows"),
    ],
)
def test_a_bad_filter_is_told(listed: Path, where: str, told: str):
    config = data_config("data=table", f"data.table={listed}")
    config.where = where
    with pytest.raises(LapelError, match=r"data\.where") as caught:
        datasets.load(config)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_splits_and_roles_of_a_table_are_obeyed(listed: Path):
    table = pd.read_csv(listed)
    table["split"] = (["train"] * 3 + ["test"]) * 6
    table["role"] = "both"
    table.to_csv(listed, index=False)
    catalog = load("data=table", f"data.table={listed}", "data.val_share=0.4")
    rows = catalog.table.set_index("image")["split"]
    assert all((rows[f"p{number}.png"] == "test") == (number % 4 == 3) for number in range(24))
    assert {"val", "train"} < set(rows)


def test_folders_name_items_and_categories_and_splits(tmp_path: Path):
    flat, deep, divided = tmp_path / "flat", tmp_path / "deep", tmp_path / "divided"
    for item in range(4):
        for view in range(6):
            photo = photo_trees.photo(item, view)
            photo_trees.save(flat / f"item{item}" / f"{view}.png", photo)
            photo_trees.save(deep / f"kind{item % 2}" / f"item{item}" / f"{view}.PNG", photo)
            photo_trees.save(divided / ("train", "val", "test")[view % 3] / f"item{item}" / f"{view}.png", photo)
    (deep / "notes.txt").write_text("no photo")
    photo_trees.save(deep / "stray.png", photo_trees.photo(0, 0))
    catalog = load("data=folder", f"data.root={flat}")
    assert catalog.item_names == catalog.category_names == ["item0", "item1", "item2", "item3"]
    catalog = load("data=folder", f"data.root={deep}")
    assert catalog.item_names == ["kind0/item0", "kind0/item2", "kind1/item1", "kind1/item3"]
    assert catalog.category_names == ["kind0", "kind1"]
    assert dropped(catalog) == {"not in an item's folder": ["stray.png"]}
    catalog = load("data=folder", f"data.root={divided}")
    assert catalog.table["split"].value_counts().to_dict() == {"train": 8, "val": 8, "test": 8}


# -------------------------------------------------------------------------------------------------- bad input


def spoil(folder: Path, kind: str) -> None:
    """Damage the photo p3.png."""
    path = folder / "p3.png"
    path.unlink()
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("this is no image")
        case "folder":
            path.mkdir()
        case "huge":
            Image.new("1", (20_000, 20_000)).save(path)
        case "truncated":
            photo_trees.noise(0, 64, 64).save(path)
            path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("kind", "reason", "told"),
    [
        ("missing", "no image file", "p3.png"),
        ("empty", "unreadable image", "p3.png: an empty file"),
        ("text", "unreadable image", "p3.png: of no format that Pillow knows"),
        ("folder", "no image file", "p3.png"),
        ("huge", "unreadable image", "pixels are decoded"),
        ("truncated", "unreadable image", "p3.png"),
    ],
)
def test_a_bad_photo_is_dropped_and_reported_or_stops_the_command(listed: Path, kind: str, reason: str, told: str):
    spoil(listed.parent, kind)
    catalog = load("data=table", f"data.table={listed}", "data.max_bad=0.05")
    assert len(catalog) == 23
    assert list(dropped(catalog)) == [reason]
    assert told in dropped(catalog)[reason][0]
    assert "p3.png" not in set(catalog.table["image"])
    with pytest.raises(LapelError, match=r"1 of 24 photos are missing or unreadable, data.max_bad=0.0 allows 0: p3"):
        load("data=table", f"data.table={listed}", "data.max_bad=0")


def test_rows_stay_with_their_pixels_when_others_are_dropped(listed: Path):
    spoil(listed.parent, "text")
    config = data_config(
        "data=table", f"data.table={listed}", "data.max_bad=0.1", "data.size=16", "data.where='item != \"item 0\"'"
    )
    catalog = datasets.load(config)
    store = open_store(catalog, config)
    for row in (0, 5, len(catalog) - 1):
        path = listed.parent / catalog.table["image"].iloc[row]
        with Image.open(path) as image:
            expected = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        np.testing.assert_array_equal(store.gather(np.array([row]))[0].numpy(), expected)


def test_odd_paths_are_dropped_and_reported(listed: Path):
    table = pd.read_csv(listed)
    table.loc[0, "image"] = "../mine/p0.png"
    table.loc[1, "image"] = "/elsewhere/p1.png"
    table.loc[2, "image"] = "p3.png"
    table.loc[4, "image"] = ""
    table.to_csv(listed, index=False)
    catalog = load("data=table", f"data.table={listed}")
    found = dropped(catalog)
    assert found["path leaves the root"] == ["../mine/p0.png", "/elsewhere/p1.png"]
    assert found["named before"] == ["p3.png"]
    assert found["no image named"] == [""]
    assert len(catalog) == 20


def test_a_table_of_nothing_but_odd_paths_is_told(listed: Path):
    table = pd.read_csv(listed)
    table["image"] = [f"/elsewhere/{name}" for name in table["image"]]
    table.to_csv(listed, index=False)
    told = r"no image is left to look for \(path leaves the root: 24, as /elsewhere/p0.png\)"
    with pytest.raises(LapelError, match=told):
        load("data=table", f"data.table={listed}")


@pytest.mark.parametrize(
    ("path", "leaves"),
    [("a/b.jpg", False), ("../a", True), ("a/../b", False), ("a/../../b", True), ("/a", True), ("./a", False),
     ("a\\..\\..\\b", True), ("..", True), ("a..b/c", False)],
)  # fmt: skip
def test_paths_that_leave_the_root(path: str, leaves: bool):
    assert leaves_root(path) == leaves


def test_rows_without_a_label_are_dropped_and_reported(listed: Path):
    table = pd.read_csv(listed)
    table.loc[:2, "item"] = ""
    table.to_csv(listed, index=False)
    catalog = load("data=table", f"data.table={listed}")
    assert dropped(catalog) == {"no item": ["p0.png", "p1.png", "p2.png"]}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "photos.csv: is empty"),
        (b"image,item\n", "photos.csv: has no rows"),
        (b"image,item\np0.png,caf\xe9\n", "photos.csv: is not UTF-8 text"),
        (b"picture,item\np0.png,a\n", "data.image=image: "),
        (b"image,label\np0.png,a\n", "data.item=item: no such column; there are image, label"),
        (b'image,item\np1.png,b\n"p0.png,a\n', "photos.csv, line 3: cannot be read"),
        (b"image,item\nnothing.png,a\n", "nothing.png: no such file, nor any other of 1 images"),
        (b"image,item,split\np0.png,a,holdout\n", "column split holds holdout; allowed are train, training, val"),
    ],
)
def test_a_bad_table_is_one_clear_line(listed: Path, content: bytes, told: str):
    listed.write_bytes(content)
    with pytest.raises(LapelError) as caught:
        load("data=table", f"data.table={listed}")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["data=table"], "data.table: must name a csv or parquet file"),
        (["data=table", "data.table=nowhere.csv"], "nowhere.csv: no such file"),
        (["data=table", "data.table=."], "is a folder, must be a file"),
        (["data=folder"], "data.root: must name a folder"),
        (["data=folder", "data.root=nowhere"], "nowhere: no such folder or archive"),
        (["data=fashion_product", "data.root=."], "data.root=.: holds no styles.csv"),
    ],
)
def test_what_is_not_there_is_told(working_folder: Path, overrides: list[str], told: str):
    assert working_folder
    with pytest.raises(LapelError) as caught:
        load(*overrides)
    assert told in str(caught.value)


def test_a_data_set_that_nobody_has_got_says_where_it_is_looked_for(working_folder: Path):
    assert working_folder
    with pytest.raises(DataNotFoundError, match=r"not in data/deepfashion_inshop and .*lapel-data prepare"):
        load("data=deepfashion_inshop")
    photo_trees.inshop(working_folder / "data" / "deepfashion_inshop")
    assert len(load("data=deepfashion_inshop", "data.val_share=0.4")) == 96


def test_styles_with_a_short_line_or_without_a_column_are_refused():
    header = photo_trees.STYLES_HEADER
    with pytest.raises(LapelError, match=r"styles.csv, line 3: has 2 fields, must have 10"):
        parse_styles(f"{header}\n1,a,b,c,d,e,f,2011,h,i\n2,a\n", "styles.csv")
    with pytest.raises(LapelError, match="has no column id"):
        parse_styles("number,name\n1,a\n", "styles.csv")
    with pytest.raises(LapelError, match="column id: must hold whole numbers"):
        parse_styles(f"{header}\nx,a,b,c,d,e,f,2011,h,i\n", "styles.csv")


def test_a_truncated_list_of_deepfashion_is_told(tmp_path: Path):
    root = photo_trees.inshop(tmp_path / "tree")
    path = root / "Eval/list_eval_partition.txt"
    path.write_text("\n".join(path.read_text().split("\n")[:-10]) + "\n")
    with pytest.raises(LapelError, match=r"list_eval_partition.txt: line 1 says 96 rows, there are 87"):
        load("data=deepfashion_inshop", f"data.root={root}")


@pytest.mark.parametrize("label", ["0", "4", "x"])
def test_a_category_label_out_of_range_is_told(label: str, tmp_path: Path):
    root = photo_trees.category(tmp_path / "tree")
    path = root / "Anno_coarse/list_category_img.txt"
    lines = path.read_text().split("\n")
    lines[2] = lines[2].rstrip()[:-1] + label
    path.write_text("\n".join(lines))
    with pytest.raises(LapelError, match="category label"):
        load("data=deepfashion_category", f"data.root={root}")


# ------------------------------------------------------------------------------------------------------ store


def stores(root: Path) -> list[Path]:
    return sorted((root / "stores").glob("[!.]*")) if (root / "stores").is_dir() else []


def test_a_store_is_built_once_and_again_when_a_file_changed(listed: Path, own_cache: Path):
    load("data=table", f"data.table={listed}")
    built = stores(own_cache)
    assert len(built) == 1
    before = (built[0] / "pixels.npy").stat().st_mtime_ns
    load("data=table", f"data.table={listed}", "data.item=colour")
    assert stores(own_cache) == built
    assert (built[0] / "pixels.npy").stat().st_mtime_ns == before
    photo_trees.save(listed.parent / "p5.png", photo_trees.noise(3, 32, 32))
    catalog = load("data=table", f"data.table={listed}")
    assert len(stores(own_cache)) == 2
    assert catalog.photos is not None
    expected = np.asarray(photo_trees.noise(3, 32, 32).resize((224, 224), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(catalog.photos.built.pixels()[5], expected.transpose(2, 0, 1))


@pytest.mark.parametrize("change", ["data.size=20", "data.channels=1", "data.resize=pad"])
def test_every_option_that_changes_pixels_has_its_own_store(listed: Path, own_cache: Path, change: str):
    load("data=table", f"data.table={listed}", "data.size=16")
    load("data=table", f"data.table={listed}", "data.size=16", change)
    assert len(stores(own_cache)) == 2


def test_many_photos_are_decoded_by_several_processes_into_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lapel.photos.building.available_cores", lambda: 3)
    monkeypatch.setattr("lapel.photos.building.PART", 7)
    table = photos_table(tmp_path, items=10, views=5)
    (tmp_path / "p11.png").write_text("no image")
    table.to_csv(tmp_path / "photos.csv", index=False)
    catalog = load("data=table", f"data.table={tmp_path / 'photos.csv'}", "data.size=16x12", "data.max_bad=0.5")
    assert catalog.photos is not None
    assert list(catalog.photos.built.bad) == [11]
    pixels = catalog.photos.built.pixels()
    for row in range(50):
        if row == 11:
            assert not pixels[row].any()
            continue
        with Image.open(tmp_path / f"p{row}.png") as image:
            expected = np.asarray(image.resize((12, 16), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        np.testing.assert_array_equal(pixels[row], expected)


def test_a_killed_worker_is_told_and_leaves_nothing(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lapel.photos.building.available_cores", lambda: 2)
    monkeypatch.setattr("lapel.photos.building.PART", 4)
    photos_table(tmp_path).to_csv(tmp_path / "photos.csv", index=False)
    parent = os.getpid()

    def die(*_: Any) -> None:
        assert os.getpid() != parent
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("lapel.photos.building.Photos.inspect", die)
    with pytest.raises(LapelError, match="was killed"):
        load("data=table", f"data.table={tmp_path / 'photos.csv'}")
    assert stores(own_cache) == []
    monkeypatch.undo()


def test_a_full_disk_is_told_before_anything_is_written(listed: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(LapelError, match=r"B are needed, \d[\d.]* (bytes|[kMG]B) are free"):
        load("data=table", f"data.table={listed}")
    assert stores(own_cache) == []


def test_pixels_are_the_same_from_memory_from_a_map_and_from_files(listed: Path):
    found = {}
    for kind, expected in (("ram", HeldStore), ("mmap", MappedStore), ("files", FileStore), ("auto", HeldStore)):
        config = data_config(
            "data=table", f"data.table={listed}", "data.size=20x16", f"data.store={kind}", "data.workers=1"
        )
        store = open_store(datasets.load(config), config)
        assert isinstance(store, expected)
        rows = np.array([3, 0, 23, 3])
        found[kind] = store.gather(rows)
        chunks = list(store.gather_all([rows[:2], rows[2:]]))
        assert torch.equal(torch.cat(chunks), found[kind])
        assert len(store) == 24
    assert all(torch.equal(each, found["ram"]) for each in found.values())


def test_training_from_files_equals_training_from_memory(listed: Path, working_folder: Path):
    small = ["data.size=16", "data.batch_size=8", "encoder.widths=[8,16]", "trainer=cpu", "trainer.max_epochs=2"]
    options = ["data=table", f"data.table={listed}", "sampler.images=2", "data.val_share=0.3", "augment=photo", *small]
    states = []
    for kind in ("ram", "mmap", "files"):
        lapel.train(lapel.compose("train", [*options, f"data.store={kind}", "data.workers=2"]), working_folder / kind)
        states.append(torch.load(working_folder / kind / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    for other in states[1:]:
        assert all(torch.equal(states[0][name], other[name]) for name in states[0])


def test_a_photo_that_vanished_is_told_in_one_line(listed: Path):
    config = data_config("data=table", f"data.table={listed}", "data.store=files", "data.workers=1")
    store = open_store(datasets.load(config), config)
    (listed.parent / "p0.png").unlink()
    for gather in (lambda: store.gather(np.array([0])), lambda: list(store.gather_all([np.array([0])]))):
        with pytest.raises(LapelError, match=r"p0\.png: could be read before, and now not") as caught:
            gather()
        assert "\n" not in str(caught.value)


PREPARE = "import sys; from lapel.commands.data import main; sys.argv = ['lapel-data', *sys.argv[1:]]; main()"


@pytest.mark.parametrize("when", [0.1, *(pytest.param(each, marks=pytest.mark.slow) for each in (0.0, 0.2, 0.4, 0.8))])
def test_a_killed_prepare_leaves_no_store_and_the_next_one_finishes(tmp_path: Path, own_cache: Path, when: float):
    table = photos_table(tmp_path, items=8, views=5)
    assert len(table) == 40
    for number in range(40, 400):
        shutil.copy(tmp_path / f"p{number % 40}.png", tmp_path / f"p{number}.png")
    more = pd.DataFrame({"image": [f"p{number}.png" for number in range(400)], "item": np.arange(400) % 8})
    more.to_csv(tmp_path / "photos.csv", index=False)
    command = [sys.executable, "-c", PREPARE, "prepare", "data=table", f"data.table={tmp_path / 'photos.csv'}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stop = time.monotonic() + 60
    while not list((own_cache / "stores").glob(".*.partial")) and process.poll() is None and time.monotonic() < stop:
        time.sleep(0.005)
    time.sleep(when)
    process.kill()
    process.wait()
    assert all((store / "about.json").is_file() for store in stores(own_cache))  # it had finished before
    catalog = load("data=table", f"data.table={tmp_path / 'photos.csv'}")
    assert catalog.photos is not None
    with Image.open(tmp_path / "p399.png") as image:
        expected = np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    np.testing.assert_array_equal(catalog.photos.built.pixels()[399], expected)
    assert not list((own_cache / "stores").glob(".*.partial"))


def test_the_tree_prefers_the_disk_and_lists_what_is_packed(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.txt", "packed")
        archive.writestr("y.txt", "packed")
    (tmp_path / "x.txt").write_text("on disk")
    tree = Tree(tmp_path)
    assert tree.text("x.txt") == "on disk"
    assert tree.text("y.txt") == "packed"
    assert tree.names() == ["x.txt", "y.txt"]
    assert tree.stamps(["x.txt", "none.txt"])[:, 0].tolist() == [7, -1]
    with pytest.raises(LapelError, match="no such file"):
        tree.locate("none.txt")


def test_decode_and_store_agree(listed: Path):
    config: DataConfig = data_config("data=table", f"data.table={listed}", "data.size=32")
    store = open_store(datasets.load(config), config)
    np.testing.assert_array_equal(store.gather(np.array([2]))[0].numpy(), decode(listed.parent / "p2.png", 3))


# ---------------------------------------------------------------------------------- found by people who tried


def test_a_filter_on_numbers_with_gaps_keeps_what_is_known_to_fit(listed: Path):
    table = pd.read_csv(listed)
    table["year"] = ["" if row == 0 else str(2010 + row % 3) for row in range(len(table))]
    table.to_csv(listed, index=False)
    for where, expected in (("year > 2010", 2 / 3), ("year != 2010", 2 / 3), ('year == 2011 and colour != ""', 1 / 3)):
        kept = load("data=table", f"data.table={listed}", f"data.where='{where}'")
        assert len(kept) == pytest.approx(expected * len(table), abs=1)
        assert "p0.png" not in set(kept.table["image"])


@pytest.mark.parametrize(
    ("made", "asked", "told"),
    [
        (photo_trees.category, "deepfashion_inshop", "names 2 columns .*must name 3; is it another benchmark's"),
        (photo_trees.inshop, "deepfashion_consumer2shop", "names 3 columns .*must name 4"),
        (photo_trees.consumer2shop, "deepfashion_category", "has none of|must name"),
    ],
)
def test_another_benchmark_in_the_folder_is_told(made: Any, asked: str, told: str, tmp_path: Path):
    root = made(tmp_path / "tree")
    with pytest.raises(LapelError, match=told):
        load(f"data={asked}", f"data.root={root}")


@pytest.mark.parametrize("name", ["pixels.npy", "sizes.npy", "fingerprints.npy", "about.json"])
@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "gone"])
def test_a_damaged_store_is_built_again(listed: Path, own_cache: Path, name: str, damage: str):
    expected = load("data=table", f"data.table={listed}").photos
    assert expected is not None
    pixels = np.array(expected.built.pixels())
    (store,) = stores(own_cache)
    content = (store / name).read_bytes()
    if damage == "gone":
        (store / name).unlink()
    else:
        (store / name).write_bytes({"empty": b"", "cut": content[:-9], "zeros": bytes(len(content))}[damage])
    found = load("data=table", f"data.table={listed}").photos
    assert found is not None
    np.testing.assert_array_equal(found.built.pixels(), pixels)
    np.testing.assert_array_equal(found.built.fingerprints, expected.built.fingerprints)


def test_names_that_are_no_text_are_dropped_and_reported(tmp_path: Path):
    for item in ("coat", "hat"):
        for view in range(4):
            photo_trees.save(tmp_path / "photos" / item / f"{view}.png", photo_trees.photo(1, view))
    os.rename(tmp_path / "photos/hat/3.png", os.fsencode(tmp_path / "photos/hat") + b"/\xff.png")  # noqa: PTH104  # bytes
    catalog = load("data=folder", f"data.root={tmp_path / 'photos'}")
    assert dropped(catalog)["name is not UTF-8"] == ["hat/\\udcff.png"]
    assert len(catalog) == 7


def test_the_image_column_keeps_its_own_name_too(listed: Path):
    table = pd.read_csv(listed).rename(columns={"image": "path"})
    table.to_csv(listed, index=False)
    catalog = load("data=table", f"data.table={listed}", "data.image=path", "data.where='path != \"p0.png\"'")
    assert len(catalog) == len(table) - 1
    items = load("data=table", f"data.table={listed}", "data.image=path", "data.item=path").item_names
    assert len(items) == len(table)


def test_a_table_is_looked_for_in_the_root_too(listed: Path, working_folder: Path):
    assert working_folder
    assert len(load("data=table", f"data.table={listed.name}", f"data.root={listed.parent}")) == 24


def test_a_csv_that_names_a_column_twice_is_told(listed: Path):
    lines = listed.read_text().splitlines()
    listed.write_text("\n".join([lines[0] + ",item", *(line + ",x" for line in lines[1:])]))
    with pytest.raises(LapelError, match="names the column item twice"):
        load("data=table", f"data.table={listed}")


def test_lists_in_a_parquet_file_are_several_items(listed: Path):
    table = pd.read_csv(listed)
    table["tags"] = [[str(row % 3), "all"] for row in range(len(table))]
    table.to_parquet(listed.with_suffix(".parquet"))
    catalog = load("data=table", f"data.table={listed.with_suffix('.parquet')}", "data.item=tags")
    assert catalog.item_names == ["0", "1", "2", "all"]


def test_an_item_that_a_list_names_twice_is_one(listed: Path):
    table = pd.read_csv(listed)
    table["tags"] = [["all", str(row % 3), "all"] for row in range(len(table))]
    table.to_parquet(listed.with_suffix(".parquet"))
    catalog = load("data=table", f"data.table={listed.with_suffix('.parquet')}", "data.item=tags")
    assert catalog.item_sets.shape[1] == 2
    assert all(len(set(each)) == 2 for each in catalog.item_sets.tolist())


@pytest.mark.parametrize("mode", ["I", "F"])
def test_photos_of_32_bits_are_bad_ones(listed: Path, mode: str):
    Image.new(mode, (8, 8), 1).save(listed.parent / "p3.tif")
    listed.write_text(listed.read_text().replace("p3.png", "p3.tif"))
    catalog = load("data=table", f"data.table={listed}", "data.max_bad=0.5")
    assert dropped(catalog)["unreadable image"] == ["p3.tif: has 32 bits a pixel; save it with 8 or 16"]


def test_an_empty_part_is_told(listed: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("WARNING", logger="lapel"):
        load("data=table", f"data.table={listed}", "data.split=stratified", "data.val_share=0.01")
    assert "no image is in val: data.val_share=0.01" in caplog.text


def test_a_split_that_was_deleted_is_written_again(listed: Path, working_folder: Path):
    assert working_folder
    command = [sys.executable, "-c", "from lapel.commands.data import main; main()", "prepare"]
    command += ["data=table", f"data.table={listed}", f"data.cache={listed.parent / 'cache'}"]
    environment = os.environ | {"XDG_CACHE_HOME": str(listed.parent / "xdg")}
    told = [subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout]
    (split,) = (listed.parent / "cache" / "splits").glob("*.csv")
    split.unlink()
    told.append(subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout)
    assert split.is_file()
    assert told[0] == told[1]


def test_a_cache_that_cannot_be_written_is_told(listed: Path):
    (listed.parent / "file").write_text("")
    with pytest.raises(LapelError, match=r"file: cannot be written \(.*\); data\.cache=FOLDER names another place"):
        load("data=table", f"data.table={listed}", f"data.cache={listed.parent / 'file'}")
