"""Photos, folders and tables as people have them: spellings, formats, names and columns of all kinds, nothing lost."""

import csv
import io
import logging
import struct
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import photo_trees
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lapel.catalog import Catalog
from lapel.config.composing import compose
from lapel.config.data import DataConfig
from lapel.datasets import load as load_data
from lapel.datasets.fashion_product import parse_styles
from lapel.errors import LapelError
from lapel.photos import formats
from lapel.photos.decoding import decode, open_photo


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def load(*overrides: str) -> Catalog:
    config = compose("catalog", [*overrides, "data.size=16"])
    assert isinstance(config.data, DataConfig)
    return load_data(config.data)


def dropped(catalog: Catalog) -> dict[str, list[str]]:
    return {each.reason: each.names for each in catalog.dropped}


def make_tree(root: Path, tops: list[str], items: int = 3, views: int = 2) -> Path:
    """Photos `top/item/…png` of the same items below each of the tops."""
    for number, top in enumerate(tops):
        for item in range(items):
            for view in range(views):
                picture = photo_trees.photo(item, number * views + view)
                photo_trees.save(root / top / f"item{item}" / f"{number}{view}.png", picture)
    return root


def make_table(folder: Path, rows: int = 24, **columns: Any) -> Path:
    """A csv with columns path and sku, and photos of 6 items."""
    table = pd.DataFrame(
        {"path": [f"p{row}.png" for row in range(rows)], "sku": [f"s{row % 6}" for row in range(rows)]}
    )
    for row in range(rows):
        photo_trees.save(folder / f"p{row}.png", photo_trees.photo(row % 6, row // 6))
    table.assign(**columns).to_csv(folder / "mine.csv", index=False)
    return folder / "mine.csv"


def load_table(path: Path, *overrides: str) -> Catalog:
    return load("data=table", f"data.table={path}", "data.image=path", "data.item=sku", *overrides)


# ------------------------------------------------------------------------------------------------------ splits


@pytest.mark.parametrize("wrapped", ["", "photos/"])
@pytest.mark.parametrize(
    "tops",
    [
        ("train", "valid", "test"), ("Training", "Validation", "Testing"), ("TRAIN", "dev", "Test"),
        ("train_set", "val-set", "test images"), ("0_train", "1_valid", "2_test"), ("TrainData", "DevData", "testset"),
    ],
)  # fmt: skip
def test_split_folders_are_known_in_every_spelling(tops: tuple[str, ...], wrapped: str, tmp_path: Path) -> None:
    make_tree(tmp_path / "mine", [wrapped + top for top in tops])
    catalog = load("data=folder", f"data.root={tmp_path / 'mine'}")
    assert catalog.item_names == ["item0", "item1", "item2"]
    assert catalog.table["split"].value_counts().to_dict() == {"train": 6, "val": 6, "test": 6}


def test_a_part_that_has_no_folder_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_tree(tmp_path / "mine", ["train", "valid", "leaflets"], views=3)
    with caplog.at_level(logging.WARNING, logger="lapel"):
        catalog = load("data=folder", f"data.root={tmp_path / 'mine'}")
    assert "mine: there is no folder for test" in caplog.text
    assert "named as a part" not in caplog.text
    assert "data.split" not in caplog.text
    assert catalog.item_names == ["item0", "item1", "item2"]
    assert len(dropped(catalog)["in leaflets/, beside train, val and test"]) == 9


def test_items_named_train_are_items_among_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalog = load("data=folder", f"data.root={make_tree(tmp_path / 'toys', ['train', 'car', 'doll'])}")
    assert catalog.category_names == ["car", "doll", "train"]
    assert "toys: train, named as a part of a split, is taken for items" in caplog.text


def test_photos_that_lie_too_deep_are_told(tmp_path: Path) -> None:
    make_tree(tmp_path / "mine", ["hats/summer/men"])
    with pytest.raises(LapelError, match=r"photos lie 4 folders deep, as hats/summer/men/item0/00\.png; allowed are"):
        load("data=folder", f"data.root={tmp_path / 'mine'}")


def test_a_val_part_that_nobody_made_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_tree(tmp_path / "mine", ["train", "test"], views=8)
    with caplog.at_level(logging.INFO, logger="lapel"):
        load("data=folder", f"data.root={tmp_path / 'mine'}")
    assert "no photo is in val: data.val_share=0.1 of train is taken" in caplog.text


def test_columns_in_another_case_are_read_where_they_can_be_meant(tmp_path: Path) -> None:
    boxes = {"Left": [2] * 24, "TOP": [2] * 24, "right": [9] * 24, "Bottom ": [9] * 24}
    columns = {"Split": ["Train", "valid", "test"] * 8, "ROLE": ["Query", "", "both"] * 8, **boxes}
    catalog = load_table(make_table(tmp_path, 24, **columns))
    assert catalog.table["split"].tolist() == ["train", "val", "test"] * 8
    assert catalog.table["Split"].tolist() == columns["Split"]
    assert catalog.table["role"].tolist() == ["query", "both", "both"] * 8
    assert catalog.table[["left", "top", "right", "bottom"]].to_numpy().tolist() == [[2, 2, 9, 9]] * 24
    odd = {"Split": ["seam", "none", "seam"] * 8, "Top": ["yes"] * 24, "Role": ["model"] * 24}
    other = load_table(make_table(tmp_path, 24, **odd))
    assert other.table["Split"].tolist() == odd["Split"]
    assert set(other.table["split"]) <= {"train", "val", "test"}
    assert not {"top", "left"} & set(other.table)
    both = load_table(make_table(tmp_path, split=["train", "test"] * 12, Split=["test", "train"] * 12))
    assert set(both.table["split"][1::2]) == {"test"}


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (
            {"left": "1,5", "top": 0, "right": 9, "bottom": 9},
            "column left must hold numbers, as 12 or 12.5; it holds '1,5'",
        ),
        ({"left": 1, "top": 0, "right": 9}, "columns left, top, right are no box without bottom"),
    ],
)
def test_what_is_no_box_is_told(
    columns: dict[str, Any], told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalog = load_table(make_table(tmp_path, 24, **{name: [value] * 24 for name, value in columns.items()}))
    assert len(catalog) == 24
    assert f"mine.csv: photos are seen whole: {told}" in caplog.text


def test_boxes_that_hold_nothing_say_so(tmp_path: Path) -> None:
    path = make_table(tmp_path, left=[9] * 24, top=[0] * 24, right=[1] * 24, bottom=[9] * 24)
    told = r"no photo can be read \(unreadable image: 24, as p0.png: its box \[9, 0, 1, 9\]"
    with pytest.raises(LapelError, match=told):
        load_table(path, "data.max_bad=1")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("path;sku;price\np0.png;s0;1,5\np1.png;s1;2,5\n", "semicolons"),
        ("path\tsku\np0.png\ta, b\np1.png\ts1\n", "tabs"),
        ("path|sku\np0.png|s0\np1.png|s,1\n", "bars"),
        ("sep=;\npath;sku\np0.png;s,0\n", "semicolons"),
        ('path;sku\n"p0;.png";s0\n', "semicolons"),
    ],
)
def test_other_separators_are_told_as_what_they_are(text: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(LapelError, match=f"mine.csv: looks separated by {name}; save it with commas"):
        load_table(tmp_path / "mine.csv")


def test_a_spreadsheets_word_on_its_commas_is_passed_over(tmp_path: Path) -> None:
    path = make_table(tmp_path)
    path.write_text("sep=,\n" + path.read_text())
    assert len(load_table(path)) == 24


def test_what_pandas_saved_as_index_is_a_column(tmp_path: Path) -> None:
    pd.read_csv(make_table(tmp_path)).set_index("path").to_parquet(tmp_path / "mine.parquet")
    assert load_table(tmp_path / "mine.parquet").table["path"].tolist() == [f"p{row}.png" for row in range(24)]


def test_splits_of_a_table_are_known_in_every_spelling(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = ["Train", "training ", "TRAIN", "valid", "dev", "validation", "Testing", "test"] * 3
    catalog = load_table(make_table(tmp_path, split=names))
    assert (
        catalog.table["split"].tolist()
        == ["train"] * 3 + ["val"] * 3 + ["test"] * 2 + (["train"] * 3 + ["val"] * 3 + ["test"] * 2) * 2
    )
    with caplog.at_level(logging.WARNING, logger="lapel"):
        load_table(make_table(tmp_path, split=["train", "val"] * 12))
    assert "mine.csv: column split names no row for test" in caplog.text
    assert "data.split=hash" not in caplog.text
    some = load_table(make_table(tmp_path, split=["train", "test", ""] * 8))
    assert dropped(some)["no split named"] == [f"p{row}.png" for row in range(2, 24, 3)]


# ------------------------------------------------------------------------------------------- columns and labels


def test_columns_with_names_of_lapels_are_kept_and_known_by_their_own(tmp_path: Path) -> None:
    rows = range(24)
    columns = {
        name: [f"{name} {row}" for row in rows]
        for name in ("image", "item", "category", "items", "splits", "row", "score", "rank", "query", "given_row")
    } | {"split": list(rows), "same_pixels": ["yes"] * 24}
    path = make_table(tmp_path, 24, **columns)
    catalog = load_table(path)
    for name in set(columns) - {"given_row"}:
        kept = f"given_{name}" if name != "row" else "given_given_row"
        assert catalog.table[kept].tolist() == columns[name], name
    assert catalog.table["given_row"].tolist() == columns["given_row"]
    assert catalog.table["image"].tolist() == [f"p{row}.png" for row in rows]
    assert catalog.item_names == [f"s{item}" for item in range(6)]
    for where in ("row == 'row 3'", "image == 'image 3'", "split == 3", "path == 'p3.png'", "item == 'item 3'"):
        assert load_table(path, f'data.where="{where}"').table["image"].tolist() == ["p3.png"], where
    named = load_table(path, "data.item=[item,sku]", "data.category=category")
    assert named.item_names[0] == "item 0 / s0"
    assert named.table["given_item"].tolist() == columns["item"]
    assert [named.category_names[code] for code in named.categories] == columns["category"]


def test_boxes_of_a_table_are_what_is_seen(tmp_path: Path) -> None:
    path = make_table(tmp_path)
    table = pd.read_csv(path)
    table[["left", "top", "right", "bottom"]] = [
        ["", "", "", ""],
        [2.5, 3, 20.2, 21],
        [1, "", 5, 5],
        *[[0, 0, 9, 9]] * 21,
    ]
    table.to_csv(path, index=False)
    catalog = load_table(path, "data.size=19x19")
    assert dropped(catalog) == {"box is not whole": ["p2.png"]}
    assert catalog.photos is not None
    pixels = catalog.photos.built.pixels()[catalog.photos.positions]
    with Image.open(tmp_path / "p1.png") as image:
        cut = image.convert("RGB").crop((2, 3, 21, 21)).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pixels[1], np.asarray(cut).transpose(2, 0, 1))
    np.testing.assert_array_equal(pixels[0], decode_fitted(tmp_path / "p0.png"))
    table["left"] = "yes"
    table.to_csv(path, index=False)
    assert load_table(path).table["left"].tolist() == ["yes"] * 24


def decode_fitted(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((16, 16), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


def test_one_name_with_its_accent_composed_or_apart_is_one_item(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Rüschenbluse") for form in ("NFC", "NFD"))
    for number, name in enumerate([composed, apart] * 3):
        photo_trees.save(tmp_path / "mine" / name / f"{number}.png", photo_trees.photo(0, number))
        photo_trees.save(tmp_path / "mine" / "hat" / f"{number}.png", photo_trees.photo(1, number))
    assert load("data=folder", f"data.root={tmp_path / 'mine'}").item_names == [composed, "hat"]
    photo_trees.save(tmp_path / "table" / f"{apart}.png", photo_trees.photo(0, 0))
    photo_trees.save(tmp_path / "table" / f"x{composed}.png", photo_trees.photo(0, 1))
    lines = ["path,sku", f"{composed}.png,{apart}", f"x{apart}.png,{composed}"]
    (tmp_path / "table" / "t.csv").write_text("\n".join(lines))
    catalog = load_table(tmp_path / "table" / "t.csv")
    assert (len(catalog), catalog.item_names) == (2, [composed])


def test_labels_of_digits_are_names(tmp_path: Path) -> None:
    """As numbers, 1.10 and 1.1 would be one item, and +5 another name for 5."""
    codes = ["1.10", "1.1", "2.0", "2", "+5", "5"] * 4
    table = make_table(tmp_path, code=codes, price=["1.10", "1.1", "2.0", "2", "5", "5.5"] * 4)
    catalog = load("data=table", f"data.table={table}", "data.image=path", "data.item=code", "data.where='price < 5.2'")
    assert catalog.item_names == sorted({*codes} - {"5"})
    assert len(catalog) == 20


def test_lists_of_labels_may_be_empty(tmp_path: Path) -> None:
    path = make_table(tmp_path)
    table = pd.read_csv(path)
    table["tags"] = [None, [], ["a", None, " a "], ["", "b"], *[["c"]] * 20]
    table.to_parquet(path.with_suffix(".parquet"))
    catalog = load("data=table", f"data.table={path.with_suffix('.parquet')}", "data.image=path", "data.item=tags")
    assert dropped(catalog) == {"no tags": ["p0.png", "p1.png"]}
    assert catalog.item_names == ["a", "b", "c"]


@pytest.mark.parametrize("header", ["path,sku,", "path,sku"])
def test_a_comma_at_the_end_of_every_line_is_nothing(header: str, tmp_path: Path) -> None:
    path = make_table(tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *(line + "," for line in lines[1:])]) + "\n\n")
    assert load_table(path).item_names == [f"s{item}" for item in range(6)]
    path.write_text("\n".join([header, *(line + ",x" for line in lines[1:])]))
    if header == "path,sku":
        with pytest.raises(LapelError, match=r"mine\.csv, line 2: has 3 fields, must have 2"):
            load_table(path)
    path.write_text("\n".join(line.replace(",", ";") for line in lines))
    with pytest.raises(LapelError, match="looks separated by semicolons; save it with commas"):
        load_table(path)


# -------------------------------------------------------------------------------------------- styles, archives


def test_styles_that_were_saved_again_are_read(tmp_path: Path) -> None:
    published = (photo_trees.fashion_product(tmp_path / "tree") / "styles.csv").read_text()
    expected = parse_styles(published, "styles.csv")
    years = [f"{year}.0" for year in expected["year"]]
    buffer = io.StringIO()
    expected.assign(year=years).to_csv(buffer, index=False)
    pd.testing.assert_frame_equal(parse_styles(buffer.getvalue(), "styles.csv"), expected)
    buffer = io.StringIO()
    expected.assign(link="a,b").to_csv(buffer, index=False, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    pd.testing.assert_frame_equal(parse_styles(buffer.getvalue(), "styles.csv"), expected.assign(link="a,b"))
    header, *lines = published.splitlines()
    inches = '7,Men,Apparel,Sub,Type1,NA,Fall,2011,Casual,"32" belt, brown'
    assert parse_styles("\n".join([header, *lines, inches]), "s")["productDisplayName"].iloc[-1] == '"32" belt, brown'
    quoted = '7,Men,"Apparel, all",Sub,Type1,NA,Fall,2011,Casual,"Belt, ""brown"""'
    last = parse_styles("\n".join([header, *lines, quoted]), "s").iloc[-1]
    assert (last["masterCategory"], last["articleType"], last["productDisplayName"]) == (
        "Apparel, all",
        "Type1",
        'Belt, "brown"',
    )


@pytest.mark.parametrize(("encoding", "flag"), [("utf-8", False), ("utf-8", True), ("cp437", False)])
def test_names_in_archives_are_the_letters_that_were_packed(encoding: str, flag: bool, tmp_path: Path) -> None:
    name = "Größe"
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for number in range(6):
            buffer = io.BytesIO()
            photo_trees.photo(0, number).save(buffer, "PNG")
            archive.writestr(f"{'x' * len(name.encode(encoding))}/{number}.png", buffer.getvalue())
    content = (tmp_path / "mine.zip").read_bytes().replace(b"x" * len(name.encode(encoding)), name.encode(encoding))
    if flag:
        at = content.find(b"PK\1\2")
        while at >= 0:
            content = content[: at + 8] + struct.pack("<H", 0x800) + content[at + 10 :]
            at = content.find(b"PK\1\2", at + 1)
    (tmp_path / "mine.zip").write_bytes(content)
    assert load("data=folder", f"data.root={tmp_path / 'mine.zip'}").item_names == [name]


# ----------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize(
    "kind", ["jfif", "jpe", "mpo", "avif", "ppm", "jp2", "heic", "HEIC", "bmp", "webp", "tif", "gif", "tga"]
)
def test_photos_of_every_format_are_looked_at(kind: str, tmp_path: Path) -> None:
    make_tree(tmp_path / "mine", [""])
    picture = photo_trees.photo(1, 5)
    formats.know_heic()
    known = {"jfif": "JPEG", "jpe": "JPEG", "jp2": "JPEG2000", "tif": "TIFF", "heic": "HEIF"}
    picture.save(tmp_path / "mine" / "item1" / f"other.{kind}", known.get(kind.lower(), kind.upper()))
    catalog = load("data=folder", f"data.root={tmp_path / 'mine'}")
    assert not catalog.dropped
    assert catalog.photos is not None
    row = catalog.table["image"].tolist().index(f"item1/other.{kind}")
    pixels = catalog.photos.built.pixels()[catalog.photos.positions[row]]
    expected = np.asarray(picture.resize((16, 16), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.abs(pixels.astype(int) - expected).mean() < 12


def test_pictures_that_are_not_read_are_told_by_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_tree(tmp_path / "mine", [""])
    for name in ("a.NEF", "b.nef", "c.mov", "notes.txt", "no suffix"):
        (root / "item0" / name).write_bytes(b"something")
    with caplog.at_level(logging.INFO, logger="lapel"):
        catalog = load("data=folder", f"data.root={root}")
    assert dropped(catalog) == {
        "no photo that is read: .nef": ["item0/a.NEF", "item0/b.nef"], "no photo that is read: .mov": ["item0/c.mov"],
    }  # fmt: skip
    assert "holds other files, too: 1 without suffix, 1 .txt" in caplog.text


def test_a_damaged_heic_is_told_as_what_it_is(tmp_path: Path) -> None:
    formats.know_heic()
    photo_trees.photo(0, 0).save(tmp_path / "photo.heif")
    with pytest.raises(LapelError, match="a damaged HEIC file"):
        open_photo((tmp_path / "photo.heif").read_bytes()[:100], 3)


@pytest.mark.parametrize("most", [1023, 4095, 65535])
def test_grey_of_any_depth_in_a_pgm_is_its_8_bits(most: int) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (12, 9))
    deep = np.round(grey * most / 255).astype(">u2")
    found = open_photo(b"P5 9 12 %d\n" % most + deep.tobytes(), 1)
    assert np.abs(found.astype(int) - grey).max() <= 1


def test_heic_without_its_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    formats.know_heic()
    photo_trees.photo(0, 0).save(tmp_path / "photo.heif")
    (tmp_path / "mine" / "hat").mkdir(parents=True)
    content = (tmp_path / "photo.heif").read_bytes()
    (tmp_path / "mine" / "hat" / "a.HEIC").write_bytes(content)
    monkeypatch.setattr(formats, "know_heic", lambda: False)
    monkeypatch.setattr("lapel.photos.decoding.know_heic", lambda: False)
    monkeypatch.setattr(formats, "suffixes", lambda: frozenset({".jpg"}))
    with pytest.raises(LapelError, match=r"none is there, but 1 \.heic \(to read them: pip install pillow-heif\)"):
        load("data=folder", f"data.root={tmp_path / 'mine'}")
    make_tree(tmp_path / "mine", [""])
    monkeypatch.setattr(formats, "suffixes", lambda: frozenset({".png"}))
    catalog = load("data=folder", f"data.root={tmp_path / 'mine'}")
    (reason,) = dropped(catalog)
    assert "pip install pillow-heif" in reason


def test_every_mode_becomes_the_pixels_of_its_plain_twin() -> None:
    generator = np.random.default_rng(0)
    grey = generator.integers(0, 256, (12, 9), dtype=np.uint8)
    colour = generator.integers(0, 256, (12, 9, 3), dtype=np.uint8)
    alpha = (generator.integers(0, 2, (12, 9)) * 255).astype(np.uint8)
    on_white = np.where(alpha[..., None] == 255, colour, 255).astype(np.uint8)
    grey_on_white = np.where(alpha == 255, grey, 255).astype(np.uint8)
    rgba = Image.fromarray(np.concatenate([colour, alpha[..., None]], axis=2))
    grey_alpha = Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha)))
    black_and_white = np.where(grey > 127, 255, 0).astype(np.uint8)
    palette = Image.fromarray(grey).convert("P")
    paletted = palette.convert("PA")
    paletted.putalpha(Image.fromarray(alpha))
    twins = {
        "1": (Image.fromarray(black_and_white).convert("1"), black_and_white),
        "L": (Image.fromarray(grey), grey),
        "LA": (grey_alpha, grey_on_white),
        "La": (grey_alpha.convert("La"), grey_on_white),
        "P": (palette, grey),
        "PA": (paletted, grey_on_white),
        "RGB": (Image.fromarray(colour), colour),
        "RGBA": (rgba, on_white),
        "RGBa": (rgba.convert("RGBa"), on_white),
        "I;16": (Image.fromarray(grey.astype(np.uint16) * 257), grey),
        "CMYK": (Image.fromarray(colour).convert("CMYK"), colour),
        "HSV": (Image.fromarray(colour).convert("HSV"), colour),
        "YCbCr": (Image.fromarray(colour).convert("YCbCr"), colour),
    }
    for name, (picture, expected) in twins.items():
        tolerance = 6 if name in ("CMYK", "HSV", "YCbCr") else 0
        wanted = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=2)
        found = decode(picture, 3).transpose(1, 2, 0).astype(int)
        assert np.abs(found - wanted).max() <= tolerance, name
        light = np.asarray(Image.fromarray(wanted).convert("L")).astype(int)
        assert np.abs(decode(picture, 1)[0].astype(int) - light).max() <= tolerance, name


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
def test_the_transparent_colour_of_a_png_is_white(mode: str) -> None:
    values = np.array([[0, 255], [255, 0]], np.uint8)
    picture = Image.fromarray(values * np.uint16(257)) if mode == "I;16" else Image.fromarray(values).convert(mode)
    seen = {"RGB": (0, 0, 0)}.get(mode, 0)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=seen)
    assert open_photo(buffer.getvalue(), 1).tolist() == [[255, 255], [255, 255]]
    picture.save(plain := io.BytesIO(), "PNG")
    assert open_photo(plain.getvalue(), 1).tolist() == values.tolist()


# -------------------------------------------------------------------------------------------------------- EXIF


def exif(entries: list[tuple[int, int, int, bytes]]) -> bytes:
    """An EXIF block: little-endian TIFF with one folder of (tag, type, count, four bytes of value)."""
    body = b"".join(struct.pack("<HHL", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + b"\0\0\0\0"


ORIENTATION_6 = (0x0112, 3, 1, b"\6\0\0\0")
MALFORMED = {
    "unit as text": (296, 2, 4, b"cm\0\0"),
    "fraction by nothing": (34853, 10, 1, b"\xff\xff\0\0"),
    "beyond the block": (315, 2, 5000, b"\0\xff\0\0"),
    "unknown type": (271, 99, 1, b"\0\0\0\0"),
}


def jpeg(block: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(4 * 8 * 3, dtype=np.uint8).reshape(4, 8, 3)).save(buffer, "JPEG", exif=block)
    return buffer.getvalue()


@pytest.mark.parametrize("beside", MALFORMED)
def test_orientation_is_read_whatever_stands_beside_it(beside: str) -> None:
    block = exif(sorted([ORIENTATION_6, MALFORMED[beside]]))
    assert open_photo(jpeg(block), 3).shape == (8, 4, 3)
    with Image.open(io.BytesIO(jpeg(block))) as image:
        assert decode(image, 3).shape == (3, 8, 4)


def test_random_exif_never_harms_a_photo() -> None:
    generator = np.random.default_rng(0)
    for _ in range(1000):
        count = int(generator.integers(1, 6))
        entries = [
            (int(generator.choice([0x0112, 296, 34853, 34665, 282, int(generator.integers(0, 65536))])),
             int(generator.integers(0, 14)), int(generator.integers(0, 9)), generator.bytes(4))
            for _ in range(count)
        ]  # fmt: skip
        block = exif(entries)
        shape = open_photo(jpeg(block[: int(generator.integers(8, len(block) + 1))]), 3).shape
        assert shape in ((4, 8, 3), (8, 4, 3))


def test_one_bad_photo_harms_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_table(tmp_path)

    def fail(content: bytes, channels: int) -> np.ndarray:
        if content == (tmp_path / "p3.png").read_bytes():
            raise RecursionError("maximum depth")
        return open_photo(content, channels)

    monkeypatch.setattr("lapel.photos.building.open_photo", fail)
    catalog = load_table(path, "data.max_bad=0.1")
    assert dropped(catalog) == {"unreadable image": ["p3.png: RecursionError: maximum depth"]}


def test_a_truncated_picture_is_told_when_it_is_embedded(tmp_path: Path) -> None:
    photo_trees.photo(0, 0).save(tmp_path / "whole.png")
    half = io.BytesIO((tmp_path / "whole.png").read_bytes()[:200])
    with Image.open(half) as image, pytest.raises(LapelError, match="image of mode RGB: cannot be converted"):
        decode(image, 3)


def test_a_photo_with_a_long_text_is_read() -> None:
    notes = PngInfo()
    notes.add_text("workflow", "x" * 3_000_000, zip=True)
    buffer = io.BytesIO()
    photo_trees.photo(0, 0).save(buffer, "PNG", pnginfo=notes)
    assert open_photo(buffer.getvalue(), 3).shape == (32, 32, 3)
