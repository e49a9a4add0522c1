"""The images of a catalogue, from which a batch is gathered as one uint8 tensor on the device that trains."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lapel.catalog import Catalog
from lapel.config.data import DataConfig, PhotosConfig, Store
from lapel.errors import LapelError
from lapel.images.preprocess import Preprocess
from lapel.machine.cores import available_cores
from lapel.machine.devices import on_device
from lapel.photos.building import Photos, PhotoSource
from lapel.sampling import Batch

# Images preprocessed at once while a store is built: bounds the memory that resizing needs.
STORE_CHUNK = 1024

# store=auto holds images in memory that take at most this share of what is free: of the GPU's, where training needs the
# rest, and of the machine's, where others do.
SHARE_OF_GPU = 0.4
SHARE_OF_MEMORY = 0.25


class ImageStore(ABC):
    """uint8 `[channels, height, width]` of each catalogue row."""

    device: torch.device

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def gather(self, rows: np.ndarray) -> Tensor:
        """uint8 `[len(rows), channels, height, width]` on the store's device."""

    def gather_all(self, chunks: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """`gather` of each chunk, the next ones perhaps made ready meanwhile."""
        return map(self.gather, chunks)

    def loader(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """Goes over batches of a sampler, with images where they are made ready ahead of time."""
        return batches

    def images_of(self, batch: Batch) -> Tensor:
        """This process's images of a batch of `loader`."""
        return self.gather(batch.rows[batch.part])


class HeldStore(ImageStore):
    """All images in the memory of one device.

    Args:
        pixels: uint8 `[rows, channels, height, width]`.
    """

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels
        self.device = pixels.device

    def __len__(self) -> int:
        return len(self.pixels)

    def gather(self, rows: np.ndarray) -> Tensor:
        """See `ImageStore`."""
        return self.pixels[on_device(torch.from_numpy(rows), self.device)]


class MappedStore(ImageStore):
    """Images in a file that is mapped into memory: the system keeps what it has room for, once for all processes.

    Args:
        pixels: uint8 `[photos, channels, height, width]`, mapped.
        positions: int64 `[rows]`, of each row in it.
        device: on which batches are wanted.
    """

    def __init__(self, pixels: np.ndarray, positions: np.ndarray, device: torch.device) -> None:
        self.pixels = torch.from_numpy(pixels)
        self.positions = positions
        self.device = device

    def __len__(self) -> int:
        return len(self.positions)

    def gather(self, rows: np.ndarray) -> Tensor:
        """See `ImageStore`."""
        return on_device(self.pixels[torch.from_numpy(self.positions[rows])], self.device)


class FileStore(ImageStore):
    """Photos decoded by worker processes each time they are needed, some batches ahead.

    Args:
        photos: where they are, and what they become.
        positions: int64 `[rows]`, of each row in them.
        device: on which batches are wanted.
        workers: processes that decode.
    """

    def __init__(self, photos: Photos, positions: np.ndarray, device: torch.device, workers: int) -> None:
        self.decoder = _Decoder(photos, positions)
        self.device = device
        self.workers = workers

    def __len__(self) -> int:
        return len(self.decoder.positions)

    def gather(self, rows: np.ndarray) -> Tensor:
        """See `ImageStore`."""
        return self._arrived(self.decoder[rows])

    def gather_all(self, chunks: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """See `ImageStore`."""
        return map(self._arrived, self._load(list(chunks)))

    def loader(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """See `ImageStore`."""
        return self._load(batches)

    def images_of(self, batch: Batch) -> Tensor:
        """See `ImageStore`."""
        return self._arrived(batch.images)

    def _load(self, wanted: Any) -> DataLoader:
        # A "sampler" of whole batches: each is one request to a worker, and they come back in order.
        return DataLoader(
            self.decoder,
            sampler=wanted,
            batch_size=None,
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
        )

    def _arrived(self, found: Tensor | str) -> Tensor:
        if isinstance(found, str):  # an exception would come back from a worker as its traceback
            raise LapelError(found)
        return found.to(self.device, non_blocking=True)


class _Decoder(Dataset):
    """What a worker does: rows to pixels, or to the message of the first that cannot be read."""

    def __init__(self, photos: Photos, positions: np.ndarray) -> None:
        self.photos = photos
        self.positions = positions

    def __getitem__(self, wanted: Any) -> Any:
        if isinstance(wanted, Batch):
            return replace(wanted, images=self._decode(wanted.rows[wanted.part]))
        return self._decode(wanted)

    def _decode(self, rows: np.ndarray) -> Tensor | str:
        pixels = torch.empty(len(rows), *self.photos.shape[1:], dtype=torch.uint8)
        for number, photo in enumerate(self.positions[rows]):
            try:
                pixels[number] = torch.from_numpy(self.photos.decode(int(photo)))
            except LapelError as error:
                return f"{self.photos.names[photo]}: could be read before, and now not: {error}"
        return pixels


def open_store(catalog: Catalog, config: DataConfig, device: torch.device | str = "cpu") -> ImageStore:
    """The store of a catalogue, as `data.store` says.

    Raises:
        LapelError: the catalogue has no images.
    """
    device = torch.device(device)
    if catalog.photos is not None and isinstance(config, PhotosConfig):
        return _open_photos(catalog.photos, config, device)
    if catalog.pixels is None:
        raise LapelError(f"catalogue {catalog.name}: holds no pixels")
    return HeldStore(_preprocessed(catalog.pixels, catalog.table["image"].to_numpy(copy=True), config).to(device))


def _preprocessed(source: np.ndarray, numbers: np.ndarray, config: DataConfig) -> Tensor:
    """Rows of an array of images, converted and resized."""
    preprocess = Preprocess(config.height, config.width, config.channels, config.resize, mean=[0.0], std=[1.0])
    images = torch.from_numpy(np.ascontiguousarray(source))
    images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2)
    pixels = torch.empty(len(numbers), config.channels, config.height, config.width, dtype=torch.uint8)
    for start in range(0, len(numbers), STORE_CHUNK):
        chunk = images[torch.from_numpy(numbers[start : start + STORE_CHUNK])]
        pixels[start : start + STORE_CHUNK] = preprocess.fit(chunk)
    return pixels


def _open_photos(source: PhotoSource, config: PhotosConfig, device: torch.device) -> ImageStore:
    if config.store is Store.files:
        return FileStore(source.photos, source.positions, device, config.workers or available_cores())
    pixels = source.built.pixels()
    if config.store is Store.mmap or (config.store is Store.auto and not _fits(pixels.nbytes, device)):
        return MappedStore(pixels, source.positions, device)
    return HeldStore(torch.from_numpy(pixels[source.positions]).to(device))


def _fits(size: int, device: torch.device) -> bool:
    """Whether so many bytes can be held in a device's memory beside everything else."""
    if device.type == "cuda":
        return size <= SHARE_OF_GPU * torch.cuda.mem_get_info(device)[0]
    return size <= SHARE_OF_MEMORY * _available_memory()


def _available_memory() -> int:
    """Bytes that programs can have without swapping."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
