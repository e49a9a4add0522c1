"""What garments there are, and how one is made up from a seed: category, cut, colours, pattern and details."""

from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]
Range = tuple[float, float]

# First word of every seed sequence of this module, so that no other draw from the same seed repeats these numbers.
DESIGN_STREAM = 0x6A7D

# The two colours of a garment differ by at least this much in luminance (0 to 255): a pattern must show in grey too.
MIN_LUMINANCE_STEP = 50.0

# Dyes of one name differ by up to this much a channel: two red skirts are seldom the same red.
DYE_SPREAD = 14

COLOURS: dict[str, Colour] = {
    "black": (34, 33, 38),
    "charcoal": (74, 76, 84),
    "grey": (150, 152, 156),
    "white": (240, 240, 238),
    "cream": (238, 226, 200),
    "beige": (208, 184, 150),
    "brown": (118, 80, 52),
    "red": (200, 42, 46),
    "burgundy": (112, 26, 48),
    "pink": (236, 158, 180),
    "orange": (228, 122, 50),
    "mustard": (212, 164, 48),
    "olive": (112, 116, 62),
    "green": (46, 128, 82),
    "mint": (164, 216, 190),
    "teal": (28, 116, 124),
    "sky": (140, 190, 226),
    "blue": (48, 98, 186),
    "navy": (34, 48, 96),
    "purple": (110, 66, 146),
}

# Half of all garments in shops are plain; a name repeated is drawn the more often.
PATTERNS = (
    "plain",
    "plain",
    "plain",
    "horizontal stripes",
    "vertical stripes",
    "diagonal stripes",
    "checks",
    "dots",
    "zigzag",
    "two-tone",
)


@dataclass(frozen=True)
class Garment:
    """One item of the wardrobe. Lengths are in garment units: half a person's shoulder width is about 0.5.

    Args:
        category: a name in `CATEGORIES`.
        cut: a word for the measure that tells most about this category, as "cropped" or "high".
        length: from the top to the hem; of a shoe, that of its opening.
        width: half the width of chest, waist or bag; of a shoe, the height of the toe.
        flare: width of the hem (of a leg, of a bag's bottom) in parts of the width above; of a shoe, the heel's height.
        reach: length of sleeve, bag handle or shoe shaft; 0 where there is none.
        neckline: "crew", "v", "scoop", "turtle", "hood", "collar", "lapels" or "none".
        colour_name: name of the base colour.
        colour, second: RGB of the fabric, and of its pattern and trimmings.
        pattern: a name in `PATTERNS`.
        period: of the pattern, in garment units.
        phase: of the pattern, in periods.
        filling: part of a period that has the second colour.
        buttons: number of buttons in a row.
        details: sorted names, as "belt", "pocket" or "trim"; what they mean is the category's affair.
    """

    category: str
    cut: str
    length: float
    width: float
    flare: float
    reach: float
    neckline: str
    colour_name: str
    colour: Colour
    second: Colour
    pattern: str
    period: float
    phase: float
    filling: float
    buttons: int
    details: tuple[str, ...]


@dataclass(frozen=True)
class CategoryRules:
    """What a garment of one category may be like; ranges as in `Garment`.

    Args:
        reaches: ranges of the reach, one of which is drawn: short or long sleeves, and little between.
        buttons: the numbers of buttons that occur.
        details: probability of each detail.
        cut_measure: the field that the cut is named after.
        cut_words: names of the lower, middle and upper third of that field's range.
    """

    length: Range
    width: Range
    flare: Range
    reaches: tuple[Range, ...]
    necklines: tuple[str, ...]
    buttons: tuple[int, ...]
    details: dict[str, float]
    cut_measure: str
    cut_words: tuple[str, str, str]


LENGTH_WORDS = ("cropped", "regular", "long")

RULES: dict[str, CategoryRules] = {
    "t-shirt": CategoryRules(
        length=(0.95, 1.4),
        width=(0.42, 0.6),
        flare=(0.85, 1.15),
        reaches=((0.22, 0.5),),
        necklines=("crew", "v", "scoop"),
        buttons=(0,),
        details={"pocket": 0.3, "trim": 0.35},
        cut_measure="length",
        cut_words=LENGTH_WORDS,
    ),
    "shirt": CategoryRules(
        length=(1.15, 1.5),
        width=(0.42, 0.56),
        flare=(0.88, 1.1),
        reaches=((0.3, 0.45), (0.95, 1.1)),
        necklines=("collar",),
        buttons=(4, 5, 6, 7),
        details={"pocket": 0.5, "trim": 0.3},
        cut_measure="reach",
        cut_words=("short-sleeved", "half-sleeved", "long-sleeved"),
    ),
    "sweater": CategoryRules(
        length=(1.0, 1.35),
        width=(0.48, 0.64),
        flare=(0.8, 1.05),
        reaches=((0.9, 1.15),),
        necklines=("crew", "v", "turtle", "hood"),
        buttons=(0,),
        details={"pocket": 0.3, "trim": 0.45},
        cut_measure="length",
        cut_words=LENGTH_WORDS,
    ),
    "coat": CategoryRules(
        length=(1.45, 2.1),
        width=(0.46, 0.6),
        flare=(0.95, 1.45),
        reaches=((1.0, 1.15),),
        necklines=("lapels", "collar", "hood"),
        buttons=(2, 3, 4, 5),
        details={"belt": 0.4, "double": 0.4, "pocket": 0.6, "trim": 0.25},
        cut_measure="length",
        cut_words=("short", "knee-length", "long"),
    ),
    "dress": CategoryRules(
        length=(1.45, 2.3),
        width=(0.36, 0.46),
        flare=(1.0, 2.4),
        reaches=((0.0, 0.0), (0.18, 0.4), (0.85, 1.0)),
        necklines=("crew", "v", "scoop"),
        buttons=(0, 0, 4),
        details={"belt": 0.5, "pleats": 0.35, "trim": 0.35},
        cut_measure="length",
        cut_words=("mini", "midi", "maxi"),
    ),
    "skirt": CategoryRules(
        length=(0.6, 1.6),
        width=(0.32, 0.46),
        flare=(1.2, 2.4),
        reaches=((0.0, 0.0),),
        necklines=("none",),
        buttons=(0, 0, 5),
        details={"belt": 0.4, "pleats": 0.45, "trim": 0.35},
        cut_measure="length",
        cut_words=("mini", "midi", "maxi"),
    ),
    "trousers": CategoryRules(
        length=(1.6, 2.2),
        width=(0.36, 0.48),
        flare=(0.45, 1.15),
        reaches=((0.0, 0.0),),
        necklines=("none",),
        buttons=(1,),
        details={"belt": 0.4, "crease": 0.4, "pocket": 0.35, "trim": 0.25},
        cut_measure="flare",
        cut_words=("slim", "straight", "flared"),
    ),
    "shorts": CategoryRules(
        length=(0.72, 1.15),
        width=(0.38, 0.48),
        flare=(0.85, 1.25),
        reaches=((0.0, 0.0),),
        necklines=("none",),
        buttons=(1,),
        details={"belt": 0.35, "pocket": 0.4, "trim": 0.4},
        cut_measure="length",
        cut_words=("short", "regular", "knee-length"),
    ),
    "bag": CategoryRules(
        length=(0.6, 1.2),
        width=(0.45, 0.8),
        flare=(0.8, 1.3),
        reaches=((0.25, 0.5), (0.6, 0.9)),
        necklines=("none",),
        buttons=(1,),
        details={"flap": 0.5, "pocket": 0.4, "trim": 0.4},
        cut_measure="reach",
        cut_words=("hand", "arm", "shoulder"),
    ),
    "shoe": CategoryRules(
        length=(0.4, 0.65),
        width=(0.2, 0.36),
        flare=(0.04, 0.45),
        reaches=((0.4, 0.55), (0.65, 0.85), (1.0, 1.4)),
        necklines=("none",),
        buttons=(3, 4, 5),
        details={"laces": 0.55, "strap": 0.3, "trim": 0.45},
        cut_measure="reach",
        cut_words=("low", "ankle-high", "high"),
    ),
}

CATEGORIES: tuple[str, ...] = tuple(RULES)


def luminance(colour: Colour) -> float:
    """Brightness of an RGB colour as Pillow's mode L weighs it, 0 to 255."""
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue


def design(seed: int, item: int) -> Garment:
    """The garment that is item number `item` of the wardrobe `seed`; the same arguments give the same garment."""
    generator = np.random.default_rng([DESIGN_STREAM, seed, item])
    category = _choose(generator, CATEGORIES)
    rules = RULES[category]
    measures = _measures(generator, rules)
    colour_name = _choose(generator, tuple(COLOURS))
    colour = _dyed(generator, COLOURS[colour_name])
    return Garment(
        category=category,
        cut=_cut(rules, measures),
        **measures,
        neckline=_choose(generator, rules.necklines),
        colour_name=colour_name,
        colour=colour,
        second=_second_colour(generator, colour),
        pattern=_choose(generator, PATTERNS),
        period=generator.uniform(0.16, 0.38),
        phase=generator.uniform(),
        filling=generator.uniform(0.25, 0.6),
        buttons=rules.buttons[generator.integers(len(rules.buttons))],
        details=tuple(sorted(name for name, share in rules.details.items() if generator.uniform() < share)),
    )


def _choose(generator: np.random.Generator, names: tuple[str, ...]) -> str:
    return names[generator.integers(len(names))]


def _measures(generator: np.random.Generator, rules: CategoryRules) -> dict[str, float]:
    """A value for each of the fields of `Garment` that are lengths or ratios."""
    reach = rules.reaches[generator.integers(len(rules.reaches))]
    ranges = {"length": rules.length, "width": rules.width, "flare": rules.flare, "reach": reach}
    return {name: generator.uniform(*limits) for name, limits in ranges.items()}


def _cut(rules: CategoryRules, measures: dict[str, float]) -> str:
    """The word for the third of its range in which the category's telling measure lies."""
    whole_reach = (rules.reaches[0][0], rules.reaches[-1][1])
    ranges = {"length": rules.length, "flare": rules.flare, "reach": whole_reach}
    low, high = ranges[rules.cut_measure]
    third = int(3 * (measures[rules.cut_measure] - low) / (high - low))
    return rules.cut_words[min(third, 2)]


def _dyed(generator: np.random.Generator, colour: Colour) -> Colour:
    """A colour that still goes by the same name."""
    red, green, blue = np.clip(np.add(colour, generator.integers(-DYE_SPREAD, DYE_SPREAD + 1, 3)), 0, 255).tolist()
    return red, green, blue


def _second_colour(generator: np.random.Generator, colour: Colour) -> Colour:
    """A colour that can be told from the first, in grey pictures too."""
    others = [each for each in COLOURS.values() if abs(luminance(each) - luminance(colour)) >= MIN_LUMINANCE_STEP]
    return _dyed(generator, others[generator.integers(len(others))])
