"""The report of a catalogue: counts, splits, sizes, what was left out and why, and a contact sheet."""

from pathlib import Path

import numpy as np
import pandas as pd
from rich.table import Table

from lapel.catalog import SPLITS, Catalog, Dropped
from lapel.config.catalog import CatalogConfig
from lapel.config.data import PhotosConfig
from lapel.datasets.photos import BAD, allowed_bad, bad_photos
from lapel.errors import counted, printable
from lapel.files.tables import csv_text
from lapel.files.writing import written_whole
from lapel.inspection.doubts import doubts
from lapel.inspection.pixels import PixelReader
from lapel.machine.console import plain_table, show, show_whole
from lapel.pictures.sheets import contact_sheet
from lapel.retrieval.findable import matches_of_queries

# Photos of a line of the contact sheet, and lines: one for each of the most frequent categories.
SHEET_COLUMNS = 12
SHEET_LINES = 12

# Bad photos that are listed on the terminal; all of what is left out, with why, is in a file.
MOST_LISTED = 100
LEFT_OUT_FILE = "left_out.csv"

# Names shown of the images that were left out for one reason.
SHOWN = 5

# Of the hash of a split.
HASH_DIGITS = 8

# Upper ends of the classes in which images an item are counted.
IMAGE_COUNTS = [1, 2, 3, 5, 10, 20, 50, 100, 1000]


def check(config: CatalogConfig, catalog: Catalog, folder: Path) -> None:
    """Print the report of a catalogue, and write its contact sheet.

    Args:
        config: of the command.
        catalog: what is reported.
        folder: where `contact_sheet.png` goes.
    """
    items = counted(len(catalog.item_names), "item")
    categories = counted(len(catalog.category_names), "category", "categories")
    show(f"{catalog.name}: {counted(len(catalog), 'image')}, {items}, {categories}")
    show(splits_table(catalog), images_an_item(catalog))
    if catalog.photos is not None:
        show(sizes_table(catalog.photos.built.sizes[catalog.photos.positions]))
        show(f"decoded photos: {catalog.photos.photos.become}, in {catalog.photos.built.folder}")
    if catalog.split_file is not None:
        show_whole(f"split: {catalog.split_file}")
    show(dropped_table(catalog.dropped))
    show(*bad_lines(catalog, config), *(f"doubtful: {doubt}" for doubt in doubts(catalog)))
    if catalog.dropped:
        show_whole(f"all that is left out: {_save_left_out(catalog.dropped, folder)}")
    path = folder / "contact_sheet.png"
    with written_whole(path) as temporary:
        sheet(catalog, PixelReader(catalog, config.data)).save(temporary, format="PNG")
    show_whole(f"contact sheet: {path}")


def tell_left_out(dropped: list[Dropped], folder: Path) -> None:
    """Print what is left out of a data set of which nothing is left, and write all of it."""
    show(dropped_table(dropped), *_listed(bad_photos(dropped)))
    show_whole(f"all that is left out: {_save_left_out(dropped, folder)}")


def _save_left_out(dropped: list[Dropped], folder: Path) -> Path:
    """A csv file with why and the name of each image that is left out."""
    path = folder / LEFT_OUT_FILE
    rows = [(each.reason, name) for each in dropped for name in each.names]
    with written_whole(path) as temporary:
        temporary.write_text(csv_text(pd.DataFrame(rows, columns=["why", "image"])), encoding="utf-8", newline="")
    return path


def bad_lines(catalog: Catalog, config: CatalogConfig) -> list[str]:
    """Each photo that is missing or unreadable, and whether a training would stop for them."""
    bad = bad_photos(catalog.dropped)
    if not bad or not isinstance(config.data, PhotosConfig):
        return []
    listed = len(catalog) + sum(len(each.names) for each in catalog.dropped)
    allowed = allowed_bad(config.data.max_bad, listed)
    told = "goes on without them" if len(bad) <= allowed else "stops for them"
    limit = f"data.max_bad={config.data.max_bad} allows {allowed:,}"
    lines = [f"missing or unreadable: {counted(len(bad), 'photo')}; {limit}: a training {told}"]
    return [*lines, *_listed(bad)]


def _listed(bad: list[str]) -> list[str]:
    """A line each, and one for those that are too many."""
    lines = [f"  {printable(each)}" for each in bad[:MOST_LISTED]]
    return lines if len(bad) <= MOST_LISTED else [*lines, f"  and {len(bad) - MOST_LISTED:,} more"]


def splits_table(catalog: Catalog) -> Table:
    """Images, queries, those with something to find, gallery and items of each split, items that train has, a hash."""
    counted = ("images", "queries", "with a match", "gallery", "items", "in train")
    splits = plain_table("split", *counted, "hash", title="splits", right=counted)
    seen = set(catalog.items[catalog.rows("train")]) if _has(catalog, "train") else set()
    for split in SPLITS:
        if not _has(catalog, split):
            splits.add_row(split, "0", *[""] * len(counted))
            continue
        rows = catalog.rows(split)
        roles = catalog.table["role"].to_numpy()[rows]
        queries, gallery = (int(np.isin(roles, [role, "both"]).sum()) for role in ("query", "gallery"))
        matched = np.count_nonzero(matches_of_queries(catalog, split)) if queries and gallery else 0
        items = set(catalog.items[rows])
        splits.add_row(
            split,
            f"{len(rows):,}",
            f"{queries:,}",
            f"{matched:,}",
            f"{gallery:,}",
            f"{len(items):,}",
            "" if split == "train" else f"{len(items & seen):,}",
            catalog.split_hash(split)[:HASH_DIGITS],
        )
    return splits


def _has(catalog: Catalog, split: str) -> bool:
    return bool((catalog.table["split"] == split).any())


def images_an_item(catalog: Catalog) -> Table:
    """How many items have how many images."""
    counts = np.bincount(catalog.items, minlength=len(catalog.item_names))
    told = plain_table("images", "items", title="images an item", right=["items"])
    lower = 1
    for upper in [*IMAGE_COUNTS, int(max(counts.max(), IMAGE_COUNTS[-1] + 1))]:
        found = counts[(counts >= lower) & (counts <= upper)]
        if len(found):
            least, most = found.min(), found.max()
            told.add_row(str(most) if least == most else f"{least} to {most}", f"{len(found):,}")
        lower = upper + 1
    told.add_row("median", f"{np.median(counts):.0f} images")
    return told


def sizes_table(sizes: np.ndarray) -> Table:
    """The most frequent sizes of the photos, int32 `[photos, 2]`, height and width."""
    shapes = pd.Series([f"{height} x {width}" for height, width in sizes]).value_counts()
    told = plain_table("size", "photos", title="sizes of the photos, height x width", right=["photos"])
    for shape, count in list(shapes.items())[:SHOWN]:
        told.add_row(str(shape), f"{count:,}")
    if len(shapes) > SHOWN:
        told.add_row(f"{len(shapes) - SHOWN} more sizes", f"{shapes.iloc[SHOWN:].sum():,}")
    return told


def dropped_table(left_out: list[Dropped]) -> Table | str:
    """What the source lists and the catalogue leaves out."""
    if not left_out:
        return "left out: nothing"
    told = plain_table("why", "images", "for instance", title="left out", right=["images"])
    told.columns[-1].overflow = "fold"
    for dropped in left_out:
        more = "" if len(dropped.names) <= SHOWN else " …"
        names = ", ".join(printable(name) for name in dropped.names[:SHOWN]) + more
        told.add_row(dropped.reason, f"{len(dropped.names):,}", "listed below" if dropped.reason in BAD else names)
    return told


def sheet(catalog: Catalog, reader: PixelReader):
    """A contact sheet: for each of the largest categories some images, evenly spread over it."""
    categories = catalog.categories
    names, counts = np.unique(categories, return_counts=True)
    lines = []
    for category in names[np.argsort(-counts, kind="stable")][:SHEET_LINES]:
        rows = np.flatnonzero(categories == category)
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, SHEET_COLUMNS).astype(np.int64))]
        lines.append((f"{catalog.category_names[category]}: {counted(len(rows), 'image')}", reader.read(chosen)))
    return contact_sheet(lines)
