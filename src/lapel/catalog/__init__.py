"""The catalogue: one table, one row an image; what a model has seen of it, and images known again by their pixels."""

from lapel.catalog.catalog import (
    ROLES,
    SAME_PIXELS,
    SEVERAL_ITEMS,
    SEVERAL_SPLITS,
    SPLITS,
    TRAINED_ON,
    Catalog,
    Dropped,
    linked,
    stratified,
)

__all__ = [
    "ROLES",
    "SAME_PIXELS",
    "SEVERAL_ITEMS",
    "SEVERAL_SPLITS",
    "SPLITS",
    "TRAINED_ON",
    "Catalog",
    "Dropped",
    "linked",
    "stratified",
]
