"""What commands say while they work: bars, tables and hints, on a terminal, in a pipe, and where it is to be quiet."""

import io
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from rich.console import Console

from lapel.commands import compare, starting, terminal
from lapel.commands.search import telling_digits
from lapel.config.composing import compose
from lapel.config.evaluation import CompareConfig
from lapel.machine import console, messages
from lapel.training.callbacks import progress
from lapel.training.callbacks.progress import Reckoning, clock
from lapel.training.course import Course


@pytest.fixture(autouse=True)
def wishes() -> Iterator[None]:
    """As the user's wishes were before a test."""
    yield
    messages.keep_quiet(False)


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> io.StringIO:
    """What is printed on a terminal of so many columns."""
    printed = io.StringIO()

    def made(*, stderr: bool = False) -> Console:
        del stderr
        return console.PlainConsole(
            file=printed, force_terminal=True, width=width, color_system=None, markup=False, highlight=False
        )

    monkeypatch.setattr(console, "console", made)
    return printed


def test_tables_fit_a_terminal_and_are_whole_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def filled():
        made = console.plain_table("row", "image", right=["row"])
        made.add_row("1", "photos/" + "x" * 200 + ".jpg")
        return made

    console.show("[red]names[/red] are text", filled())
    piped = capsys.readouterr().out
    assert piped.startswith("[red]names[/red] are text\n")
    assert "x" * 200 + ".jpg" in piped
    assert piped.isascii()
    assert all(line == line.rstrip() for line in piped.splitlines())
    printed = on_a_terminal(monkeypatch, 60)
    console.show(filled())
    assert max(map(len, printed.getvalue().splitlines())) <= 60


def test_lines_and_titles_break_between_words_as_wide_as_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    title = "sizes of the photos, height x width, and a word or two more"
    path = "/a/folder/" + "of-a-long-name" * 4
    said = f"  doubtful: half of the photos are in {path} alone"

    def filled():
        made = console.plain_table("a", "b", title=title)
        made.add_row("1", "2")
        return made

    console.show(said, filled())
    console.show_whole(said)
    assert capsys.readouterr().out == f"{said}\n{title}\na  b\n1  2\n{said}\n"
    printed = on_a_terminal(monkeypatch, 40)
    console.show(said, filled())
    console.show_whole(said)
    assert [line.rstrip() for line in printed.getvalue().splitlines()] == [
        "  doubtful: half of the photos are in",
        f"  {path}",
        "  alone",
        "sizes of the photos, height x width, and",
        "a word or two more",
        "a   b",
        "─────",
        "1   2",
        said,
    ]


def test_messages_and_errors_break_between_words_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = logging.LogRecord("lapel", logging.INFO, "", 0, "one two " * 10, None, None)
    told = "lapel-test: error: " + "one two " * 10
    assert messages.CurrentStderr().format(record) == "one two " * 10
    terminal.tell("lapel-test", f"error: {'one two ' * 10}")
    assert capsys.readouterr().err == f"{told}\n"
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert messages.CurrentStderr().format(record).splitlines()[0] == "one two one two one two one"
    terminal.tell("lapel-test", f"error: {'one two ' * 10}")
    assert capsys.readouterr().err.splitlines()[0] == "lapel-test: error: one two one"


def test_quiet_leaves_warnings_and_results(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lapel")
    handler = messages.CurrentStderr()
    logging.getLogger().addHandler(handler)
    try:
        for quiet in (True, False):
            messages.keep_quiet(quiet)
            logging.getLogger("lapel.somewhere").info("a message")
            logging.getLogger("lapel.somewhere").warning("a warning")
            told = capsys.readouterr().err
            assert ("a message" in told) is not quiet
            assert "a warning" in told
    finally:
        logging.getLogger().removeHandler(handler)


def test_no_bar_where_it_is_to_be_quiet_or_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert console.progress().disable  # pytest's stderr is no terminal
    on_a_terminal(monkeypatch, 80)
    assert not console.progress().disable
    messages.keep_quiet(True)
    assert console.progress().disable


def test_scores_are_shown_to_as_many_digits_as_tell_them_apart() -> None:
    assert telling_digits([0.5, 0.25]) == 4
    assert telling_digits([0.9999833, 0.99996512, 0.99996504]) == 7
    assert telling_digits([1.0, 1.0, 0.9]) == 4, "what is equal cannot be told apart"
    assert telling_digits([0.1 + 1e-12, 0.1]) == 8, "nor what a float32 does not tell apart"


class Clocked:
    """A training's clocks: that of its steps, which stops between epochs, and that of the wall."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps, self.wall = 0.0, 1000.0
        monkeypatch.setattr(progress.time, "perf_counter", lambda: self.wall)

    def elapsed(self) -> float:
        return self.steps

    def pass_by(self, seconds: float, between: float = 0.0) -> None:
        self.steps += seconds
        self.wall += seconds + between


def test_the_time_left_is_that_of_the_steps_and_of_what_stands_between_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose("train", ["data=wardrobe", "trainer.max_epochs=3"])
    clocks = Clocked(monkeypatch)
    reckoning = Reckoning(Course(config, 10), clocks)  # type: ignore[arg-type]
    assert reckoning.left(0) is None
    for step in range(1, 11):
        clocks.pass_by(2.0, between=7.0 if step == 10 else 0.0)  # the epoch is scored before the step is noted
        reckoning.step(step)
        if step == 5:
            assert reckoning.left(5) == pytest.approx(25 * 2.0)
    assert reckoning.left(10) == pytest.approx(20 * 2.0 + 2 * 7.0)
    assert clock(reckoning.left(10) or 0) == "0:54"


def test_the_bar_says_where_training_is(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose("train", ["data=wardrobe", "trainer.max_epochs=4", "trainer.max_steps=1300"])
    course = Course(config, 430)
    curves = SimpleNamespace(loss_so_far=lambda: 0.10449)
    bar = progress.ProgressBar(Clocked(monkeypatch), curves)  # type: ignore[arg-type]
    bar.reckoning = SimpleNamespace(left=lambda _: 51.2)  # type: ignore[assignment]
    assert bar._state(course, 6) == "epoch 1/4, step 6/430, 0:51 left, loss 0.104"
    assert bar._state(course, 430) == "epoch 1/4, step 430/430, 0:51 left, loss 0.104"
    assert bar._state(course, 1300) == "epoch 4/4, step 10/10, 0:51 left, loss 0.104"


def test_a_comparison_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {"recall@1": 0.905, "recall@1 low": 0.899, "recall@1 high": 0.911}
    less = {"recall@1 difference": 0.0021, "recall@1 difference low": -0.001, "recall@1 difference high": 0.004}
    costs = {"parameters": 1_223_712, "images/s": 4460, "training_seconds": 93}
    name = "fashion_mnist-siam_cat_cos-tiny-20261128-154423"
    told = {"folder": "runs/a", "other options": 0}
    first = {"name": name, **told, "seeds": 3, **scores, **dict.fromkeys(less), "recall@1 p": None, **costs}
    other = {"name": "b", **told, "seeds": 1, **scores, **less, "recall@1 p": 0.211, **costs}
    printed = on_a_terminal(monkeypatch, 80)
    compare._show(pd.DataFrame([first, other]), CompareConfig(metrics=["recall@1"]))
    lines = printed.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[:2] == [f"1  {name}", "   3 seeds, 1,223,712 parameters, 4460 images/s, 1 min 33 s in training steps"]
    (line,) = [each.split() for each in lines if each.split()[:2] == ["2", "0.9050"]]
    assert line == [
        "2",
        "0.9050",
        *["0.8990", "to", "0.9110"],
        "+0.0021",
        *["-0.0010", "to", "+0.0040"],
        "0.211",
    ]


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ([], {}, True),
        (["quiet=true"], {}, False),
        (["--cfg", "job"], {}, False),
        (["--cfg=job"], {}, False),
        (["--version"], {}, False),
        ([], {"RANK": "1"}, False),
    ],
)
def test_a_line_is_said_at_once_where_something_begins(
    arguments: list[str],
    environment: dict[str, str],
    said: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    starting.say_at_once("begins")
    assert capsys.readouterr().out == ("begins\n" if said else "")


def test_nothing_is_said_at_once_before_results_that_go_to_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate.py"])
    with (tmp_path / "scores.txt").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        starting.say_at_once("begins")
    assert (tmp_path / "scores.txt").read_text() == ""


def seen_on_a_terminal(command: list[str], folder: Path) -> str:
    """All that a command writes to a terminal of 80 columns."""
    leader, follower = pty.openpty()
    environment = os.environ | {"COLUMNS": "80", "TERM": "xterm"}
    process = subprocess.Popen(command, cwd=folder, stdin=follower, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    written = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # what Linux says at the end
            break
        if not part:
            break
        written += part
    os.close(leader)
    assert process.wait() == 0, written.decode()
    return written.decode()


@pytest.mark.slow
def test_a_training_shows_where_it_is_and_what_comes_next(tmp_path: Path) -> None:
    script = str(Path(__file__).parents[1] / "train.py")
    arguments = ["data=wardrobe", "data.items=40", "data.size=16", "trainer.max_epochs=2", "encoder.widths=[8,8]"]
    seen = seen_on_a_terminal([sys.executable, script, *arguments], tmp_path)
    assert "epoch 1/2, step 1/" in seen
    assert "epoch 2/2, step " in seen
    assert "next: python evaluate.py run=runs/" in seen
    quiet = subprocess.run(
        [sys.executable, script, *arguments, "quiet=true"], cwd=tmp_path, capture_output=True, check=True
    )
    assert quiet.stdout + quiet.stderr == b""
    assert "epoch 2" in next(tmp_path.glob("runs/*-16*/train.log"), next(tmp_path.glob("runs/*/train.log"))).read_text()
