"""The rate that the finder suggests: near the steepest descent of the curve without its noise, or none."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, few_fast

import lapel
from lapel.errors import LapelError
from lapel.training import find_lr
from lapel.training.rate_finder import Sweep, fit

X = np.linspace(-7, -1, 100)


def step(at: float, width: float) -> np.ndarray:
    """From 0 to 1 about a rate."""
    return 1 / (1 + np.exp(-(X - at) / width))


def blow_up(at: float, speed: float = 5.0) -> np.ndarray:
    return np.minimum(np.exp((X - at) * speed), 20)


# Losses without noise: flat, a fall, then the end; slow and fast falls, small ones, early and late ends, two steps.
CURVES = {
    "plain": 4 - 2 * step(-3, 0.3) + blow_up(-1.8),
    "narrow": 4.2 - 1.5 * step(-2.6, 0.1) + blow_up(-1.6),
    "small": 4 - 0.5 * step(-3.2, 0.25) + blow_up(-2.0),
    "early": 5 - 2.5 * step(-4.2, 0.25) + blow_up(-3.2, 4),
    "two steps": 4 - 0.6 * step(-4.8, 0.2) - 1.4 * step(-2.8, 0.25) + blow_up(-1.7),
}


def steepest(curve: np.ndarray) -> float:
    lowest = int(curve.argmin())
    return float(X[int(np.gradient(curve[: lowest + 1], X[: lowest + 1]).argmin())])


def noisy(curve: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """With noise of a share of the fall, which grows with the loss."""
    deviation = noise * (curve[0] - curve.min()) * curve / curve[0]
    return curve + deviation * np.random.default_rng(seed).standard_normal(len(curve))


@pytest.mark.parametrize("name", few_fast(CURVES, ["narrow", "two steps"]))
@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_suggestions_are_near_the_steepest_descent(name: str, noise: float) -> None:
    curve = CURVES[name]
    suggested = [Sweep(10**X, noisy(curve, noise, seed)).suggestion() for seed in range(1000)]
    near = np.abs(np.log10(suggested) - steepest(curve)) <= np.log10(5)
    assert near.mean() >= 0.99


# Falls as wide as the sweep, whose steepest part the noise hides; and two falls, the steeper beside a greater one.
WIDE = {
    "gentle": 4.25 - 2.85 * step(-3.45, 0.42) + blow_up(-1.6),
    "slow": 4.25 - 2.85 * step(-3.8, 0.7) + blow_up(-1.3),
    "back to where it began": 4.25 - 2.4 * step(-3.2, 0.5) * (1 - step(-1.8, 0.2)),
}
TWOFOLD = {
    "steep, then slow": 4.25 - 0.8 * step(-4.6, 0.08) - 1.8 * step(-2.6, 0.5) + blow_up(-1.2),
    "slow, then steep": 4.25 - step(-4.2, 0.6) - 0.9 * step(-2, 0.08) + blow_up(-1.5, 10),
}


def noisier_when_fallen(curve: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """As in real sweeps: a trained network tells batches apart, so that its losses differ more than a new one's."""
    fallen = ((curve[0] - curve) / (curve[0] - curve.min())).clip(0, 1)
    blown = (curve - curve[0]).clip(0)
    deviation = noise * (curve[0] - curve.min()) * (0.5 + fallen) + 0.15 * blown
    return curve + deviation * np.random.default_rng(seed).standard_normal(len(curve))


@pytest.mark.parametrize("name", few_fast(WIDE, ["back to where it began"]))
def test_suggestions_stand_noise_that_grows_on_the_way_down(name: str) -> None:
    curve = WIDE[name]
    suggested = [Sweep(10**X, noisier_when_fallen(curve, 0.08, seed)).suggestion() for seed in range(1000)]
    assert (np.abs(np.log10(suggested) - steepest(curve)) <= np.log10(5)).mean() >= 0.99


@pytest.mark.parametrize("name", TWOFOLD)
def test_the_steeper_of_two_falls_is_suggested(name: str) -> None:
    curve = TWOFOLD[name]
    suggested = [Sweep(10**X, noisy(curve, 0.02, seed)).suggestion() for seed in range(1000)]
    assert (np.abs(np.log10(suggested) - steepest(curve)) <= np.log10(5)).mean() >= 0.99


@pytest.mark.parametrize("curve", [np.full(len(X), 4.0), 4 + blow_up(-2.5)], ids=["flat", "rising"])
def test_few_of_the_sweeps_that_are_noise_alone_give_a_suggestion(curve: np.ndarray) -> None:
    suggested = 0
    for seed in range(500):
        try:
            Sweep(10**X, curve + 0.1 * np.random.default_rng(seed).standard_normal(len(X))).suggestion()
        except LapelError:
            continue
        suggested += 1
    assert suggested <= 0.06 * 500


def test_without_noise_the_steepest_descent_is_suggested() -> None:
    for curve in CURVES.values():
        assert np.log10(Sweep(10**X, curve).suggestion()) == pytest.approx(steepest(curve), abs=np.log10(5))


@pytest.mark.parametrize("seed", range(10))
def test_a_line_is_fitted_by_itself(seed: int) -> None:
    generator = np.random.default_rng(seed)
    found = fit(10**X, 3 - 0.4 * X, 0.5)
    np.testing.assert_allclose(found.losses, 3 - 0.4 * X, atol=1e-9)
    np.testing.assert_allclose(found.slopes, -0.4, atol=1e-9)
    noise = generator.standard_normal((400, len(X)))
    slopes = np.array([fit(10**X, each, 0.5).slopes for each in noise])
    errors = np.array([fit(10**X, each, 0.5).errors for each in noise[:100]]).mean(0)
    np.testing.assert_allclose(slopes.std(0), errors, rtol=0.25)


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_gives_no_suggestion_or_says_so(seed: int) -> None:
    losses = 4 + np.random.default_rng(seed).standard_normal(len(X)) * 0.1 + blow_up(-2.5)
    try:
        suggested = Sweep(10**X, losses).suggestion()
    except LapelError:
        return
    assert 1e-7 <= suggested <= 10**-2.5


def test_a_loss_that_only_rises_is_told() -> None:
    with pytest.raises(LapelError, match="only rises"):
        Sweep(10**X, 4 + step(-5, 1)).suggestion()
    with pytest.raises(LapelError, match="only rises"):
        Sweep(10 ** X[:3], np.array([4.0, 5, 6])).suggestion()


def test_the_finder_announces_its_steps(working_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lapel")
    config = lapel.compose("train", [*TINY, "data.items=200", "find_lr=true", "optim.lr=0.001"])
    suggested = find_lr(config, working_folder / "rates")
    first = caplog.records[0].getMessage()
    assert first == "find_lr: at most 100 steps, at rates from 1e-07 to 0.1; nothing that is trained is kept"
    assert 1e-5 < suggested < 0.1


def test_all_rates_of_an_optimizer_are_found_together(working_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Muon's matrices learn at a rate of their own, which keeps its distance from optim.lr."""
    caplog.set_level(logging.INFO, "lapel")
    options = ["data.items=200", "find_lr=true", "optim=muon", "optim.lr=0.002", "optim.matrix_lr=0.01"]
    suggested = find_lr(lapel.compose("train", [*TINY, *options]), working_folder / "rates")
    told = re.search(r"suggested: optim.lr=(\S+) optim.matrix_lr=(\S+);", caplog.records[-1].getMessage())
    assert told is not None
    assert float(told[1]) == pytest.approx(suggested, rel=0.05)
    assert float(told[2]) == pytest.approx(5 * suggested, rel=0.05)
