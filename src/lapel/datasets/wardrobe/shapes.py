"""The parts of a garment as flat shapes, in the order in which they are painted.

Points are (x, y) in garment units (see `Garment`): x to the right, y down. A garment hangs from the origin, a shoe
stands on the line y = 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from lapel.datasets.wardrobe.garments import Garment

Point = tuple[float, float]

OUTLINE = 0.022
"""Thickness of outlines and seams, in garment units."""

WAIST = 0.68
"""Height of a coat's or dress's waist."""

TOP_SAG, SKIRT_SAG = 0.03, 0.065
"""How much lower than its sides the middle of a hem hangs."""

# neckline: half its width, and its depth
NECKS: dict[str, Point] = {
    "crew": (0.18, 0.12),
    "v": (0.17, 0.42),
    "scoop": (0.27, 0.27),
    "turtle": (0.15, 0.05),
    "hood": (0.19, 0.17),
    "collar": (0.16, 0.12),
    "lapels": (0.16, 0.16),
}


class Ink(IntEnum):
    """What a pixel of a garment is made of; `drawing` gives each its colour."""

    nothing = 0
    fabric = 1
    figure = 2
    """The second colour of the fabric's pattern."""
    trim = 3
    lining = 4
    """The inside of the garment, seen through its neckline."""
    seam = 5
    button = 6
    sole = 7


@dataclass(frozen=True)
class Shape:
    """A polygon filled with ink, or, where `thickness` is more than 0 (in garment units), a line through its points."""

    points: list[Point]
    ink: Ink
    thickness: float = 0.0


def lay_out(garment: Garment, spread: float) -> list[Shape]:
    """The shapes of a garment, first painted first.

    Args:
        spread: how far sleeves and legs are apart, -1 to 1, or whatever else of the garment can move.
    """
    return LAYOUTS[garment.category](garment, spread)


# -------------------------------------------------------------------------------------------- geometry


def _bend(start: Point, control: Point, end: Point) -> list[Point]:
    """A quadratic Bézier curve, start and end among its points."""
    steps = 7
    weights = [((1 - t) ** 2, 2 * t * (1 - t), t**2) for t in (step / steps for step in range(steps + 1))]
    return [
        (a * start[0] + b * control[0] + c * end[0], a * start[1] + b * control[1] + c * end[1]) for a, b, c in weights
    ]


def _mirrored(points: list[Point]) -> list[Point]:
    return [(-x, y) for x, y in points]


def _both_sides(right: list[Point]) -> list[Point]:
    """The closed outline whose right half goes through these points."""
    return right + _mirrored(right)[::-1]


def _between(start: Point, end: Point, share: float) -> Point:
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _piece(points: list[Point], ink: Ink = Ink.fabric) -> list[Shape]:
    """A piece of cloth with its outline."""
    return [Shape(points, ink), Shape([*points, points[0]], Ink.seam, OUTLINE)]


def _pair(right: list[Point], ink: Ink = Ink.fabric) -> list[Shape]:
    """A piece of cloth on the right, and its mirror image on the left."""
    return _piece(right, ink) + _piece(_mirrored(right), ink)


def _seam(*points: Point) -> Shape:
    return Shape(list(points), Ink.seam, OUTLINE)


def _box(left: float, top: float, right: float, bottom: float) -> list[Point]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _button(x: float, y: float, radius: float = 0.034) -> Shape:
    corners = [2 * math.pi * corner / 8 for corner in range(8)]
    return Shape([(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in corners], Ink.button)


def _buttons(count: int, x: float, top: float, bottom: float) -> list[Shape]:
    """A column of buttons, the first at `top`, the last one step above `bottom`."""
    return [_button(x, top + (bottom - top) * number / count) for number in range(count)]


def _band(half_width: float, top: float, bottom: float) -> list[Shape]:
    """A straight strip of the second colour."""
    return _piece(_box(-half_width, top, half_width, bottom), Ink.trim)


def _belt(half_width: float, top: float) -> list[Shape]:
    buckle = _box(-0.055, top - 0.015, 0.055, top + 0.115)
    return [
        *_band(half_width, top, top + 0.1),
        Shape(buckle, Ink.button),
        Shape(_box(-0.025, top + 0.02, 0.025, top + 0.08), Ink.trim),
    ]


# ------------------------------------------------------------------------------------------------ tops


def _sleeves(garment: Garment, spread: float, shoulder: Point, armpit: Point) -> list[Shape]:
    """Both sleeves, and their cuffs where the garment is trimmed. Long sleeves hang closer to the body."""
    if garment.reach == 0:
        return []
    angle = math.radians(54 - 32 * garment.reach + 9 * spread)
    along, across = (math.sin(angle), math.cos(angle)), (-math.cos(angle), math.sin(angle))
    opening = 0.25 - 0.08 * garment.reach
    outer = shoulder[0] + garment.reach * along[0], shoulder[1] + garment.reach * along[1]
    inner = outer[0] + opening * across[0], outer[1] + opening * across[1]
    elbow = _between(shoulder, outer, 0.5)
    shapes = _pair([*_bend(shoulder, (elbow[0] + 0.03, elbow[1] - 0.03), outer), inner, armpit])
    if "trim" in garment.details:
        share = 1 - 0.09 / garment.reach
        shapes += _pair([outer, inner, _between(armpit, inner, share), _between(shoulder, outer, share)], Ink.trim)
    return shapes


def _hem_curve(half_width: float, height: float, sag: float) -> list[Point]:
    """The right half of a hem that hangs lower in the middle, from the side inwards."""
    return _bend((half_width, height), (half_width / 2, height + sag), (0, height + sag))


def _hem(garment: Garment, half_width: float, sag: float) -> list[Shape]:
    """The band along the lower edge of a trimmed garment."""
    if "trim" not in garment.details:
        return []
    upper, lower = (_hem_curve(half_width, height, sag) for height in (garment.length - 0.09, garment.length))
    return _piece(_both_sides(lower) + _both_sides(upper)[::-1], Ink.trim)


def _neck(garment: Garment) -> list[Shape]:
    """What is seen at the neck: the inside of the back, and a collar, hood or trimmed edge."""
    half_width, depth = NECKS[garment.neckline]
    # A V is a straight line down to its point, every other neckline a curve whose control point lies twice as deep.
    edge = (
        [(half_width, 0.0), (0.0, depth)]
        if garment.neckline == "v"
        else _bend((half_width, 0), (half_width, depth), (0, depth))
    )
    front = _both_sides(edge)
    back = _bend((-half_width, 0), (0, 0.07), (half_width, 0))
    ink = Ink.trim if "trim" in garment.details else Ink.seam
    thickness = 0.055 if "trim" in garment.details else OUTLINE
    lining = [Shape(front + back, Ink.lining), Shape(front, ink, thickness), _seam(*back)]
    collars = {"turtle": _turtle_neck, "hood": _hood, "collar": _shirt_collar, "lapels": _lapels}
    return lining + (collars[garment.neckline](garment) if garment.neckline in collars else [])


def _trim_or_fabric(garment: Garment) -> Ink:
    return Ink.trim if "trim" in garment.details else Ink.fabric


def _turtle_neck(garment: Garment) -> list[Shape]:
    ink = _trim_or_fabric(garment)
    return _piece(_both_sides([(0.15, -0.17), (0.17, 0.05), (0.0, 0.09)]), ink)


def _hood(garment: Garment) -> list[Shape]:
    ink = _trim_or_fabric(garment)
    outside = _both_sides(
        [*_bend((0.0, -0.42), (0.34, -0.42), (0.33, -0.05)), *_bend((0.33, -0.05), (0.3, 0.2), (0.0, 0.22))]
    )
    inside = _both_sides(
        [*_bend((0.0, -0.32), (0.23, -0.32), (0.2, -0.06)), *_bend((0.2, -0.06), (0.14, 0.1), (0.0, 0.14))]
    )
    cords = [Shape([(side * 0.09, 0.15), (side * 0.1, 0.42)], Ink.button, 0.026) for side in (-1, 1)]
    return [*_piece(outside, ink), *_piece(inside, Ink.lining), *cords]


def _shirt_collar(garment: Garment) -> list[Shape]:
    ink = _trim_or_fabric(garment)
    return _pair([(0.13, -0.05), (0.2, 0.03), (0.19, 0.22), (0.0, 0.12)], ink)


def _lapels(garment: Garment) -> list[Shape]:
    ink = _trim_or_fabric(garment)
    collar = [(0.13, -0.05), (0.22, 0.05), (0.24, 0.2), (0.1, 0.16)]
    return _pair([(0.15, 0.02), (0.28, 0.26), (0.2, 0.33), (0.0, 0.6), (0.0, 0.5)], ink) + _pair(collar, ink)


def _chest_pocket(half_width: float) -> list[Shape]:
    left, right = 0.22 * half_width, 0.72 * half_width
    corner = 0.42 + right - left
    return _piece([(left, 0.42), (right, 0.42), (right, corner), ((left + right) / 2, corner + 0.05), (left, corner)])


def _torso(garment: Garment) -> list[Point]:
    """The outline of a garment that hangs from the shoulders without a waist."""
    width, length = garment.width, garment.length
    hem = width * garment.flare
    shoulder, armpit = _shoulder(garment)
    side = _bend(armpit, (min(width, hem) * 0.9, 0.55 * length), (hem, length))
    neck = (NECKS[garment.neckline][0], 0.0)
    return _both_sides([neck, shoulder, armpit, *side, *_hem_curve(hem, length, TOP_SAG)])


def _shoulder(garment: Garment) -> tuple[Point, Point]:
    """The end of the right shoulder, and the armpit below it."""
    return (garment.width, 0.13), (garment.width * 0.93, 0.47)


def _top(garment: Garment, spread: float) -> list[Shape]:
    """A t-shirt or sweater."""
    shapes = [*_sleeves(garment, spread, *_shoulder(garment)), *_piece(_torso(garment))]
    shapes += _hem(garment, garment.width * garment.flare, TOP_SAG)
    if "pocket" in garment.details:
        shapes += _kangaroo_pocket(garment) if garment.category == "sweater" else _chest_pocket(garment.width)
    return shapes + _neck(garment)


def _kangaroo_pocket(garment: Garment) -> list[Shape]:
    half_width, bottom = 0.6 * garment.width, garment.length - 0.12
    return _piece(_both_sides([(0.6 * half_width, bottom - 0.3), (half_width, bottom - 0.12), (half_width, bottom)]))


def _shirt(garment: Garment, spread: float) -> list[Shape]:
    shapes = [*_sleeves(garment, spread, *_shoulder(garment)), *_piece(_torso(garment))]
    if "pocket" in garment.details:
        shapes += _chest_pocket(garment.width)
    if "trim" in garment.details:
        shapes += _piece(_box(-0.05, 0.12, 0.05, garment.length), Ink.trim)
    else:
        shapes += [_seam((-0.05, 0.12), (-0.05, garment.length)), _seam((0.05, 0.12), (0.05, garment.length))]
    return [*shapes, *_neck(garment), *_buttons(garment.buttons, 0, 0.26, garment.length)]


def _coat(garment: Garment, spread: float) -> list[Shape]:
    shapes = [*_sleeves(garment, spread, *_shoulder(garment)), *_piece(_torso(garment))]
    shapes.append(_seam((0, 0.15), (0, garment.length)))
    if "pocket" in garment.details:
        shapes += _flap_pockets(garment.width)
    # Lapels leave no room for buttons above the waist.
    first = 0.62 if garment.neckline == "lapels" else 0.34
    for column in (-0.14, 0.14) if "double" in garment.details else (0.07,):
        shapes += _buttons(garment.buttons, column, first, min(garment.length, 1.45))
    if "belt" in garment.details:
        shapes += _belt(0.95 * garment.width * min(1, garment.flare), WAIST)
    return shapes + _neck(garment)


def _flap_pockets(half_width: float) -> list[Shape]:
    inside, outside, top = 0.4 * half_width, 0.8 * half_width, WAIST + 0.17
    return _pair([(inside, top + 0.05), (outside, top), (outside, top + 0.11), (inside, top + 0.16)])


def _dress(garment: Garment, spread: float) -> list[Shape]:
    width, length = garment.width, garment.length
    waist, hem = 0.78 * width, width * garment.flare
    neck = NECKS[garment.neckline][0]
    # Without sleeves the shoulder is a strap.
    shoulder = (width, 0.13) if garment.reach else (neck + 0.09, 0.02)
    armpit = (0.95 * width, 0.42)
    bodice = [
        (neck, 0.0),
        shoulder,
        *_bend(shoulder, (shoulder[0], 0.36), armpit),
        *_bend(armpit, (waist, 0.5), (waist, WAIST)),
    ]
    skirt = _bend((waist, WAIST), (0.45 * waist + 0.55 * hem, 0.6 * WAIST + 0.4 * length), (hem, length))
    outline = _both_sides([*bodice, *skirt, *_hem_curve(hem, length, SKIRT_SAG)])
    shapes = [*_sleeves(garment, spread, shoulder, armpit), *_piece(outline)]
    shapes += _pleats(garment, waist, hem, WAIST) + _hem(garment, 0.98 * hem, SKIRT_SAG)
    shapes += _buttons(garment.buttons, 0, NECKS[garment.neckline][1] + 0.1, WAIST + 0.05) if garment.buttons else []
    shapes += _belt(waist, WAIST - 0.05) if "belt" in garment.details else [_seam((-waist, WAIST), (waist, WAIST))]
    return shapes + _neck(garment)


def _pleats(garment: Garment, waist: float, hem: float, top: float) -> list[Shape]:
    """Lines that fan out from the waist to the hem."""
    if "pleats" not in garment.details:
        return []
    return [_seam((share * waist, top), (share * hem, garment.length)) for share in (-0.66, -0.33, 0.0, 0.33, 0.66)]


# --------------------------------------------------------------------------------------------- bottoms


def _skirt(garment: Garment, spread: float) -> list[Shape]:
    length = garment.length
    # A skirt lies flat: what spreads in it is the hem.
    waist, hem = garment.width, garment.width * garment.flare * (1 + 0.05 * spread)
    side = _bend((waist, 0), (0.55 * waist + 0.45 * hem, 0.3 * length), (hem, length))
    shapes = _piece(_both_sides([*side, *_hem_curve(hem, length, SKIRT_SAG)]))
    shapes += _pleats(garment, waist, hem, 0.1) + _hem(garment, 0.98 * hem, SKIRT_SAG)
    shapes += _buttons(garment.buttons, 0, 0.2, length - 0.05) if garment.buttons else []
    return shapes + (_belt(1.02 * waist, 0) if "belt" in garment.details else _piece(_box(-waist, 0, waist, 0.1)))


def _trousers(garment: Garment, spread: float) -> list[Shape]:
    """Trousers and shorts: two legs that part at the crotch."""
    width, length = garment.width, garment.length
    hip, crotch = 1.14 * width, 0.56
    opening = 0.9 * hip * garment.flare
    middle = 0.52 * hip + (0.1 + 0.04 * spread) * (length - crotch)
    outer, inner = (middle + opening / 2, length), (max(middle - opening / 2, 0.02), length)
    side = [*_bend((width, 0), (hip, 0.2), (hip, 0.45)), outer]
    shapes = _piece(_both_sides([*side, inner, (0.0, crotch)]))
    shapes += _leg_details(garment, hip, outer, inner)
    shapes += [
        _seam((0, 0.1), (0, crotch)),
        _seam((0.62 * width, 0.1), (1.02 * hip, 0.34)),
        _seam((-0.62 * width, 0.1), (-1.02 * hip, 0.34)),
    ]
    if "belt" in garment.details:
        return shapes + _belt(1.02 * width, 0)
    return [*shapes, *_piece(_box(-width, 0, width, 0.1)), _button(0, 0.05)]


def _leg_details(garment: Garment, hip: float, outer: Point, inner: Point) -> list[Shape]:
    """Stripes down the sides, creases down the middle, and pockets on the thighs."""
    shapes = []
    if "trim" in garment.details:
        stripe = [(hip - 0.02, 0.42), (outer[0] - 0.02, outer[1]), (outer[0] - 0.11, outer[1]), (hip - 0.11, 0.42)]
        shapes += _pair(stripe, Ink.trim)
    if "crease" in garment.details:
        foot = _between(inner, outer, 0.5)
        shapes += [_seam((0.5 * hip, 0.4), foot), _seam((-0.5 * hip, 0.4), (-foot[0], foot[1]))]
    if "pocket" in garment.details:
        centre = 0.55 * hip + 0.03
        shapes += _pair(_box(centre - 0.13, 0.6, centre + 0.13, min(0.92, garment.length - 0.06)))
    return shapes


# ---------------------------------------------------------------------------------------- bag and shoe


def _bag(garment: Garment, spread: float) -> list[Shape]:
    top, bottom, height = garment.width, garment.width * garment.flare, garment.length
    corner = _bend((bottom, height - 0.14), (bottom, height), (bottom - 0.14, height))
    shapes = [*_handle(garment, spread), *_piece(_both_sides([(top, 0.0), *corner]))]
    if "trim" in garment.details:
        shapes += _pair([*corner, (bottom - 0.3, height)], Ink.trim)
    if "pocket" in garment.details:
        shapes += _piece(_box(-0.45 * top, 0.5 * height, 0.45 * top, 0.85 * height))
    if "flap" in garment.details:
        edge = _bend((top, 0.25 * height), (0.8 * top, 0.48 * height), (0.0, 0.48 * height))
        return [*shapes, *_piece(_both_sides([(1.02 * top, 0.0), *edge]), Ink.trim), _button(0, 0.44 * height, 0.055)]
    return [*shapes, _seam((-top, 0.09), (top, 0.09)), _button(0, 0.09, 0.045)]


def _handle(garment: Garment, spread: float) -> list[Shape]:
    # The handle is the only part of a bag that falls one way or another.
    top, tip = garment.width, -garment.reach * (1 + 0.12 * spread)
    arc = _bend((-0.6 * top, 0.05), (-0.5 * top, tip), (0, tip)) + _bend((0, tip), (0.5 * top, tip), (0.6 * top, 0.05))
    return [Shape(arc, Ink.seam, 0.12), Shape(arc, Ink.trim, 0.12 - 2 * OUTLINE)]


def _shoe(garment: Garment, spread: float) -> list[Shape]:
    """A shoe from the side, its toe to the right, the ground at y = 0."""
    heel, toe, top = garment.flare, garment.width, -garment.flare - garment.reach
    # A soft shaft leans back or forth; a low shoe is cut out further to the front.
    back = (-0.84 + 0.06 * spread * garment.reach, top)
    front = (back[0] + garment.length + (0.2 if garment.reach < 0.6 else 0.0), top + 0.03)
    instep, counter = (0.34, -toe - 0.13), (-0.86, -heel - 0.06)
    foot = [*_bend(counter, (-0.1, -heel), (0.3, -0.07)), (0.96, -0.07)]
    toe_cap = _bend(instep, (0.95, -toe - 0.02), (0.98, -0.07))
    tongue = _bend(front, (front[0] + 0.06, -toe - 0.22 - 0.5 * heel), instep)
    heel_curve = _bend(counter, (-0.8, (top - heel) / 2), back)
    shapes = [*_soles(heel, foot), *_piece([*heel_curve, *tongue, *toe_cap, *foot[::-1]])]
    if "trim" in garment.details:
        shapes += _piece([*toe_cap, *_bend((0.62, -0.07), (0.6, -0.8 * toe), instep)], Ink.trim)
    if "strap" in garment.details:
        ends = [_between(back, counter, 0.55), _between(back, counter, 0.3)]
        shapes += _piece([*ends, tongue[2], tongue[4]], Ink.trim)
    return shapes + _laces(garment, tongue)


def _soles(heel: float, foot: list[Point]) -> list[Shape]:
    """The sole under a foot's lower edge, and the block under its heel."""
    sole = [*foot, *[(x, y + 0.07) for x, y in foot[::-1]]]
    block = [(-0.86, -heel), (-0.48, -heel - 0.01), (-0.54, 0.0), (-0.82, 0.0)]
    return [*_piece(block, Ink.sole), *_piece(sole, Ink.sole)]


def _laces(garment: Garment, tongue: list[Point]) -> list[Shape]:
    """Short lines from the tongue's edge down to the eyelets."""
    if "laces" not in garment.details:
        return []
    steps = (len(tongue) - 2) / garment.buttons
    edge = [tongue[1 + round(number * steps)] for number in range(garment.buttons)]
    return [Shape([(x + 0.02, y), (x - 0.15, y + 0.1)], Ink.button, 0.04) for x, y in edge]


LAYOUTS: dict[str, Callable[[Garment, float], list[Shape]]] = {
    "t-shirt": _top,
    "shirt": _shirt,
    "sweater": _top,
    "coat": _coat,
    "dress": _dress,
    "skirt": _skirt,
    "trousers": _trousers,
    "shorts": _trousers,
    "bag": _bag,
    "shoe": _shoe,
}
