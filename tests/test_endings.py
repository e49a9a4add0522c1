"""How a training ends: what is its log's last line and in train.json, and that its weights are written first."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lapel
from lapel.config.evaluation import CompareConfig
from lapel.errors import AWAITED, LapelError
from lapel.evaluation.comparison import read_run
from lapel.runs.folder import best_finished
from lapel.training.callbacks import Pictures
from lapel.training.module import SimilarityModule

TRAIN = Path(__file__).parent.parent / "train.py"
THREE = [*TINY, "trainer.max_epochs=3", "trainer.log_every=1"]


def ending(run: Path) -> tuple[str, str, str]:
    """The last line of the log, after its time, and the two fields."""
    told = json.loads((run / "train.json").read_text())
    line = (run / "train.log").read_text().splitlines()[-1]
    return line.split(": ", 1)[1], told["end"], told["why"]


def test_a_training_that_ends_by_its_last_step_says_so(trained_run: Path) -> None:
    line, end, why = ending(trained_run)
    assert line.startswith("best val map@r")
    assert (end, why) == ("finished", "all 8 steps are made")


def test_a_training_without_a_better_score_says_so(working_folder: Path) -> None:
    options = ["trainer.max_epochs=30", "trainer.patience=1", "optim.lr=1e-12"]
    lapel.train(lapel.compose("train", [*TINY, *options]), working_folder / "run")
    _, end, why = ending(working_folder / "run")
    assert (end, why) == ("no better score", "no better map@r on val for 1 epochs (trainer.patience)")


def test_a_training_that_diverges_says_where_and_keeps_its_epochs(working_folder: Path) -> None:
    run = working_folder / "run"
    with pytest.raises(LapelError) as error:
        lapel.train(lapel.compose("train", [*THREE, "optim.schedule=constant", "optim.lr=1e8"]), run)
    line, end, why = ending(run)
    assert "training diverged" in why
    assert why == str(error.value)
    assert (line, end) == (f"failed: {why}", "failed")


def test_embeddings_that_are_not_finite_are_a_training_that_diverged(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where losses are finite still: a step that is too large is seen by validation first."""
    monkeypatch.setattr("lapel.training.module.embed", lambda *_: torch.full((60, 16), torch.nan))
    with pytest.raises(LapelError, match="training diverged: the embeddings of val are not finite"):
        lapel.train(lapel.compose("train", TINY), working_folder / "run")
    assert ending(working_folder / "run")[1] == "failed"


def test_a_training_that_the_watchdog_stops_says_so(working_folder: Path) -> None:
    run = working_folder / "run"
    options = ["watchdog.action=stop", "watchdog.patience=1", "watchdog.rank=1.0", "watchdog.gap=1e9"]
    with pytest.raises(LapelError):
        lapel.train(lapel.compose("train", [*THREE, *options]), run)
    line, end, why = ending(run)
    assert why.startswith("stopped by the watchdog at step")
    assert (line, end) == (f"failed: {why}", "failed")


def test_an_error_that_nobody_foresaw_is_told_in_one_line(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("two\nlines")

    run = working_folder / "run"
    monkeypatch.setattr("lapel.training.module.SimilarityModule.validated", fail)
    with pytest.raises(ZeroDivisionError):
        lapel.train(lapel.compose("train", THREE), run)
    assert ending(run) == ("failed: ZeroDivisionError: two lines", "failed", "ZeroDivisionError: two lines")


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_training_that_is_stopped_says_so_and_goes_on(processes: int, working_folder: Path) -> None:
    command = [sys.executable, str(TRAIN), *TINY, "trainer.max_epochs=200", "hydra.run.dir=run"]
    command += [f"trainer.devices={processes}", "trainer.checkpoint_every=1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    run = working_folder / "run"
    while not (run / "checkpoints" / "last.ckpt").is_file():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    line, end, why = ending(run)
    assert why.startswith("stopped by a signal after step")
    assert (line, end) == (f"interrupted: {why}", "interrupted")


def test_a_resume_without_its_data_says_so(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = working_folder / "run"
    lapel.train(lapel.compose("train", TINY), run)
    before = json.loads((run / "train.json").read_text())

    def gone(_: Any) -> None:
        raise LapelError("photos: no such folder")

    monkeypatch.setattr("lapel.datasets.load", gone)
    with pytest.raises(LapelError):
        lapel.train(lapel.compose("train", [f"resume={run}"]))
    line, end, why = ending(run)
    assert (line, end, why) == ("failed: photos: no such folder", "failed", "photos: no such folder")
    assert json.loads((run / "train.json").read_text())["history"] == before["history"]


def test_runs_that_ended_early_are_neither_the_best_nor_compared(working_folder: Path) -> None:
    for name, end, score in (("a", "finished", 0.5), ("b", "failed", 0.9), ("c", "interrupted", 0.8)):
        (working_folder / name / "evaluation").mkdir(parents=True)
        told = {"monitored": score, "end": end, "why": "the disk is full"}
        (working_folder / name / "train.json").write_text(json.dumps(told))
    (working_folder / "old").mkdir()
    (working_folder / "old" / "train.json").write_text('{"monitored": 0.4}')
    assert best_finished(working_folder) == working_folder / "a"


def test_an_interrupted_run_is_told_by_a_comparison(trained_run: Path, working_folder: Path) -> None:
    copy = working_folder / "run"
    subprocess.run(["cp", "-r", str(trained_run), str(copy)], check=True)
    told = json.loads((copy / "train.json").read_text()) | {"end": "interrupted", "why": "stopped by a signal"}
    (copy / "train.json").write_text(json.dumps(told))
    with pytest.raises(LapelError, match=r"has not ended \(stopped by a signal\); python train\.py resume="):
        read_run(copy, CompareConfig())


# --------------------------------------------------------------------------------------------------- a full disk


def test_an_epochs_weights_are_written_ahead_of_its_pictures(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that is full at the second epoch's pictures: its weights are kept, and a resume lacks no picture."""
    whole, run = working_folder / "whole", working_folder / "run"
    lapel.train(lapel.compose("train", THREE), whole)
    drawn: list[int] = []
    original = Pictures.after_validation

    def full_at_the_second(self: Pictures, *arguments: Any) -> None:
        drawn.append(0)
        if len(drawn) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "tensorboard/events")
        original(self, *arguments)

    monkeypatch.setattr(Pictures, "after_validation", full_at_the_second)
    with pytest.raises(OSError, match="No space left"):
        lapel.train(lapel.compose("train", THREE), run)
    assert ending(run)[1:] == ("failed", "tensorboard/events: No space left on device")
    kept = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert kept["lapel"]["steps"] == 8
    assert [each["step"] for each in json.loads((run / "train.json").read_text())["history"]] == [4, 8]
    lapel.train(lapel.compose("train", [f"resume={run}"]))
    assert ending(run)[1] == "finished"
    for each in (whole, run):
        events = EventAccumulator(str(each), {"histograms": 0})
        events.Reload()
        assert [point.step for point in events.Histograms("distance/val_negative")] == [4, 8, 12]
        assert [point.step for point in events.Scalars("1_val/map@r")] == [4, 8, 12]


def test_weights_are_written_where_curves_cannot_be(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    original = SimilarityModule.validated

    def full_from_now_on(self: SimilarityModule) -> Any:
        monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.flush", full)
        monkeypatch.setattr("torch.utils.tensorboard.FileWriter.add_summary", full)
        return original(self)

    monkeypatch.setattr(SimilarityModule, "validated", full_from_now_on)
    with pytest.raises(OSError, match="No space left"):
        lapel.train(lapel.compose("train", THREE), working_folder / "run")
    kept = torch.load(working_folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert kept["lapel"]["steps"] == 4


def test_after_a_training_signals_are_minded_as_before(working_folder: Path) -> None:
    before = {number: signal.getsignal(number) for number in AWAITED}
    lapel.train(lapel.compose("train", TINY), working_folder / "run")
    assert {number: signal.getsignal(number) for number in AWAITED} == before


@pytest.mark.parametrize("failure", [LapelError("no more"), ValueError("unforeseen")])
def test_after_a_training_that_failed_ctrl_c_ends_what_comes_next(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """In a notebook, or between two trials: Lightning calls no teardown after an error."""

    def fail(*_: object) -> None:
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        raise failure

    before = {number: signal.getsignal(number) for number in AWAITED}
    monkeypatch.setattr(SimilarityModule, "training_step", fail)
    with pytest.raises(type(failure), match=str(failure)):
        lapel.train(lapel.compose("train", TINY), working_folder / "run")
    assert {number: signal.getsignal(number) for number in AWAITED} == before


def test_a_second_ctrl_c_in_a_long_step_ends_it_as_ctrl_c_does(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def two_signals(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the step went on")

    monkeypatch.setattr("lapel.training.callbacks.interrupt.IMPATIENCE", -1.0)
    monkeypatch.setattr(SimilarityModule, "training_step", two_signals)
    before = {number: signal.getsignal(number) for number in AWAITED}
    with pytest.raises(KeyboardInterrupt):
        lapel.train(lapel.compose("train", TINY), working_folder / "run")
    assert {number: signal.getsignal(number) for number in AWAITED} == before
