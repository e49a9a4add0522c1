"""The report's figures, drawn by matplotlib without a display: for the page as SVG, and for papers as PNG.

On the page they take their colours and letters from its style sheet, which knows whether it is light or dark there.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from lapel.errors import printable
from lapel.pictures.letters import fonts_beside, legible
from lapel.report.content import Content, MapPoints

MATCH, OTHER, INK, FAINT, PAPER = "#1a7f4b", "#b8352e", "#1c2024", "#dfe3e8", "#fefefe"
MAIN = "#2457a6"

# What the page's style sheet calls them.
VARIABLES = {MATCH: "right", OTHER: "wrong", INK: "ink", FAINT: "line", PAPER: "paper", MAIN: "main"}

# The map's, of the largest categories, the strong ones first: neither so light nor so dark that white or black swallows
# them.
COLOURS = (
    "#3b7dd8", "#e8862a", "#2f9e58", "#d64550", "#8e63ce", "#a56a43", "#d667b0", "#8b9a2b", "#1fa3b5",
    "#7fb2f0", "#efb356", "#77c98a", "#f08a8a", "#b79be6", "#c9a07f", "#eda0d2", "#bfc550", "#7fd0da",
)  # fmt: skip
UNCOLOURED = "#98a1ab"

# Categories that are drawn: more would be too small to read.
BARS = 30
CELLS = 30
OTHERS = "others"
HUB_BARS = 40

# Area of a dot in the map's legend, in square points.
LEGEND_DOT = 24

# Dots of the training curve, in points: beside each other, and one alone.
DOT, ONE_DOT = 3, 7

# Shares up to it would be told as 0%.
LEAST_SHARE = 0.005

# From so many categories on the cells of the confusion matrix are too small for numbers.
NUMBERED = 15

# Bars of a histogram of pairs: of n of a kind about twice the cube root of n (Rice's rule), within these.
FEWEST_BINS, MOST_BINS = 12, 60

# matplotlib brings this font along; names in Chinese, Japanese and so on need others besides.
LETTERS = "DejaVu Sans"
DPI = 160

# Characters of a name on an axis or in a legend, and of one of which no font has the letters: each takes six.
LONGEST, LONGEST_ESCAPED = 22, 29

# Small enough that text is still read on a phone, where a figure is as wide as the screen.
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "lapel",
    "svg.fonttype": "none",
}


def figures(content: Content) -> Iterator[tuple[str, Figure]]:
    """Name and figure of everything that there is something to draw of."""
    drawn: list[tuple[str, Callable[[Content, Axes], None], tuple[float, float], bool]] = [
        ("recall", _recall, (4.8, 3.1), content.recalls is not None),
        ("precision_recall", _precision_recall, (4.8, 3.1), content.curve is not None),
        ("distances", _distances, (4.8, 3.1), content.similarities is not None),
        ("hubs", _hubs, (4.8, 3.1), content.hubs is not None),
        ("categories", _categories, (4.8, 0.9 + 0.24 * min(BARS, len(content.categories))), _several(content)),
        ("confusion", _confusion, _confusion_size(content.confusion), _confused(content.confusion)),
        ("map", _map, (6.4, 6.0), True),
        ("training", _training, (4.8, 3.1), len(content.history) > 0),
    ]
    for name, draw, size, wanted in drawn:
        if wanted:
            with _styled(_names(content)):
                figure = Figure(figsize=size, layout="constrained")
                FigureCanvasAgg(figure)
                draw(content, figure.add_subplot())
                yield name, figure


def _names(content: Content) -> list[str]:
    """The names that figures show."""
    confused = [] if content.confusion is None else content.confusion.index
    return [str(name) for name in (*content.categories["name"], *confused, *content.points.names)]


@contextmanager
def _styled(names: list[str]) -> Iterator[None]:
    """The report's style, with fonts for the letters of some names."""
    families = [LETTERS, *(_family(file) for file in fonts_beside(legible(" ".join(names))))]
    with mpl.rc_context({**STYLE, "font.family": families}):  # pyright: ignore[reportArgumentType]
        yield


def _family(file: str) -> str:
    """The name by which matplotlib knows a font from now on."""
    name = font_manager.FontProperties(fname=file).get_name()
    if name not in font_manager.get_font_names():
        font_manager.fontManager.addfont(file)
    return name


def _several(content: Content) -> bool:
    """Whether there is more than one category to compare."""
    return len(content.categories) > 1


def as_svg(figure: Figure) -> str:
    """An SVG element, the same text each time, in the page's own colours and letters."""
    file = io.StringIO()
    with _left_to_the_browser(), mpl.rc_context({"svg.hashsalt": "lapel", "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    figure.set_layout_engine("none")  # it is laid out now, and need not be again for another format
    return _in_style(file.getvalue()[file.getvalue().index("<svg") :])


def _in_style(svg: str) -> str:
    """Colours by the names of the style sheet, and letters of the font in which the page is set.

    matplotlib reckons with DejaVu Sans, which is wider than what browsers have: nothing becomes too long.
    """
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    for colour, name in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg


def as_png(figure: Figure) -> bytes:
    """A PNG file, the same bytes each time; from now on the figure has letters alone that some font has."""
    _escape_unknown_letters(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def _escape_unknown_letters(figure: Figure) -> None:
    """Have no boxes in place of letters, and make room for what is written instead."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            texts = [each.get_text() for each in axis.get_ticklabels()]
            if (told := [_known(each) for each in texts]) != texts:
                axis.set_ticks(axis.get_ticklocs(), told)
                figure.set_layout_engine("constrained")
    for each in figure.findobj(Text):
        assert isinstance(each, Text)
        if (told := _known(each.get_text())) != each.get_text():
            each.set_text(told)
            figure.set_layout_engine("constrained")


def _known(text: str) -> str:
    """A text in letters that some font has; what takes more room so loses its last ones."""
    told, kept = legible(text), text
    while len(told) > max(len(text), LONGEST_ESCAPED):
        kept = kept[:-1]
        told = f"{legible(kept)}…"
    return told


@contextmanager
def _left_to_the_browser() -> Iterator[None]:
    """No warning of each letter that no installed font has: it stands as a letter in an SVG file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _recall(content: Content, axes: Axes) -> None:
    assert content.recalls is not None
    ranks = np.arange(1, len(content.recalls) + 1)
    axes.plot(ranks, content.recalls, color=MAIN, linewidth=2)
    for k in (1, 10):
        if k <= len(ranks):
            axes.plot(k, content.recalls[k - 1], "o", color=MAIN)
            at_the_end = 2 * k > len(ranks)
            below = (0 if at_the_end else 8, -28 if k == 1 else -14)  # that they do not meet where the curve is flat
            axes.annotate(
                f"@{k}: {content.recalls[k - 1]:.3f}", (k, content.recalls[k - 1]), below,
                textcoords="offset points", ha="right" if at_the_end else "left",
            )  # fmt: skip
    axes.set_xlabel("K, images looked at")
    axes.set_ylabel("recall@K")
    low = float(content.recalls.min())
    span = max(1 - low, 0.05)
    axes.set_ylim(max(0.0, low - 0.4 * span), 1 + 0.03 * span)
    axes.grid(color=FAINT, linewidth=0.6)


def _precision_recall(content: Content, axes: Axes) -> None:
    assert content.curve is not None
    shares = np.linspace(0, 1, len(content.curve))
    axes.plot(shares, content.curve, color=MAIN, linewidth=2)
    axes.fill_between(shares, content.curve, color=MAIN, alpha=0.12, linewidth=0)
    axes.set_xlabel("share of the matches found")
    axes.set_ylabel("precision until there")
    axes.set_ylim(0, 1.02)
    axes.set_xlim(0, 1)
    axes.grid(color=FAINT, linewidth=0.6)


def _distances(content: Content, axes: Axes) -> None:
    assert content.similarities is not None
    assert content.alike is not None
    cosine = content.result["protocol"]["metric"] == "cosine"
    values = content.similarities if cosine else -content.similarities
    rarer = int(min(content.alike.sum(), (~content.alike).sum()))
    bins = int(np.clip(2 * rarer ** (1 / 3), FEWEST_BINS, MOST_BINS))
    edges = np.linspace(float(values.min()), max(float(values.max()), float(values.min()) + 1e-6), bins + 1)
    for alike, colour, label, style in ((False, OTHER, "different items", "--"), (True, MATCH, "same item", "-")):
        shares, _ = np.histogram(values[content.alike == alike], edges, density=True)
        middles = (edges[1:] + edges[:-1]) / 2
        axes.plot(middles, shares, color=colour, linestyle=style, linewidth=1.6, label=label)
        axes.fill_between(middles, shares, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("cosine similarity" if cosine else "euclidean distance")
    axes.set_yscale("function", functions=(np.sqrt, np.square))  # a good model's matches are one tall spike
    axes.set_ylim(bottom=0)
    axes.set_ylabel("density of pairs (square root)")
    axes.set_yticks([])
    axes.legend(frameon=False)


def _hubs(content: Content, axes: Axes) -> None:
    assert content.hubs is not None
    found = content.hubs.occurrences
    most = int(found.counts.max())
    width = most // HUB_BARS + 1  # of whole numbers, or some bars would hold more of them than others
    axes.hist(found.counts, bins=range(0, most + width + 1, width), color=MAIN, alpha=0.85)
    axes.set_yscale("log")
    axes.set_xlabel(f"top-{found.k} lists in which an image stands")
    axes.set_ylabel("images")
    axes.axvline(float(found.counts.mean()), color=INK, linestyle="--", linewidth=1, label="mean")
    axes.legend(frameon=False)


def _categories(content: Content, axes: Axes) -> None:
    shown = content.categories.iloc[:BARS].iloc[::-1]
    lines = np.arange(len(shown))
    axes.barh(lines, shown["map@r"], color=MAIN, alpha=0.85, height=0.7)
    for line, value in enumerate(shown["map@r"]):
        axes.text(min(value + 0.01, 1.0), line, f"{value:.2f}", va="center", fontsize=8)
    axes.set_yticks(lines, [_short(name) for name in shown["name"]], fontsize=8)
    axes.set_xlim(0, 1.1)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlabel("MAP@R")


def _confused(confusion: pd.DataFrame | None) -> bool:
    """Whether there is more than one category to mix up."""
    return confusion is not None and len(confusion) > 1


def _confusion_size(confusion: pd.DataFrame | None) -> tuple[float, float]:
    side = 1.9 + 0.3 * (0 if confusion is None else min(CELLS, len(confusion)))
    return max(4.2, side), max(3.6, side - 0.3)


def _confusion(content: Content, axes: Axes) -> None:
    assert content.confusion is not None
    table = largest(content.confusion)
    counts = table.to_numpy(dtype=np.float64)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    shown = np.argwhere(shares > LEAST_SHARE).tolist()
    for row, column in shown:  # rectangles: the page's own colour, more or less of it, on its own paper
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=MAIN, linewidth=0, alpha=shares[row, column]))
    axes.set_xlim(-0.5, shares.shape[1] - 0.5)
    axes.set_ylim(shares.shape[0] - 0.5, -0.5)
    axes.grid(visible=False)
    names = [_short(name) for name in table.index]
    taken = [_short(name) for name in table.columns]
    axes.set_xticks(range(len(taken)), taken, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true category")
    if len(names) <= NUMBERED:
        for row, column in shown:
            colour = PAPER if shares[row, column] > 0.5 else INK
            axes.text(
                column, row, f"{100 * shares[row, column]:.0f}", ha="center", va="center", fontsize=7, color=colour
            )


def largest(confusion: pd.DataFrame) -> pd.DataFrame:
    """The confusion matrix of the categories with most queries; a last column is for all the others."""
    counts = confusion.sum(axis=1).to_numpy()
    order = np.sort(np.argsort(-counts, kind="stable")[:CELLS])
    table = confusion.iloc[order, order].copy()
    if len(table) < len(confusion):
        others = counts[order] - table.sum(axis=1).to_numpy()
        table.insert(len(table), OTHERS, others, allow_duplicates=True)  # a category may be called so
    return table


def _map(content: Content, axes: Axes) -> None:
    points, colours = content.points, map_colours(content.points)
    shown = largest_groups(points)
    rest = ~np.isin(points.groups, shown)
    size = float(np.clip(20_000 / max(1, len(points.coordinates)), 2, 30))
    if rest.any():
        axes.scatter(*points.coordinates[rest].T, s=size, color=UNCOLOURED, linewidths=0, label=OTHERS)
    for group in shown:
        axes.scatter(
            *points.coordinates[points.groups == group].T, s=size, color=colours[group], linewidths=0, label=str(group)
        )
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_axis_off()
    axes.set_title(f"{len(points.coordinates):,} images, by {points.method}", fontsize=10)
    legend = axes.legend(frameon=False, fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.01))
    for each in legend.legend_handles:
        assert isinstance(each, PathCollection)
        each.set_sizes([LEGEND_DOT])
    for text in legend.get_texts():  # not by labels: those that begin with an underscore are left out
        if text.get_text() != OTHERS:
            text.set_text(_short(points.names[int(text.get_text())]))


def largest_groups(points: MapPoints) -> list[int]:
    """Positions in `names` of the categories that get a colour of their own, the largest first."""
    sizes = np.bincount(points.groups, minlength=len(points.names))
    return [group for group in np.argsort(-sizes, kind="stable")[: len(COLOURS)].tolist() if sizes[group]]


def map_colours(points: MapPoints) -> list[str]:
    """Of each category, on the map's drawing and on the map itself."""
    colours = [UNCOLOURED] * len(points.names)
    for group, colour in zip(largest_groups(points), COLOURS, strict=False):
        colours[group] = colour
    return colours


def _training(content: Content, axes: Axes) -> None:
    epochs = [each["epoch"] for each in content.history]
    for name, colour, style in (("recall@1", MAIN, "-"), ("map@r", MATCH, "--")):
        values = [each[name] for each in content.history if name in each]
        if len(values) == len(epochs):
            axes.plot(epochs, values, style, color=colour, marker="o", markersize=_dot(epochs), label=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(epochs) == 1:
        axes.set_xlim(epochs[0] - 0.5, epochs[0] + 0.5)  # within which no other epoch is
    axes.set_ylim(top=min(axes.get_ylim()[1], 1.02))
    axes.set_xlabel("epoch")
    axes.set_ylabel("score on val")
    axes.grid(color=FAINT, linewidth=0.6)
    losses = [each["loss"] for each in content.history if "loss" in each]
    if len(losses) == len(epochs):
        _beside(axes, epochs, losses)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 0.98), ncol=3)


def _beside(axes: Axes, epochs: list[float], losses: list[float]) -> None:
    """The loss of each epoch, which has an axis of its own on the right."""
    right = axes.twinx()
    right.plot(epochs, losses, ":", color=OTHER, marker="o", markersize=_dot(epochs))
    right.set_ylim(bottom=min(0.0, *losses))
    right.set_ylabel("loss")
    right.spines["right"].set_visible(True)
    axes.plot([], [], ":", color=OTHER, marker="o", markersize=_dot(epochs), label="loss (right)")


def _dot(epochs: list[float]) -> int:
    return DOT if len(epochs) > 1 else ONE_DOT


def _short(name: object) -> str:
    """A name as an axis has room for it; what would be read as a formula is not."""
    told = printable(" ".join(str(name).replace("$", r"\$").split()))
    return told if len(told) <= LONGEST else f"{told[: LONGEST - 1]}…"
