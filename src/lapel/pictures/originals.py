"""Images as their owner knows them: the photo of the file in its own proportions, not what the encoder makes of it."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from lapel.catalog import Catalog
from lapel.errors import LapelError
from lapel.images.store import ImageStore


@dataclass(frozen=True)
class Originals:
    """The images of a catalogue, for people.

    Args:
        catalog: of the images.
        store: what the encoder sees of them, shown where a file is gone.
    """

    catalog: Catalog
    store: ImageStore

    def small(self, rows: np.ndarray, side: int) -> list[np.ndarray]:
        """uint8 `[1 or 3, height, width]` of each row, upright, cut to its box, no side longer than `side` pixels."""
        return [_shrunk(self._picture(int(row)), side) for row in rows]

    def proportions(self, rows: np.ndarray) -> np.ndarray:
        """float64 `[rows]`: width over height of each image, as the file has it."""
        source = self.catalog.photos
        if source is None:
            assert self.catalog.pixels is not None
            height, width = self.catalog.pixels.shape[1:3]
            return np.full(len(rows), width / height)
        photos = source.positions[rows]
        heights, widths = source.built.sizes[photos].T.astype(np.float64)
        if source.photos.boxes is None:
            return widths / heights
        left, top, right, bottom = source.photos.boxes[photos].T
        wide = np.minimum(right, widths) - np.maximum(left, 0)
        return wide / (np.minimum(bottom, heights) - np.maximum(top, 0))

    def names(self, rows: np.ndarray) -> list[str]:
        """What each image is known by: the path of its file, or the number of its row in the catalogue."""
        if self.catalog.photos is None:
            return [f"row {row}" for row in rows]
        return [str(image) for image in self.catalog.table["image"].iloc[rows]]

    def _picture(self, row: int) -> np.ndarray:
        """uint8 `[height, width(, 3)]`."""
        source = self.catalog.photos
        if source is None:
            assert self.catalog.pixels is not None
            return self.catalog.pixels[int(self.catalog.table["image"].iloc[row])]
        try:
            return source.photos.whole(int(source.positions[row]))
        except LapelError:  # moved or deleted since it was decoded
            pixels = self.store.gather(np.array([row]))[0].cpu().numpy()
            return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)


def _shrunk(picture: np.ndarray, side: int) -> np.ndarray:
    """uint8 `[1 or 3, height, width]` of `[height, width(, 3)]`."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
