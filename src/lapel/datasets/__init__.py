"""The data sources: each module turns its options into a `Catalog`, and `load` chooses among them."""

from lapel.catalog import Catalog
from lapel.config import DataConfig, FashionMnistConfig, WardrobeConfig
from lapel.datasets import fashion_mnist, wardrobe


def load(config: DataConfig) -> Catalog:
    """The catalogue that a data config describes.

    Raises:
        LapelError: the data is missing, truncated or not what it should be; the message names the file.
    """
    match config:
        case FashionMnistConfig():
            return fashion_mnist.load(config)
        case WardrobeConfig():
            return wardrobe.load(config)
        case _:
            raise TypeError(f"no data source for {type(config).__name__}")
