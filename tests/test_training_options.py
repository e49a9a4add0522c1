"""What a researcher asks of a training: stages, schedules, batches in chunks, averaged weights, early warnings."""

import json
import math
import os
import pickle
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # pyright: ignore[reportAttributeAccessIssue]
from torch import Tensor, nn

import lapel
from lapel.config.composing import flat, how_keys, to_plain
from lapel.config.evaluation import Checkpoint
from lapel.config.export import ExportConfig
from lapel.config.optim import OptimConfig, Schedule
from lapel.config.stages import StageConfig
from lapel.config.train import TrainConfig
from lapel.errors import LapelError
from lapel.losses import Objective
from lapel.runs.checkpoint import open_run
from lapel.training.averaging import AveragedWeights
from lapel.training.batch_loss import kept_buffers
from lapel.training.callbacks.projector import few_dimensions
from lapel.training.callbacks.watchdog import effective_rank
from lapel.training.course import Course
from lapel.training.module import SimilarityModule
from lapel.training.optimizers import Cosine, Linear, OneCycle, Steps, schedule
from lapel.training.process import prepare
from lapel.training.rate_finder import sweep

VIT = ["data=wardrobe", "data.items=40", "data.views=5", "data.size=32", "data.batch_size=32", "sampler.images=4",
       "encoder=trunk", "encoder.name=test_vit", "encoder.embedding=16", "trainer=cpu"]  # fmt: skip
CONVOLUTIONS = [*(each for each in VIT if "test_vit" not in each), "encoder.name=test_efficientnet"]


TINY_CONFIG: TrainConfig = lapel.compose("train", TINY)


def summary(run: Path) -> dict[str, Any]:
    return json.loads((run / "train.json").read_text())


def scalars(run: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    return [(each.step, each.value) for each in events.Scalars(tag)]


def module_of(overrides: list[str]) -> SimilarityModule:
    module, _ = prepare(lapel.compose("train", overrides))
    return module.train()


# ------------------------------------------------------------------------------------------------- schedules


@settings(max_examples=60, deadline=None)
@given(steps=st.integers(1, 300), warmup=st.floats(0, 0.5), name=st.sampled_from(list(Schedule)))
def test_every_schedule_rises_and_never_leaves_its_range(steps: int, warmup: float, name: Schedule) -> None:
    factor = schedule(OptimConfig(schedule=name, warmup=warmup), steps)
    found = [factor(step) for step in range(steps + 1)]
    assert all(0 <= each <= 1 + 1e-9 for each in found)
    rising = math.floor(warmup * steps) if name is not Schedule.constant else 0
    assert found[:rising] == sorted(found[:rising])
    if rising < steps and name is not Schedule.constant:
        assert found[math.ceil(warmup * steps) :] == sorted(found[math.ceil(warmup * steps) :], reverse=True)


def test_schedules_by_hand() -> None:
    assert [Cosine(10, 0.2)(step) for step in (0, 1, 2, 6, 10)] == pytest.approx([0.5, 1, 1, 0.5, 0])
    assert [Linear(10, 0.2)(step) for step in (0, 1, 2, 6, 10)] == pytest.approx([0.5, 1, 1, 0.5, 0])
    assert [Steps(10, 0.1, [0.5, 0.8], 0.1)(step) for step in (0, 4, 5, 8)] == pytest.approx([1, 1, 0.1, 0.01])
    assert OneCycle(100, 0.25)(25) == 1.0


def test_the_learning_rate_of_each_part() -> None:
    overrides = [*VIT, "encoder.trunk_lr=0.5", "optim.depth_decay=0.5", "optim.loss_lr=10", "optim.schedule=constant"]
    overrides += ["optim=adamw"]
    module = module_of([*overrides, "optim.lr=1e-3", "variant=siam_cat_cos"])
    optimizer = module.configure_optimizers()[0][0]
    rates = {id(each): group["lr"] for group in optimizer.param_groups for each in group["params"]}
    named = dict(module.named_parameters())
    assert rates[id(named["encoder.head.weight"])] == pytest.approx(1e-3)
    assert rates[id(named["objectives.category.loss.classifier.weight"])] == pytest.approx(1e-2)
    depths = [rates[id(each)] for name, each in named.items() if name.endswith("attn.qkv.weight")]
    assert [later / earlier for earlier, later in pairwise(depths)] == pytest.approx([2.0] * (len(depths) - 1))
    assert max(depths) <= 5e-4 < 2 * max(depths)
    assert set(map(id, module.parameters())) == set(rates)


@pytest.mark.parametrize("optim", ["adamw", "adam", "sgd", "muon"])
@pytest.mark.parametrize("name", ["cosine", "linear", "step"])
def test_every_optimizer_and_schedule_trains(optim: str, name: str, working_folder: Path) -> None:
    lapel.train(lapel.compose("train", [*TINY, f"optim={optim}", f"optim.schedule={name}", "optim.clip=1"]))
    assert summary(working_folder / "latest")["epochs"] == 2


def test_gradients_are_clipped_in_bf16(working_folder: Path) -> None:
    options = [*TINY, "trainer.precision=bf16", "optim.clip=1e-6", "optim=sgd", "optim.momentum=0", "optim.lr=1"]
    options += ["optim.nesterov=false", "optim.weight_decay=0", "optim.schedule=constant", "trainer.max_steps=1"]
    before = {name: each.clone() for name, each in module_of(options).named_parameters()}
    lapel.train(lapel.compose("train", options), working_folder / "run")
    state = torch.load(working_folder / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    moved = torch.stack([(state[name] - each).norm() for name, each in before.items()]).norm()
    assert float(moved) == pytest.approx(1e-6, rel=0.1)


def test_curves_have_the_rate_of_their_step_and_the_log_the_mean_loss(
    working_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="lapel")
    options = [*TINY, "trainer.log_every=1", "optim.schedule=step", "optim.warmup=0", "optim.milestones=[0.5]"]
    lapel.train(lapel.compose("train", options), working_folder / "run")
    steps = summary(working_folder / "run")["steps"]
    for name, rate in ("lr", 5e-3), ("matrix_lr", 0.04):
        rates = [value for _, value in scalars(working_folder / "run", f"optim/{name}")]
        assert rates == pytest.approx([rate] * (steps // 2) + [rate / 10] * (steps // 2))
    losses = [value for _, value in scalars(working_folder / "run", "2_loss/total")]
    told = [float(found) for found in re.findall(r"epoch \d: loss ([\d.]+)", caplog.text)]
    halves = losses[: steps // 2], losses[steps // 2 :]
    assert told == pytest.approx([sum(each) / len(each) for each in halves], abs=1e-4)


# ---------------------------------------------------------------------------------------------------- stages


def test_stages_follow_each_other_with_one_curve(working_folder: Path) -> None:
    last = "{epochs:1,unfrozen:[all],size:32x16}"
    stages = f"stages=[{{epochs:1,unfrozen:[],size:16}},{{epochs:2,unfrozen:[blocks.1],lr:0.5}},{last}]"
    options = [*VIT, stages, "trainer.log_every=1", "optim.ema=0.5", "optim=muon"]
    lapel.train(lapel.compose("train", options), working_folder / "run")
    run = working_folder / "run"
    each = summary(run)["steps"] // 4
    assert [point["step"] for point in summary(run)["history"]] == [each, 2 * each, 3 * each, 4 * each]
    assert [step for step, _ in scalars(run, "2_loss/total")] == list(range(1, 4 * each + 1))
    rates = [value for _, value in scalars(run, "optim/lr")]
    assert max(rates[each : 3 * each]) == pytest.approx(0.5 * max(rates[:each]), rel=0.2)


def test_a_stage_trains_what_it_unfreezes_alone() -> None:
    stages = "stages=[{epochs:1,unfrozen:[]},{epochs:1,unfrozen:[blocks.1]},{epochs:1}]"
    module = module_of([*VIT, "encoder.frozen=[patch_embed]", stages])
    names = []
    for phase in module.course.phases:
        batch = next(iter(module.sampler.batches(phase.first, phase.first + 1)))
        module.on_train_batch_start(batch, 0)
        names.append({name for name, each in module.encoder.trunk.named_parameters() if each.requires_grad})
    assert names[0] == set()
    assert names[1]
    assert all(".blocks.1." in f".{name}" for name in names[1])
    assert names[2] == {name for name, _ in module.encoder.trunk.named_parameters() if "patch_embed" not in name}
    assert all(each.requires_grad for each in module.encoder.head.parameters())


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["stages=[{unfrozen:[layer9]}]"], r"stages\.0\.unfrozen=layer9: the trunk has no such part; it has all"),
        (
            ["stages=[{epochs:1},{unfrozen:[norm_pre]}]"],
            r"stages\.1\.unfrozen=norm_pre: has no weights that could",
        ),
        (
            ["stages=[{unfrozen:[]}]", "encoder.embedding=null", "variant=siam_cos"],
            r"stages\.0\.unfrozen: leaves nothing that could learn",
        ),
        (["stages=[{size:64}]"], r"stages\.0\.size=64x64: must be at most data\.size=32x32"),
        (["stages=[{epochs:0}]"], r"stages\.0\.epochs=0: must be at least 1"),
        (
            ["stages=[{epoch:1}]"],
            r"stages\.epoch: no such option; allowed.*did you mean epochs\?",
        ),
        (["stages=[{size:24}]"], r"encoder=test_vit: cannot take images of stages\.0\.size=24x24 \(.*divisible"),
        (["encoder.frozen=[all]", "encoder.embedding=null", "variant=siam_cos"], r"encoder\.frozen: leaves nothing"),
    ],
)
def test_a_stage_that_cannot_be_is_told(overrides: list[str], told: str) -> None:
    with pytest.raises(LapelError, match=told):
        prepare(lapel.compose("train", [*VIT, *overrides]))


@settings(max_examples=50, deadline=None)
@given(
    epochs=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    batches=st.integers(1, 9),
    parts=st.sampled_from([1, 2, 4]),
    most=st.none() | st.integers(1, 40),
)
def test_the_course_counts_every_step_once(epochs: list[int], batches: int, parts: int, most: int | None) -> None:
    trainer = replace(TINY_CONFIG.trainer, accumulate=parts, max_steps=most)
    stages = [StageConfig(epochs=each) for each in epochs]
    course = Course(replace(TINY_CONFIG, trainer=trainer, stages=stages), batches * parts)
    assert course.total_steps == min(sum(epochs) * batches, most or 10**9)
    spans = [(each.first, each.end) for each in course.phases]
    assert spans[0][0] == 0
    assert spans[-1][1] == course.total_steps
    assert all(one[1] == other[0] for one, other in pairwise(spans))
    assert all(phase.first <= step < phase.end for step in range(course.total_steps) if (phase := course.phase(step)))
    assert [course.step(batch) for batch in range(course.total_batches)] == [
        batch // parts for batch in range(course.total_batches)
    ]


# -------------------------------------------------------------------------------- large batches, little memory


def gradients(module: SimilarityModule, chunk: int | None, number: int = 0) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of a batch."""
    module.batch_loss.chunk = chunk
    module.zero_grad()
    batch = next(iter(module.sampler.batches(number, number + 1)))
    module.on_train_batch_start(batch, 0)
    loss = module.training_step(batch, 0)
    loss.backward()
    return float(loss.detach()), {
        name: each.grad.clone() for name, each in module.named_parameters() if each.grad is not None
    }


@pytest.mark.parametrize(
    ("chunk", "loss"), [(5, "variant=supcon_cat"), (8, "variant=triplet"), (31, "loss=multi_similarity")]
)
def test_chunks_have_the_gradient_of_one_pass(chunk: int, loss: str) -> None:
    module = module_of([*VIT, loss])
    one, whole = gradients(module, None)
    found, parts = gradients(module, chunk)
    assert found == pytest.approx(one, abs=1e-5)
    assert parts.keys() == whole.keys()
    for name, expected in whole.items():
        assert float((parts[name] - expected).norm()) <= 1e-4 * float(expected.norm()) + 1e-7, name


def test_chunks_draw_the_same_dropout_in_both_passes() -> None:
    module = module_of(VIT)
    module.encoder.head = nn.Sequential(nn.Dropout(0.5), module.encoder.head)
    first = gradients(module, 8)
    again = gradients(module, 8)
    other = gradients(module, 8, number=1)
    assert first[0] == again[0]
    assert all(torch.equal(each, again[1][name]) for name, each in first[1].items())
    assert other[0] != first[0]


def test_chunks_bound_the_memory() -> None:
    """Activations that are held for the gradient: with chunks, those of the embeddings alone."""
    module = module_of(VIT)
    held = {}
    for chunk in (None, 4):
        sizes: list[int] = []

        def note(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        module.batch_loss.chunk = chunk
        batch = next(iter(module.sampler.batches(0, 1)))
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            module.training_step(batch, 0)
        held[chunk] = sum(sizes)
    assert held[4] < held[None] / 10


def test_a_second_pass_leaves_running_statistics_alone() -> None:
    norm = nn.BatchNorm1d(3)
    norm(torch.randn(8, 3))
    before = {name: each.clone() for name, each in norm.state_dict().items()}
    with kept_buffers(norm):
        norm(torch.randn(8, 3))
    assert all(torch.equal(each, before[name]) for name, each in norm.state_dict().items())
    module = module_of([*CONVOLUTIONS, "variant=supcon"])
    gradients(module, 8)
    counts = {int(each) for name, each in module.encoder.named_buffers() if "num_batches" in name}
    assert counts == {4}  # 32 images in chunks of 8, each seen once


def test_recomputing_blocks_has_the_same_gradient() -> None:
    plain, recomputing = module_of(VIT), module_of([*VIT, "trainer.recompute=true"])
    one, other = gradients(plain, None), gradients(recomputing, None)
    assert one[0] == other[0]
    for name, expected in one[1].items():
        torch.testing.assert_close(other[1][name], expected)
    with pytest.raises(LapelError, match=r"trainer\.recompute: this trunk cannot"):
        module_of([*TINY, "trainer.recompute=true"])


def test_accumulated_batches_make_one_step(working_folder: Path) -> None:
    options = [*TINY, "data.batch_size=64", "trainer.accumulate=2", "trainer.max_epochs=1", "trainer.log_every=1"]
    lapel.train(lapel.compose("train", options), working_folder / "run")
    told = summary(working_folder / "run")
    assert told["images"] == 64 * told["steps"]
    assert [step for step, _ in scalars(working_folder / "run", "2_loss/total")] == list(range(1, told["steps"] + 1))
    with pytest.raises(LapelError, match=r"data\.batch_size=32: must be a multiple of trainer\.accumulate=3"):
        lapel.compose("train", [*TINY, "trainer.accumulate=3"])


# ---------------------------------------------------------------------------------------------- averaged weights


def test_averaged_weights_are_the_running_mean() -> None:
    module = module_of([*TINY, "optim.ema=0.9"])
    assert module.averaged is not None
    name = "layers.0.convolution.weight"
    weight = module.encoder.trunk.get_parameter(name)
    mean = weight.detach().clone()
    averaged = AveragedWeights(module.encoder, nn.ModuleDict(), 0.9)
    for step in range(1, 6):
        with torch.no_grad():
            weight += 0.1 * torch.randn_like(weight)
        averaged.update(module.encoder, nn.ModuleDict(), step)
        mean = weight.detach().clone() if step == 1 else 0.9 * mean + 0.1 * weight.detach()
    torch.testing.assert_close(averaged.encoder.trunk.get_parameter(name), mean)


def test_averaged_weights_are_validated_scored_and_exported(working_folder: Path) -> None:
    lapel.train(lapel.compose("train", [*TINY, "optim.ema=0.5"]), working_folder / "run")
    state = torch.load(working_folder / "run/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    loaded = open_run(str(working_folder / "run"), Checkpoint.best).encoder().state_dict()
    name = "head.weight"
    assert torch.equal(loaded[name], state[f"averaged.means.module.encoder.{name}"])
    assert not torch.equal(loaded[name], state[f"encoder.{name}"])
    result = lapel.evaluate(lapel.compose("evaluate", [f"run={working_folder / 'run'}", "split=val", "report=false"]))
    best = summary(working_folder / "run")["monitored"]
    assert result["map@r"] == pytest.approx(best, abs=1e-6)
    lapel.export(ExportConfig(run=str(working_folder / "run")))


# ------------------------------------------------------------------------------------------------ early ends


def test_training_ends_early_where_val_does_not_improve(working_folder: Path) -> None:
    options = [*TINY, "optim.lr=1e-12", "trainer.max_epochs=20", "trainer.patience=2"]
    lapel.train(lapel.compose("train", options), working_folder / "run")
    told = summary(working_folder / "run")
    scores = [each["map@r"] for each in told["history"]]
    assert told["epochs"] == len(scores) < 20
    assert len(scores) - 1 - scores.index(max(scores)) == 2
    # A resume knows that it has ended.
    assert lapel.train(lapel.compose("train", [f"resume={working_folder / 'run'}"])) == told["monitored"]


def test_a_loss_that_is_not_finite_names_step_part_and_checkpoint(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Objective.forward

    def spoilt(self: Objective, *arguments: Any) -> Tensor:
        value = original(self, *arguments)
        spoilt.calls += 1  # type: ignore[attr-defined]
        return value * (math.nan if self.reads_raw and spoilt.calls > 10 else 1)  # type: ignore[attr-defined]

    spoilt.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(Objective, "forward", spoilt)
    options = [*TINY, "trainer.checkpoint_every=1", "trainer.max_epochs=5"]
    with pytest.raises(LapelError, match=r"diverged: loss/category is nan at step 6; .*last\.ckpt is from before"):
        lapel.train(lapel.compose("train", options), working_folder / "run")
    state = torch.load(working_folder / "run/checkpoints/last.ckpt", weights_only=True)
    assert state["global_step"] == 5
    assert all(torch.isfinite(each).all() for each in state["state_dict"].values())


def test_a_learning_rate_that_diverges_ends_within_the_epoch(working_folder: Path) -> None:
    options = [*TINY, "data.items=120", "optim=sgd", "optim.lr=3e3", "optim.schedule=constant", "trainer.log_every=2"]
    with pytest.raises(LapelError, match=r"training diverged: .* at step \d+.*a lower optim\.lr may help"):
        lapel.train(lapel.compose("train", options), working_folder / "run")


# --------------------------------------------------------------------------------------------------- watchdog


def test_a_loss_of_nothing_is_noticed(working_folder: Path) -> None:
    options = [*TINY, "variant=supcon", "loss=contrastive", "miner=pair_margin", "miner.pos_margin=3"]
    options += ["miner.neg_margin=0", "trainer.log_every=1", "watchdog.action=stop"]
    with pytest.raises(LapelError, match=r"stopped by the watchdog at step 3: .* exactly 0"):
        lapel.train(lapel.compose("train", options), working_folder / "run")


def test_the_effective_rank_counts_dimensions() -> None:
    torch.manual_seed(0)
    assert effective_rank(torch.randn(4000, 8)) == pytest.approx(8, abs=0.1)
    line = torch.randn(50, 1) * torch.randn(1, 8)
    assert effective_rank(line) == pytest.approx(1, abs=1e-3)
    assert effective_rank(torch.ones(50, 8)) == 0.0
    assert effective_rank(torch.cat([line, torch.randn(50, 1) * torch.randn(1, 8)])) < 2.01


def collapse(module: SimilarityModule) -> None:
    """All embeddings of the encoder become one."""
    with torch.no_grad():
        module.encoder.head.get_parameter("weight").fill_(0.0)
        module.encoder.head.get_parameter("bias").fill_(1.0)


@pytest.mark.parametrize("action", ["warn", "stop", "easier_miner"])
def test_a_collapse_is_told(
    action: str, working_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = SimilarityModule.on_train_batch_start

    def begin(self: SimilarityModule, batch: Any, batch_idx: int) -> None:
        original(self, batch, batch_idx)
        collapse(self)

    monkeypatch.setattr(SimilarityModule, "on_train_batch_start", begin)
    options = [
        *TINY, "variant=triplet", "variant.objectives.triplet.triplets=hard", "trainer.log_every=1",
        "trainer.max_epochs=3", "optim.lr=1e-6", f"watchdog.action={action}",
    ]  # fmt: skip
    if action == "stop":
        with pytest.raises(LapelError, match=r"stopped by the watchdog at step 3: the embeddings have collapsed: they"):
            lapel.train(lapel.compose("train", options), working_folder / "run")
        return
    with caplog.at_level("WARNING", logger="lapel"):
        lapel.train(lapel.compose("train", options), working_folder / "run")
    assert "watchdog, step 3: the embeddings have collapsed" in caplog.text
    assert "its loss has stayed at its margin for an epoch" in caplog.text
    assert ("triplet goes on with semi_hard" in caplog.text) == (action == "easier_miner")
    assert scalars(working_folder / "run", "embedding/effective_rank")


@pytest.mark.slow
def test_a_training_that_goes_well_is_left_alone(working_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for variant in ("siam_cat_cos", "triplet", "supcon"):
        options = [*TINY, f"variant={variant}", "trainer.log_every=1", "trainer.max_epochs=6"]
        with caplog.at_level("WARNING", logger="lapel"):
            lapel.train(lapel.compose("train", options), working_folder / variant)
    assert "watchdog" not in caplog.text


# -------------------------------------------------------------------------------------------- TensorBoard, finder


def test_hparams_hold_what_is_swept_and_the_scores_of_the_checkpoint_that_is_used(working_folder: Path) -> None:
    options = [*TINY, "variant=siam", "trainer.max_epochs=4", "trainer.patience=3", "optim.lr=0.5"]
    swept = ["variant.objectives.pair.margin=0.7", "augment.erase=3", "encoder.widths=[4,8]", "optim=sgd"]
    config = lapel.compose("train", [*options, *swept, "trainer.threads=1"])
    lapel.train(config, working_folder / "run")
    events = EventAccumulator(str(working_folder / "run"))
    events.Reload()
    started = HParamsPluginData.FromString(
        events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    ).session_start_info.hparams
    assert started["variant.objectives.pair.margin"].number_value == 0.7
    assert started["augment.erase"].number_value == 3
    assert started["encoder.widths"].string_value == "[4, 8]"
    assert started["optim"].string_value == "sgd"
    assert started["data"].string_value == "wardrobe"
    assert started["seed"].number_value == 0
    assert "trainer.threads" not in started
    told = {key for key in flat(to_plain(config)) if key not in how_keys()}
    of_one_kind = {"augment.kind", "trainer.kind", "variant.kind"}  # whatever is chosen
    assert set(started) == {key.removesuffix(".kind") for key in told - of_one_kind}
    history = summary(working_folder / "run")["history"]
    best = max(history, key=lambda each: each["map@r"])
    assert best["map@r"] > history[-1]["map@r"]  # else this shows nothing
    for name in ("map@r", "recall@1"):
        (final,) = events.Scalars(f"(best)/{name}")
        assert final.value == pytest.approx(best[name])


@given(
    steps=st.integers(2, 5000),
    warmup=st.sampled_from([0.0, 0.05, 0.25, 0.3, 0.5, 0.8, 0.99]),
)
def test_one_cycle_ends_at_its_end(steps: int, warmup: float) -> None:
    cycle = OneCycle(steps, warmup)
    factors = [cycle(step) for step in range(steps)]
    assert max(factors) <= 1
    if warmup * steps <= steps - 1:  # else the rate rises to the last step
        assert factors[-1] == pytest.approx(1e-5)
    if steps > 20 and warmup < 0.9:
        assert max(factors) > 0.9


def test_one_cycle_falls_as_torchs_does() -> None:
    steps = 40
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    peak = 10  # torch's warm-up ends one step earlier for the same share
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, steps, pct_start=(peak + 1) / steps, div_factor=25, final_div_factor=4000
    )
    rates = []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step + 1 < steps:
            theirs.step()
    assert [OneCycle(steps, peak / steps)(step) for step in range(steps)] == pytest.approx(rates, abs=1e-6)


def test_tensorboard_shows_pictures_histograms_the_projector_and_the_config(working_folder: Path) -> None:
    lapel.train(lapel.compose("train", [*TINY, "trainer.max_epochs=3"]), working_folder / "run")
    folder = working_folder / "run"
    events = EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()
    assert tags["images"] == ["matches/val"]
    steps = summary(working_folder / "run")["steps"]
    assert [each.step for each in events.Images("matches/val")] == [2 * steps // 3, steps]
    assert set(tags["histograms"]) == {"distance/val_positive", "distance/val_negative"}
    assert "config/text_summary" in tags["tensors"]
    assert "data/wardrobe" in events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert {"(best)/recall@1", "(best)/map@r"} <= set(tags["scalars"])
    assert any("hparams" in each for each in events.summary_metadata)
    assert (folder / "projector_config.pbtxt").is_file()
    assert Image.open(folder / "tensorboard" / "val" / "sprite.png").size[0] % 32 == 0


def test_the_finder_suggests_a_rate_and_changes_nothing(working_folder: Path) -> None:
    (working_folder / "runs").mkdir()
    config = lapel.compose("train", [*TINY, "data.items=200", "find_lr=true"])
    from lapel.training import find_lr

    suggested = find_lr(config)
    (run,) = (working_folder / "runs").iterdir()
    events, *others = sorted(each.name for each in run.iterdir() if each.name != "config.yaml")
    assert (events.split(".")[0], others) == ("events", ["lr.csv", "lr.png"])
    assert 1e-5 < suggested < 1
    assert suggested == find_lr(config, working_folder / "again")
    lines = (run / "lr.csv").read_text().splitlines()
    assert lines[0] == "lr,loss,smoothed"
    rates = np.array([float(line.split(",")[0]) for line in lines[1:]])
    assert (np.diff(rates) > 0).all()
    assert not list(working_folder.rglob("*.ckpt"))


def test_the_projector_gets_few_dimensions_and_the_same_distances() -> None:
    drawn = torch.randn(50, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    few = few_dimensions(drawn)
    assert few.shape[1] <= 200
    torch.testing.assert_close(torch.pdist(few), torch.pdist(drawn))  # 50 points span 49 dimensions
    assert few_dimensions(drawn[:, :200]).shape == (50, 200)


def test_a_trial_of_rates_is_no_training_to_resume(working_folder: Path) -> None:
    from lapel.training import find_lr

    find_lr(lapel.compose("train", [*TINY, "data.items=200", "find_lr=true"]), working_folder / "rates")
    with pytest.raises(LapelError, match=r"resume=rates: is a trial of learning rates"):
        lapel.compose("train", ["resume=rates"])


def test_a_sweep_makes_steps_as_training_does() -> None:
    """Clipped to nothing, no rate changes a weight: the losses are those of the untrained network."""
    options = [*TINY, "data.items=200", "optim=sgd", "optim.momentum=0", "optim.nesterov=false", "optim.weight_decay=0"]
    clipped = sweep(lapel.compose("train", [*options, "optim.clip=1e-12", "trainer.precision=fp32"]))
    module, _ = prepare(lapel.compose("train", [*options, "trainer.precision=fp32", "trainer.max_epochs=99"]))
    module.train()
    untrained = []
    for number, batch in enumerate(module.sampler.batches(0, 5)):
        module.on_train_batch_start(batch, number)
        untrained.append(float(module.training_step(batch, number)))
    np.testing.assert_allclose(clipped.losses[:5], untrained, rtol=1e-5)
    free = sweep(lapel.compose("train", [*options, "optim.lr=1", "trainer.precision=fp32"]))
    assert abs(free.losses[40:60] - clipped.losses[40:60]).max() > 0.01


def test_a_step_of_a_sweep_has_all_its_parts() -> None:
    config = lapel.compose("train", [*TINY, "data.items=200", "trainer.accumulate=2", "trainer.precision=fp32"])
    module, _ = prepare(config)
    first = [float(module.training_step(each, 0)) for each in module.train().sampler.batches(0, 2)]
    assert sweep(config).losses[0] == pytest.approx(np.mean(first), rel=1e-5)


def test_a_sweep_ends_where_the_loss_grows() -> None:
    found = sweep(lapel.compose("train", [*TINY, "data.items=200", "optim=sgd", "optim.lr=10"]))
    assert len(found.losses) < 100
    assert found.rates[found.smooth.argmin()] < found.rates[-1]


# ------------------------------------------------------------------------------------------------------ bad input


class Code:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch was_run",)


def test_a_pickle_that_runs_code_is_refused(working_folder: Path, trained_run: Path) -> None:
    Path("weights.pth").write_bytes(pickle.dumps(Code()))
    torch.save({"a": Code()}, "zipped.pth")
    for name in ("weights.pth", "zipped.pth"):
        with pytest.raises(LapelError, match=rf"{name}: cannot be read as tensors .* could run code"):
            prepare(lapel.compose("train", [*VIT, f"encoder.weights={name}"]))
    (working_folder / "run" / "checkpoints").mkdir(parents=True)
    (working_folder / "run" / "config.yaml").write_text((trained_run / "config.yaml").read_text())
    torch.save({"lapel": Code()}, working_folder / "run" / "checkpoints" / "last.ckpt")
    with pytest.raises(LapelError, match="not a readable checkpoint"):
        lapel.train(lapel.compose("train", ["resume=run"]))
    assert not Path("was_run").exists()


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["trainer.devices=20"], "at least 2 images for each of trainer.devices=20"),
        (["trainer.precision=fp16"], "trainer.precision=fp16: needs a GPU"),
        (["trainer.sync_batchnorm=true"], "trainer.sync_batchnorm=true: needs a GPU"),
        (["optim=adamw", "trainer.strategy=fsdp"], "trainer.strategy=fsdp: needs a GPU"),
        (["optim.milestones=[0.8,0.2]"], "optim.milestones"),
        (["optim.ema=1"], "optim.ema=1"),
        (["optim=sgd", "optim.momentum=0"], "needs optim.momentum above 0"),
        (["trainer=fsdp"], "optim=muon: is for whole matrices"),
        (["optim=muon", "optim.iterations=0"], "optim.iterations=0"),
    ],
)
def test_what_cannot_be_trained_is_told(overrides: list[str], told: str, working_folder: Path) -> None:
    with pytest.raises(LapelError, match=told.replace(".", r"\.")):
        lapel.train(lapel.compose("train", [*TINY, *overrides]))
    assert not list(working_folder.rglob("*.ckpt"))


@pytest.mark.parametrize("alone", [True, False])
def test_a_val_part_without_a_match_is_told_before_training(alone: bool, working_folder: Path) -> None:
    """Items of val have one photo each, or two of the same pixels, in which no query finds anything."""
    rows = ["image,item" + ",split" * alone]
    for item in range(40):
        for view in "abcd" if alone and item < 34 else "a" if alone else "ab":
            Image.new("L", (16, 16), 6 * item + ("abcd".index(view) if alone else 0)).save(f"{item}-{view}.png")
            rows.append(f"{item}-{view}.png,{item}" + f",{'train' if item < 34 else 'val'}" * alone)
    Path("photos.csv").write_text("\n".join(rows) + "\n")
    options = [*TINY[2:], "data=table", "data.table=photos.csv", "sampler.images=2", "data.batch_size=8"]
    options = [each for each in options if each not in ("data.views=5", "data.items=40")]
    told = r"val has (\d+) queries and \1 gallery images, and no two different ones of an item"
    with pytest.raises(LapelError, match=told):
        lapel.train(lapel.compose("train", options))
    assert not list(working_folder.rglob("*.ckpt"))


@pytest.mark.slow
def test_more_processes_than_items_still_train(working_folder: Path) -> None:
    config: TrainConfig = lapel.compose("train", [*TINY, "sampler.items=2", "data.batch_size=16", "trainer.devices=3"])
    config.trainer.max_steps = 2
    assert lapel.train(config) >= 0
    assert summary(working_folder / "latest")["processes"] == 3
