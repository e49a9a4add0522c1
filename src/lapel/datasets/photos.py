"""From a list of photo files to a catalogue: what is missing or unreadable is reported, the rest decoded and divided.

Each source of photos makes a `Listing`; everything after that is the same for all of them, and happens here.
"""

import logging
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lapel.catalog import SAME_PIXELS, SEVERAL_ITEMS, Catalog, Dropped, linked
from lapel.catalog.filters import read_filter
from lapel.config.data import PhotosConfig, Store, TableConfig
from lapel.datasets.columns import hold_boxes, read_boxes
from lapel.datasets.naming import Names, is_address, understood
from lapel.datasets.splits import divide, identical_groups, save_division
from lapel.errors import LapelError
from lapel.files.cache import cache_folder
from lapel.photos.building import BuiltStore, Photos, PhotoSource, build_store
from lapel.photos.tree import LocatedFiles, Tree, leaves_root

logger = logging.getLogger(__name__)

# Columns of a listing that only this module uses: whether data.where keeps the row, and its photo's place in the store.
CHOSEN, POSITION = "__chosen", "__position"

# Reasons for leaving a row out that count as bad photos.
BAD = MISSING, UNREADABLE = "no image file", "unreadable image"

# What comes between the names of several label columns.
JOINT = " / "

# Names shown of many.
SHOWN = 3

# Bad photos that do not stop a small set, of which they are at most a quarter.
FEW = 3


class NothingLeftError(LapelError):
    """No photo of a listing is left.

    Args:
        message: which says why.
        dropped: all that was left out.
    """

    def __init__(self, message: str, dropped: list[Dropped]) -> None:
        super().__init__(message)
        self.dropped = dropped


@dataclass
class Listing:
    """What a data set says of its photos, before any of them was looked at.

    Args:
        name: of the data set.
        tree: its files.
        base: folder in the tree that images are relative to, `""` or ending in `/`.
        table: column `image`, the path; perhaps `split`, `role`, and the box columns; and whatever the source has.
        dropped: what was left out so far.
        renamed: name of a column in the source -> its name in the table, where that is another.
    """

    name: str
    tree: Tree
    base: str
    table: pd.DataFrame
    dropped: list[Dropped] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)

    def as_given(self) -> dict[str, Any]:
        """The columns by the names that the source gives them."""
        columns = {str(name): self.table[name] for name in self.table}
        return columns | {old: self.table[new] for old, new in self.renamed.items()}

    def drop(self, reason: str, rows: np.ndarray, about: list[str] | None = None) -> None:
        """Leave out rows, bool `[rows]`, and remember them."""
        if rows.any():
            names = self.table["image"][rows].astype(str).tolist()
            details = (
                [f"{name}: {what}" if what else name for name, what in zip(names, about, strict=True)]
                if about
                else names
            )
            self.dropped.append(Dropped(reason, details))
            self.table = kept_rows(self.table, ~rows)


def kept_rows(table: pd.DataFrame, kept: np.ndarray) -> pd.DataFrame:
    """The rows of a table, bool `[rows]`, numbered anew."""
    return table.take(np.flatnonzero(kept)).reset_index(drop=True)


def to_catalog(listing: Listing, config: PhotosConfig) -> Catalog:
    """The catalogue of a listing.

    Raises:
        LapelError: a column is missing, too many photos are missing or unreadable, or nothing is left.
    """
    listed = len(listing.table)
    _check_columns(listing, config)
    listing.table[CHOSEN] = _kept_by(config.where, listing)
    names = Names(listing.tree, listing.base)
    _name_files(listing, names, config.suffix if isinstance(config, TableConfig) else "")
    _drop_named_before(listing, config)
    _drop_odd_boxes(listing)
    stamps = _drop_missing(listing, names, config, listed)
    photos = _photos(listing, config, stamps)
    try:
        built = build_store(photos, listing.name, cache_folder(config.cache))
    except OSError as error:
        raise not_writable(config, error) from error
    listing.table[POSITION] = np.arange(len(listing.table))
    bad = listing.table[POSITION].isin(list(built.bad)).to_numpy()
    listing.drop(UNREADABLE, bad, [built.bad[row] for row in sorted(built.bad)])
    _stop_over_max_bad(listing, config, listed)
    _stop_with_nothing(listing, "photo can be read")
    items = _drop_unlabelled(listing, config)
    groups = identical_groups(built.fingerprints[listing.table[POSITION]])
    derived = "split" not in listing.table
    if derived:
        listing.table[SAME_PIXELS] = groups  # an official protocol counts every find: there it is not known
    split_file = _divide(listing, config, items, _kept_together(listing.table, config.group, groups))
    _warn_of_empty_parts(listing, config, ("val", "test") if derived else ("val",))
    listing.drop("not kept by data.where", ~listing.table[CHOSEN].to_numpy())
    return _catalog(listing, config, photos, built, split_file)


# ---------------------------------------------------------------------------------------- what is left out


def _check_columns(listing: Listing, config: PhotosConfig) -> None:
    """Raise where a label column does not exist, or nothing is listed."""
    if listing.table.empty:
        raise LapelError(f"{listing.tree.root}: lists no image")
    for key, columns in (("item", config.item), ("category", config.category), ("group", config.group)):
        unknown = [column for column in columns if column not in listing.table]
        if unknown:
            raise LapelError(f"data.{key}={unknown[0]}: no such column; there are {', '.join(listing.table.columns)}")


def _kept_by(where: str | None, listing: Listing) -> np.ndarray:
    """bool `[rows]`: what a filter keeps."""
    if where is None:
        return np.ones(len(listing.table), bool)
    wanted = read_filter(where, "data.where")
    found = wanted.keep(listing.as_given())
    if not found.any():
        raise wanted.refused(f"keeps none of {len(listing.table)} rows")
    return found


def _name_files(listing: Listing, names: Names, suffix: str) -> None:
    """Put the files that paths mean in their place; leave out paths that are none, lead out of the root, or come again.

    Args:
        listing: of the data set.
        names: of the files that are there.
        suffix: that the paths lack.
    """
    paths = listing.table["image"].fillna("").astype(str)
    listing.table["image"] = paths
    listing.drop("no image named", (paths.str.strip() == "").to_numpy())
    listing.drop("an address, no file", np.array([is_address(path) for path in listing.table["image"]], dtype=bool))
    listing.table["image"] = understood([path + suffix for path in listing.table["image"].tolist()], names)
    listing.drop(
        "path leaves the root", np.array([leaves_root(path) for path in listing.table["image"].tolist()], dtype=bool)
    )
    _stop_with_nothing(listing, "image is left to look for", "; paths are relative to it")


def _stop_with_nothing(listing: Listing, what: str, hint: str = "") -> None:
    """Raise where nothing is left of a listing, and say why."""
    if listing.table.empty:
        reasons = "; ".join(f"{each.reason}: {len(each.names):,}, as {each.names[0]}" for each in listing.dropped)
        raise NothingLeftError(f"{listing.tree.root}: no {what} ({reasons}){hint}", listing.dropped)


def _drop_named_before(listing: Listing, config: PhotosConfig) -> None:
    """Leave out rows of photos that came before; it is another thing where they were of another item then."""
    again = listing.table["image"].duplicated().to_numpy(copy=True)
    if not again.any():
        return
    labels = pd.Series(label_names(listing.table, config.item, several=True), index=listing.table.index)
    first = labels.groupby(listing.table["image"]).transform("first")
    other = again & (labels != first).to_numpy()
    about = [f"is {one}, and {two} before" for one, two in zip(labels[other], first[other], strict=True)]
    again &= ~other
    listing.drop("named before, as another item", other, about)
    listing.drop("named before", again[~other])


def _drop_odd_boxes(listing: Listing) -> None:
    """Leave out rows of whose box only a part is told."""
    if hold_boxes(listing.table):
        listing.drop("box is not whole", read_boxes(listing.table)[1])
        _stop_with_nothing(listing, "photo has a box")


def _drop_missing(listing: Listing, names: Names, config: PhotosConfig, listed: int) -> np.ndarray:
    """Leave out rows without a file; size and time of change of the others."""
    stamps = listing.tree.stamps([listing.base + image for image in listing.table["image"].tolist()])
    there = stamps[:, 0] >= 0
    missing = listing.table["image"][~there].tolist()
    hint = _suffix_hint(missing, names)
    if not there.any():
        first = listing.tree.root / (listing.base + str(listing.table["image"].iloc[0]))
        path = str(listing.table["image"].iloc[0])
        why = names.why_missing(path)
        if folder := names.folder_above(path):
            why = f"it is in {folder}: data.root={listing.tree.root / listing.base / folder} names that"
        raise LapelError(f"{first}: no such file{f' ({why})' if why else ''}, nor any other of {listed} images{hint}")
    listing.drop(MISSING, ~there, [names.why_missing(image) for image in missing])
    _stop_over_max_bad(listing, config, listed, hint)
    return stamps[there]


def _suffix_hint(missing: list[str], names: Names) -> str:
    """What helps where paths lack the suffix of the files."""
    suffix, lacking = names.lacking(missing)
    if not lacking:
        return ""
    return f"; {len(lacking)} of them lack {suffix}, the first is {lacking[0]}: data.suffix={suffix} adds it"


def _stop_over_max_bad(listing: Listing, config: PhotosConfig, listed: int, hint: str = "") -> None:
    bad = bad_photos(listing.dropped)
    if len(bad) > (allowed := allowed_bad(config.max_bad, listed)):
        shown = "; ".join(bad[:SHOWN]) + ("; …" if len(bad) > SHOWN else "")
        raise LapelError(
            f"{len(bad)} of {listed} photos are missing or unreadable, data.max_bad={config.max_bad} allows "
            f"{allowed}: {shown}{hint}"
        )


def bad_photos(dropped: list[Dropped]) -> list[str]:
    """The photos that are missing or unreadable, each with why."""
    return [name for each in dropped if each.reason in BAD for name in each.names]


def allowed_bad(share: float, listed: int) -> int:
    """How many of the listed photos may be bad: a share of them; of small sets, unless none may, a few."""
    return max(int(share * listed), min(FEW, listed // 4)) if share else 0


def _drop_unlabelled(listing: Listing, config: PhotosConfig) -> np.ndarray:
    """Leave out rows without an item or category; the names of the others' items."""
    for key in ("item", "category"):
        columns = getattr(config, key)
        listing.drop(f"no {' and '.join(columns)}", ~_labelled(listing.table, columns))
    _tell_of_blanks(listing, [*config.item, *config.category])
    _stop_with_nothing(listing, f"photo has a label in {', '.join([*config.item, *config.category])}")
    return label_names(listing.table, config.item)


def _tell_of_blanks(listing: Listing, columns: list[str]) -> None:
    """Say where labels have blanks around them, without which they may be others'."""
    for column in dict.fromkeys(columns):
        around = [each for each in listing.table[column].tolist() if isinstance(each, str) and each != each.strip()]
        if around:
            logger.info(
                "%s: blanks around labels in %s are left out, %d times, as of %r",
                listing.name, column, len(around), around[0],
            )  # fmt: skip


def _labelled(table: pd.DataFrame, columns: list[str]) -> np.ndarray:
    kept = np.ones(len(table), bool)
    for column in columns:
        if holds_lists(table[column]):
            kept &= np.array([bool(_names_in(each)) for each in table[column]], dtype=bool)
        else:
            kept &= np.array([name != "" for name in _texts(table[column])], dtype=bool)
    return kept


# ---------------------------------------------------------------------------------------------- what is kept


def holds_lists(column: Any) -> bool:
    """Whether a column has lists of names."""
    return any(isinstance(each, list) for each in column)


def _names_in(value: Any) -> list[str]:
    """The names in a list, each once; of anything else none."""
    return list(dict.fromkeys(name for name in map(label_text, value) if name)) if isinstance(value, list) else []


def label_text(value: Any) -> str:
    """A label as a name: without blanks around it, accents composed; empty for what is missing."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return ""
    text = str(value).strip()
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _texts(column: Any) -> list[str]:
    return [label_text(value) for value in column.tolist()]


def label_names(table: pd.DataFrame, columns: list[str], several: bool = False) -> np.ndarray:
    """str object `[rows]`: the values of label columns, joined; of lists the first, or `several`."""
    if len(columns) == 1 and holds_lists(table[columns[0]]):
        lists = [_names_in(each) for each in table[columns[0]]]
        return np.array([JOINT.join(each) if several else each[0] for each in lists], dtype=object)
    return np.array([JOINT.join(each) for each in zip(*(_texts(table[name]) for name in columns), strict=True)], object)


def _photos(listing: Listing, config: PhotosConfig, stamps: np.ndarray) -> Photos:
    names = listing.table["image"].tolist()
    boxes = None
    if hold_boxes(listing.table):
        boxes = read_boxes(listing.table)[0]
    return Photos(
        names=names,
        files=LocatedFiles(listing.tree, listing.base, names),
        stamps=stamps,
        boxes=boxes,
        height=config.height,
        width=config.width,
        channels=config.channels,
        resize=config.resize,
        keep_pixels=config.store is not Store.files,
    )


def _kept_together(table: pd.DataFrame, columns: list[str], groups: np.ndarray) -> np.ndarray:
    """int64 `[rows]`: equal for photos that are in one part, whatever it is.

    Args:
        table: of the photos.
        columns: whose equal values are not divided; where they are empty, a photo is by itself.
        groups: int64 `[rows]`, equal for photos of the same pixels.
    """
    if not columns:
        return groups
    names = label_names(table, columns, several=True)
    named = np.array([name.replace(JOINT, "").strip() != "" for name in names], dtype=bool)
    codes = np.arange(len(table)) + len(table)
    codes[named] = np.unique(names[named], return_inverse=True)[1]
    return linked(2 * len(table), _sets_of(codes, groups))[codes]


def _sets_of(codes: np.ndarray, groups: np.ndarray) -> list[list[int]]:
    """For each value of `groups` the codes that stand beside it."""
    order = np.argsort(groups, kind="stable")
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    return [np.unique(codes[rows]).tolist() for rows in np.split(order, cuts)]


def _divide(listing: Listing, config: PhotosConfig, items: np.ndarray, groups: np.ndarray) -> Path | None:
    """Give each row a split and a role, where its source does not; a val part from train, where it has none.

    Returns:
        Where the split is kept, if any of it was derived here.
    """
    table = listing.table
    images = table["image"].tolist()
    if "role" not in table:
        table["role"] = "both"
    if "split" not in table:
        table["split"] = divide(config.split, images, items, groups, config.val_share, config.test_share)
    elif "val" not in set(table["split"]):
        logger.info("%s: no photo is in val: data.val_share=%g of train is taken", listing.name, config.val_share)
        division = divide(config.split, images, items, groups, config.val_share, test_share=0.0)
        table.loc[(table["split"] == "train") & (division == "val"), "split"] = "val"
    else:
        return None
    try:
        return save_division(cache_folder(config.cache), listing.name, images, table["split"].to_numpy(dtype=object))
    except OSError as error:
        raise not_writable(config, error) from error


def not_writable(config: PhotosConfig, error: OSError) -> LapelError:
    """What is told where lapel's cache cannot be written."""
    folder = cache_folder(config.cache)
    return LapelError(f"{folder}: cannot be written ({error.strerror or error}); data.cache=FOLDER names another place")


def _warn_of_empty_parts(listing: Listing, config: PhotosConfig, derived: tuple[str, ...]) -> None:
    """Say which of the parts that are derived no image fell into, though they should have a share."""
    shares = {"val": config.val_share, "test": config.test_share}
    for name in derived:
        wanted = shares[name]
        if wanted > 0 and name not in set(listing.table["split"]):
            logger.warning(
                "%s: no image is in %s: data.%s_share=%g, of %d images, gives it none by data.split=%s; raise it, or "
                "divide the images yourself, with a column split or folders train, val and test",
                listing.name, name, name, wanted, len(listing.table), config.split.name,
            )  # fmt: skip


def _catalog(
    listing: Listing, config: PhotosConfig, photos: Photos, built: BuiltStore, split_file: Path | None
) -> Catalog:
    """What is left of a listing, with codes in place of names."""
    table = listing.table
    positions = table[POSITION].to_numpy()
    lists = holds_lists(table[config.item[0]]) and len(config.item) == 1
    several = [_names_in(each) for each in table[config.item[0]]] if lists else None
    items = label_names(table, config.item)
    item_names = np.unique(np.concatenate([np.array(each, dtype=object) for each in several]) if several else items)
    category_names, categories = np.unique(label_names(table, config.category or config.item), return_inverse=True)
    table = table.drop(columns=[CHOSEN, POSITION])
    table["item"] = np.searchsorted(item_names, items).astype(np.int64)
    table["category"] = categories.astype(np.int64)
    if several:
        table[SEVERAL_ITEMS] = [list(dict.fromkeys(np.searchsorted(item_names, each).tolist())) for each in several]
    if SAME_PIXELS in table:
        table[SAME_PIXELS] = np.unique(table[SAME_PIXELS].to_numpy(), return_inverse=True)[1]
    return Catalog(
        name=listing.name,
        table=table,
        item_names=item_names.tolist(),
        category_names=category_names.tolist(),
        photos=PhotoSource(photos, built, positions),
        dropped=listing.dropped,
        split_file=split_file,
    )
