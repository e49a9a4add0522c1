"""What a report shows: plain numbers, tables and pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lapel.report.hubs import Occurrences


@dataclass(frozen=True)
class Picture:
    """An image with what is said of it.

    Args:
        pixels: uint8 `[1 or 3, height, width]`.
        caption: its item, or what else it is.
        right: whether it is a match of the query beside it; None where it is not compared.
    """

    pixels: np.ndarray
    caption: str
    right: bool | None = None


@dataclass(frozen=True)
class Query:
    """A query with its list.

    Args:
        picture: of itself.
        score: its MAP@R.
        matches: how many there are to find, R.
        found: its nearest images, best first.
    """

    picture: Picture
    score: float
    matches: int
    found: list[Picture]


@dataclass(frozen=True)
class Hub:
    """A gallery image that stands in many lists.

    Args:
        picture: of it.
        lists: in how many it stands.
        right: in how many of those it is a match.
    """

    picture: Picture
    lists: int
    right: int


@dataclass(frozen=True)
class MapPoints:
    """Gallery images on a plane.

    Args:
        coordinates: float32 `[points, 2]`.
        groups: int64 `[points]`, category of each, a position in `names`.
        names: of the categories.
        captions: of each point.
        pixels: uint8 `[points, 1 or 3, height, width]`.
        method: what has put them there.
        total: images of the gallery, of which these are some.
    """

    coordinates: np.ndarray
    groups: np.ndarray
    names: list[str]
    captions: list[str]
    pixels: np.ndarray
    method: str
    total: int


@dataclass(frozen=True)
class Content:
    """All that a report shows.

    Args:
        title: the run, or what else was scored.
        result: what metrics.json holds.
        recalls: float64 `[K]`, recall@1, 2, … K.
        curve: float64 `[levels]`, mean precision at evenly spaced shares of the matches found, 0 to 1.
        similarities: float32 `[pairs]`, cosines or minus distances of some pairs; None where there are matches alone.
        alike: bool `[pairs]`, which of them are matches.
        categories: `name`, `queries` and mean scores of each, the worst first.
        confusion: how many of each true category (row) were taken for each (column).
        best, worst: queries.
        occurrences: how often gallery images stand in lists.
        hubs: the images that stand in most.
        points: the map.
        history: scores on val along training; empty without a run.
        config: yaml.
    """

    title: str
    result: dict[str, Any]
    recalls: np.ndarray
    curve: np.ndarray | None
    similarities: np.ndarray | None
    alike: np.ndarray | None
    categories: pd.DataFrame
    confusion: pd.DataFrame
    best: list[Query]
    worst: list[Query]
    occurrences: Occurrences
    hubs: list[Hub]
    points: MapPoints
    history: list[dict[str, Any]]
    config: str
