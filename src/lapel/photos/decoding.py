"""Photos to pixels: decoded upright, cut to a box, in the encoder's channels, fitted to its size. Needs no torch."""

import hashlib
import io
import os
import re
import warnings
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image, ImageCms, PngImagePlugin, UnidentifiedImageError

from lapel.config.data import Resize
from lapel.errors import LapelError
from lapel.files.paths import user_path
from lapel.photos.formats import install_hint, know_heic

# Pixels of the largest photo that is decoded: a small file can unpack to gigabytes.
MOST_PIXELS = 89_000_000

JPEG_MARK = b"\xff\xd8\xff"

# EXIF's tag of how a photo was held, and what turns it upright (EXIF 2.32, 4.6.4).
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip

# Characters shown of what a decoder says.
LONGEST_REASON = 200

# First brands of HEIC files (ISO/IEC 23008-12, annex B).
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}

# A photo's own texts, as a program's notes on how it was made, may be long; Pillow refuses a photo for them.
PngImagePlugin.MAX_TEXT_CHUNK = 2**26
PngImagePlugin.MAX_TEXT_MEMORY = 2**28

# What a JPEG holds that may be turned, in EXIF or XMP. To read it takes a tenth of the time of decoding a small photo.
ORIENTATION_MARKS = (b"Exif\0", b"Orientation")

Box = tuple[int, int, int, int]


def decode(source: Any, channels: int) -> np.ndarray:
    """A photo as uint8 `[channels, height, width]`: upright (EXIF), without alpha (on white), grey or RGB.

    Args:
        source: image file, a file's content as bytes, an open binary file, Pillow image, or uint8 array
            `[height, width]` or `[height, width, 3]`.
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
        return channels_first(_decode_picture(source, channels))
    if isinstance(source, bytes | bytearray | memoryview) or hasattr(source, "read"):
        return channels_first(_decode_content(source, channels))
    if not isinstance(source, str | os.PathLike):
        raise LapelError(
            f"{type(source).__name__} is no image: allowed are a file, its content as bytes, a Pillow image and a "
            "uint8 array"
        )
    return channels_first(_decode_file(os.fspath(source), channels))


def _decode_picture(image: Image.Image, channels: int) -> np.ndarray:
    if not image.width * image.height:
        raise LapelError(f"image of {image.width}x{image.height} pixels: there are none")
    try:
        return _picture(_upright(image), channels)
    except Exception as error:  # a file that is read only now may be damaged in any way
        raise LapelError(f"image of mode {image.mode}: cannot be converted ({_reason(error)})") from error


def _decode_file(name: Any, channels: int) -> np.ndarray:
    if not isinstance(name, str) or "\0" in name:
        raise LapelError(f"{name!r}: no file can have such a name")
    path = user_path(name)
    if path.is_dir():
        raise LapelError(f"{path}: not a readable image (it is a folder)")
    try:
        return open_photo(path.read_bytes(), channels)
    except FileNotFoundError:
        raise LapelError(f"{path}: no such file") from None
    except (OSError, LapelError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise LapelError(f"{path}: not a readable image ({reason})") from None


def _decode_content(source: Any, channels: int) -> np.ndarray:
    """uint8 `[height, width(, 3)]` of a file's content, or of what an open file still holds."""
    name = f"{getattr(source, 'name', 'bytes')}" if hasattr(source, "read") else f"bytes ({len(source):,})"
    content = source.read() if hasattr(source, "read") else bytes(source)
    if not isinstance(content, bytes):
        raise LapelError(f"{name}: gives text; open it in binary mode")
    try:
        return open_photo(content, channels)
    except LapelError as error:
        raise LapelError(f"{name}: not a readable image ({error})") from None


def open_photo(content: bytes, channels: int) -> np.ndarray:
    """A file's content as uint8 `[height, width]` (1 channel) or `[height, width, 3]`, as a viewer shows it.

    Raises:
        LapelError: it is no image, damaged, or too large; says why.
    """
    picture = _plain_jpeg(content)
    if picture is not None:
        return picture if picture.ndim == (2 if channels == 1 else 3) else _picture(Image.fromarray(picture), channels)
    try:
        return _opened(content, channels)
    except LapelError:
        raise
    except UnidentifiedImageError:
        raise LapelError(_unidentified(content)) from None
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        raise LapelError(_too_large(f"{int(pixels[0]):,} pixels" if pixels else "too many pixels")) from None
    except Exception as error:  # of a damaged file a decoder may say anything
        raise LapelError(_reason(error)) from error


def _opened(content: bytes, channels: int) -> np.ndarray:
    know_heic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large photos, told below as an error, and of odd EXIF
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise LapelError(_too_large(f"{image.width}x{image.height} pixels"))
            image.load()
            if image.format == "PNG":
                _scale_transparency(image, depth=content[24])
            if image.format == "PPM" and image.mode == "I":  # whatever its depth, Pillow scales it to 16 bits
                return _picture(image.convert("I;16"), channels)
            upright = image.format == "JPEG" and not any(mark in content for mark in ORIENTATION_MARKS)
            return _picture(image if upright else _upright(image), channels)


def _unidentified(content: bytes) -> str:
    """Why there is no program for a file's content."""
    if not content:
        return "an empty file"
    is_heic = content[4:8] == b"ftyp" and content[8:12] in HEIC_BRANDS
    if is_heic:
        return "a damaged HEIC file" if know_heic() else f"HEIC{install_hint('.heic')}"
    return "of no format that Pillow knows"


def _reason(error: Exception) -> str:
    """What an exception says, in one line."""
    return " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__


def _upright(image: Image.Image) -> Image.Image:
    """An image turned as its EXIF says; what else stands there may be damaged, and is not looked at."""
    try:
        turn = TURNS.get(int(image.getexif().get(ORIENTATION, 1)))
    except Exception:  # what is not readable says nothing
        return image
    return image if turn is None else image.transpose(turn)


def _scale_transparency(image: Image.Image, depth: int) -> None:
    """Have the transparent colour of a PNG in the pixels' 8 bits: Pillow leaves it in the file's depth."""
    colour = image.info.get("transparency")
    if image.mode == "L" and depth < 8 and isinstance(colour, int):
        image.info["transparency"] = colour * 255 // (2**depth - 1)
    elif image.mode == "RGB" and depth == 16 and isinstance(colour, tuple):
        image.info["transparency"] = tuple(each >> 8 for each in colour)


def _plain_jpeg(content: bytes) -> np.ndarray | None:
    """A whole, upright JPEG in grey, `[height, width]`, or colour; None for everything else, which is left to Pillow.

    The same pixels as Pillow's (both are libjpeg-turbo), in a quarter of the time where the photo is small.
    """
    if not content.startswith(JPEG_MARK) or any(mark in content for mark in ORIENTATION_MARKS):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if int(height) * int(width) > MOST_PIXELS or colours not in ("Gray", "YCbCr"):
            return None
        decoded = simplejpeg.decode_jpeg(content, "RGB" if colours == "YCbCr" else "GRAY")
        return decoded if colours == "YCbCr" else decoded[..., 0]
    except ValueError:  # damaged, or of a kind that it does not know
        return None


def _too_large(what: str) -> str:
    return f"{what}; at most {MOST_PIXELS:,} pixels are decoded"


def _picture(image: Image.Image, channels: int) -> np.ndarray:
    """uint8 `[height, width(, 3)]` of an upright image, transparent parts white."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode and "transparency" not in image.info:
        return np.array(image)  # a copy: torch warns of read-only arrays
    if image.mode in ("I", "F"):  # of what range nobody says
        raise LapelError("has 32 bits a pixel; save it with 8 or 16")
    if image.mode.startswith("I;16"):
        image = _of_16_bits(image)
    elif image.mode == "LAB":
        profiles = (ImageCms.createProfile(space) for space in ("LAB", "sRGB"))
        image = ImageCms.profileToProfile(image, *profiles, outputMode="RGB") or image
    elif image.mode in ("HSV", "YCbCr"):  # which Pillow does not turn into grey
        image = image.convert("RGB")
    elif image.mode in ("La", "RGBa"):  # whose colours are multiplied by their alpha
        image = image.convert(image.mode.upper())
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert(mode))


def _of_16_bits(image: Image.Image) -> Image.Image:
    """16-bit grey in 8 bits, of which Pillow's own conversion would clip at 255; what is transparent is white."""
    values = np.asarray(image).astype(np.int64)
    grey = (values >> 8).clip(0, 255).astype(np.uint8)
    if (colour := image.info.get("transparency")) is not None:
        grey[values == colour] = 255
    return Image.fromarray(grey)


def to_grey(picture: np.ndarray) -> np.ndarray:
    """uint8 `[height, width]` of `[height, width, 3]`, as Pillow's mode L: ITU-R 601 luma."""
    return np.array(Image.fromarray(picture).convert("L"))


def channels_first(picture: np.ndarray) -> np.ndarray:
    """uint8 `[height, width(, 3)]` as `[channels, height, width]`."""
    return picture[None] if picture.ndim == 2 else np.ascontiguousarray(picture.transpose(2, 0, 1))


def fingerprint(picture: np.ndarray) -> bytes:
    """16 bytes, equal for equal uint8 `[height, width, 3]`. It tells images apart; it is no protection."""
    digest = hashlib.sha1(repr(picture.shape).encode(), usedforsecurity=False)
    digest.update(np.ascontiguousarray(picture).data)
    return digest.digest()[:16]


def fit(picture: np.ndarray, height: int, width: int, resize: Resize, box: Box | None = None) -> np.ndarray:
    """The box of an image (all of it by default), resized with Pillow's bilinear filter as `Preprocess` does.

    Args:
        picture: uint8 `[height, width(, 3)]`.
        height, width: of the result.
        resize: stretched, or fitted and padded with the border's mean colour.
        box: left, top, right, bottom in pixels of the image; what lies outside it is ignored.

    Raises:
        LapelError: the box holds no pixel of the image.
    """
    if box is not None:
        picture = cut(picture, box)
    if picture.shape[:2] == (height, width):
        return picture
    if resize is Resize.squash:
        return _resized(picture, height, width)
    scale = min(height / picture.shape[0], width / picture.shape[1])
    inner = [max(1, int(side * scale + 0.5)) for side in picture.shape[:2]]
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    canvas = np.empty((height, width, *picture.shape[2:]), np.uint8)
    canvas[:] = _border_colour(picture)
    canvas[top : top + inner[0], left : left + inner[1]] = _resized(picture, *inner)
    return canvas


def _resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def cut(picture: np.ndarray, box: Box) -> np.ndarray:
    """The box of an image: left, top, right, bottom in its pixels; what lies outside the image is left out.

    Raises:
        LapelError: the box holds no pixel of the image.
    """
    height, width = picture.shape[:2]
    left, top, right, bottom = max(0, box[0]), max(0, box[1]), min(width, box[2]), min(height, box[3])
    if left >= right or top >= bottom:
        raise LapelError(f"its box {list(box)} holds none of its {width}x{height} pixels")
    return picture[top:bottom, left:right]


def _border_colour(picture: np.ndarray) -> np.ndarray:
    """uint8, of each channel: the mean of the outermost pixels."""
    edges = [picture[0], picture[-1], picture[:, 0], picture[:, -1]]
    return np.concatenate(edges).astype(np.float32).mean(axis=0).round().astype(np.uint8)
