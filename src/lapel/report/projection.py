"""Embeddings on a plane, for the map: near to each other what the model takes for alike."""

import numpy as np
from threadpoolctl import threadpool_limits

SEED = 0

# Images laid out, at most: more take longer, and a map of more dots shows no more.
MOST = 3000

# Below it, neighbours say less than the plane of the largest variance.
FEWEST = 12

# Neighbours that each image looks at, as van der Maaten & Hinton's perplexity; of fewer images a share of them.
PERPLEXITY = 30.0
SHARE = 4

# Principal components that t-SNE is given: the others are noise that costs time (van der Maaten & Hinton 2008, 4.2).
COMPONENTS = 50

# Steps of t-SNE, half of them with its early exaggeration: those after change little of where clusters lie.
STEPS = 500

# Embeddings of less spread than this are one point, around which no direction means anything.
LEAST_SPREAD = 1e-6


def project(embeddings: np.ndarray) -> tuple[np.ndarray, str]:
    """float32 `[images, 2]`, and by which method: t-SNE, or PCA where there are too few images or too few differ.

    The same embeddings have the same map.

    Args:
        embeddings: float32 `[images, dimensions]`.
    """
    reduced = _principal(embeddings, COMPONENTS)
    if len(np.unique(reduced.round(6), axis=0)) < FEWEST or reduced.std() < LEAST_SPREAD or reduced.shape[1] < 2:
        return _padded(reduced[:, :2]), "PCA"
    return _by_tsne(reduced), "t-SNE"


def _by_tsne(points: np.ndarray) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, len(points) / SHARE)
    drawing = TSNE(2, perplexity=perplexity, init="pca", random_state=SEED, max_iter=STEPS)
    # By one thread: several wait for each other at every step, a hundred times as long where the cores are busy, and
    # would add up in another order.
    with threadpool_limits(1):
        return drawing.fit_transform(points).astype(np.float32)


def _principal(embeddings: np.ndarray, most: int) -> np.ndarray:
    """float32 `[images, at most `most`]`: coordinates along the directions of largest variance, the first ones."""
    centred = embeddings.astype(np.float64) - embeddings.mean(0, dtype=np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)  # of ascending variance
    wanted = directions[:, ::-1][:, :most]
    largest = np.abs(wanted).argmax(0)
    signs = np.sign(wanted[largest, np.arange(wanted.shape[1])])  # a direction and its opposite are as good
    return (centred @ (wanted * np.where(signs == 0, 1, signs))).astype(np.float32)


def _padded(coordinates: np.ndarray) -> np.ndarray:
    """Two coordinates of each image, also where there is only one direction."""
    return np.pad(coordinates, ((0, 0), (0, 2 - coordinates.shape[1])))
