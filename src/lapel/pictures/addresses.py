"""Pictures in the text of a page, which then needs no other file: small WebP files as data addresses."""

import base64
import io

from PIL import Image


def address(picture: Image.Image, quality: int) -> str:
    """A picture as a data address.

    Args:
        picture: as large as it is to be.
        quality: WebP's, 0 to 100.
    """
    file = io.BytesIO()
    picture.save(file, format="WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def small_address(picture: Image.Image, side: int, quality: int) -> str:
    """As `address`, no side longer than `side` pixels; a small picture as it is."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return address(small, quality)
