"""The page itself: a template, filled."""

import base64
import json
from collections.abc import Callable
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from lapel.files.writing import Staged
from lapel.report.content import Content, Difference, MapPoints, Query, Rival
from lapel.report.drawings import CELLS, as_png, as_svg, figures, largest, map_colours
from lapel.report.pictures import Sheets, sheets, shown_address
from lapel.retrieval.words import telling_decimals, told

REPORT_FILE = "report.html"
FIGURES = "figures"

# Bytes that the page may take, and those of the map's pictures among them.
MOST_BYTES = 3_900_000
MOST_PICTURES = 2_400_000

# Characters of a name or a caption, and of a file's name: three thousand long ones would take more room than their
# pictures.
LONGEST = 80
LONGEST_FILE = 36

# Decimals of a similarity: as many as tell those of one list apart, within these.
FEWEST_DECIMALS, MOST_DECIMALS = 3, 6

# The map's longer side is so many steps; around it is some room for dots at its border.
STEPS = 9999
MARGIN = 200

# From so many dots on they are drawn small, and up to so many large.
MANY, SCANT = 1000, 150

# Categories that the map's legend names.
LEGEND = 40

# Fewer queries than these are too few to tell.
FEW = 100

# Categories that another run is compared in, at either end.
SIDE = 8

HEADLINES = (
    "recall@1",
    "recall@10",
    "precision@10",
    "map@r",
    "mrr",
    "category_accuracy@5",
    "classifier_accuracy",
    "auc",
)

# Those by the vote of nearest images.
VOTED = "category_accuracy"

CONFUSED = 10

# Figures that stand in the section of curves.
CURVES = ("recall", "precision_recall", "distances", "training")

# Share of the queries up to which some that training has seen change little.
SELDOM = 0.01

# What the protocol card says, in words.
LABELS = {
    "data": "Data",
    "split": "Part",
    "split_hash": "Hash of its rows",
    "queries": "Queries",
    "queries_without_match": "Queries without any match, left out",
    "gallery": "Images searched in",
    "comparison": "Compared",
    "self_match": "A query itself",
    "queries_in_gallery": "Queries that are in the gallery, too",
    "images_hash": "Hash of its pixels",
    "queries_seen_in_training": "Queries seen in training",
    "queries_seen_in_validation": "Queries seen when the checkpoint was chosen",
    "items_seen_in_training": "Items seen in training",
    "metric": "Metric",
    "normalized": "Unit vectors",
    "graded": "Gains for nDCG",
    "verification": "Verification",
    "intervals": "Intervals",
    "post_processing": "Post-processing",
    "search": "Search",
    "checkpoint": "Checkpoint",
    "step": "Step",
    "trained_on": "Trained on",
    "encoder": "Encoder",
}


def write_report(content: Content, staged: Staged) -> None:
    """Write `report.html`, one page that needs no other file and asks for none, and the figures as PNG files.

    Args:
        content: what it shows.
        staged: the evaluation's files.
    """
    drawn = {}
    for name, figure in figures(content):
        if name != "map":  # which the page has in a form of its own
            drawn[name] = Markup(as_svg(figure))
        staged.file(f"{FIGURES}/{name}.png").write_bytes(as_png(figure))
    staged.file(REPORT_FILE).write_text(render(content, drawn), encoding="utf-8")


def render(content: Content, drawn: dict[str, Markup]) -> str:
    """The page's text.

    Args:
        content: what it shows.
        drawn: name of each figure -> SVG.
    """
    bare = _filled(content, drawn, Sheets([], 0, len(content.points.pixels)))
    room = MOST_BYTES - len(bare.encode())
    return _filled(content, drawn, sheets(content.points.pixels, min(MOST_PICTURES, room)))


def _filled(content: Content, drawn: dict[str, Markup], pictures: Sheets) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "address": shown_address, "short": short, "file_name": file_name, "told": told, "digits": decimals_of,
        "number": similarity_in_words(content), "interval": interval_in_words, "verdict": verdict,
        "first_word": first_word,
    }  # fmt: skip
    confused = _confused(content)
    return environment.from_string(_file("page.html")).render(
        content=content,
        card=content.result["protocol"],
        headlines=_headlines(content),
        gains={name: ends[1:] for name, ends in content.result.get("gain", {}).items() if len(ends) == 3},
        scores={name: each for name, each in content.result.items() if isinstance(each, float)},
        sections=_sections(content, drawn, confused),
        drawn=drawn,
        has_curves=any(name in drawn for name in CURVES),
        lines=card_lines(content.result["protocol"]),
        confused=confused,
        rival_categories=_ends(content.rival),
        cells=CELLS,
        few=FEW,
        seldom=SELDOM,
        left_out=0 if content.confusion is None else max(0, len(content.confusion) - len(largest(content.confusion))),
        points=pictures.pictures,
        map=map_svg(content.points, pictures.pictures),
        legend=legend(content.points, pictures.pictures),
        unlisted=max(0, len(np.unique(content.points.groups[: pictures.pictures])) - LEGEND),
        map_data=map_data(content.points, pictures),
        style=Markup(_file("page.css")),
        script=Markup(_file("map.js")),
    )


def _sections(content: Content, drawn: dict[str, Markup], confused: list[Any]) -> list[tuple[str, str]]:
    """Anchor and heading of each section that the page has."""
    return [
        (anchor, heading)
        for anchor, heading, there in (
            ("scores", "Scores", True),
            ("rival", "Beside another run", content.rival is not None),
            ("curves", "Curves", any(name in drawn for name in CURVES)),
            ("queries", "Queries", True),
            ("hubs", "Hubs", content.hubs is not None),
            ("map-section", "Map", True),
            ("categories", "Categories", bool(confused) or "categories" in drawn or "confusion" in drawn),
            ("details", "How it was measured", True),
        )
        if there
    ]


def _headlines(content: Content) -> list[str]:
    """The scores that are told first."""
    outvoted = content.confusion is None
    return [
        name
        for name in HEADLINES
        if name in content.result and not _beyond(name, content) and not (outvoted and name.startswith(VOTED))
    ]


def _beyond(name: str, content: Content) -> bool:
    """Whether a score's first K images are most of the gallery, so that it says next to nothing."""
    k = name.partition("@")[2]
    return k.isdigit() and 2 * int(k) > content.result["protocol"]["gallery"]


def _ends(rival: Rival | None) -> list[Difference]:
    """The categories in which another run differs most, the largest losses and the largest gains."""
    if rival is None or len(rival.categories) < 2:
        return []
    each = rival.categories
    return each if len(each) <= 2 * SIDE else [*each[:SIDE], *each[-SIDE:]]


def interval_in_words(each: Difference) -> str:
    """The ends of a difference's interval; empty where there is none."""
    return "" if each.ends is None else f"{each.ends[0]:+.4f} to {each.ends[1]:+.4f}"


def verdict(each: Difference) -> str:
    """Whether a difference is for the better; empty where nothing says how sure it is."""
    if each.ends is None:
        return ""
    if each.ends == (0, 0):
        return "equal"
    if each.ends[0] <= 0 <= each.ends[1]:
        return "perhaps chance"
    return "better ▲" if each.mine > each.other else "worse ▼"


def first_word(text: str) -> str:
    """Of a verdict, for the style sheet."""
    return text.partition(" ")[0]


def decimals_of(query: Query) -> int:
    """How many decimals tell the similarities of a list apart."""
    values = [each.similarity for each in query.found if each.similarity is not None]
    return telling_decimals(values, FEWEST_DECIMALS, MOST_DECIMALS)


def similarity_in_words(content: Content) -> Callable[[float, int], str]:
    """Makes text of a cosine, or of what is minus a distance, with so many decimals."""
    sign = 1 if content.result["protocol"]["metric"] == "cosine" else -1
    return lambda value, decimals: f"{sign * value:.{decimals}f}"


def file_name(path: str) -> str:
    """The last part of a path, its middle left out where it is long: it ends in what tells files apart."""
    name = path.rpartition("/")[2]
    half = LONGEST_FILE // 2
    return name if len(name) <= LONGEST_FILE else f"{name[:half]}…{name[1 - half :]}"


def card_lines(card: dict[str, Any]) -> list[tuple[str, str]]:
    """Label and text of each entry of a protocol card."""
    return [(LABELS.get(name, name.replace("_", " ").capitalize()), _told(name, value)) for name, value in card.items()]


def short(name: str) -> str:
    """A name of at most so many characters as there is room for."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def _told(name: str, value: Any) -> str:
    if value is None:
        return "not known" if "_seen_in_" in name else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value) if name == "step" else f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_told(key, each)}" for key, each in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(_told(name, each) for each in value) or "none"
    return str(value)


def _file(name: str) -> str:
    return resources.files("lapel.report").joinpath(name).read_text(encoding="utf-8")


def _confused(content: Content) -> list[tuple[str, str, int, float]]:
    """The pairs of categories that are mixed up most often: true one, taken for, queries, share of the true one's."""
    if content.confusion is None:
        return []
    counts = content.confusion.to_numpy().copy()
    totals = counts.sum(1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:CONFUSED]
    rows, columns = np.unravel_index(order, counts.shape)
    names = [short(str(name)) for name in content.confusion.index]
    return [
        (names[row], names[column], int(counts[row, column]), float(counts[row, column] / totals[row]))
        for row, column in zip(rows, columns, strict=True)
        if counts[row, column]
    ]


def _steps(points: MapPoints, count: int) -> np.ndarray:
    """int64 `[count, 2]`: places of the first points in steps of the map, from the left and from the top."""
    coordinates = points.coordinates[:count] * [1, -1]
    spread = max(float(np.ptp(coordinates, axis=0).max()), 1e-9)
    return np.round((coordinates - coordinates.min(0)) / spread * STEPS).astype(np.int64)


def map_svg(points: MapPoints, count: int) -> Markup:
    """The map as an SVG element: a path a category, whose points are strokes of no length with round ends.

    Args:
        points: of the map.
        count: how many of them are shown, the first ones.
    """
    steps, colours = _steps(points, count), map_colours(points)
    groups = points.groups[:count]
    paths = []
    for group in _by_size(groups):
        drawn = "".join(f"M{x} {y}h0" for x, y in steps[groups == group].tolist())
        paths.append(f'<path data-group="{group}" stroke="{colours[group]}" d="{drawn}"/>')
    width, height = (steps.max(0) + 2 * MARGIN).tolist()
    size = ' class="many"' if count > MANY else ' class="scant"' if count <= SCANT else ""
    label = f"Map of {count} images by their embeddings, coloured by category"
    return Markup(
        f'<svg id="map"{size} role="img" aria-label="{label}" viewBox="{-MARGIN} {-MARGIN} {width} {height}">'
        f'{"".join(paths)}<circle visibility="hidden" r="1"/></svg>'
    )


def _by_size(groups: np.ndarray) -> list[int]:
    """The categories that have points, the largest first: what is drawn later lies on top."""
    sizes = np.bincount(groups)
    return [group for group in np.argsort(-sizes, kind="stable").tolist() if sizes[group]]


def legend(points: MapPoints, count: int) -> list[tuple[int, str, str, int]]:
    """Position, name, colour and points of the largest categories on the map."""
    groups, colours = points.groups[:count], map_colours(points)
    sizes = np.bincount(groups)
    return [(group, points.names[group], colours[group], int(sizes[group])) for group in _by_size(groups)[:LEGEND]]


def map_data(points: MapPoints, pictures: Sheets) -> Markup:
    """The map's data as JSON that may stand in a page: of the points that have a picture."""
    count = pictures.pictures
    proportions = points.proportions[:count].round(3)
    content: dict[str, Any] = {
        "coordinates": base64.b64encode(_steps(points, count).astype("<u2").tobytes()).decode(),
        "groups": points.groups[:count].tolist(),
        "captions": [short(caption) for caption in points.captions[:count]],
        "proportions": proportions[:1].tolist() if np.ptp(proportions) == 0 else proportions.tolist(),
        "sheets": pictures.addresses,
        "columns": pictures.columns,
    }
    # "</script>" or "<!--" in a name would end the element it stands in.
    return Markup(json.dumps(content, separators=(",", ":")).replace("<", "\\u003c"))
