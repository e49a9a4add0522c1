"""Names of a user's, whatever they hold, are shown as text: by the terminal, TensorBoard, figures, JSON and csv."""

import io
import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import photo_trees
import pytest
from rich.table import Table

import lapel
from lapel.commands import data as data_command
from lapel.commands import search as search_command
from lapel.commands.terminal import tell
from lapel.config.export import ExportConfig
from lapel.errors import printable
from lapel.machine.console import PlainConsole
from lapel.machine.messages import CurrentStderr, printable_lines
from lapel.pictures.sheets import contact_sheet, match_sheet
from lapel.report.content import MapPoints
from lapel.report.drawings import _map, _styled  # pyright: ignore[reportPrivateUsage]

HOSTILE = [
    "T-Shirt [navy]", "Kleid [/lang]", "[bold red]x[/]", "_hidden", "$x^", "a\tb", "a\nb", ":smile:",
    "<script>alert(1)",
    '"quoted"', "\x1b[31mred", "{braces}", "%s %d", "\u202egnp.exe", "\x07bell", "a\rb", "\\", "[", "{task.total}",
    "Ärmel ☂ 服", "x" * 300, "=1+1", "[link=http://x]y[/link]",
]  # fmt: skip


def shown(name: str) -> str:
    return printable(name)


def console(width: int = 2000) -> tuple[PlainConsole, io.StringIO]:
    out = io.StringIO()
    made = PlainConsole(file=out, width=width, markup=False, emoji=False, highlight=False, force_terminal=True)
    return made, out


@pytest.mark.parametrize("name", HOSTILE)
def test_the_terminal_shows_names_letter_by_letter(
    name: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    made, out = console()
    table = Table()
    table.add_column("item")
    table.add_row(printable(name))
    made.print(table)
    made.print(f"left out: {name}")
    text = out.getvalue()
    assert f" {shown(name)} " in text
    assert f"left out: {printable_lines(name)}\n" in text
    assert not {"\x07", "\u202e", "\r"} & set(text)
    assert "\x1b[31mred" not in text
    tell("lapel", f"{name}: no such item")
    assert capsys.readouterr().err == f"lapel: {shown(name)}: no such item\n"
    handler = CurrentStderr()
    handler.emit(logging.LogRecord("lapel", logging.INFO, "", 0, "%s is left out", (name,), None))
    told = capsys.readouterr().err
    assert told.replace("\n", "").endswith(" is left out")
    assert not {"\x07", "\u202e", "\r", "\x1b"} & set(told)
    assert caplog is not None


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table whose items, categories and other columns have hostile names, trained on and exported."""
    folder = tmp_path_factory.mktemp("shop")
    names = [name.replace("\n", " ") for name in HOSTILE[:14]]
    rows = [(f"p{row} [red].png", names[row % 14], names[(row % 14) // 2], HOSTILE[row % 23]) for row in range(112)]
    for row, (name, *_) in enumerate(rows):
        photo_trees.save(folder / "photos" / name, photo_trees.photo(row % 14, row))
    table = pd.DataFrame(rows, columns=["image", "item", "category", "note"])
    table["year"] = pd.array([None if row % 3 == 0 else 2000 + row for row in range(112)], dtype="Int64")
    table["price"] = [row / 7 if row % 2 else None for row in range(112)]
    table["since"] = pd.to_datetime(["2024-02-29 12:30"] * 112)
    table["sold"] = [bool(row % 2) for row in range(112)]
    table["tags"] = [["a", HOSTILE[row % 23]] for row in range(112)]
    table.to_parquet(folder / "photos" / "shop.parquet", index=False)
    small = ["trainer=cpu", "trainer.max_epochs=1", "data.size=16", "data.batch_size=32", "encoder.widths=[8,16]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        lapel.train(lapel.compose("train", ["data=table", "data.table=photos/shop.parquet", *small]), folder / "run")
        lapel.export(ExportConfig(run=str(folder / "run")))
        lapel.evaluate(lapel.compose("evaluate", [f"run={folder / 'run'}", "bootstrap.samples=0"]))
    return folder


def printed(shop: Path, main: Any, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shop)
        patch.setenv("XDG_CACHE_HOME", str(shop / "cache"))
        patch.setenv("COLUMNS", "400")
        patch.setattr(sys, "argv", ["lapel", *arguments])
        main()
    return capsys.readouterr().out


def test_check_and_audit_show_names_as_they_are(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "photos" / "p0 [red].png").rename(shop / "away.png")
    try:
        for action in ("check", "audit"):
            out = printed(
                shop,
                data_command.main,
                [action, "data=table", "data.table=photos/shop.parquet", "data.max_bad=1"],
                capsys,
            )
            assert "\x1b" not in out
            assert "\u202e" not in out
            assert action == "audit" or "p0 [red].png" in out
    finally:
        (shop / "away.png").rename(shop / "photos" / "p0 [red].png")


def test_a_search_shows_names_and_types_as_they_are(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = lapel.load(shop / "run" / "bundle").items
    ask = [f"bundle={shop / 'run' / 'bundle'}", "row=1", "k=111"]
    table = printed(shop, search_command.main, ask, capsys)
    found = json.loads(printed(shop, search_command.main, [*ask, "format=json"], capsys))
    assert len(found) == 111
    for each in found:
        expected = items.iloc[each["row"]]
        assert each["item"] == expected["item"]
        assert each["note"] == expected["note"]
        assert each["year"] == (None if each["row"] % 3 == 0 else 2000 + each["row"])
        assert each["price"] == (each["row"] / 7 if each["row"] % 2 else None)
        assert each["sold"] is bool(each["row"] % 2)
        assert each["since"] == "2024-02-29T12:30:00"
        assert each["tags"] == list(expected["tags"])
        assert isinstance(each["score"], float)
        assert "same_pixels" not in each
        assert shown(expected["item"]) in table
        assert shown(expected["image"]) in table
    assert "\x1b" not in table
    listed = pd.read_csv(
        io.StringIO(printed(shop, search_command.main, [*ask, "format=csv"], capsys), newline=""), keep_default_na=False
    )
    assert listed["note"].tolist() == [each["note"] for each in found]


def test_tensorboards_projector_has_a_line_an_image(shop: Path) -> None:
    metadata = shop / "run" / "tensorboard" / "val" / "metadata.tsv"
    lines = metadata.read_text().split("\n")
    assert lines[0] == "item\tcategory"
    tensors = (metadata.parent / "tensors.tsv").read_text().strip().split("\n")
    assert len([line for line in lines[1:] if line]) == len(tensors)
    assert all(line.count("\t") == 1 for line in lines if line)


@pytest.mark.parametrize("name", [*HOSTILE, "", " ", "wide " * 20_000, "x\udc80"])
def test_sheets_of_pictures_have_a_caption_of_any_name(name: str) -> None:
    pixels = np.zeros((3, 4, 4), np.uint8)
    sheet = contact_sheet([(name, [pixels]), ("plain", [pixels])])
    assert sheet.width < 4_000
    plain = contact_sheet([("plain", [pixels]), ("plain", [pixels])])
    assert sheet.height == plain.height
    match_sheet(pixels[None], pixels[None, None], np.array([[True]]), [name])


def test_the_maps_legend_has_every_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = HOSTILE[:16]
    points = MapPoints(
        **{
            **dict.fromkeys(MapPoints.__dataclass_fields__, None),
            "coordinates": np.random.default_rng(0).random((64, 2)), "groups": np.arange(64) % 16, "names": names,
            "method": "principal components",
        }
    )  # fmt: skip
    monkeypatch.setattr("lapel.report.drawings.Content", object)

    class Shown:
        pass

    content: Any = Shown()
    content.points = points
    with _styled(names), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(6, 6))
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _map(content, axes)
        figure.canvas.draw()
        texts = [each.get_text() for each in axes.get_legend().get_texts()]  # pyright: ignore[reportOptionalMemberAccess]
    assert len(texts) == 16
    assert "_hidden" in texts
    assert all(text.isprintable() for text in texts)
