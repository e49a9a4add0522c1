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
        name: of its file, or the number of its row.
        similarity: to the query beside it: the cosine, or minus the distance; None where it is not compared.
        right: whether it is a match of that query; None where it is not compared, or all matches stand before it.
    """

    pixels: np.ndarray
    caption: str
    name: str
    similarity: float | None = None
    right: bool | None = None


@dataclass(frozen=True)
class Missed:
    """A match that is not among the finds shown.

    Args:
        picture: of it.
        rank: where it stands in the whole ranking.
    """

    picture: Picture
    rank: int


@dataclass(frozen=True)
class Query:
    """A query with its list.

    Args:
        picture: of itself.
        score: its MAP@R.
        matches: how many there are to find, R.
        found: its nearest images, best first.
        missed: the best-ranked matches that are not among them, where something else is.
    """

    picture: Picture
    score: float
    matches: int
    found: list[Picture]
    missed: list[Missed]


@dataclass(frozen=True)
class Queries:
    """Some queries that are shown together.

    Args:
        heading: which they are.
        told: how they were chosen.
        queries: themselves.
    """

    heading: str
    told: str
    queries: list[Query]


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
class Hubs:
    """Gallery images that stand in many lists, and how often all of them do.

    Args:
        occurrences: how often gallery images stand in lists.
        busiest: the images that stand in most.
    """

    occurrences: Occurrences
    busiest: list[Hub]


@dataclass(frozen=True)
class MapPoints:
    """Gallery images on a plane.

    Args:
        coordinates: float32 `[points, 2]`.
        groups: int64 `[points]`, category of each, a position in `names`.
        names: of the categories.
        captions: of each point.
        pixels: uint8 `[points, 1 or 3, height, width]`.
        proportions: float64 `[points]`, width over height in which each is shown.
        method: what has put them there.
        total: images of the gallery, of which these are some.
    """

    coordinates: np.ndarray
    groups: np.ndarray
    names: list[str]
    captions: list[str]
    pixels: np.ndarray
    proportions: np.ndarray
    method: str
    total: int


@dataclass(frozen=True)
class Difference:
    """A score of two runs.

    Args:
        name: of the score, or of the category whose queries it is the mean of.
        mine, other: of the run that is reported, and of the one beside it.
        ends: of the interval of their difference; None where nothing was drawn.
        chance: two-sided p-value of it.
        queries: of how many it is the mean; None for all.
    """

    name: str
    mine: float
    other: float
    ends: tuple[float, float] | None = None
    chance: float | None = None
    queries: int | None = None


@dataclass(frozen=True)
class Rival:
    """Another run, scored on the same images.

    Args:
        name: of it.
        told: how the intervals were made; None without them.
        scores: one after the other.
        categories: MAP@R of each category, by ascending difference.
        fewest: queries of a category, fewer of which give no interval.
    """

    name: str
    told: str | None
    scores: list[Difference]
    categories: list[Difference]
    fewest: int


@dataclass(frozen=True)
class Content:
    """All that a report shows. What there is too little of to say anything is None.

    Args:
        title: the run, or what else was scored.
        facts: label and text of what is known of it: when, by which code, on which data, how it was trained.
        item: what makes two images a match here, in words.
        result: what metrics.json holds.
        recalls: float64 `[K]`, recall@1, 2, … K.
        curve: float64 `[levels]`, mean precision at evenly spaced shares of the matches found, 0 to 1.
        similarities: float32 `[pairs]`, cosines or minus distances of some pairs.
        alike: bool `[pairs]`, which of them are matches; None where those are.
        categories: `name`, `queries` and mean scores of each, the worst first.
        confusion: how many of each true category (row) were taken for each (column), by the vote of nearest images.
        shown: queries with what was found for them.
        hubs: images that stand in many lists.
        points: the map.
        history: scores on val along training; empty without a run.
        rival: the run beside this one.
        config: yaml.
    """

    title: str
    facts: list[tuple[str, str]]
    item: str
    result: dict[str, Any]
    recalls: np.ndarray | None
    curve: np.ndarray | None
    similarities: np.ndarray | None
    alike: np.ndarray | None
    categories: pd.DataFrame
    confusion: pd.DataFrame | None
    shown: list[Queries]
    hubs: Hubs | None
    points: MapPoints
    history: list[dict[str, Any]]
    rival: Rival | None
    config: str
