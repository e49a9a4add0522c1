"""Which images are the same, pixel for pixel, in whatever catalogue they stand."""

import numpy as np

from lapel.catalog import Catalog
from lapel.errors import LapelError
from lapel.photos.decoding import fingerprint


def fingerprints(catalog: Catalog, rows: np.ndarray) -> np.ndarray:
    """int64 `[rows]`: equal for images of the same pixels.

    Photos count as they are decoded, before they are cut or resized, and grey images as colour ones.

    Raises:
        LapelError: the catalogue has no images.
    """
    if catalog.photos is not None:
        marks = catalog.photos.built.fingerprints[catalog.photos.positions[rows]]
    elif catalog.pixels is not None:
        numbers = catalog.table["image"].to_numpy()[rows]
        told = b"".join(fingerprint(_in_colour(catalog.pixels[number])) for number in numbers)
        marks = np.frombuffer(told, np.uint8).reshape(len(rows), -1)
    else:
        raise LapelError(f"catalogue {catalog.name}: holds no pixels")
    return np.ascontiguousarray(marks[:, :8]).view(np.int64)[:, 0]


def _in_colour(picture: np.ndarray) -> np.ndarray:
    """uint8 `[height, width, 3]` of `[height, width]`, or as it is."""
    return np.repeat(picture[:, :, None], 3, axis=2) if picture.ndim == 2 else picture
