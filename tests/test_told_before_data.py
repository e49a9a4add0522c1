"""What can be known before data is loaded is told before; a batch that does not fit names one that does."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TINY
from hypothesis import given, settings
from hypothesis import strategies as st

import lapel
from lapel.catalog import Catalog
from lapel.commands import train as train_command
from lapel.config.train import TrainConfig
from lapel.errors import LapelError
from lapel.sampling import Division
from lapel.training.batch_size import with_sampler
from lapel.training.process import prepare

VIT = ["data=wardrobe", "data.size=32", "encoder=trunk", "encoder.name=test_vit", "trainer=cpu"]


def run_of(overrides: list[str]) -> TrainConfig:
    config = lapel.compose("train", overrides)
    assert isinstance(config, TrainConfig)
    return config


def catalog_of(sizes: list[int]) -> Catalog:
    """A training part of items with so many images each, in two categories."""
    items = np.repeat(np.arange(len(sizes)), sizes)
    columns = {"image": np.arange(len(items)), "item": items, "category": items % 2, "split": "train", "role": "both"}
    return Catalog("drawn", pd.DataFrame(columns), [str(item) for item in range(len(sizes))], ["a", "b"])


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["data.size=36"], "cannot take images of data.size=36x36: sides must be multiples of 16 and 16"),
        (["encoder.weights=nowhere.pth"], "encoder.weights=nowhere.pth: no such file"),
        (["encoder.name=no_such_model"], "timm has no such model"),
        (["encoder.frozen=[nothing]"], "encoder.frozen=nothing: the trunk has no such part"),
        (["stages=[{epochs:1,unfrozen:[nothing]}]"], "stages.0.unfrozen=nothing: the trunk has no such part"),
        (["stages=[{epochs:1,size:30}]"], "cannot take images of stages.0.size=30x30"),
        (["init=nowhere"], "init=nowhere"),
    ],
)
def test_no_photo_is_decoded_for_an_encoder_that_cannot_be(
    overrides: list[str], told: str, monkeypatch: pytest.MonkeyPatch, working_folder: Path
) -> None:
    def load(_: Any) -> Catalog:
        raise AssertionError("the data was loaded")

    monkeypatch.setattr("lapel.datasets.load", load)
    with pytest.raises(LapelError) as error:
        lapel.train(run_of([*VIT, *overrides]))
    assert told in str(error.value)
    assert not list(working_folder.glob("runs/*"))


def test_a_run_that_is_shown_has_a_filter_that_can_be_read(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["lapel-train", "--cfg", "job", "data=folder", f"data.root={working_folder}", "data.where=item ="]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        train_command.main()
    assert ended.value.code == 2
    assert "error: data.where=item =: cannot be read" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- batch size


@pytest.mark.parametrize(
    ("sampler", "options", "works"),
    [
        ("balanced", ["sampler.images=4"], 130),
        ("random", [], 130),
        ("pairs", ["variant=siam"], 130),
        ("triplets", ["variant=triplet"], 130),
        ("category_balanced", ["sampler.categories=2", "sampler.images=2"], 130),
        ("random", ["trainer.accumulate=4"], 128),
    ],
)
def test_a_batch_that_is_too_large_names_one_that_works(sampler: str, options: list[str], works: int) -> None:
    overrides = [*TINY, f"sampler={sampler}", *options]
    with pytest.raises(LapelError) as error:
        prepare(run_of([*overrides, "data.batch_size=4000"]))
    named = f"data.batch_size={works} works with sampler={sampler}, and data.batch_size=auto takes it"
    assert named in str(error.value)
    assert "the training part has only 130 images" in str(error.value)
    module, _ = prepare(run_of([*overrides, f"data.batch_size={works}"]))
    assert module.course.steps_per_epoch >= 1


def test_auto_takes_the_usual_batch_where_there_are_enough_images() -> None:
    module, _ = prepare(run_of([*TINY, "data.batch_size=auto"]))
    assert module.config.data.batch_size == 128


@settings(deadline=None, max_examples=20)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=12),
    sampler=st.sampled_from(["balanced", "random", "category_balanced"]),
    accumulate=st.integers(1, 3),
)
def test_auto_takes_the_largest_batch_that_works(sizes: list[int], sampler: str, accumulate: int) -> None:
    """Against trying every size."""
    catalog = catalog_of(sizes)
    options = ["sampler.images=2"] if "balanced" in sampler else []
    base = [*TINY, f"sampler={sampler}", *options, "variant=supcon", f"trainer.accumulate={accumulate}"]
    config = run_of([*base, "data.batch_size=auto"])

    def sized(size: int) -> TrainConfig:
        return replace(config, data=replace(config.data, batch_size=size))

    def works(size: int) -> bool:
        try:
            with_sampler(sized(size), catalog, Division(parts=accumulate))
        except LapelError:
            return False
        return True

    largest = next((size for size in range(min(128, int(np.sum(sizes))), 1, -1) if works(size)), None)
    if largest is None:
        with pytest.raises(LapelError):
            with_sampler(config, catalog, Division(parts=accumulate))
    else:
        found, drawn = with_sampler(config, catalog, Division(parts=accumulate))
        assert found.data.batch_size == largest
        assert len(drawn) >= 1


def test_a_run_of_an_automatic_batch_trains_and_resumes(working_folder: Path) -> None:
    options = [*TINY, "data.items=25", "data.batch_size=auto", "trainer.max_epochs=1"]
    lapel.train(run_of(options), working_folder / "run")
    assert lapel.train(run_of([f"resume={working_folder / 'run'}"])) >= 0


@pytest.mark.parametrize("value", ["abc", "2.5", "true", "[64]"])
def test_what_is_no_batch_size_is_told(value: str) -> None:
    with pytest.raises(LapelError, match=r"data.batch_size=.*: must be a whole number, or auto"):
        run_of([*TINY, f"data.batch_size={value}"])
