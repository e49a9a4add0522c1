"""Gets a data set ready: found, checked, decoded; or, where it is not there, what to get and where to put it."""

import importlib
import importlib.util
import logging
from pathlib import Path

from lapel import datasets
from lapel.catalog import SPLITS, Catalog
from lapel.config.catalog import CatalogConfig
from lapel.config.choices import name_of
from lapel.config.data import DataConfig, PhotosConfig, TableConfig
from lapel.datasets.origins import ORIGINS, usual_folders
from lapel.errors import DataNotFoundError, counted
from lapel.files.cache import cache_folder
from lapel.files.paths import user_path

logger = logging.getLogger(__name__)


def prepare(config: CatalogConfig) -> Catalog:
    """The catalogue, its store built.

    Raises:
        DataNotFoundError: the data is not here; `instructions` say what to do.
        LapelError: the data is damaged.
    """
    try:
        return datasets.load(config.data)
    except DataNotFoundError:
        if not _downloaded(name_of(config.data)):
            raise
    return datasets.load(config.data)


def _downloaded(name: str) -> bool:
    """Get a data set with kagglehub, where Kaggle has it and that is installed, and link it into lapel's cache."""
    handle = ORIGINS[name].kaggle if name in ORIGINS else None
    if handle is None or importlib.util.find_spec("kagglehub") is None:
        return False
    kagglehub = importlib.import_module("kagglehub")
    try:
        folder = Path(kagglehub.dataset_download(handle))
    except Exception as error:  # it lets through whatever its requests meet
        logger.warning("kagglehub could not get %s: %s", handle, " ".join(str(error).split())[:300])
        return False
    link = cache_folder() / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder)
    return True


def instructions(name: str) -> str:
    """What to get, from where, under which licence, and where to put it; empty for what lapel fetches itself."""
    origin = ORIGINS.get(name)
    if origin is None:
        return ""
    here, cache = usual_folders(name)
    lines = [
        f"{origin.title} is not here.",
        *(f"  {'get:' if number == 0 else '':10}{each}" for number, each in enumerate(origin.files)),
        f"  from:     {origin.address}",
        f"  licence:  {origin.licence}",
        f"  put it:   into {here}/ (or {cache}/, or anywhere, with data.root=FOLDER);",
        "            zip archives may stay packed: they are read where they lie",
        f"  then:     lapel-data prepare data={name}",
    ]
    if origin.kaggle:
        lines.append("  or:       pip install kagglehub, and the same command gets it from Kaggle")
    return "\n".join(lines)


def report(catalog: Catalog) -> str:
    """What is ready, in a few lines."""
    lines = [f"{catalog.name}: {counted(len(catalog), 'image')}, {counted(len(catalog.item_names), 'item')}"]
    lines += [f"  left out: {len(dropped.names):,} ({dropped.reason})" for dropped in catalog.dropped]
    for split in SPLITS:
        if split in set(catalog.table["split"]):
            lines.append(
                f"  {split}: {counted(len(catalog.rows(split)), 'image')}, hash {catalog.split_hash(split)[:16]}"
            )
    if catalog.photos is not None:
        lines.append(f"  decoded photos: {catalog.photos.photos.become}, in {catalog.photos.built.folder}")
    if catalog.split_file is not None:
        lines.append(f"  split: {catalog.split_file}")
    return "\n".join(lines)


def watched(config: DataConfig) -> list[Path]:
    """Files and folders that the catalogue of photos depends on; none where it is not made of photos."""
    if not isinstance(config, PhotosConfig):
        return []
    table = [user_path(config.table)] if isinstance(config, TableConfig) and config.table else []
    if config.root is not None:
        return [user_path(config.root), *table]
    return [table[0].parent, *table] if table else usual_folders(name_of(config))


def made(catalog: Catalog) -> list[Path]:
    """What lies in lapel's cache: decoded photos, and the split."""
    store = [catalog.photos.built.folder] if catalog.photos is not None else []
    return store if catalog.split_file is None else [*store, catalog.split_file]
