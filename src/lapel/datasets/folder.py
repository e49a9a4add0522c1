"""Your own photos, in a folder for each item."""

import logging
from collections import Counter

import pandas as pd

from lapel.catalog import SPLITS, Catalog, Dropped
from lapel.config.data import FolderConfig
from lapel.datasets.photos import Listing, to_catalog
from lapel.datasets.splits import missing_parts, split_of
from lapel.errors import LapelError
from lapel.photos.formats import HEIC_SUFFIXES, install_hint, is_readable, shows_something, suffix
from lapel.photos.tree import Tree

logger = logging.getLogger(__name__)

# Why a photo is left out that lies above or below the items' folders.
NO_ITEM = "not in an item's folder"


def load(config: FolderConfig) -> Catalog:
    """The catalogue of `root/item/photo.jpg` or `root/category/item/photo.jpg`, perhaps below train, val and test.

    Raises:
        LapelError: no root is named, or no photo lies in an item's folder; see also `photos.to_catalog`.
    """
    if config.root is None:
        raise LapelError("data.root: must name a folder with a folder for each item")
    tree = Tree(config.root)
    names = sorted(tree.names())
    photos = [name for name in names if is_readable(name)]
    others = [name for name in names if not is_readable(name)]
    table, outside = arrange([name for name in photos if is_unicode(name)])
    if table.empty:
        raise LapelError(
            f"data.root={config.root}: must hold a folder for each item, with photos in it; "
            f"{_told_of_depth(photos) or f'none is there{_told_of(others)}'}"
        )
    listing = Listing(tree.root.stem, tree, "", table)
    if odd := [_as_text(name) for name in photos if not is_unicode(name)]:
        listing.dropped.append(Dropped("name is not UTF-8", odd))
    listing.dropped += [Dropped(reason, found) for reason, found in outside.items()]
    if "split" not in table and (parts := _named_as_parts(table)):
        logger.warning(
            "%s: %s, named as a part of a split, is taken for items like the other folders beside it: parts are train, "
            "val and test, two of them at least", config.root, " and ".join(parts),
        )  # fmt: skip
    for kind, found in _by_kind([name for name in others if shows_something(name)]).items():
        listing.dropped.append(Dropped(f"no photo that is read: {kind}{install_hint(kind)}", found))
    if rest := [name for name in others if not shows_something(name)]:
        logger.info("%s: holds other files, too: %s", config.root, _counted(_by_kind(rest)))
    if "split" in table and (missing := missing_parts(table["split"])):
        logger.warning("%s: there is no folder for %s", config.root, missing)
    return to_catalog(listing, config)


def is_unicode(name: str) -> bool:
    """Whether a name is text: one from a disk may hold other bytes, which Python spells as surrogates."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _as_text(name: str) -> str:
    """A name as it can be printed: bytes that are no text as Python writes them."""
    return name.encode("utf-8", "backslashreplace").decode()


def _by_kind(names: list[str]) -> dict[str, list[str]]:
    """Files by their suffix."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(suffix(name) or "without suffix", []).append(_as_text(name))
    return kinds


def _told_of(others: list[str]) -> str:
    """What lies there in place of photos."""
    kinds = _by_kind(others)
    if not kinds:
        return ""
    heic = next((kind for kind in kinds if kind in HEIC_SUFFIXES), "")
    return f", but {_counted(kinds)}{install_hint(heic)}"


def _counted(kinds: dict[str, list[str]]) -> str:
    return ", ".join(f"{len(names)} {kind}" for kind, names in kinds.items())


def _told_of_depth(photos: list[str]) -> str:
    """How deep photos lie that are in no item's folder."""
    deep = [name for name in photos if "/" in name]
    if not deep:
        return ""
    first = min(deep, key=lambda name: (name.count("/"), name))
    return (
        f"photos lie {first.count('/')} folders deep, as {first}; allowed are item/photo and category/item/photo, "
        "below train, val and test or not"
    )


def _named_as_parts(table: pd.DataFrame) -> list[str]:
    """Topmost folders that are named as parts of a split, and are none, beside others."""
    tops = sorted({image.partition("/")[0] for image in table["image"]})
    return [top for top in tops if split_of(top)]


def arrange(photos: list[str]) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """What paths say: columns image, item, category and, where the topmost folders are splits, split.

    Returns:
        The table; and why -> the photos that are in no part, or not as deep as most.
    """
    parts = [tuple(photo.split("/")[:-1]) for photo in photos]
    above = _above_splits(parts)
    splits = [split_of(each[above]) if above is not None and len(each) > above else None for each in parts]
    labels = [each if above is None else each[above + 1 :] for each in parts]
    within = [above is None or split is not None for split in splits]
    depths = Counter(len(each) for each, kept in zip(labels, within, strict=True) if kept and len(each) in (1, 2))
    depth = max(depths, key=lambda each: depths[each], default=1)
    kept = [inside and len(label) == depth for inside, label in zip(within, labels, strict=True)]
    rows = [
        {
            "image": photo,
            "item": "/".join(label),
            "category": label[0],
            **({} if split is None else {"split": split}),
        }
        for photo, split, label, keep in zip(photos, splits, labels, kept, strict=True)
        if keep
    ]
    outside: dict[str, list[str]] = {}
    for photo, each, inside, keep in zip(photos, parts, within, kept, strict=True):
        if not keep:
            beside = "" if above is None or inside else "/".join(each[above : above + 1])
            reason = f"in {beside}/, beside train, val and test" if beside else NO_ITEM
            outside.setdefault(reason, []).append(photo)
    return pd.DataFrame(rows), outside


def _above_splits(parts: list[tuple[str, ...]]) -> int | None:
    """How many folders stand above those that are splits: none, or one that holds everything; None without splits.

    Folders are splits where two of them are named so, or where there is no other.
    """
    for above in (0, 1):
        if above and len({each[:above] for each in parts}) > 1:
            return None
        tops = {each[above] for each in parts if len(each) > above + 1}
        found = {split_of(top) for top in tops} & set(SPLITS)
        if len(found) > 1 or (tops and all(split_of(top) for top in tops)):
            return above
    return None
