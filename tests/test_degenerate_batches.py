"""Batches as a training meets them at its worst: copies, no match, nothing else, all alike, one image, zeros.

Whatever loss and miner, the value and the gradient are finite; where a loss had none, it is what its formula tends to.
"""

import math
from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses as theirs
from torch import Tensor

from lapel.config.choices import choices_of
from lapel.config.library_losses import AngularConfig, LibraryLossConfig
from lapel.config.objective import ObjectiveConfig
from lapel.config.variant import VariantConfig
from lapel.losses import Objective, build
from lapel.losses.edges import (
    ArcFaceLoss,
    DynamicSoftMarginLoss,
    HistogramLoss,
    NCALoss,
    P2SGradLoss,
    ProxyNCALoss,
    SignalToNoise,
    TupletMarginLoss,
)

DIMENSIONS, ITEMS = 8, 16
OBJECTIVES: dict[str, type[ObjectiveConfig]] = choices_of("objective")
MINERS = list(choices_of("miner"))


def batches(seed: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    """What it is, embeddings before normalisation, and items."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(16, DIMENSIONS, generator=generator)
    four, each = torch.arange(4).repeat_interleave(4), torch.arange(16)
    one = torch.zeros(16, dtype=torch.int64)
    copies, zeros = raw.clone(), raw.clone()
    copies[1], copies[5], copies[6], copies[9] = copies[0], copies[4], copies[4], copies[0]
    zeros[3] = zeros[7] = 0
    alike = raw[:1].repeat(16, 1)
    yield "healthy", raw, four
    yield "copies", copies, four
    yield "pairs of copies", raw[:8].repeat_interleave(2, 0), torch.arange(8).repeat_interleave(2)
    yield "no positives", raw, each
    yield "no negatives", raw, one
    yield "all alike", alike, four
    yield "all alike, of one item", alike, one
    yield "all alike, no positives", alike, each
    yield "nearly alike", raw[:1] + 1e-7 * raw, four
    yield "two images of an item", raw[:2], one[:2]
    yield "two items", raw[:2], each[:2]
    yield "one image", raw[:1], one[:1]
    yield "opposites", torch.cat([raw[:8], -raw[:8]]), torch.arange(8).repeat(2)
    yield "axes", torch.cat([torch.eye(DIMENSIONS), -torch.eye(DIMENSIONS)]), torch.arange(4).repeat(4)
    yield "some zeros", zeros, four
    yield "all zeros", torch.zeros(16, DIMENSIONS), four
    yield "tiny", raw * 1e-20, four
    yield "huge", raw * 1e15, four


def objective(name: str, miner: str | None, memory: int) -> Objective:
    config = OBJECTIVES[name]()
    config.miner = None if miner is None else choices_of("miner")[miner]()
    config.memory = memory
    built = build(VariantConfig(name="made", objectives={"item": config}), DIMENSIONS, ITEMS, ITEMS)["item"]
    assert isinstance(built, Objective)
    return built


def told_of(built: Objective, raw: Tensor, items: Tensor, bf16: bool) -> str:
    """What is not finite of a step's loss; empty where all is well. As in training: fp32 after the network."""
    raw = raw.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        made = F.linear(raw, torch.eye(DIMENSIONS)) if bf16 else raw * 1
        with torch.autocast("cpu", enabled=False):
            made = made.float()
            value = built(made, F.normalize(made, dim=1), items, items, None)
    if not torch.isfinite(value):
        return f"the value is {float(value)}"
    if not value.requires_grad:
        return "there is no gradient"
    weights = [raw, *(each for each in built.parameters() if each.requires_grad)]
    found = torch.autograd.grad(value, weights, allow_unused=True)
    wrong = [number for number, each in enumerate(found) if each is not None and not torch.isfinite(each).all()]
    return f"gradient {wrong[0]} is not finite" if wrong else ""


def all_told(name: str, miners: list[str | None], memories: list[int], seeds: int) -> list[str]:
    config = OBJECTIVES[name]()
    wrong = []
    for miner in miners if config.takes_miner else [None]:
        for memory in memories if config.takes_memory else [0]:
            for bf16 in (False, True):
                for seed in range(seeds):
                    for what, raw, items in batches(seed):
                        if name == "smooth_ap" and len(torch.unique(torch.unique(items, return_counts=True)[1])) > 1:
                            continue
                        torch.manual_seed(seed)
                        built = objective(name, miner, memory)
                        for step in range(2 if memory else 1):
                            if told := told_of(built, raw, items, bf16):
                                wrong.append(f"{what}, miner {miner}, memory {memory}, bf16 {bf16}, {step}: {told}")
    return wrong


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_loss_is_finite_on_every_batch(name: str) -> None:
    assert not all_told(name, [None, "batch_hard"], [0], seeds=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_loss_with_every_miner_and_memory_is_finite_on_every_batch(name: str) -> None:
    assert not all_told(name, [None, *MINERS], [0, 32], seeds=3)


@pytest.mark.parametrize("seed", range(50))
def test_the_histogram_loss_takes_copies(seed: int) -> None:
    (_, raw, items) = next(each for each in batches(seed) if each[0] == "copies")
    assert told_of(objective("histogram", None, 0), raw, items, bf16=False) == ""


def test_the_steepest_angle_that_the_angular_loss_takes_is_finite_on_every_batch() -> None:
    """The tangent of 90 degrees, which pytorch-metric-learning takes, is 1.6e16: on zeros there was no gradient."""
    allowed = next(each for each in fields(AngularConfig) if each.name == "alpha").metadata["at_most"]
    assert allowed < 90
    for what, raw, items in batches(0):
        built = build(
            VariantConfig(name="made", objectives={"item": AngularConfig(alpha=allowed)}), DIMENSIONS, ITEMS, ITEMS
        )["item"]
        assert isinstance(built, Objective)
        assert told_of(built, raw, items, bf16=False) == "", what


@pytest.mark.parametrize("bins", [100, 1000])
def test_the_histogram_loss_takes_copies_in_bf16(bins: int) -> None:
    """Whose whole numbers end at 256: the last bins but one are none of them."""
    embeddings, items = unit("copies", 0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(HistogramLoss(n_bins=bins)(embeddings, items))


# ------------------------------------------------------------------------------------- values, against slow oracles


def unit(what: str, seed: int) -> tuple[Tensor, Tensor]:
    raw, items = next((raw, items) for each, raw, items in batches(seed) if each == what)
    return F.normalize(raw, dim=1), items


WHAT = ["healthy", "copies", "pairs of copies", "all alike", "opposites", "axes", "nearly alike"]


@pytest.mark.parametrize("what", [*WHAT, "no positives", "some zeros"])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_nca_is_its_formula(what: str, scale: float) -> None:
    embeddings, items = unit(what, 1)
    wide, costs = embeddings.double(), []
    for anchor in range(len(items)):
        others = [each for each in range(len(items)) if each != anchor]
        near = {each: -scale * float((wide[anchor] - wide[each]).square().sum()) for each in others}
        most = max(near.values())
        whole = most + math.log(sum(math.exp(each - most) for each in near.values()))
        own = [near[each] for each in others if items[each] == items[anchor]]
        if own:
            costs.append(whole - max(own) - math.log(sum(math.exp(each - max(own)) for each in own)))
    found = NCALoss(softmax_scale=scale)(embeddings, items)  # pyright: ignore[reportArgumentType]
    assert float(found) == pytest.approx(sum(costs) / len(costs) if costs else 0, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("what", [*WHAT, "no positives", "no negatives", "one image", "some zeros"])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_proxy_nca_is_its_formula(what: str, scale: float) -> None:
    embeddings, items = unit(what, 1)
    torch.manual_seed(0)
    loss = ProxyNCALoss(ITEMS, DIMENSIONS, softmax_scale=scale)
    wide, proxies = embeddings.double(), F.normalize(loss.proxies.detach().double(), dim=1)
    costs = []
    for each, item in zip(wide, items.tolist(), strict=True):
        near = (-scale * (each - proxies).square().sum(1)).tolist()
        most = max(near)
        costs.append(most + math.log(sum(math.exp(one - most) for one in near)) - near[item])
    leaf = embeddings.clone().requires_grad_()
    found = loss(leaf, items)
    assert float(found) == pytest.approx(sum(costs) / len(costs), rel=1e-4, abs=1e-5)
    assert all(torch.isfinite(each).all() for each in torch.autograd.grad(found, [leaf, loss.proxies]))


@pytest.mark.parametrize("name", ["arcface", "sub_center_arcface"])
@pytest.mark.parametrize("side", [1, -1])
def test_an_embedding_on_its_classs_weights_or_opposite_has_the_cost_of_its_angle(name: str, side: int) -> None:
    """Axes, whose cosines are 1 and -1 to the bit."""
    built = objective(name, None, 0)
    loss = built.loss.get_submodule("loss")
    centers = loss.get_parameter("W").shape[1] // ITEMS
    axes = torch.cat([torch.eye(DIMENSIONS), -torch.eye(DIMENSIONS)])
    with torch.no_grad():
        loss.get_parameter("W").copy_(axes.repeat_interleave(centers, 0).T)
    items = torch.arange(ITEMS)
    margin = math.radians(28.6)
    others = [0.0] * (ITEMS - 2) + [-float(side)]
    own = math.cos(margin) if side == 1 else -1 - margin * math.sin(margin)
    expected = math.log(sum(math.exp(64 * (each - own)) for each in [own, *others]))
    assert told_of(built, axes * side, items, bf16=False) == ""
    assert float(built(axes * side, axes * side, items, items, None)) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("clamps", [True, False])
def test_arcfaces_angle_has_no_gradient_at_its_ends(clamps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with versions of torch whose clamp passes the gradient on at its bounds."""
    if not clamps:
        monkeypatch.setattr(torch, "clamp", lambda given, *_: given)
    cosines = torch.tensor([1.0, -1.0, 0.6], requires_grad=True)
    angles = ArcFaceLoss(ITEMS, DIMENSIONS).get_angles(cosines)
    assert angles.tolist() == pytest.approx([0, math.pi, math.acos(0.6)])
    assert torch.autograd.grad(angles.sum(), cosines)[0].tolist() == pytest.approx([0, 0, -1 / 0.8])


@pytest.mark.parametrize("what", WHAT)
def test_tuplet_margin_is_its_formula(what: str) -> None:
    embeddings, items = unit(what, 2)
    wide, margin = embeddings.double(), math.radians(5.73)
    costs = []
    for anchor in range(len(items)):
        angles = (wide @ wide[anchor]).clamp(-1, 1).arccos()
        negative = [float(angles[each].cos()) for each in range(len(items)) if items[each] != items[anchor]]
        for each in range(len(items)):
            if each != anchor and items[each] == items[anchor]:
                near = math.cos(float(angles[each]) - margin)
                costs.append(math.log1p(sum(math.exp(64 * (cosine - near)) for cosine in negative)))
    kept = [each for each in costs if each > 0]
    found = float(TupletMarginLoss()(embeddings, items))
    averages = [sum(each) / len(each) for each in (costs, kept)]
    assert any(found == pytest.approx(average, rel=2e-3, abs=1e-8) for average in averages)


@pytest.mark.parametrize("what", WHAT)
def test_the_histogram_loss_is_its_formula(what: str) -> None:
    """Two histograms over nodes from -1 to 1; the share of negatives above a positive."""
    embeddings, items = unit(what, 3)
    bins = 100
    nodes = np.linspace(-1, 1, bins + 1)
    cosines = (embeddings.double() @ embeddings.double().T).clamp(-1, 1).numpy()
    shares = []
    for alike in (True, False):
        values = [
            cosines[one, other]
            for one in range(len(items))
            for other in range(one + 1, len(items))
            if bool(items[one] == items[other]) == alike
        ]
        triangles = np.clip(1 - np.abs(np.array(values)[:, None] - nodes) / (2 / bins), 0, None)
        shares.append(triangles.mean(0))
    expected = float((shares[1] * np.cumsum(shares[0])).sum())
    assert float(HistogramLoss(n_bins=bins)(embeddings, items)) == pytest.approx(expected, rel=2e-3, abs=1e-5)


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("least", [-2.0, -0.5])
def test_the_dynamic_soft_margin_is_its_formula(what: str, least: float) -> None:
    """On a first batch: each triplet's difference, times the share of the batch's histogram up to its bin."""
    embeddings, items = unit(what, 4)
    bins = 10
    delta = 2 * abs(least) / bins
    wide = embeddings.double()
    differences = [
        float((wide[a] - wide[p]).norm() - (wide[a] - wide[n]).norm())
        for a in range(len(items))
        for p in range(len(items))
        for n in range(len(items))
        if a != p and items[a] == items[p] and items[a] != items[n]
    ]
    histogram = np.zeros(bins)
    placed = []
    for each in differences:
        place = (each - least) / delta
        lower = min(max(math.floor(place), 0), bins - 1)
        above = min(max(place - lower, 0), 1)
        histogram[lower] += 1 - above
        histogram[min(lower + 1, bins - 1)] += above
        placed.append(lower)
    shares = np.cumsum(histogram / histogram.sum())
    expected = float(np.mean([shares[lower] * each for lower, each in zip(placed, differences, strict=True)]))
    found = DynamicSoftMarginLoss(min_val=least, num_bins=bins)(embeddings, items)
    assert float(found) == pytest.approx(expected, rel=0.02, abs=2e-3)


def test_zeros_have_cosine_0_with_every_class_of_p2s_grad() -> None:
    embeddings, items = unit("some zeros", 5)
    torch.manual_seed(0)
    loss = P2SGradLoss(DIMENSIONS, ITEMS)
    cosines = F.normalize(embeddings, dim=1) @ F.normalize(loss.weight.detach(), dim=0)
    expected = (cosines - F.one_hot(items, ITEMS)).square().mean()
    assert float(loss(embeddings, items)) == pytest.approx(float(expected), rel=1e-6)


def test_signal_to_noise_is_the_librarys_where_there_is_a_signal() -> None:
    embeddings, _ = unit("healthy", 6)
    found, expected = SignalToNoise(), theirs.SignalToNoiseRatioContrastiveLoss().distance
    assert torch.equal(found(embeddings, embeddings), expected(embeddings, embeddings))
    zeros = torch.zeros_like(embeddings)
    assert torch.isfinite(found(zeros, embeddings)).all()


@pytest.mark.parametrize(
    "name", ["nca", "tuplet_margin", "histogram", "dynamic_soft_margin", "snr_contrastive", "p2s_grad"]
)
def test_what_was_mended_is_the_librarys_elsewhere(name: str) -> None:
    config = OBJECTIVES[name]
    assert issubclass(config, LibraryLossConfig)
    built = objective(name, None, 0)
    mended = built.loss.get_submodule("loss")
    library = next(each for each in type(mended).__mro__ if each.__module__.startswith("pytorch_metric"))
    sizes = {"num_classes": ITEMS, "descriptors_dim": DIMENSIONS} if name == "p2s_grad" else {}
    other = library(**sizes)
    other.load_state_dict(mended.state_dict(), strict=False)
    embeddings, items = unit("healthy", 7)
    assert float(built.loss(embeddings, items)) == pytest.approx(float(other(embeddings, items)), rel=1e-4)
