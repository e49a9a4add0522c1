"""Names of any script in pictures and charts: their letters, or what Python writes for them, and never boxes."""

import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fontTools.ttLib import TTFont
from PIL import Image

from lapel.pictures import letters
from lapel.pictures.finds import SIDE, Find, Finds, as_sheet
from lapel.pictures.letters import fonts_beside, legible, shortened, text_width
from lapel.pictures.sheets import contact_sheet, match_sheet
from lapel.report import Content, MapPoints
from lapel.report.drawings import as_png, as_svg, figures

PIXELS = np.full((3, 8, 8), 200, np.uint8)


@pytest.fixture(autouse=True)
def no_other_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[list[str]], None]]:
    """Fonts besides the one that matplotlib brings along: none, until a test says which."""
    forget: Callable[[], None] = letters._font_of.cache_clear  # pyright: ignore[reportPrivateUsage]

    def has(files: list[str]) -> None:
        monkeypatch.setattr("lapel.pictures.letters._of_the_system", lambda: files)
        forget()

    has([])
    yield has
    forget()


@pytest.fixture
def japanese(tmp_path: Path) -> str:
    """A font of two letters, which look like A and W."""
    font = TTFont(str(letters._plain().path))  # pyright: ignore[reportPrivateUsage]
    for table in font["cmap"].tables:
        table.cmap = {ord("日"): table.cmap[ord("A")], ord("本"): table.cmap[ord("W")]}
    for record in font["name"].names:
        record.string = str(record).replace("DejaVu", "Made").encode(record.getEncoding())
    font.save(tmp_path / "made.ttf")
    return str(tmp_path / "made.ttf")


def sheets_of(name: str) -> list[bytes]:
    find = Find(PIXELS.transpose(1, 2, 0), ["1: 0.9", name])
    return [
        contact_sheet([(name, [PIXELS] * 5)]).tobytes(),
        match_sheet(PIXELS[None], PIXELS[None, None], np.array([[True]]), [name]).tobytes(),
        as_sheet(Finds(["heading"], find, [find])).tobytes(),
        as_sheet(Finds([name], Find(None, ["x"]), [])).tobytes(),
    ]


@pytest.mark.parametrize(("name", "other"), [("éé", "öö"), ("ßß", "ññ"), ("ωω", "ψψ"), ("жж", "щщ"), ("שש", "םם")])
def test_letters_look_like_themselves(name: str, other: str):
    for one, another in zip(sheets_of(name), sheets_of(other), strict=True):
        assert one != another
    assert legible(name) == name


def test_letters_that_no_font_has_are_written_as_python_writes_them():
    assert legible("日本 shirt") == "\\u65e5\\u672c shirt"
    assert sheets_of("日本") == sheets_of("\\u65e5\\u672c")
    assert legible("a\n b\x1b\udc80") == "a b\\x1b\\udc80"


def test_a_font_of_the_system_is_used_for_the_letters_that_it_has(
    no_other_fonts: Callable[[list[str]], None], japanese: str, tmp_path: Path
):
    (tmp_path / "none.ttf").write_bytes(b"no font")
    no_other_fonts([str(tmp_path / "none.ttf"), japanese])
    assert legible("日本 語") == "日本 \\u8a9e"
    assert fonts_beside("x 日本") == [japanese]
    assert fonts_beside("жёлтый") == []
    assert sheets_of("日日") == sheets_of("AA")
    for one, another in zip(sheets_of("x 日 y"), sheets_of("x 本 y"), strict=True):
        assert one != another


def test_letters_that_are_written_apart_are_put_together():
    assert legible("e\u0301") == "é"


@pytest.mark.parametrize("text", ["W" * 40, "日本" * 40, "i" * 500, "a b " * 30_000])
def test_what_is_too_long_is_cut_to_its_room(text: str):
    told = shortened(text, SIDE)
    assert told.endswith("…")
    assert legible(text).startswith(told[:-1])
    assert SIDE * 0.9 < text_width(told) <= SIDE
    assert shortened("short", SIDE) == "short"


def content_of(names: list[str]) -> Content:
    count = len(names)
    nothing: dict[str, Any] = dict.fromkeys(field.name for field in fields(Content))
    points: dict[str, Any] = dict.fromkeys(field.name for field in fields(MapPoints))
    coordinates = np.random.default_rng(0).random((20, 2))
    points |= {"coordinates": coordinates, "groups": np.arange(20) % count, "names": names, "method": "PCA"}
    scores = pd.DataFrame({"name": names, "map@r": np.linspace(0.1, 0.5, count)})
    confusion = pd.DataFrame(np.arange(count**2).reshape(count, count), names, names)
    once = {"epoch": 1.0, "recall@1": 0.5, "map@r": 0.3, "loss": 0.4}
    return Content(
        **nothing | {"points": MapPoints(**points), "categories": scores, "confusion": confusion, "history": [once]}
    )


def texts_of(figure: Any) -> set[str]:
    figure.canvas.draw()
    return {each.get_text() for each in figure.findobj(lambda each: hasattr(each, "get_text"))}


@pytest.mark.parametrize("known", [False, True])
def test_charts_have_names_and_no_boxes(no_other_fonts: Callable[[list[str]], None], japanese: str, known: bool):
    no_other_fonts([japanese] if known else [])
    long = "日" * 60
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, figure in figures(content_of(["日本", "жёлтый", "$x_$ é", long])):
            svg, png = as_svg(figure), as_png(figure)
            assert Image.open(io.BytesIO(png)).width > 300
            if name == "training":
                continue
            assert "日本" in svg  # the browser has its letters
            assert {"日本" if known else "\\u65e5\\u672c", "жёлтый", "\\$x_\\$ é"} <= texts_of(figure)
            assert ("日" * 21 if known else "\\u65e5" * 4) + "…" in texts_of(figure)


def test_the_curve_of_one_epoch_has_no_other():
    (figure,) = (figure for name, figure in figures(content_of(["a"])) if name == "training")
    figure.canvas.draw()
    axes = figure.axes[0]
    assert [each.get_text() for each in axes.get_xticklabels() if 0.5 <= each.get_position()[0] <= 1.5] == ["1"]
    assert axes.get_xlim() == (0.5, 1.5)
    assert min(each.get_markersize() for each in axes.get_lines()) > 5
