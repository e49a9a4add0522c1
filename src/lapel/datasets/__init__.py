"""Data sources: each module turns one into a Catalog."""

from lapel.catalog import Catalog
from lapel.config import (
    Consumer2shopConfig,
    DataConfig,
    DeepFashionCategoryConfig,
    FashionMnistConfig,
    FashionProductConfig,
    FolderConfig,
    InshopConfig,
    TableConfig,
    WardrobeConfig,
)
from lapel.datasets import fashion_mnist, fashion_product, folder, table, wardrobe
from lapel.datasets.deepfashion import category, consumer2shop, inshop


def load(config: DataConfig) -> Catalog:
    """The catalogue of a data source.

    Raises:
        LapelError: the data cannot be had, or is not what it should be.
    """
    match config:
        case FashionMnistConfig():
            return fashion_mnist.load(config)
        case WardrobeConfig():
            return wardrobe.load(config)
        case FashionProductConfig():
            return fashion_product.load(config)
        case InshopConfig():
            return inshop.load(config)
        case DeepFashionCategoryConfig():
            return category.load(config)
        case Consumer2shopConfig():
            return consumer2shop.load(config)
        case TableConfig():
            return table.load(config)
        case FolderConfig():
            return folder.load(config)
        case _:
            raise TypeError(f"no data source for {type(config).__name__}")
