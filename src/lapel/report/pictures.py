"""Pixels as they stand in a page: small WebP files, in text."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from lapel.pictures.addresses import address, small_address
from lapel.pictures.sheets import as_picture

# Longest side of a picture beside a query: sharp on screens that have more pixels than one to a dot.
SHOWN_SIDE = 160
SHOWN_QUALITY = 80

# The map's pictures: longest side, how many a side of a sheet, and the qualities that are tried until all fit.
THUMB_SIDE = 64
SHEET = 16
QUALITIES = (75, 55, 35, 20)


def shown_address(pixels: np.ndarray) -> str:
    """A picture of uint8 `[1 or 3, height, width]` beside a query, as a data address."""
    return small_address(as_picture(pixels), SHOWN_SIDE, SHOWN_QUALITY)


@dataclass(frozen=True)
class Sheets:
    """Many small pictures on few large ones, row after row.

    Args:
        addresses: data address of each sheet.
        columns: pictures in a line, and lines on a sheet.
        pictures: how many there are.
    """

    addresses: list[str]
    columns: int
    pictures: int


def sheets(pixels: np.ndarray, most: int) -> Sheets:
    """As many of the pictures as fit, the first ones, at the best quality at which all do, or at the least.

    The first sheet is there in any case.

    Args:
        pixels: uint8 `[pictures, 1 or 3, height, width]`.
        most: characters that the addresses may take.
    """
    drawn = _drawn(pixels)
    addresses: list[str] = []
    for quality in QUALITIES:
        addresses = [address(sheet, quality) for sheet in drawn]
        if sum(map(len, addresses)) <= most:
            return Sheets(addresses, SHEET, len(pixels))
    fitting = max(1, int(np.searchsorted(np.cumsum([len(each) for each in addresses]), most, side="right")))
    return Sheets(addresses[:fitting], SHEET, min(len(pixels), fitting * SHEET**2))


def thumbnails(parts: Iterable[np.ndarray]) -> np.ndarray:
    """uint8 `[pictures, 1 or 3, height, width]`, no side longer than the map shows.

    Args:
        parts: uint8 `[some, 1 or 3, height, width]` of the pictures.
    """
    return np.concatenate([_shrunk(part) for part in parts])


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    scale = THUMB_SIDE / max(pixels.shape[2:])
    if scale >= 1:
        return pixels
    size = [max(1, round(side * scale)) for side in pixels.shape[2:]]
    return F.interpolate(torch.from_numpy(pixels), size, mode="bilinear", antialias=True).numpy()


def _drawn(pixels: np.ndarray) -> list[Image.Image]:
    height, width = pixels.shape[2:]
    drawn = []
    for start in range(0, len(pixels), SHEET**2):
        sheet = Image.new("RGB", (SHEET * width, SHEET * height), "white")
        for number, each in enumerate(pixels[start : start + SHEET**2]):
            sheet.paste(as_picture(each), (number % SHEET * width, number // SHEET * height))
        drawn.append(sheet)
    return drawn
