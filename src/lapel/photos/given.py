"""Images as callers of a bundle give them: files, pictures, arrays, whole batches."""

from typing import Any

import numpy as np

from lapel.errors import LapelError
from lapel.photos.decoding import decode


def as_arrays(images: Any, channels: int) -> list[np.ndarray]:
    """Anything that shows images as uint8 arrays `[1 or 3, height, width]`.

    Args:
        images: one of, or a list of: image file, a file's content as bytes, an open binary file, Pillow image, uint8
            array `[height, width(, 3)]`; or a whole batch, a uint8 array or torch tensor `[batch, 1 or 3, height,
            width]`.
        channels: 1 or 3, for what has to be decoded.

    Raises:
        LapelError: there is none, a file is missing or no image, or an array of another kind.
    """
    if _is_tensor(images) or (isinstance(images, np.ndarray) and images.ndim == 4):
        return list(_batch(np.asarray(images)))
    if not isinstance(images, list | tuple):
        images = [images]
    if not images:
        raise LapelError("no images are given")
    return [decode(image, channels) for image in images]


def _is_tensor(images: Any) -> bool:
    """Whether something is torch's, which this room does not import."""
    return type(images).__module__.partition(".")[0] == "torch"


def _batch(images: np.ndarray) -> np.ndarray:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or not images.size:
        raise LapelError(
            f"images are {images.dtype} {list(images.shape)}, must be uint8 [batch, 1 or 3, height, width]"
        )
    return images
