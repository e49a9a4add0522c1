"""Text on pictures: names in any script, in fonts that have their letters; what none has is written as Python does."""

import itertools
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lapel.errors import printable

# Height of letters, in pixels, and of a line of them.
SIZE, LINE = 11, 15

# Latin, Greek, Cyrillic, Arabic, Hebrew and more: matplotlib brings it along, and most systems have it.
FONT = "DejaVuSans.ttf"

# In the names of fonts that are not the plain ones of their families, and of those that draw every letter as a box.
NOT_PLAIN = ("bold", "italic", "oblique", "mono", "serif", "light", "thin", "black", "condensed", "medium")
BOXES = ("lastresort", "blank", "notdef")

# Is none, and thus drawn as every letter is that a font lacks.
NO_LETTER = "\U0010ffff"


def legible(text: str) -> str:
    r"""A line of text of which every letter can be drawn; what would be a box, or is none, is written as Python does.

    >>> legible("Größe \n 12, жёлтый"), legible("a\x1bb")
    ('Größe 12, жёлтый', 'a\\x1bb')
    """
    told = printable(unicodedata.normalize("NFC", " ".join(text.split())))
    return "".join(each if _font_of(each) is not None else ascii(each)[1:-1] for each in told)


def shortened(text: str, width: float) -> str:
    """A line of legible text that takes no more than so many pixels: where that is too long, its beginning and `…`."""
    line = " ".join(text.split())
    told = legible(line[: int(width)])  # no letter is narrower than a pixel, and a name may be a book
    if len(line) <= width and text_width(told) <= width:
        return told
    fitting, too_many = 0, len(told) + 1
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        if text_width(f"{told[:middle]}…") <= width:
            fitting = middle
        else:
            too_many = middle
    return f"{told[:fitting]}…"


def text_width(told: str) -> float:
    """Pixels that a line of legible text takes."""
    return sum(font.getlength(part) for font, part in _parts(told))


def write(pen: ImageDraw.ImageDraw, left: float, top: float, told: str, colour: tuple[int, int, int]) -> None:
    """Draw a line of legible text, all fonts in it on one base line."""
    for font, part in _parts(told):
        pen.text((left, top + SIZE), part, colour, font, anchor="ls")
        left += font.getlength(part)


def fonts_beside(told: str) -> list[str]:
    """Files of the fonts that a line of legible text needs besides `FONT`."""
    return list(dict.fromkeys(str(font.path) for font, _ in _parts(told) if font is not _plain()))


def _parts(told: str) -> Iterator[tuple[ImageFont.FreeTypeFont, str]]:
    """A text in parts of one font each."""
    for font, letters in itertools.groupby(told, key=_font_of):
        assert font is not None, "no legible text"
        yield font, "".join(letters)


@cache
def _font_of(letter: str) -> ImageFont.FreeTypeFont | None:
    """The first font that has a letter; None where there is none."""
    if _has(_plain(), letter):
        return _plain()
    return next((font for font in map(_opened, _of_the_system()) if font is not None and _has(font, letter)), None)


@cache
def _plain() -> ImageFont.FreeTypeFont:
    """The font of everything that it has."""
    spec = find_spec("matplotlib")  # which it would take long to import
    brought = [] if spec is None or spec.origin is None else [Path(spec.origin).parent / "mpl-data/fonts/ttf" / FONT]
    for each in [*(str(path) for path in brought if path.is_file()), FONT]:
        if (font := _opened(each)) is not None:
            return font
    font = ImageFont.load_default(SIZE)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


@cache
def _of_the_system() -> list[str]:
    """Font files of the system, the plain ones first."""
    try:
        from matplotlib.font_manager import findSystemFonts  # here: few names need it, and it takes long to import
    except ImportError:
        return []
    names = {path: Path(path).stem.lower() for path in findSystemFonts()}
    kept = [path for path, name in names.items() if not any(each in name for each in BOXES)]
    return sorted(kept, key=lambda path: (sum(each in names[path] for each in NOT_PLAIN), names[path], path))


@cache
def _opened(path: str) -> ImageFont.FreeTypeFont | None:
    """A font; None where it is none, or has pictures of one size alone."""
    try:
        return ImageFont.truetype(path, SIZE)
    except OSError:
        return None


def _has(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    """Whether a font draws a letter as something else than what it lacks."""
    return _drawn(font, letter) != _drawn(font, NO_LETTER)


@cache
def _drawn(font: ImageFont.FreeTypeFont, letter: str) -> bytes:
    image = Image.new("L", (4 * SIZE, 3 * SIZE))
    ImageDraw.Draw(image).text((SIZE, SIZE), letter, 255, font)
    return image.tobytes()
