"""A contact sheet of what was searched with and of what was found: one picture, or one page that needs nothing else."""

from dataclasses import dataclass
from importlib import resources

import numpy as np
from jinja2 import Environment, StrictUndefined
from PIL import Image, ImageDraw, ImageOps

from lapel.pictures.addresses import small_address
from lapel.pictures.letters import LINE, shortened, text_width, write

# Sides of a picture, in pixels: on the sheet, and in the page, which a browser may enlarge.
SIDE, PAGE_SIDE = 180, 360
QUALITY = 85

# Pictures in a line of the sheet, and the room around them.
COLUMNS, GAP = 5, 12

# Stands where a picture is not to be had.
NOTHING = "no picture"

PAPER, INK, SOFT, FRAME = (255, 255, 255), (28, 32, 36), (87, 97, 108), (223, 227, 232)


@dataclass(frozen=True)
class Find:
    """A picture with what is said of it.

    Args:
        pixels: uint8 `[height, width(, 3)]`; None where the picture is not to be had.
        lines: under it: the first is its name, or its rank and score.
    """

    pixels: np.ndarray | None
    lines: list[str]


@dataclass(frozen=True)
class Finds:
    """What a sheet shows.

    Args:
        heading: what was searched with, and in what, line by line.
        query: what was searched with.
        found: best first.
    """

    heading: list[str]
    query: Find
    found: list[Find]


def as_sheet(finds: Finds) -> Image.Image:
    """One picture: what was searched with, and below it what was found, five a line."""
    lines = max(len(each.lines) for each in [finds.query, *finds.found])
    cell = SIDE + lines * LINE + GAP
    rows = -(-len(finds.found) // COLUMNS)
    top = GAP + len(finds.heading) * LINE + GAP
    sheet = Image.new("RGB", (GAP + COLUMNS * (SIDE + GAP), top + (1 + rows) * cell + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, text in enumerate(finds.heading):
        write(pen, GAP, GAP + number * LINE, shortened(text, sheet.width - 2 * GAP), INK)
    _paste(sheet, pen, finds.query, GAP, top)
    for number, each in enumerate(finds.found):
        row, column = divmod(number, COLUMNS)
        _paste(sheet, pen, each, GAP + column * (SIDE + GAP), top + (row + 1) * cell)
    return sheet


def _paste(sheet: Image.Image, pen: ImageDraw.ImageDraw, find: Find, left: int, top: int) -> None:
    pen.rectangle((left - 1, top - 1, left + SIDE, top + SIDE), outline=FRAME)
    if find.pixels is None:
        write(pen, left + (SIDE - text_width(NOTHING)) / 2, top + (SIDE - LINE) / 2, NOTHING, SOFT)
    else:
        picture = ImageOps.contain(_picture(find.pixels), (SIDE, SIDE), Image.Resampling.LANCZOS)
        sheet.paste(picture, (left + (SIDE - picture.width) // 2, top + (SIDE - picture.height) // 2))
    for number, text in enumerate(find.lines):
        write(pen, left, top + SIDE + 3 + number * LINE, shortened(text, SIDE), INK if number == 0 else SOFT)


def as_page(finds: Finds) -> str:
    """One HTML page with the pictures in it, for light and dark screens, that asks for no other file."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["address"] = lambda pixels: small_address(_picture(pixels), PAGE_SIDE, QUALITY)
    template = resources.files("lapel.pictures").joinpath("finds.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(finds=finds, nothing=NOTHING)


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
