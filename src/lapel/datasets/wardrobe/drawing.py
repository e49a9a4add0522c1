"""Pictures of garments: how one lies, is lit and cropped in a view, and how its shapes become pixels."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from lapel.datasets.wardrobe.garments import Colour, Garment, luminance
from lapel.datasets.wardrobe.shapes import Ink, Shape, lay_out

# First word of every seed sequence of this module, as in `garments`.
VIEW_STREAM = 0x51E3

# Shapes are painted without anti-aliasing on a canvas of about this many pixels a side, then averaged down.
CANVAS = 144

# The longer side of a garment, in parts of the picture's, where a view neither enlarges nor shrinks it.
FILLED = 0.86

BACKGROUNDS = ("white", "grey", "tint", "gradient", "floor")


@dataclass(frozen=True)
class View:
    """Everything in a picture that is not the garment.

    Args:
        angle, shear: radians by which the garment is turned, and tangent by which it leans.
        mirrored: whether left and right are swapped.
        scale: 1 fills the picture but for a margin.
        offset: of the middle, right and down, in parts of the picture.
        spread: see `lay_out`.
        gain: float32 `[3]`, brightness and colour of the light.
        light_slope: float32 `[2]`, growth of the light to the right and down, over the whole picture.
        folds: float32 `[2, 3]`; of each of two waves of shade, its frequency across and along the garment, and phase.
        background: float32 `[4, 3]`, colours of wall at the top and bottom and floor at the top and bottom, 0 to 255.
        horizon: height at which the floor begins, in parts of the picture; 1 where there is none.
        shadow: darkness of the shadow that the garment casts.
    """

    angle: float
    shear: float
    mirrored: bool
    scale: float
    offset: tuple[float, float]
    spread: float
    gain: np.ndarray
    light_slope: np.ndarray
    folds: np.ndarray
    background: np.ndarray
    horizon: float
    shadow: float


def draw(garment: Garment, seed: int, item: int, view: int, size: int) -> np.ndarray:
    """Picture number `view` of a garment; the same arguments give the same picture.

    Args:
        seed, item: as the garment was designed from; with `view` they say how it is shown.
        size: height and width, in pixels. The same view at another size shows the same scene.

    Returns:
        uint8 `[size, size, 3]`.
    """
    shown = imagine(seed, item, view)
    shapes = lay_out(garment, shown.spread)
    points = np.array([point for shape in shapes for point in shape.points])
    placed = _placement(points, shown)
    inks = _paint(shapes, points, placed, size * _supersampling(size))
    _print_pattern(inks, garment, placed)
    cloth, opacity = _average(inks, _ink_colours(garment), size)
    return _compose(cloth, opacity, shown, placed)


# ------------------------------------------------------------------------------------------------ view


def imagine(seed: int, item: int, view: int) -> View:
    """How view number `view` of an item is taken; the same arguments give the same view."""
    generator = np.random.default_rng([VIEW_STREAM, seed, item, view])
    uniform = generator.uniform
    warmth = uniform(-0.08, 0.08)
    light_angle, light_strength = uniform(0, 2 * math.pi), uniform(0, 0.35)
    kind = BACKGROUNDS[generator.integers(len(BACKGROUNDS))]
    return View(
        angle=uniform(-0.26, 0.26),
        shear=uniform(-0.12, 0.12),
        mirrored=uniform() < 0.5,
        scale=uniform(0.76, 1.12),
        offset=(uniform(-0.06, 0.06), uniform(-0.06, 0.06)),
        spread=uniform(-1, 1),
        gain=np.array([1 + warmth, 1, 1 - warmth], dtype=np.float32) * np.float32(uniform(0.76, 1.1)),
        light_slope=np.array([math.cos(light_angle), math.sin(light_angle)], dtype=np.float32) * light_strength,
        folds=uniform([-3, -2, 0], [3, 2, 2 * math.pi], (2, 3)).astype(np.float32),
        background=_background(generator, kind),
        horizon=uniform(0.62, 0.85) if kind == "floor" else 1.0,
        shadow=uniform(0.12, 0.45),
    )


def _background(generator: np.random.Generator, kind: str) -> np.ndarray:
    """Colours of wall and floor, float32 `[4, 3]` as in `View`."""
    brightness = 250.0 if kind == "white" else generator.uniform(165, 235)
    # Walls are painted in pale colours; a studio is not painted at all.
    tint = generator.uniform(-26, 26, 3) if kind in ("tint", "floor") else np.zeros(3)
    wall = brightness + tint
    step = generator.uniform(-55, 20) if kind == "gradient" else 0.0
    floor = wall * generator.uniform(0.68, 0.88) + generator.uniform(-12, 12, 3)
    return np.clip([wall, wall + step, floor, floor * 1.08], 0, 255).astype(np.float32)


def _placement(points: np.ndarray, view: View) -> np.ndarray:
    """The map from garment units to parts of the picture, float64 `[2, 3]`: a matrix, and beside it an offset.

    Args:
        points: float64 `[points, 2]`, every point of the garment; they say how large it is.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    scale = view.scale * FILLED / (high - low).max()
    cosine, sine = math.cos(view.angle), math.sin(view.angle)
    turn = np.array([[cosine, -sine], [sine, cosine]]) @ np.array([[1.0, view.shear], [0.0, 1.0]])
    matrix = turn * np.array([-scale if view.mirrored else scale, scale])
    offset = 0.5 + np.array(view.offset) - matrix @ ((low + high) / 2)
    return np.column_stack([matrix, offset])


def _garment_units(placed: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of a picture lies on the garment: x and y in garment units, each float32 `[size, size]`."""
    inverse = np.linalg.inv(placed[:, :2]).astype(np.float32)
    pixels = (np.arange(size, dtype=np.float32) + 0.5) / size
    across, down = pixels - np.float32(placed[0, 2]), pixels[:, None] - np.float32(placed[1, 2])
    return inverse[0, 0] * across + inverse[0, 1] * down, inverse[1, 0] * across + inverse[1, 1] * down


# ---------------------------------------------------------------------------------------------- canvas


def _supersampling(size: int) -> int:
    """Canvas pixels a side for each pixel of the picture: more where pixels are few, and never 1."""
    return min(max(round(CANVAS / size), 2), 8)


def _paint(shapes: list[Shape], points: np.ndarray, placed: np.ndarray, canvas_size: int) -> np.ndarray:
    """The `Ink` of each pixel of the canvas, uint8 `[canvas, canvas]`; `points` are those of all shapes in turn."""
    canvas = Image.new("L", (canvas_size, canvas_size), Ink.nothing)
    pen = ImageDraw.Draw(canvas)
    pixels = ((points @ placed[:, :2].T + placed[:, 2]) * canvas_size - 0.5).ravel().tolist()
    unit = math.sqrt(abs(np.linalg.det(placed[:, :2]))) * canvas_size
    start = 0
    for shape in shapes:
        end = start + 2 * len(shape.points)
        if shape.thickness:
            pen.line(pixels[start:end], fill=shape.ink, width=max(1, round(shape.thickness * unit)), joint="curve")
        else:
            pen.polygon(pixels[start:end], fill=shape.ink)
        start = end
    return np.array(canvas)


def _print_pattern(inks: np.ndarray, garment: Garment, placed: np.ndarray) -> None:
    """Turn fabric into figure where the pattern has the second colour, in place."""
    if garment.pattern != "plain":
        across, down = _garment_units(placed, len(inks))
        inks[_figure(garment, across, down) & (inks == Ink.fabric)] = Ink.figure


def _figure(garment: Garment, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Whether the pattern has the second colour at points in garment units, bool in their shape."""
    x, y = across / np.float32(garment.period) + np.float32(garment.phase), down / np.float32(garment.period)
    filling, half = np.float32(garment.filling), np.float32(0.5)
    match garment.pattern:
        case "horizontal stripes":
            return _fraction(y) < filling
        case "vertical stripes":
            return _fraction(x) < filling
        case "diagonal stripes":
            return _fraction((x + y) * np.sqrt(half)) < filling
        case "checks":
            return (_fraction(x) < filling) ^ (_fraction(y) < filling)
        case "dots":
            # Every second row is shifted by half a period, as dots are printed.
            shifted = x + _fraction(half * np.floor(y))
            return (_fraction(shifted) - half) ** 2 + (_fraction(y) - half) ** 2 < filling * np.float32(0.22)
        case "zigzag":
            return _fraction(y + np.abs(_fraction(x) - half)) < filling
        case "two-tone":
            return down > np.float32(_two_tone_edge(garment))
        case _:
            raise ValueError(f"pattern {garment.pattern}: not known")


def _two_tone_edge(garment: Garment) -> float:
    """Height at which the second colour begins, in garment units."""
    if garment.category == "shoe":  # stands on y = 0, where everything else hangs from it
        return -garment.filling * (garment.flare + garment.reach)
    return (garment.filling + 0.2) * garment.length


def _fraction(values: np.ndarray) -> np.ndarray:
    """Each value without its whole part, 0 to 1: five times as fast as `values % 1`."""
    return values - np.floor(values)


def _ink_colours(garment: Garment) -> np.ndarray:
    """RGB of each `Ink`, uint8 `[inks, 3]`; nothing is black, so that averaging it in adds no light."""
    dark = luminance(garment.colour) < 90
    colours: dict[Ink, Colour] = {
        Ink.fabric: garment.colour,
        Ink.figure: garment.second,
        Ink.trim: garment.second,
        Ink.lining: _shaded(garment.colour, 1.3, 12) if dark else _shaded(garment.colour, 0.6, 0),
        # A seam on black cloth can only be seen if it is lighter.
        Ink.seam: _shaded(garment.colour, 1.15, 36) if dark else _shaded(garment.colour, 0.62, 0),
        Ink.button: (236, 230, 214) if dark else (62, 52, 48),
        Ink.sole: (226, 222, 212) if dark else (70, 56, 48),
    }
    table = np.zeros((len(Ink), 3), dtype=np.uint8)
    for ink, colour in colours.items():
        table[ink] = colour
    return table


def _shaded(colour: Colour, factor: float, added: int) -> Colour:
    red, green, blue = (min(255, round(channel * factor) + added) for channel in colour)
    return red, green, blue


def _average(inks: np.ndarray, colours: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Bring the canvas down to the picture's size.

    Returns:
        cloth: float32 `[size, size, 3]`, 0 to 255, the garment on black.
        opacity: float32 `[size, size, 1]`, 0 to 1, the part of each pixel that the garment covers.
    """
    factor = len(inks) // size
    opacity = Image.fromarray(np.where(inks == Ink.nothing, np.uint8(0), np.uint8(255))).reduce(factor)
    canvas = Image.fromarray(inks)
    canvas.putpalette(colours.tobytes())
    cloth = canvas.convert("RGB").reduce(factor)
    return np.asarray(cloth, dtype=np.float32), np.asarray(opacity, dtype=np.float32)[:, :, None] / 255


# ----------------------------------------------------------------------------------------------- scene


def _compose(cloth: np.ndarray, opacity: np.ndarray, view: View, placed: np.ndarray) -> np.ndarray:
    """The garment before its background, in the light of the view: uint8 `[size, size, 3]`."""
    behind = _backdrop(view, len(cloth)) * (1 - _shadow(opacity, view))
    picture = cloth * _folds(view, placed, len(cloth)) + behind * (1 - opacity)
    picture *= _light(view, len(cloth))
    return np.clip(picture + np.float32(0.5), 0, 255).astype(np.uint8)


def _backdrop(view: View, size: int) -> np.ndarray:
    """Wall and floor without light or shadow, float32 `[size, 1, 3]`."""
    heights = (np.arange(size, dtype=np.float32)[:, None, None] + np.float32(0.5)) / size
    wall_top, wall_bottom, floor_top, floor_bottom = view.background
    wall = wall_top + (wall_bottom - wall_top) * heights
    floor = floor_top + (floor_bottom - floor_top) * heights
    # The edge is one pixel wide, so that it does not jump from row to row.
    is_floor = np.clip((heights - np.float32(view.horizon)) * size + np.float32(0.5), 0, 1)
    return wall + (floor - wall) * is_floor


def _shadow(opacity: np.ndarray, view: View) -> np.ndarray:
    """How much of the background's light the garment takes away, float32 `[size, size, 1]`."""
    size = len(opacity)
    shape = Image.fromarray((opacity[:, :, 0] * 255).astype(np.uint8))
    # Light falls from above, and from the side on which the picture is brighter.
    right, down = -0.12 * float(view.light_slope[0]) * size, 0.03 * size
    moved = shape.transform(shape.size, Image.Transform.AFFINE, (1, 0, -right, 0, 1, -down), Image.Resampling.BILINEAR)
    blurred = np.asarray(moved.filter(ImageFilter.BoxBlur(0.035 * size)), dtype=np.float32)
    return blurred[:, :, None] * np.float32(view.shadow / 255)


def _folds(view: View, placed: np.ndarray, size: int) -> np.ndarray:
    """Shade of the cloth, float32 `[size, size, 1]`: two slow waves, and sides that turn away from the light."""
    across, down = _garment_units(placed, size)
    shade = np.float32(1.02) - np.float32(0.1) * across**2
    for frequency_across, frequency_down, phase in view.folds:
        shade += np.float32(0.05) * np.sin(frequency_across * across + frequency_down * down + phase)
    return shade[:, :, None]


def _light(view: View, size: int) -> np.ndarray:
    """Factor of each pixel, float32 `[size, size, 3]`."""
    steps = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    slope = 1 + view.light_slope[0] * steps + view.light_slope[1] * steps[:, None]
    return slope[:, :, None] * view.gain
