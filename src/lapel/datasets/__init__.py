"""Data sources: each module turns one into a Catalog."""

from lapel.catalog import Catalog
from lapel.config.choices import build, kind_of
from lapel.config.data import DataConfig


def load(config: DataConfig) -> Catalog:
    """The catalogue of a data source.

    Raises:
        LapelError: the data cannot be had, or is not what it should be.
    """
    return build(kind_of(config), config=config)
