"""The page itself: a template, filled."""

import base64
import json
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from lapel.files.writing import Staged
from lapel.report.content import Content, MapPoints
from lapel.report.drawings import CELLS, as_png, as_svg, figures, largest, map_colours
from lapel.report.pictures import Sheets, as_uri, sheets

REPORT_FILE = "report.html"
FIGURES = "figures"

# Bytes that the page may take, and those of the map's pictures among them.
MOST_BYTES = 7_900_000
MOST_PICTURES = 4_500_000

# Characters of a name or a caption: six thousand long ones would take more room than their pictures.
LONGEST = 80

# Coordinates are whole numbers of so many steps.
STEPS = 65535

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

CONFUSED = 10

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
        drawn[name] = Markup(as_svg(figure))
        staged.file(f"{FIGURES}/{name}.png").write_bytes(as_png(figure))
    staged.file(REPORT_FILE).write_text(render(content, drawn), encoding="utf-8")


def render(content: Content, drawn: dict[str, Markup]) -> str:
    """The page's text.

    Args:
        content: what it shows.
        drawn: name of each figure -> SVG.
    """
    bare = _filled(content, drawn, Sheets([], 0, 0, 0, len(content.points.pixels)))
    room = MOST_BYTES - len(bare.encode())
    return _filled(content, drawn, sheets(content.points.pixels, min(MOST_PICTURES, room)))


def _filled(content: Content, drawn: dict[str, Markup], pictures: Sheets) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["uri"] = as_uri
    environment.filters["short"] = short
    return environment.from_string(_file("page.html")).render(
        content=content,
        card=content.result["protocol"],
        headlines=[name for name in HEADLINES if name in content.result],
        gains={name: ends[1:] for name, ends in content.result.get("gain", {}).items() if len(ends) == 3},
        scores={name: each for name, each in content.result.items() if isinstance(each, float)},
        drawn=drawn,
        lines=card_lines(content.result["protocol"]),
        confused=_confused(content),
        cells=CELLS,
        seldom=SELDOM,
        left_out=max(0, len(content.confusion) - len(largest(content))),
        points=pictures.pictures,
        map_data=map_data(content.points, pictures),
        style=Markup(_file("page.css")),
        script=Markup(_file("map.js")),
    )


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


def map_data(points: MapPoints, pictures: Sheets) -> Markup:
    """The map's data as JSON that may stand in a page: of the points that have a picture."""
    count = pictures.pictures
    coordinates = points.coordinates[:count]
    low, spread = coordinates.min(0), max(float(np.ptp(coordinates, axis=0).max()), 1e-9)
    steps = np.round((coordinates - low) / spread * STEPS).astype("<u2")
    content: dict[str, Any] = {
        "coordinates": base64.b64encode(steps.tobytes()).decode(),
        "groups": points.groups[:count].tolist(),
        "names": [short(name) for name in points.names],
        "colours": map_colours(points),
        "captions": [short(caption) for caption in points.captions[:count]],
        "sheets": pictures.uris,
        "columns": pictures.columns,
        "width": pictures.width,
        "height": pictures.height,
    }
    # "</script>" or "<!--" in a name would end the element it stands in.
    return Markup(json.dumps(content, separators=(",", ":")).replace("<", "\\u003c"))
