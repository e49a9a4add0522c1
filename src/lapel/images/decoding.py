"""Photos to pixels: decoded upright, cut to a box, in the encoder's channels, fitted to its size. Needs no torch."""

import hashlib
import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lapel.config import Resize
from lapel.errors import LapelError
from lapel.paths import user_path

# Pixels of the largest photo that is decoded: a small file can unpack to gigabytes.
MOST_PIXELS = 89_000_000

# What a JPEG holds that may be turned, in EXIF or XMP. To read it takes a tenth of the time of decoding a small photo.
ORIENTATION_MARKS = (b"Exif\0", b"Orientation")

Box = tuple[int, int, int, int]


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
            return as_array(upright(source, channels))
        except ValueError as error:
            raise LapelError(f"image of mode {source.mode}: cannot be converted ({error})") from error
    if not isinstance(source, str | Path):
        raise LapelError(f"{type(source).__name__} is no image: allowed are a file, a Pillow image and a uint8 array")
    path = user_path(source)
    if path.is_dir():
        raise LapelError(f"{path}: not a readable image (it is a folder)")
    try:
        return as_array(open_photo(path.read_bytes(), channels))
    except FileNotFoundError:
        raise LapelError(f"{path}: no such file") from None
    except (OSError, LapelError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise LapelError(f"{path}: not a readable image ({reason})") from None


def open_photo(content: bytes, channels: int) -> Image.Image:
    """A file's content as a decoded, upright image of mode L (1 channel) or RGB (3).

    Raises:
        LapelError: it is no image, damaged, or too large; says why.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # told below, as an error
            with Image.open(io.BytesIO(content)) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise LapelError(_too_large(f"{image.width}x{image.height} pixels"))
                image.load()
                if image.format != "JPEG" or any(mark in content for mark in ORIENTATION_MARKS):
                    ImageOps.exif_transpose(image, in_place=True)
                return _in_mode(image, channels)
    except UnidentifiedImageError:
        reason = "of no format that Pillow knows" if content else "an empty file"
        raise LapelError(reason) from None
    except Image.DecompressionBombError as error:
        raise LapelError(_too_large(" ".join(str(error).split()).partition(",")[0])) from None
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise LapelError(" ".join(str(error).split()) or type(error).__name__) from error


def _too_large(what: str) -> str:
    return f"{what}; at most {MOST_PIXELS:,} pixels are decoded"


def upright(image: Image.Image, channels: int) -> Image.Image:
    """The image as a viewer shows it, transparent parts white, in mode L (1 channel) or RGB (3)."""
    return _in_mode(ImageOps.exif_transpose(image), channels)


def _in_mode(image: Image.Image, channels: int) -> Image.Image:
    """The image in mode L or RGB; itself, where it is so already."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):  # 16-bit grey: Pillow's own conversion would clip at 255
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def as_array(image: Image.Image) -> np.ndarray:
    """uint8 `[channels, height, width]` of an image of mode L or RGB."""
    pixels = np.array(image)  # a copy: torch warns of read-only arrays
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def fingerprint(pixels: np.ndarray) -> bytes:
    """16 bytes, equal for equal uint8 `[height, width, 3]`. It tells images apart; it is no protection."""
    digest = hashlib.sha1(repr(pixels.shape).encode(), usedforsecurity=False)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()[:16]


def fit(image: Image.Image, height: int, width: int, resize: Resize, box: Box | None = None) -> Image.Image:
    """The box of an image (all of it by default), resized with Pillow's bilinear filter as `Preprocess` does.

    Args:
        image: of mode L or RGB.
        height, width: of the result.
        resize: stretched, or fitted and padded with the border's mean colour.
        box: left, top, right, bottom in pixels of the image; what lies outside it is ignored.

    Raises:
        LapelError: the box holds no pixel of the image.
    """
    if box is not None:
        image = _cut(image, box)
    if image.size == (width, height):
        return image
    if resize is Resize.squash:
        return image.resize((width, height), Image.Resampling.BILINEAR)
    scale = min(height / image.height, width / image.width)
    inner = (max(1, int(image.width * scale + 0.5)), max(1, int(image.height * scale + 0.5)))
    canvas = Image.new(image.mode, (width, height), _border_colour(image))
    canvas.paste(image.resize(inner, Image.Resampling.BILINEAR), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas


def _cut(image: Image.Image, box: Box) -> Image.Image:
    left, top = max(0, box[0]), max(0, box[1])
    right, bottom = min(image.width, box[2]), min(image.height, box[3])
    if left >= right or top >= bottom:
        raise LapelError(f"its box {list(box)} holds none of its {image.width}x{image.height} pixels")
    return image.crop((left, top, right, bottom))


def _border_colour(image: Image.Image) -> int | tuple[int, ...]:
    pixels = as_array(image)
    edges = [pixels[:, 0, :], pixels[:, -1, :], pixels[:, :, 0], pixels[:, :, -1]]
    mean = np.concatenate(edges, axis=1).astype(np.float32).mean(axis=1).round().astype(int).tolist()
    return mean[0] if len(mean) == 1 else tuple(mean)
