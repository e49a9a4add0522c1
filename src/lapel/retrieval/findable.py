"""Which queries have anything to find. Needs no torch."""

import numpy as np

from lapel.catalog import Catalog
from lapel.retrieval.pairs import count_matches, equal_pairs


def matches_of_queries(catalog: Catalog, split: str) -> np.ndarray:
    """int64 `[queries]`: gallery images of each query's items, its own pixels left out, as scores count them.

    Raises:
        LapelError: the split has no query, or no gallery image.
    """
    queries, gallery = catalog.queries(split), catalog.gallery(split)
    sets, alike = catalog.item_sets, catalog.look_alikes
    return count_matches(sets[queries], sets[gallery], equal_pairs(alike[queries], alike[gallery]))
