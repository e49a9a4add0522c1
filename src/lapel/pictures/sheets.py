"""Pictures for people: queries beside what was found for them."""

import math

import numpy as np
from PIL import Image, ImageDraw

from lapel.pictures.letters import shortened, text_width, write

RIGHT = (46, 160, 67)
WRONG = (218, 54, 51)
PAPER = (255, 255, 255)
INK = (40, 40, 40)

# Shown side of one image and width of its frame and of the gaps, in pixels.
SIDE = 72
FRAME = 4
GAP = 6

# Width of a caption, at most: it makes no sheet wider than a screen or two.
WIDEST = 1200

HEADING = "nearest, best first (green: the same item, red: another one)"


def match_sheet(queries: np.ndarray, found: np.ndarray, right: np.ndarray, captions: list[str]) -> Image.Image:
    """One line a query: the query, then what was found, best first, matches framed in green and the others in red.

    Args:
        queries: uint8 `[lines, channels, height, width]`.
        found: uint8 `[lines, k, channels, height, width]`.
        right: bool `[lines, k]`.
        captions: of each line, short.
    """
    lines, k = right.shape
    cell = SIDE + 2 * FRAME
    left = 2 * GAP + cell
    heading = 20
    height = heading + lines * (cell + 18 + GAP)
    beside = max(k * (cell + GAP), math.ceil(text_width(HEADING)) + GAP)
    sheet = Image.new("RGB", (left + GAP * 2 + beside, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    write(pen, GAP, 4, "query", INK)
    write(pen, left + GAP, 4, HEADING, INK)
    for line in range(lines):
        top = heading + line * (cell + 18 + GAP)
        sheet.paste(framed(queries[line], INK), (GAP, top))
        write(pen, GAP, top + cell + 1, shortened(captions[line], sheet.width - 2 * GAP), INK)
        for rank in range(k):
            colour = RIGHT if right[line, rank] else WRONG
            sheet.paste(framed(found[line, rank], colour), (left + GAP + rank * (cell + GAP), top))
    return sheet


def framed(pixels: np.ndarray, colour: tuple[int, int, int]) -> Image.Image:
    """uint8 `[channels, height, width]` as a square picture with a coloured frame."""
    picture = as_picture(pixels)
    scale = SIDE / max(picture.size)
    shape = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    whole = Image.new("RGB", (SIDE + 2 * FRAME, SIDE + 2 * FRAME), colour)
    inside = Image.new("RGB", (SIDE, SIDE), PAPER)
    inside.paste(picture.resize(shape, Image.Resampling.BICUBIC), ((SIDE - shape[0]) // 2, (SIDE - shape[1]) // 2))
    whole.paste(inside, (FRAME, FRAME))
    return whole


def contact_sheet(lines: list[tuple[str, list[np.ndarray]]]) -> Image.Image:
    """Lines of pictures, each under its caption.

    Args:
        lines: caption, and uint8 `[channels, height, width]` of each picture, which may differ in shape.
    """
    lines = [(shortened(text, WIDEST), pictures) for text, pictures in lines]
    columns = max(len(pictures) for _, pictures in lines)
    cell, caption = SIDE + GAP, 18
    widest = math.ceil(max(text_width(text) for text, _ in lines)) + GAP
    shape = (GAP + max(columns * cell, widest), GAP + len(lines) * (cell + caption))
    sheet = Image.new("RGB", shape, PAPER)
    pen = ImageDraw.Draw(sheet)
    for line, (text, pictures) in enumerate(lines):
        top = GAP + line * (cell + caption)
        write(pen, GAP, top, text, INK)
        for number, pixels in enumerate(pictures):
            picture = as_picture(pixels)
            scale = SIDE / max(picture.size)
            shape = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            sheet.paste(picture.resize(shape, Image.Resampling.BICUBIC), (GAP + number * cell, top + caption))
    return sheet


def as_picture(pixels: np.ndarray) -> Image.Image:
    """A colour picture of uint8 `[1 or 3, height, width]`."""
    grey = pixels.shape[0] == 1
    return Image.fromarray(pixels[0] if grey else np.ascontiguousarray(pixels.transpose(1, 2, 0))).convert("RGB")
