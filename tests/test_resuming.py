"""A killed run that is resumed ends as one that was never interrupted: weights, best checkpoint, history, curves."""

import contextlib
import json
import shutil
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
from lapel.errors import LapelError
from lapel.runs.folder import held

DRIVER = Path(__file__).parent / "killed_training.py"

# Everything that has a state: momentum, means of the weights, a memory, a miner that draws, a schedule, augmentation.
OPTIONS = [
    *TINY, "trainer.max_epochs=3", "trainer.checkpoint_every=2", "trainer.log_every=2", "optim.ema=0.8",
    "loss=multi_similarity", "loss.memory=48", "miner=uniform_histogram", "optim.clip=1.0",
    "optim=muon", "optim.norm_bias_lr=4", "augment=strong", "augment.alternate=true",
]  # fmt: skip


def drive(folder: Path, moment: str, number: int, overrides: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DRIVER), str(folder), moment, str(number), *overrides]
    return subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of OPTIONS that nothing disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    ended = drive(folder, "never", 0, OPTIONS)
    assert ended.returncode == 0, ended.stderr
    return folder


def content(run: Path, which: str) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / f"{which}.ckpt", weights_only=True)


def history(run: Path) -> list[dict[str, float]]:
    """Without seconds, which no two runs share."""
    told = json.loads((run / "train.json").read_text())["history"]
    return [{name: value for name, value in each.items() if name != "images_per_second"} for each in told]


def points(run: Path) -> dict[str, list[tuple[int, float | None]]]:
    """Step and value of each point of each curve, and of each picture; of the speed, steps alone."""
    events = EventAccumulator(str(run), {"histograms": 0, "images": 0})
    events.Reload()
    found = {}
    for tag in events.Tags()["images"]:
        found[tag] = [(each.step, float(len(each.encoded_image_string))) for each in events.Images(tag)]
    for tag in events.Tags()["histograms"]:
        found[tag] = [(each.step, each.histogram_value.sum) for each in events.Histograms(tag)]
    for tag in events.Tags()["scalars"]:
        timed = tag.startswith("speed/")
        found[tag] = [(each.step, None if timed else each.value) for each in events.Scalars(tag)]
    return found


def assert_equal_runs(found: Path, expected: Path) -> None:
    for which in ("last", "best"):
        one, other = content(found, which), content(expected, which)
        assert one["global_step"] == other["global_step"]
        assert one["state_dict"].keys() == other["state_dict"].keys()
        for name, tensor in other["state_dict"].items():
            assert torch.equal(one["state_dict"][name], tensor), (which, name)
    assert history(found) == history(expected)
    assert points(found) == points(expected)
    assert not list((found / "checkpoints").glob(".*"))


MOMENTS = [
    ("checkpoint", 4), ("step", 1), ("step", 2), ("step", 5), ("step", 9), ("step", 12), ("validation", 1),
    ("validation", 2), ("validation", 3), ("checkpoint", 1), ("checkpoint", 5), ("checkpoint", 7), ("renamed", 3),
    ("renamed", 4), ("renamed", 5), ("pictures", 1), ("pictures", 3), ("drawn", 2), ("drawn", 3),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "number"), MOMENTS)
def test_a_killed_run_ends_as_if_it_had_not_been(moment: str, number: int, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert drive(run, moment, number, OPTIONS).returncode == -signal.SIGKILL
    assert not (run / "train.json").exists()
    resumed = drive(run, "never", 0, ["RESUME"])
    assert resumed.returncode == 0, resumed.stderr
    assert_equal_runs(run, uninterrupted)


@pytest.mark.slow
def test_a_run_of_two_processes_resumes_exactly(tmp_path: Path) -> None:
    options = [*OPTIONS, "trainer.devices=2"]
    whole = tmp_path / "whole"
    assert drive(whole, "never", 0, options).returncode == 0
    for number in (3, 6, 9):
        run = tmp_path / str(number)
        kill_at(run, number, options)
        resumed = drive(run, "never", 0, ["RESUME"])
        assert resumed.returncode == 0, resumed.stderr
        assert_equal_runs(run, whole)


def kill_at(run: Path, checkpoints: int, options: list[str]) -> None:
    """Kill the command, without a warning, once so many checkpoints were written."""
    command = [sys.executable, str(DRIVER), str(run), "never", "0", *options]
    process = subprocess.Popen(command, cwd=run.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen: set[tuple[int, int]] = set()
    last = run / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 200
    while len(seen) < checkpoints and process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            seen.add((last.stat().st_ino, last.stat().st_mtime_ns))
        time.sleep(0.002)
    process.kill()
    process.wait()
    time.sleep(1.0)  # its processes end with it


@pytest.mark.slow
def test_a_run_resumed_on_more_processes_sees_the_same_batches(tmp_path: Path) -> None:
    """Without batch statistics what it learns is the same, too, but for the order of sums."""
    options = [*OPTIONS, "loss=supcon", "~miner", "trainer.max_epochs=2"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert drive(whole, "never", 0, options).returncode == 0
    assert drive(run, "step", 7, options).returncode == -signal.SIGKILL
    resumed = drive(run, "never", 0, ["RESUME", "trainer.devices=2"])
    assert resumed.returncode == 0, resumed.stderr
    assert [each["step"] for each in history(run)] == [each["step"] for each in history(whole)]
    assert {tag: [step for step, _ in found] for tag, found in points(run).items()} == {
        tag: [step for step, _ in found] for tag, found in points(whole).items()
    }


# ------------------------------------------------------------------------------------------------- by hand


def test_a_finished_run_has_nothing_left_to_do(uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    (run / "train.json").unlink()  # killed at the very end
    before = (run / "checkpoints" / "last.ckpt").read_bytes()
    best = lapel.train(lapel.compose("train", [f"resume={run}"]))
    assert best == json.loads((uninterrupted / "train.json").read_text())["monitored"]
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == before
    assert history(run) == history(uninterrupted)


def test_what_a_resume_may_not_change_is_told(uninterrupted: Path) -> None:
    for override, told in (
        ("optim.lr=1", "optim.lr cannot be changed; allowed are data.root, trainer.accelerator, trainer.devices"),
        ("variant=triplet", "variant cannot be changed"),
        ("trainer.max_epochs=9", "trainer.max_epochs cannot be changed"),
        ("data.store=ram", "data.store cannot be changed"),  # the wardrobe has none
    ):
        with pytest.raises(LapelError, match=told) as caught:
            lapel.compose("train", [f"resume={uninterrupted}", override])
        assert "\n" not in str(caught.value)
    changed = lapel.compose("train", [f"resume={uninterrupted}", "trainer.threads=1"])
    assert (changed.trainer.threads, changed.optim.ema) == (1, 0.8)


def test_a_resume_of_nothing_or_of_something_else_is_told(uninterrupted: Path, tmp_path: Path) -> None:
    with pytest.raises(LapelError, match="resume=nowhere: no such run folder"):
        lapel.compose("train", ["resume=nowhere"])
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("embedding: 16", "embedding: 8"))
    with pytest.raises(LapelError, match=r"last\.ckpt: is of another config: encoder\.embedding is 16 there, and 8 in"):
        lapel.train(lapel.compose("train", [f"resume={run}"]))
    (run / "config.yaml").write_text(config)
    (run / "checkpoints" / "last.ckpt").write_bytes(b"half")
    with pytest.raises(LapelError, match="not a readable checkpoint"):
        lapel.train(lapel.compose("train", [f"resume={run}"]))


def test_two_processes_do_not_train_in_one_folder(uninterrupted: Path) -> None:
    with held(uninterrupted), pytest.raises(LapelError, match="another process is training there"):
        lapel.train(lapel.compose("train", [f"resume={uninterrupted}"]))
