"""Images of a catalogue as arrays, without torch."""

import numpy as np

from lapel.catalog import Catalog
from lapel.config.data import DataConfig
from lapel.photos.decoding import decode


class PixelReader:
    """Reads images by catalogue row, in the size that the encoder sees where they are stored in it.

    Args:
        catalog: whose images.
        config: of its data.
    """

    def __init__(self, catalog: Catalog, config: DataConfig) -> None:
        self.catalog = catalog
        self.channels = config.channels
        source = catalog.photos
        self.mapped = source.built.pixels() if source is not None and source.photos.keep_pixels else None

    def read(self, rows: np.ndarray) -> list[np.ndarray]:
        """uint8 `[channels, height, width]` of each row."""
        source = self.catalog.photos
        if source is None:
            assert self.catalog.pixels is not None
            numbers = self.catalog.table["image"].to_numpy()[rows]
            return [decode(self.catalog.pixels[number], self.channels) for number in numbers]
        positions = source.positions[rows]
        if self.mapped is not None:
            return [np.asarray(self.mapped[position]) for position in positions]
        return [source.photos.decode(int(position)) for position in positions]
