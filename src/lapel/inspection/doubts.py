"""What looks like a mistake in a catalogue: labels that were meant as one, or as several, and items without a match."""

from collections import defaultdict

import numpy as np

from lapel.catalog import Catalog
from lapel.catalog.fingerprints import fingerprints

# Examples shown of each kind.
SHOWN = 3


def doubts(catalog: Catalog) -> list[str]:
    """What looks like a mistake, a line each; none where all is well."""
    found = [
        _few_items(catalog),
        _alone(catalog),
        _around_all(catalog),
        _spellings("items", catalog.item_names),
        _spellings("categories", catalog.category_names) if _has_categories(catalog) else "",
        _of_several_items(catalog),
    ]
    return [line for line in found if line]


def _has_categories(catalog: Catalog) -> bool:
    """Whether categories are something else than the items."""
    return catalog.category_names != catalog.item_names


def _few_items(catalog: Catalog) -> str:
    if len(catalog.item_names) > 1:
        return ""
    return f"all images are of one item, {catalog.item_names[0]!r}: there is nothing to tell it from"


def _alone(catalog: Catalog) -> str:
    """Items of one image each, which nothing can be found for."""
    sets = catalog.item_sets
    counts = np.bincount(sets[sets >= 0], minlength=len(catalog.item_names))
    alone = np.flatnonzero(counts == 1)
    if not len(alone):
        return ""
    if len(alone) == len(counts):
        return f"each of the {len(counts):,} items has one image: none has a match that could be learnt, or found"
    names = _listed([catalog.item_names[code] for code in alone])
    return f"{len(alone):,} of {len(counts):,} items have one image, and no match: {names}"


def _around_all(catalog: Catalog) -> str:
    """A category that holds every item: a folder around all of them."""
    if len(catalog.category_names) > 1 or not _has_categories(catalog) or len(catalog.item_names) < 2:
        return ""
    return (
        f"all {len(catalog.item_names):,} items are of one category, {catalog.category_names[0]!r}; where it is a "
        "folder around all of them, data.root may name it"
    )


def _spellings(what: str, names: list[str]) -> str:
    """Names that differ by case or blanks alone."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        alike["".join(name.casefold().split())].append(name)
    several = [each for each in alike.values() if len(each) > 1]
    if not several:
        return ""
    shown = "; ".join(" and ".join(repr(name) for name in each[:SHOWN]) for each in several[:SHOWN])
    more = "; …" if len(several) > SHOWN else ""
    return f"{what} that differ by case or blanks alone, {len(several):,} times: {shown}{more}"


def _of_several_items(catalog: Catalog) -> str:
    """Images of the same pixels that are of different items."""
    codes = np.unique(fingerprints(catalog, np.arange(len(catalog))), return_inverse=True)[1].reshape(-1)
    labels, order = catalog.linked_items, np.argsort(codes, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    mixed = [rows for rows in groups if len(rows) > 1 and len(np.unique(labels[rows])) > 1]
    if not mixed:
        return ""
    images, items = catalog.table["image"].to_numpy(dtype=object), catalog.items
    shown = "; ".join(
        " and ".join(f"{images[row]} ({catalog.item_names[items[row]]})" for row in rows[:2]) for rows in mixed[:SHOWN]
    )
    return f"one photo, pixel for pixel, as several items, {len(mixed):,} times: {shown}"


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
