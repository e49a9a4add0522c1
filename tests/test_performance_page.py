"""docs/performance.md, from made-up benches: what is on it, and what becomes of one that fails or takes too long."""

import sys
from pathlib import Path

import performance_page
import pytest
from performance_page import Bench, Outcome, page

ROOT = Path(__file__).parent.parent

ROW = '{"name": "a/b", "value": 2.0, "unit": "s", "peer": "other|one", "peer_value": 3.0, "ratio": 1.5}'


def script(folder: Path, text: str, seconds: float = 20) -> Bench:
    path = folder / f"bench{len(list(folder.glob('bench*')))}.py"
    path.write_text(text)
    return Bench([str(path)], seconds, "It measures.")


def test_rows_and_words_are_taken_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = performance_page.run(script(tmp_path, f"print({ROW!r})\nprint('no GPU')"))
    assert outcome.rows == [
        {"name": "a/b", "value": 2.0, "unit": "s", "peer": "other|one", "peer_value": 3.0, "ratio": 1.5}
    ]
    assert outcome.said == ["no GPU"]
    assert outcome.problem == ""
    assert ROW in capsys.readouterr().out


def test_a_bench_that_fails_keeps_its_rows(tmp_path: Path) -> None:
    outcome = performance_page.run(script(tmp_path, f"print({ROW!r}, flush=True)\nraise SystemExit(3)"))
    assert len(outcome.rows) == 1
    assert outcome.problem == "ended with exit code 3"


def test_a_bench_is_stopped_with_all_that_it_started_when_its_time_is_over(tmp_path: Path) -> None:
    child = "import time; time.sleep(60)"
    starts = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])"
    outcome = performance_page.run(script(tmp_path, starts, seconds=0.5))
    assert outcome.problem == "ran past its 0.5 s and was stopped"
    assert outcome.seconds < 10


def test_the_page_tells_command_machine_rows_and_problems() -> None:
    noted = {"name": "c", "value": None, "unit": "s", "peer": "p", "peer_value": None, "ratio": None, "note": "not yet"}
    outcomes = [
        Outcome(
            Bench(["bench/a.py", "x y"], 9, "Of a."), rows=[{"name": "n|m", "value": 2.0, "unit": "s"}], seconds=3.4
        ),
        Outcome(Bench(["bench/b.py"], 9, "Of b."), rows=[noted], problem="ended with exit code 3"),
        Outcome(Bench(["bench/c.py"], 9, "Of c."), said=["there is no GPU here"]),
    ]
    text = page(outcomes, {"machine": "a|b, 2 cores"})
    assert "| machine | a\\|b, 2 cores |" in text
    assert "## A\n\n`python bench/a.py 'x y'`, 3 s. Of a.\n\n| what | value | unit | peer |" in text
    assert "| n\\|m | 2.0 | s |  |  |  |" in text
    assert "It ended with exit code 3.\n" in text
    assert "| c |  | s | p |  |  | not yet |" in text
    assert text.endswith("`python bench/c.py`, 0 s. Of c.\n\nIt said: there is no GPU here\n")


def test_the_page_is_written_where_every_bench_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benches = {"good": script(tmp_path, f"print({ROW!r})"), "bad": script(tmp_path, "raise SystemExit(1)")}
    monkeypatch.setattr(performance_page, "BENCHES", benches)
    monkeypatch.setattr(performance_page, "ROOT", tmp_path)
    monkeypatch.setattr(performance_page, "PAGE", tmp_path / "performance.md")
    for names, code, written in ((["good"], 0, False), (["bad"], 1, False), ([], 1, True)):
        monkeypatch.setattr(sys, "argv", ["performance_page.py", *names])
        with pytest.raises(SystemExit) as ended:
            performance_page.main()
        assert ended.value.code == code
        assert (tmp_path / "performance.md").exists() is written
    text = (tmp_path / "performance.md").read_text()
    assert "| a/b | 2.0 | s | other\\|one | 3.0 | 1.5 |" in text
    assert "It ended with exit code 1." in text
    assert "torch " in text


def test_an_unknown_bench_is_an_error_that_names_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["performance_page.py", "speed"])
    with pytest.raises(SystemExit, match="speed: is no bench; allowed are peers, training"):
        performance_page.main()


def test_all_of_bench_is_on_the_page_and_fits_its_time() -> None:
    benches = performance_page.BENCHES.values()
    assert sum(each.seconds for each in benches) <= performance_page.TOTAL
    assert {each.arguments[0] for each in benches} == {f"bench/{file.name}" for file in (ROOT / "bench").glob("*.py")}


def test_the_written_page_is_of_this_writer() -> None:
    text = (ROOT / "docs" / "performance.md").read_text()
    assert text.startswith(performance_page.BEGINNING)
    for each in performance_page.BENCHES.values():
        assert f"`{each.command}`" in text
