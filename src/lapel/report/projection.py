"""Embeddings on a plane, for the map."""

import logging
import warnings

import numpy as np

SEED = 0

# Below it, methods that look at neighbours have too few of them.
FEWEST = 50


def project(embeddings: np.ndarray) -> tuple[np.ndarray, str]:
    """float32 `[images, 2]`, and by which method: PaCMAP or openTSNE where one of them is installed, else PCA.

    Args:
        embeddings: float32 `[images, dimensions]`.
    """
    if len(embeddings) >= FEWEST:
        for method, name in ((_by_pacmap, "PaCMAP"), (_by_tsne, "t-SNE (openTSNE)")):
            try:
                return method(embeddings).astype(np.float32), name
            except ImportError:
                continue
    return _by_pca(embeddings).astype(np.float32), "PCA"


def _by_pacmap(embeddings: np.ndarray) -> np.ndarray:
    import pacmap  # pyright: ignore[reportMissingImports]

    logging.getLogger("pacmap").setLevel(logging.ERROR)  # it warns that a seed makes it repeatable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pacmap.PaCMAP(n_components=2, random_state=SEED).fit_transform(embeddings, init="pca")


def _by_tsne(embeddings: np.ndarray) -> np.ndarray:
    import openTSNE  # pyright: ignore[reportMissingImports]

    return np.asarray(openTSNE.TSNE(random_state=SEED, n_jobs=1).fit(embeddings))


def _by_pca(embeddings: np.ndarray) -> np.ndarray:
    centred = embeddings - embeddings.mean(0)
    if min(centred.shape) < 2:
        return np.pad(centred[:, :1], ((0, 0), (0, 2 - min(1, centred.shape[1]))))[:, :2]
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    plane = directions[:2]
    signs = np.sign(plane[np.arange(2), np.abs(plane).argmax(1)])  # a direction and its opposite are as good
    return centred @ (plane * np.where(signs == 0, 1, signs)[:, None]).T
