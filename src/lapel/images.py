"""Pixels: photos decoded, preprocessed the one way that training, evaluation and the exported encoder share, kept as a
uint8 store on the device, and changed at random as whole batches."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor, nn

from lapel.catalog import Catalog
from lapel.config import AugmentConfig, DataConfig, Invert, Resize
from lapel.errors import LapelError
from lapel.runs import user_path

# Names of the independent streams of random numbers: each draw is a function of (seed, stream, step, position).
AUGMENT_STREAM = 1

# The frame of a photo counts as white paper from this mean grey level on.
WHITE_LEVEL = 200.0

# Images preprocessed at once while a store is built: bounds the memory that resizing needs.
STORE_CHUNK = 1024


def decode(source: str | Path | Image.Image | np.ndarray, channels: int) -> np.ndarray:
    """A photo as uint8 `[channels, height, width]`: upright (EXIF), without alpha (on white), grey or RGB.

    Args:
        source: image file, Pillow image, or uint8 array `[height, width]` or `[height, width, 3]`.
        channels: 1 or 3.

    Raises:
        LapelError: the file is missing, is no image, or is too large to be decoded.
    """
    if isinstance(source, np.ndarray):
        fits = source.ndim == 2 or (source.ndim == 3 and source.shape[2] == 3)
        if source.dtype != np.uint8 or not fits or source.size == 0:
            raise LapelError(f"image array is {source.dtype} {list(source.shape)}, must be uint8 [height, width(, 3)]")
        source = Image.fromarray(source)
    if isinstance(source, Image.Image):
        try:
            return _pixels(source, channels)
        except ValueError as error:
            raise LapelError(f"image of mode {source.mode}: cannot be converted ({error})") from error
    if not isinstance(source, str | Path):
        raise LapelError(f"{type(source).__name__} is no image: allowed are a file, a Pillow image and a uint8 array")
    path = user_path(source)
    try:
        with Image.open(path) as image:
            return _pixels(image, channels)
    except FileNotFoundError:
        raise LapelError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise LapelError(f"{path}: not a readable image (it is a folder)") from None
    except UnidentifiedImageError:
        raise LapelError(f"{path}: not a readable image (of no format that Pillow knows)") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise LapelError(f"{path}: not a readable image ({' '.join(str(error).split())})") from error


def _pixels(image: Image.Image, channels: int) -> np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # 16-bit grey: Pillow's own conversion would clip at 255
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = np.array(image.convert("L" if channels == 1 else "RGB"))  # a copy: torch warns of read-only arrays
    return np.ascontiguousarray(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1))


class Preprocess(nn.Module):
    """uint8 images of any size and 1 or 3 channels to what the trunk wants. Scriptable.

    Grey from RGB is Pillow's `L` (ITU-R 601 luma, the same integers). Resizing is done in uint8, bilinear with
    antialias, on the CPU: there torch has uint8 kernels, which agree with Pillow's, on noise to one level.

    Args:
        size, channels, resize: as in `DataConfig`.
        mean, std: of each channel, in units of 0 to 1.
        invert: as in `ExportOptions`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        size: int,
        channels: int,
        resize: Resize,
        mean: list[float],
        std: list[float],
        invert: Invert = Invert.never,
    ) -> None:
        super().__init__()
        self.size = size
        self.channels = channels
        self.pad = resize is Resize.pad
        self.invert_always = invert is Invert.always
        self.invert_white = invert is Invert.white_background
        self.white_level = WHITE_LEVEL
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 `[batch, 1 or 3, height, width]` to float32 `[batch, channels, size, size]`, standardised."""
        return self.standardise(self.fit(images))

    def standardise(self, images: Tensor) -> Tensor:
        """uint8 to float32 with the trunk's mean and standard deviation."""
        return (images.float() - self.mean) / self.std

    def fit(self, images: Tensor) -> Tensor:
        """uint8 of any size and channels to uint8 `[batch, channels, size, size]`."""
        images = self.convert(images)
        if images.shape[2] != self.size or images.shape[3] != self.size:
            device = images.device
            images = self.resize(images.cpu()).to(device)
        return images

    def convert(self, images: Tensor) -> Tensor:
        """The encoder's channels, and a negative where asked for."""
        if images.dtype != torch.uint8:
            raise ValueError("images must be uint8")
        if images.dim() != 4 or (images.shape[1] != 1 and images.shape[1] != 3):
            raise ValueError("images must be [batch, 1 or 3, height, width]")
        if images.shape[1] == 3 and self.channels == 1:
            wide = images.int()
            luma = wide[:, 0] * 19595 + wide[:, 1] * 38470 + wide[:, 2] * 7471 + 32768
            images = (luma // 65536).to(torch.uint8).unsqueeze(1)
        elif images.shape[1] == 1 and self.channels == 3:
            images = images.expand(-1, 3, -1, -1)
        if self.invert_always:
            images = 255 - images
        elif self.invert_white:
            white = self.frame(images).mean(dim=(1, 2)) >= self.white_level
            images = torch.where(white.view(-1, 1, 1, 1), 255 - images, images)
        return images

    def frame(self, images: Tensor) -> Tensor:
        """float32 `[batch, channels, pixels]`: the outermost pixels of each image."""
        edges = [images[:, :, 0, :], images[:, :, -1, :], images[:, :, :, 0], images[:, :, :, -1]]
        return torch.cat(edges, dim=2).float()

    def resize(self, images: Tensor) -> Tensor:
        """uint8 to uint8 `[batch, channels, size, size]`, stretched or fitted into the frame's mean colour."""
        if not self.pad:
            return F.interpolate(images, [self.size, self.size], mode="bilinear", antialias=True)
        longest = max(images.shape[2], images.shape[3])
        height = max(1, int(images.shape[2] * self.size / longest + 0.5))
        width = max(1, int(images.shape[3] * self.size / longest + 0.5))
        colour = self.frame(images).mean(dim=2).round().to(torch.uint8)
        canvas = colour.view(-1, self.channels, 1, 1).repeat(1, 1, self.size, self.size)
        top, left = (self.size - height) // 2, (self.size - width) // 2
        canvas[:, :, top : top + height, left : left + width] = F.interpolate(
            images, [height, width], mode="bilinear", antialias=True
        )
        return canvas


class ImageStore:
    """Every image of a catalogue as uint8 `[rows, channels, size, size]` on one device: a batch is one gather."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels

    @classmethod
    def build(cls, catalog: Catalog, config: DataConfig, device: torch.device | str = "cpu") -> "ImageStore":
        """Decode, convert and resize the catalogue's images once, then move them to the device."""
        preprocess = Preprocess(config.size, config.channels, config.resize, mean=[0.0], std=[1.0])
        if catalog.pixels is None:
            raise LapelError(f"catalogue {catalog.name}: holds no pixels")
        numbers = catalog.table["image"].to_numpy(copy=True)
        source = torch.from_numpy(np.ascontiguousarray(catalog.pixels))
        source = source.unsqueeze(1) if source.dim() == 3 else source.permute(0, 3, 1, 2)
        pixels = torch.empty(len(numbers), config.channels, config.size, config.size, dtype=torch.uint8)
        for start in range(0, len(numbers), STORE_CHUNK):
            chunk = source[torch.from_numpy(numbers[start : start + STORE_CHUNK])]
            pixels[start : start + STORE_CHUNK] = preprocess.fit(chunk)
        return cls(pixels.to(device))

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def device(self) -> torch.device:
        return self.pixels.device

    def gather(self, rows: np.ndarray | Tensor) -> Tensor:
        """uint8 `[len(rows), channels, size, size]` of the given rows."""
        return self.pixels[torch.as_tensor(rows, device=self.pixels.device)]


class Augmentation:
    """Random mirror, shift and erased square, with its own draw for each image, as whole-batch operations.

    Args:
        config: which changes, and how strong.
        seed: of the run. A draw depends on (seed, step, position in the global batch) alone, so that training is the
            same on any number of processes and after a resume.
    """

    def __init__(self, config: AugmentConfig, seed: int) -> None:
        self.config = config
        self.seed = seed

    def __call__(self, images: Tensor, step: int, start: int, total: int) -> Tensor:
        """Changed copies of uint8 `[batch, channels, size, size]`.

        Args:
            images: positions `start` to `start + batch` of the global batch.
            step: optimizer step.
            start: position of the first image in the global batch.
            total: images of the global batch.
        """
        draws = np.random.default_rng([self.seed, AUGMENT_STREAM, step]).random((total, 5), dtype=np.float32)
        mine = torch.from_numpy(draws[start : start + len(images)]).to(images.device)
        images = self._mirror_and_shift(images, mine[:, 0:1], mine[:, 1:3])
        return self._erase(images, mine[:, 3:5]) if self.config.erase else images

    def _mirror_and_shift(self, images: Tensor, flip: Tensor, shift: Tensor) -> Tensor:
        """One gather of pixels from a zero-padded copy: rows are shifted, columns shifted and perhaps reversed."""
        reach, (height, width) = self.config.shift, images.shape[2:]
        if reach == 0 and self.config.flip == 0:
            return images
        offsets = (shift * (2 * reach + 1)).long()
        ys = offsets[:, 0:1] + torch.arange(height, device=images.device)
        xs = offsets[:, 1:2] + torch.arange(width, device=images.device)
        xs = torch.where(flip < self.config.flip, xs.flip(1), xs)
        padded = F.pad(images, (reach, reach, reach, reach))
        flat = (ys * padded.shape[3])[:, :, None] + xs[:, None, :]
        flat = flat.view(len(images), 1, -1).expand(-1, images.shape[1], -1)
        return padded.flatten(2).gather(2, flat).view_as(images)

    def _erase(self, images: Tensor, corner: Tensor) -> Tensor:
        side, (height, width) = self.config.erase, images.shape[2:]
        top = (corner[:, 0:1] * (height - side + 1)).long()
        left = (corner[:, 1:2] * (width - side + 1)).long()
        ys = torch.arange(height, device=images.device)
        xs = torch.arange(width, device=images.device)
        rows = (ys >= top) & (ys < top + side)
        columns = (xs >= left) & (xs < left + side)
        return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def as_batch(images: Any, channels: int) -> list[Tensor]:
    """Anything that shows images as a list of uint8 tensors `[1, 1 or 3, height, width]`.

    Args:
        images: one of, or a list of: image file, Pillow image, uint8 array `[height, width(, 3)]`; or a uint8 tensor
            `[batch, channels, height, width]`.
        channels: 1 or 3, for what has to be decoded.
    """
    if isinstance(images, Tensor):
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3) or not images.numel():
            shown = f"{images.dtype} {list(images.shape)}".removeprefix("torch.")
            raise LapelError(f"images are {shown}, must be uint8 [batch, 1 or 3, height, width]")
        return [image[None] for image in images]
    if not isinstance(images, list | tuple):
        images = [images]
    if not images:
        raise LapelError("no images are given")
    return [torch.from_numpy(decode(image, channels))[None] for image in images]
