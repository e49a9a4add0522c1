"""Your own photos, listed in a csv or parquet file."""

import logging
from dataclasses import replace
from pathlib import Path

from lapel.catalog import Catalog
from lapel.config.data import TableConfig
from lapel.datasets.columns import (
    ADDED,
    given_names,
    is_division,
    lacks_of_boxes,
    read_roles,
    read_splits,
    spelled_otherwise,
)
from lapel.datasets.photos import Listing, to_catalog
from lapel.datasets.splits import missing_parts
from lapel.datasets.table_files import read_table
from lapel.errors import LapelError
from lapel.files.paths import user_path
from lapel.photos.tree import Tree

logger = logging.getLogger(__name__)

# Options that name columns of labels.
LABELS = ("item", "category", "group")


def load(config: TableConfig) -> Catalog:
    """The catalogue of a table; its columns `split`, `role` and left, top, right, bottom (a box) are obeyed.

    Raises:
        LapelError: no table is named, or it cannot be read; see also `photos.to_catalog`.
    """
    if config.table is None:
        raise LapelError("data.table: must name a csv or parquet file")
    path = user_path(config.table)
    if config.root is not None and not path.is_absolute() and not path.exists():
        path = user_path(config.root) / path
    table = read_table(path, labels={*config.item, *config.category, *config.group})
    if config.image not in table:
        raise LapelError(f"data.image={config.image}: {path} has no such column; it has {', '.join(table.columns)}")
    for ours, theirs in spelled_otherwise(table).items():
        logger.info("%s: column %s is read as %s", path, theirs, ours)
        table[ours] = table[theirs]
    if lacks := lacks_of_boxes(table):
        logger.warning("%s: photos are seen whole: %s", path, lacks)
    listing = Listing(path.stem, Tree(config.root or path.parent), "", table)
    config = _rename(listing, config, path)
    if "split" in listing.table:
        listing.table["split"] = read_splits(listing.table["split"], str(path))
        listing.drop("no split named", (listing.table["split"] == "").to_numpy())
        if listing.table.empty:
            raise LapelError(f"{path}: column split names none for any row")
        if missing := missing_parts(listing.table["split"]):
            logger.warning("%s: column split names no row for %s", path, missing)
    if "role" in listing.table:
        listing.table["role"] = read_roles(listing.table["role"], str(path))
    return to_catalog(listing, config)


def _rename(listing: Listing, config: TableConfig, path: Path) -> TableConfig:
    """Keep the user's columns whose names lapel needs under other names; the config that speaks of them."""
    table = listing.table
    needed: set[str] = {*ADDED} | ({"image"} if config.image != "image" else set())
    needed |= {name for name in ("item", "category") if getattr(config, name) != [name]}
    needed |= {name for name in ("split", "role") if name in table and not is_division(table[name])}
    listing.renamed = given_names(table, needed)
    if listing.renamed:
        told = ", ".join(f"{old} as {new}" for old, new in listing.renamed.items())
        hint = "; data.category=category takes it for the category" if "category" in listing.renamed else ""
        logger.info("%s: kept, since lapel has columns of these names: %s%s", path, told, hint)
        listing.table = table.set_axis([listing.renamed.get(each, each) for each in table], axis=1)
    listing.table["image"] = listing.table[listing.renamed.get(config.image, config.image)]
    now = {name: [listing.renamed.get(each, each) for each in getattr(config, name)] for name in LABELS}
    return replace(config, item=now["item"], category=now["category"], group=now["group"])
