"""A picture of some queries with what was found for them."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lapel.catalog import Catalog
from lapel.config import Metric
from lapel.figures import match_sheet
from lapel.images.store import ImageStore
from lapel.retrieval import NO_POSITION, equal_pairs, search

# Queries, at most, and matches of each.
EXAMPLES = 12
MATCHES = 10


def spread(queries: np.ndarray) -> np.ndarray:
    """Some of the queries' positions, evenly over all of them."""
    return queries[np.unique(np.linspace(0, len(queries) - 1, EXAMPLES).astype(np.int64))]


@torch.inference_mode()
def examples(
    catalog: Catalog,
    store: ImageStore,
    embeddings: tuple[Tensor, Tensor],
    queries: np.ndarray,
    gallery: np.ndarray,
    shown: np.ndarray,
    metric: Metric,
) -> Image.Image:
    """A line for each query: it, then its nearest gallery images, right ones framed in green and wrong ones in red.

    Args:
        catalog, store: of all of them.
        embeddings: of the queries and of the gallery.
        queries, gallery: catalogue rows.
        shown: positions of the queries that are shown.
        metric: in which embeddings are compared.
    """
    exclude = equal_pairs(catalog.look_alikes[queries[shown]], catalog.look_alikes[gallery])
    nearest = search(embeddings[0][shown], embeddings[1], MATCHES, metric, exclude)
    k = int((nearest.positions != NO_POSITION).sum(1).min())
    rows, found = queries[shown], gallery[nearest.positions[:, :k]]
    pixels = store.gather(found.reshape(-1)).cpu().numpy()
    return match_sheet(
        store.gather(rows).cpu().numpy(),
        pixels.reshape(len(shown), k, *pixels.shape[1:]),
        catalog.items[found] == catalog.items[rows, None],
        [catalog.item_names[item] for item in catalog.items[rows]],
    )
