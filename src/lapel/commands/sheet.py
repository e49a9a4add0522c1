"""The pictures of a search: the rows of a bundle say which images they are, the data set has them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from lapel import datasets
from lapel.bundle import Bundle
from lapel.catalog import Catalog
from lapel.config.composing import from_plain
from lapel.config.search import SearchConfig
from lapel.errors import LapelError
from lapel.files.paths import user_path
from lapel.photos.decoding import open_photo
from lapel.pictures.finds import Find, Finds


def finds_of(found: pd.DataFrame, digits: int, bundle: Bundle, config: SearchConfig, heading: list[str]) -> Finds:
    """What a sheet shows of a search.

    Args:
        found: its result.
        digits: of scores, after the point.
        bundle: that was searched.
        config: of the command.
        heading: what was searched with, line by line.

    Raises:
        LapelError: the data that the model was trained on is not here.
    """
    catalog = _catalog(bundle, config)
    rows = {str(image): row for row, image in enumerate(catalog.table["image"])}
    finds = [
        Find(
            _pixels(catalog, rows.get(str(each["image"]))),
            [f"{each['rank']}: {each['score']:.{digits}f}", *_told(each, bundle)],
        )
        for each in found.to_dict("records")
    ]
    return Finds(heading, _query(catalog, rows, bundle, config), finds)


def _catalog(bundle: Bundle, config: SearchConfig) -> Catalog:
    data = from_plain(bundle.manifest["config"]).data
    try:
        return datasets.load(replace(data, root=config.root) if config.root else data)
    except LapelError as error:
        raise LapelError(f"{error}; root=FOLDER says where the photos of {bundle.folder} are") from error


def _query(catalog: Catalog, rows: dict[str, int], bundle: Bundle, config: SearchConfig) -> Find:
    if config.row is None:
        path = user_path(str(config.image))
        return Find(open_photo(path.read_bytes(), 3), [path.name])
    described = bundle.items.iloc[config.row].to_dict()
    return Find(_pixels(catalog, rows.get(str(described["image"]))), [f"row {config.row}", *_told(described, bundle)])


def _told(described: dict[str, object], bundle: Bundle) -> list[str]:
    """Item, category where that is another, and the file or the number of an image."""
    image = str(described["image"])
    name = Path(image).name if bundle.items["image"].dtype == object else f"image {image}"
    return list(dict.fromkeys([str(described["item"]), str(described["category"]), name]))


def _pixels(catalog: Catalog, row: int | None) -> np.ndarray | None:
    """uint8 `[height, width(, 3)]` of a catalogue row, as the file has it; None where it is gone, or cannot be read."""
    if row is None:
        return None
    if catalog.photos is None:
        assert catalog.pixels is not None
        return catalog.pixels[int(catalog.table["image"].iloc[row])]
    try:
        return catalog.photos.photos.whole(int(catalog.photos.positions[row]))
    except LapelError:
        return None
