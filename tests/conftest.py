"""What several tests share: a small trained run with its evaluation and bundle, made once."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pytest

import lapel
from lapel.config.evaluation import EvaluateConfig
from lapel.config.export import ExportConfig

# A wardrobe that trains in a second: few small grey drawings.
TINY = [
    "data=wardrobe",
    "data.items=40",
    "data.views=5",
    "data.size=16",
    "data.channels=1",
    "data.batch_size=32",
    "encoder.widths=[8,16]",
    "encoder.embedding=16",
    "augment.erase=4",
    "trainer=cpu",
    "trainer.max_epochs=2",
]


def few_fast(values: Iterable[Any], fast: Collection[Any]) -> list[Any]:
    """Parameters of a test, all of which but a few are among the slow ones."""
    return [pytest.param(each, marks=() if each in fast else pytest.mark.slow) for each in values]


def pytest_configure() -> None:
    """Give each of several pytest processes a core of its own: two that compute on both would wait for each other."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, in which `runs/` appears."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, evaluated and exported. Not to be changed: tests that damage something copy it."""
    folder = tmp_path_factory.mktemp("trained")
    before = Path.cwd()
    os.chdir(folder)
    try:
        lapel.train(lapel.compose("train", TINY))
        run = (folder / "latest").resolve()
        lapel.evaluate(EvaluateConfig(run=str(run)))
        lapel.export(ExportConfig(run=str(run)))
    finally:
        os.chdir(before)
    return run
