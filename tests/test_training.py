"""Training runs on small drawings: what they write, that they repeat, stop and start as told."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, few_fast
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lapel
from lapel.config.composing import from_plain
from lapel.config.evaluation import Checkpoint, EvaluateConfig, Split
from lapel.errors import LapelError
from lapel.runs.checkpoint import open_run
from lapel.training.optimizers import OneCycle

TRAIN = Path(__file__).parent.parent / "train.py"
VARIANTS = sorted(each.stem for each in (Path(__file__).parent.parent / "conf" / "variant").glob("*.yaml"))


def weights(run: Path, which: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / f"{which}.ckpt", weights_only=True)["state_dict"]


def test_a_run_folder_holds_what_it_should(trained_run: Path) -> None:
    assert trained_run.name.startswith("wardrobe-siam_cat_cos-tiny-")
    (events,) = trained_run.glob("events.out.tfevents.*")
    assert {each.name for each in trained_run.iterdir()} - {events.name} == {
        "bundle", "checkpoints", "config.yaml", "evaluation", "projector_config.pbtxt", "tensorboard", "train.json",
        "train.log",
    }  # fmt: skip
    assert sorted(each.name for each in (trained_run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    summary = json.loads((trained_run / "train.json").read_text())
    assert (summary["epochs"], summary["steps"]) == (2, 2 * summary["images"] // 2 // 32)
    assert summary["images_per_second"] > 0
    assert summary["versions"]["torch"] == torch.__version__.split("+")[0]
    assert summary["monitored"] == max(epoch["map@r"] for epoch in summary["history"])
    assert "epoch 2" in (trained_run / "train.log").read_text()


def test_latest_is_a_link_to_the_run(trained_run: Path) -> None:
    latest = trained_run.parent.parent / "latest"
    assert latest.is_symlink()
    assert latest.resolve() == trained_run


def test_a_checkpoint_loads_safely_and_carries_its_config(trained_run: Path) -> None:
    checkpoint = torch.load(trained_run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == json.loads((trained_run / "train.json").read_text())["steps"]
    assert from_plain(checkpoint["lapel"]["config"]) == lapel.compose("train", TINY)
    assert (checkpoint["lapel"]["steps"], checkpoint["lapel"]["epoch"]) == (checkpoint["global_step"], 2)
    assert any(name.startswith("objectives.category") for name in checkpoint["state_dict"])


def test_tensorboard_has_the_curves(trained_run: Path) -> None:
    events = EventAccumulator(str(trained_run))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {
        "2_loss/total", "2_loss/pair", "2_loss/category", "1_val/recall@1", "1_val/map@r", "optim/lr",
        "speed/images_per_second", "distance/positive", "distance/negative",
    } <= tags  # fmt: skip
    summary = json.loads((trained_run / "train.json").read_text())
    steps = summary["steps"]
    assert [point.step for point in events.Scalars("1_val/map@r")] == [steps // 2, steps]
    assert events.Scalars("optim/lr")[-1].value < 1e-3
    losses = events.Scalars("2_loss/total")  # each the mean since the point before
    weights = np.diff([0, *[point.step for point in losses]])
    for start, epoch in zip([0, steps // 2], summary["history"], strict=True):
        inside = [start < point.step <= epoch["step"] for point in losses]
        mean = np.average([point.value for point in losses], weights=weights * inside)
        assert epoch["loss"] == pytest.approx(mean, rel=1e-5)


def test_the_best_checkpoint_scores_on_val_what_training_said(trained_run: Path, working_folder: Path) -> None:
    assert working_folder
    summary = json.loads((trained_run / "train.json").read_text())
    result = lapel.evaluate(EvaluateConfig(run=str(trained_run), split=Split.val, report=False))
    best = max(summary["history"], key=lambda epoch: epoch["map@r"])
    assert result["map@r"] == pytest.approx(best["map@r"], abs=1e-6)
    assert (trained_run / "evaluation" / "val" / "metrics.json").is_file()


@pytest.mark.parametrize("variant", few_fast(VARIANTS, ["cat", "siam_cat_cos", "triplet", "supcon"]))
def test_every_variant_learns(variant: str, working_folder: Path) -> None:
    """Three epochs bring the val part's MAP@R above that of one step."""
    overrides = [*TINY, f"variant={variant}", "optim.schedule=constant", "trainer.max_epochs=6"]
    lapel.train(lapel.compose("train", overrides))
    history = json.loads((working_folder / "latest/train.json").read_text())["history"]
    untrained = lapel.train(lapel.compose("train", [*overrides, "trainer.max_steps=1", "optim.lr=1e-9"]))
    assert max(epoch["map@r"] for epoch in history) > untrained + 0.02


@pytest.mark.parametrize("sampler", ["pairs", "triplets", "balanced"])
def test_given_pairs_and_triplets_reach_their_losses(sampler: str, working_folder: Path) -> None:
    variant = {
        "pairs": ["variant=siam", "variant.objectives.pair.pairs=given"],
        "triplets": ["variant=triplet", "variant.objectives.triplet.triplets=given"],
        "balanced": ["variant=triplet", "variant.objectives.triplet.triplets=hard"],
    }[sampler]
    best = lapel.train(lapel.compose("train", [*TINY, *variant, f"sampler={sampler}", "trainer.max_epochs=1"]))
    assert 0 < best <= 1
    assert (working_folder / "latest/train.json").is_file()


def test_the_same_seed_gives_the_same_weights_and_another_one_others(working_folder: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        folder = working_folder / name
        folder.mkdir()
        lapel.train(lapel.compose("train", [*TINY, f"seed={seed}"]), folder)
    a, b, c = (weights(working_folder / name) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


@pytest.mark.slow
def test_two_processes_train_as_one_does(working_folder: Path) -> None:
    """Without batch statistics the losses are those of one process; here: the run ends, and its curves are finite."""
    overrides = [*TINY, "trainer=ddp", "trainer.max_epochs=1"]
    best = lapel.train(lapel.compose("train", overrides))
    summary = json.loads((working_folder / "latest/train.json").read_text())
    assert (summary["processes"], summary["monitored"]) == (2, best)
    alone = lapel.train(lapel.compose("train", [*TINY, "trainer.max_epochs=1"]))
    again = json.loads((working_folder / "latest/train.json").read_text())
    assert (summary["images"], summary["steps"]) == (again["images"], again["steps"])
    assert alone == pytest.approx(best, abs=0.2)


def test_max_steps_in_mid_epoch_still_validates_and_saves(working_folder: Path) -> None:
    lapel.train(lapel.compose("train", [*TINY, "trainer.max_steps=7", "trainer.checkpoint_every=2"]))
    run = open_run("latest", Checkpoint.last)
    assert run.step == 7
    assert json.loads((working_folder / "latest/train.json").read_text())["steps"] == 7


def test_divergence_stops_and_names_step_and_loss(working_folder: Path) -> None:
    with pytest.raises(LapelError, match=r"diverged: loss/\w+ is .* at step \d+; a lower optim\.lr"):
        lapel.train(lapel.compose("train", [*TINY, "optim.lr=1e30", "trainer.max_epochs=3", "trainer.log_every=1"]))
    assert working_folder


def test_an_error_before_training_leaves_nothing(working_folder: Path) -> None:
    with pytest.raises(LapelError, match="asks 8 items x 20 images"):
        lapel.train(
            lapel.compose(
                "train", [*TINY, "sampler.images=20", "sampler.items=8", "data.batch_size=160", "data.views=8"]
            )
        )
    assert not list((working_folder / "runs").iterdir())


def test_a_trained_run_is_not_overwritten(trained_run: Path) -> None:
    before = (trained_run / "train.json").read_bytes()
    with pytest.raises(LapelError, match="is not empty"):
        lapel.train(lapel.compose("train", TINY), trained_run)
    assert (trained_run / "train.json").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_a_usable_last_checkpoint(number: signal.Signals, working_folder: Path) -> None:
    command = [sys.executable, str(TRAIN), *TINY, "trainer.max_epochs=100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=working_folder)
    last = working_folder / "latest/checkpoints/last.ckpt"
    while not last.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    os.kill(process.pid, number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number, told
    assert "Traceback" not in told
    assert "last.ckpt holds the state" in told
    run = open_run(str(working_folder / "latest"), Checkpoint.last)
    assert run.step > 0
    assert not [each for each in last.parent.iterdir() if each.suffix != ".ckpt"]


def test_one_cycle_rises_and_falls() -> None:
    cycle = OneCycle(steps=100, warmup=0.25)
    factors = [cycle(step) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 25)
    assert factors[25] == pytest.approx(1)
    assert factors[100] == pytest.approx(1e-5)
    assert factors[:26] == sorted(factors[:26])
    assert factors[25:] == sorted(factors[25:], reverse=True)
    assert all(OneCycle(steps, warmup)(step) <= 1 for steps in (1, 2) for warmup in (0, 0.5, 1) for step in (0, 1, 2))


def test_a_checkpoint_of_another_net_is_told(trained_run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(trained_run, tmp_path / "copy"))
    checkpoint = torch.load(copy / "checkpoints" / "best.ckpt", weights_only=True)
    state = checkpoint["state_dict"]
    state["encoder.head.weight"] = state["encoder.head.weight"][:, :-1]
    state["encoder.former"] = state.pop("encoder.head.bias")
    torch.save(checkpoint, copy / "checkpoints" / "best.ckpt")
    with pytest.raises(LapelError, match=r"best\.ckpt: does not hold .*: 3 weights differ, the first is head\.weight;"):
        open_run(str(copy), Checkpoint.best).encoder()
