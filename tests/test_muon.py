"""Muon: held against singular values, torch's own Muon and AdamW, and trained with as every optimizer is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import lapel
from lapel.config.composing import compose
from lapel.config.optim import MuonConfig
from lapel.encoders.encoder import build as build_encoder
from lapel.training import optimizers
from lapel.training.course import Course
from lapel.training.muon import QUINTIC, Matrices, Muon, matrices_in, orthogonalised


def by_singular_values(matrix: np.ndarray, iterations: int) -> np.ndarray:
    """The iteration as its authors define it: a polynomial of the singular values, the singular vectors as they are."""
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    values = values / np.sqrt((values**2).sum())
    first, second, third = QUINTIC
    for _ in range(iterations):
        values = first * values + second * values**3 + third * values**5
    return left * values @ right


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 4),
    rows=st.integers(2, 24),
    columns=st.integers(2, 24),
    iterations=st.integers(1, 7),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-9, 1e-3, 1.0, 1e6]),
)
def test_singular_values_go_through_the_polynomial_and_vectors_stay(
    count: int, rows: int, columns: int, iterations: int, seed: int, scale: float
) -> None:
    drawn = np.random.default_rng(seed).normal(size=(count, rows, columns)) * scale
    found = orthogonalised(torch.from_numpy(drawn), iterations).numpy()
    for one, expected in zip(found, drawn, strict=True):
        np.testing.assert_allclose(one, by_singular_values(expected, iterations), atol=1e-8)


def test_five_iterations_make_nearly_orthogonal() -> None:
    torch.manual_seed(0)
    found = torch.linalg.svdvals(orthogonalised(torch.randn(3, 40, 90), 5))
    assert float(found.min()) > 0.6
    assert float(found.max()) < 1.3
    assert not orthogonalised(torch.zeros(1, 3, 4), 5).any()


class Net(nn.Module):
    """A layer of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, bias=True)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.grouped = nn.Conv2d(8, 12, 3, groups=4)
        self.norm = nn.BatchNorm2d(12)
        self.attention = nn.MultiheadAttention(12, 2)
        self.place = nn.Parameter(torch.zeros(1, 4, 12))
        self.head = nn.Linear(12, 5)
        self.single = nn.Linear(5, 1)


def test_what_is_a_matrix() -> None:
    net = Net()
    found = {name: matrices_in(net).get(id(weight)) for name, weight in net.named_parameters()}
    assert {name: tuple(each.of(each.weight).shape) for name, each in found.items() if each is not None} == {
        "stem.weight": (1, 8, 27),
        "grouped.weight": (4, 3, 18),
        "attention.in_proj_weight": (3, 12, 12),
        "attention.out_proj.weight": (1, 12, 12),
        "head.weight": (1, 5, 12),
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"trunk", "head"}),
        (["encoder.weights=learnt.pth"], {"head"}),
        (["init=runs/before"], set()),
        (["encoder.weights=learnt.pth", "init=runs/before", "optim.pretrained=true"], {"trunk", "head"}),
    ],
)
def test_what_was_learnt_before_is_changed_by_adamw(options: list[str], expected: set[str]) -> None:
    config = compose("train", ["encoder=resnet18", "data=wardrobe", "data.size=32", "optim=muon", *options])
    encoder = build_encoder(config.encoder, config.data, config.variant.metric, with_weights=False)
    optimizer, _ = optimizers.build(config, Course(config, 10), encoder, nn.ModuleDict())
    assert isinstance(optimizer, Muon)
    pairs = zip(optimizer.param_groups, optimizer.matrices, strict=True)
    of_muon = {id(each) for group, matrices in pairs if matrices for each in group["params"]}
    found = {name.split(".")[0] for name, each in encoder.named_parameters() if id(each) in of_muon}
    assert found == expected
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(encoder.parameters()))


def muon_of(weight: nn.Parameter, count: int = 1, decay: float = 0.0, **options: float | bool) -> Muon:
    config = MuonConfig(**options)  # type: ignore[arg-type]
    group = {"params": [weight], "matrices": [Matrices(weight, count)], "weight_decay": decay, "lr": config.matrix_lr}
    return Muon([group], config, fused=False)


def test_without_renorm_it_is_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which computes in bf16: given float32 instead, the two agree to its digits."""
    monkeypatch.setattr(torch, "bfloat16", torch.float32)
    for shape, nesterov in (((20, 7), True), ((7, 20), True), ((9, 9), False)):
        torch.manual_seed(0)
        mine = nn.Parameter(torch.randn(shape))
        theirs = nn.Parameter(mine.detach().clone())
        options = {"momentum": 0.8, "nesterov": nesterov, "iterations": 5, "renorm": False, "matrix_lr": 0.03}
        optimizers = (
            muon_of(mine, decay=0.1, **options),
            torch.optim.Muon([theirs], lr=0.03, weight_decay=0.1, momentum=0.8, nesterov=nesterov),
        )
        for _ in range(6):
            gradient = torch.randn(shape)
            mine.grad, theirs.grad = gradient.clone(), gradient.clone()
            for each in optimizers:
                each.step()
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (16, 2, 1, 1), (5, 30)])
def test_a_weight_keeps_its_length_and_a_step_is_a_share_of_it(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(shape).to(memory_format=torch.contiguous_format) * 7)
    optimizer = muon_of(weight, matrix_lr=0.1, iterations=12)
    length = float(weight.norm())
    for _ in range(4):
        before = weight.detach().clone()
        weight.grad = torch.randn(shape)
        optimizer.step()
        assert float(weight.norm()) == pytest.approx(length, rel=1e-5)
        assert float((weight - before).norm()) / length == pytest.approx(0.1, abs=0.03)


def test_a_weight_that_begins_with_zeros_learns() -> None:
    """By the step that is taken without renorm: there is no length that it could keep."""
    weight = nn.Parameter(torch.zeros(4, 6))
    optimizer = muon_of(weight, matrix_lr=0.1)
    weight.grad = torch.randn(4, 6)
    optimizer.step()
    first = weight.detach().clone()
    torch.testing.assert_close(first, -0.1 * orthogonalised(weight.grad[None], 3)[0])
    optimizer.step()
    assert weight.norm() > 1.5 * first.norm()


def test_filters_are_changed_as_the_matrix_of_their_rows_whatever_their_layout() -> None:
    torch.manual_seed(0)
    filters = nn.Parameter(torch.randn(6, 4, 3, 3).to(memory_format=torch.channels_last))
    matrix = nn.Parameter(filters.detach().flatten(1).contiguous())
    groups = nn.Parameter(torch.cat([matrix.detach(), matrix.detach() * 2]))
    optimizers = [muon_of(filters), muon_of(matrix), muon_of(groups, count=2)]
    for _ in range(3):
        gradient = torch.randn(6, 36)
        filters.grad = gradient.view(6, 4, 3, 3).to(memory_format=torch.channels_last)
        matrix.grad, groups.grad = gradient, torch.cat([gradient, gradient])
        for each in optimizers:
            each.step()
    assert filters.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(filters.flatten(1), matrix, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_all_else_is_changed_by_adamw(fused: bool) -> None:
    torch.manual_seed(0)
    mine = nn.Parameter(torch.randn(9, 3))
    theirs = nn.Parameter(mine.detach().clone())
    optimizers: tuple[torch.optim.Optimizer, ...] = (
        Muon([{"params": [mine], "weight_decay": 0.1, "lr": 0.01}], MuonConfig(), fused),
        torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1, fused=fused),
    )
    for _ in range(5):
        gradient = torch.randn(9, 3)
        mine.grad, theirs.grad = gradient.clone(), gradient.clone()
        for each in optimizers:
            each.step()
    assert torch.equal(mine, theirs)


def test_what_has_no_gradient_stays_and_a_checkpoint_goes_on_exactly() -> None:
    torch.manual_seed(0)

    def begun() -> tuple[nn.Parameter, nn.Parameter, Muon]:
        one, other = nn.Parameter(torch.ones(4, 6).tril()), nn.Parameter(torch.ones(3))
        groups = [
            {"params": [one], "matrices": [Matrices(one, 1)], "weight_decay": 0.1, "lr": 0.1},
            {"params": [other], "weight_decay": 0.0, "lr": 0.1},
        ]
        return one, other, Muon(groups, MuonConfig(), fused=True)

    def stepped(one: nn.Parameter, other: nn.Parameter, optimizer: Muon, pairs: list[tuple[Tensor, Tensor]]) -> None:
        for mine, its in pairs:
            one.grad, other.grad = mine, its
            optimizer.step()

    gradients = [(torch.randn(4, 6), torch.randn(3)) for _ in range(6)]
    straight = begun()
    stepped(*straight, gradients)
    first, second = begun(), begun()
    first[2].step()
    assert torch.equal(first[0], torch.ones(4, 6).tril())
    stepped(*first, gradients[:3])
    with torch.no_grad():
        second[0].copy_(first[0])
        second[1].copy_(first[1])
    second[2].load_state_dict(first[2].state_dict())
    stepped(*second, gradients[3:])
    assert torch.equal(straight[0], second[0])
    assert torch.equal(straight[1], second[1])


@pytest.mark.parametrize(
    "options",
    [["optim.ema=0.5"], ["trainer.accumulate=2"], ["trainer.precision=bf16"], ["optim.clip=1"], ["optim.renorm=false"]],
)
def test_a_training_learns_with_it(options: list[str], working_folder: Path) -> None:
    lapel.train(
        lapel.compose("train", [*TINY, "optim=muon", "trainer.max_epochs=12", *options]), working_folder / "run"
    )
    losses = [each["loss"] for each in json.loads((working_folder / "run" / "train.json").read_text())["history"]]
    assert losses[-1] < 0.9 * losses[0]
