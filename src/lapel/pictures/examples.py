"""A picture of some queries with what was found for them."""

import numpy as np
from PIL import Image

from lapel.catalog import Catalog
from lapel.images.store import ImageStore
from lapel.pictures.sheets import match_sheet
from lapel.retrieval import NO_POSITION
from lapel.retrieval.pairs import share_item

# Queries, at most, and matches of each.
EXAMPLES = 12
MATCHES = 10


def spread(queries: np.ndarray) -> np.ndarray:
    """Some of the queries' positions, evenly over all of them."""
    return queries[np.unique(np.linspace(0, len(queries) - 1, EXAMPLES).astype(np.int64))]


def examples(
    catalog: Catalog,
    store: ImageStore,
    queries: np.ndarray,
    gallery: np.ndarray,
    positions: np.ndarray,
    shown: np.ndarray,
) -> Image.Image:
    """A line for each query: it, then its nearest gallery images, right ones framed in green and wrong ones in red.

    Args:
        catalog, store: of all of them.
        queries, gallery: catalogue rows.
        positions: int64 `[queries, k]`, gallery positions of each list, best first, -1 where it has no more.
        shown: positions of the queries that are shown.
    """
    lists = positions[shown, :MATCHES]
    k = int((lists != NO_POSITION).sum(1).min())
    rows, found = queries[shown], gallery[lists[:, :k]]
    pixels = store.gather(found.reshape(-1)).cpu().numpy()
    sets = catalog.item_sets
    return match_sheet(
        store.gather(rows).cpu().numpy(),
        pixels.reshape(len(shown), k, *pixels.shape[1:]),
        share_item(sets[rows, None], sets[found]),
        [catalog.item_names[item] for item in catalog.items[rows]],
    )
