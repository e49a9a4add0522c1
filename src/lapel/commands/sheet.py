"""The pictures of a search: the rows of a bundle say which images they are, the data set has them."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from lapel import datasets
from lapel.bundle import Bundle
from lapel.catalog import Catalog
from lapel.config.composing import from_plain
from lapel.config.data import DataConfig, PhotosConfig, TableConfig
from lapel.config.search import SearchConfig
from lapel.errors import LapelError
from lapel.files.paths import RUNS, user_path
from lapel.photos.decoding import open_photo
from lapel.pictures.finds import Find, Finds

logger = logging.getLogger(__name__)


def finds_of(found: pd.DataFrame, digits: int, bundle: Bundle, config: SearchConfig, heading: list[str]) -> Finds:
    """What a sheet shows of a search; where pictures are not to be had, a warning names the option that helps.

    Args:
        found: its result.
        digits: of scores, after the point.
        bundle: that was searched.
        config: of the command.
        heading: what was searched with, line by line.

    Raises:
        LapelError: the data is not in the folder that the command names.
    """
    described = found.to_dict("records")
    images = [each["image"] for each in described]
    if config.row is not None:
        images.append(bundle.items["image"].iloc[config.row])
    pictures = _pictures([str(each) for each in images], bundle, config)
    lacking = sum(pixels is None for pixels in pictures)
    if lacking:
        folder = config.root or _plain_data(bundle).root
        logger.warning(
            "%d of %d pictures cannot be read %s; root=FOLDER names the folder that has them",
            lacking, len(pictures), "where they were" if folder is None else f"in {folder}",
        )  # fmt: skip
    finds = [
        Find(pixels, [f"{each['rank']}: {each['score']:.{digits}f}", *_told(each, bundle)])
        for each, pixels in zip(described, pictures, strict=False)
    ]
    return Finds(heading, _query(pictures[-1], bundle, config), finds)


def _pictures(images: list[str], bundle: Bundle, config: SearchConfig) -> list[np.ndarray | None]:
    """uint8 `[height, width(, 3)]` of each image, as the file has it; None where it is gone, or cannot be read."""
    for data in _whereabouts(bundle, config):
        try:
            catalog = _loaded(data)
        except LapelError as error:
            if config.root is not None:
                raise LapelError(f"root={config.root}: {str(error).removeprefix(f'{data.root}: ')}") from error
            continue
        rows = {str(image): row for row, image in enumerate(catalog.table["image"])}
        if any(image in rows for image in images):
            return [_pixels(catalog, rows.get(image)) for image in images]
    if config.root is not None:
        raise LapelError(f"root={config.root}: has none of the photos that were found, as {images[0]}")
    return [None] * len(images)


def _loaded(data: DataConfig) -> Catalog:
    """The catalogue, without what its source says of it, as of parts that have no image: that was said in training."""
    source = logging.getLogger(datasets.__name__)
    level = source.level
    source.setLevel(logging.ERROR)
    try:
        return datasets.load(data)
    finally:
        source.setLevel(level)


def _whereabouts(bundle: Bundle, config: SearchConfig) -> Iterator[DataConfig]:
    """The data of the model, where it may be now: only where the command says it is, if it does.

    A relative folder is as seen from where training was begun, which nothing has written down: `runs` stands there.
    """
    data = _plain_data(bundle)
    if isinstance(data, PhotosConfig):
        data = replace(data, max_bad=1.0)  # one photo that is left is better than none
    if config.root is not None:
        yield _below(data, user_path(config.root).absolute())
        return
    yield data
    runs = bundle.folder.resolve().parent.parent
    if runs.name == RUNS.name:
        yield _seen_from(runs.parent, data)


def _plain_data(bundle: Bundle) -> DataConfig:
    return from_plain(bundle.manifest["config"]).data


def _below(data: DataConfig, root: Path) -> DataConfig:
    """The data in another folder, and its table with it where that has moved, too."""
    if isinstance(data, TableConfig) and data.table is not None and not user_path(data.table).exists():
        data = replace(data, table=str(root / Path(data.table).name))
    return replace(data, root=str(root))


def _seen_from(folder: Path, data: DataConfig) -> DataConfig:
    """The data where its relative paths are those from a folder."""
    if data.root is not None:
        data = replace(data, root=str(folder / user_path(data.root)))
    if isinstance(data, TableConfig) and data.table is not None:
        data = replace(data, table=str(folder / user_path(data.table)))
    return data


def _query(pixels: np.ndarray | None, bundle: Bundle, config: SearchConfig) -> Find:
    """What was searched with: a row of the bundle, with its picture, or a file."""
    if config.row is None:
        path = user_path(str(config.image))
        return Find(open_photo(path.read_bytes(), 3), [path.name])
    return Find(pixels, [f"row {config.row}", *_told(bundle.items.iloc[config.row].to_dict(), bundle)])


def _told(described: dict[str, object], bundle: Bundle) -> list[str]:
    """Item, category where that is another, and the file or the number of an image."""
    image = str(described["image"])
    name = f"image {image}" if is_numeric_dtype(bundle.items["image"]) else Path(image).name
    return list(dict.fromkeys([str(described["item"]), str(described["category"]), name]))


def _pixels(catalog: Catalog, row: int | None) -> np.ndarray | None:
    """uint8 `[height, width(, 3)]` of a catalogue row."""
    if row is None:
        return None
    if catalog.photos is None:
        assert catalog.pixels is not None
        return catalog.pixels[int(catalog.table["image"].iloc[row])]
    try:
        return catalog.photos.photos.whole(int(catalog.photos.positions[row]))
    except LapelError:
        return None
