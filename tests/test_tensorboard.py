"""What `tensorboard --logdir runs` shows, as TensorBoard's own readers find it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from google.protobuf import text_format
from tensorboard import context
from tensorboard.backend.event_processing import io_wrapper
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_SCALAR  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.projector.projector_config_pb2 import (
    ProjectorConfig,  # pyright: ignore[reportAttributeAccessIssue]
)

import lapel
from lapel.training.callbacks.events import EventFiles, cut_events
from lapel.training.callbacks.projector import project, sprite
from lapel.training.callbacks.tags import sentence


def written(folder: Path, options: list[str], *scores: float) -> Path:
    """A run's event file with a score for each epoch."""
    events = EventFiles(folder, lapel.compose("train", [*TINY, *options]))
    for step, score in enumerate(scores):
        events.add_scalars({"1_val/map@r": score}, step)
    events.add_scalars({"(best)/map@r": max(scores), "(best)/recall@1": 1.0}, len(scores))
    events.end()
    close(events)
    return folder


def close(events: EventFiles) -> None:
    events.teardown(None, None, "fit")  # pyright: ignore[reportArgumentType]


def test_a_run_is_listed_once_by_its_name(trained_run: Path) -> None:
    assert list(io_wrapper.GetLogdirSubdirectories(str(trained_run.parent))) == [str(trained_run)]


def test_scores_on_val_and_losses_come_first_and_every_curve_says_what_it_is(trained_run: Path) -> None:
    events = EventAccumulator(str(trained_run))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert sorted({tag.partition("/")[0] for tag in tags})[:3] == [
        "(best)",
        "1_val",
        "2_loss",
    ]  # figures before letters
    told = {tag: events.summary_metadata[tag].summary_description for tag in tags}
    assert all(told.values()), told
    assert {events.summary_metadata[tag].data_class for tag in tags} == {DATA_CLASS_SCALAR}
    assert told["1_val/recall@5"] == "Share of queries with at least one match among the first 5 images. Of val."
    assert told["(best)/mrr"].startswith("Mean reciprocal rank: ")
    assert "the checkpoint that is kept as the best" in told["(best)/mrr"]
    assert "pair" in told["2_loss/pair"]
    assert "{" not in "".join(told.values())
    assert sentence("a_users/own") == ""


def test_hparams_begins_with_options_in_which_runs_differ_and_shows_what_is_kept(tmp_path: Path) -> None:
    swept = {"a": ["optim.lr=0.1", "seed=0"], "b": ["optim.lr=0.1", "seed=1"], "c": ["optim.lr=0.2", "seed=0"]}
    for name, options in swept.items():
        written(tmp_path / name, options, 0.5, 0.25)
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    runs.Reload()
    provider = MultiplexerDataProvider(runs, str(tmp_path))
    shown = Context(TBContext(data_provider=provider))
    request = context.RequestContext()
    found = shown.hparams_metadata(request, "")
    assert sorted(found) == ["a", "b", "c"]
    experiment = shown.experiment_from_metadata(request, "", True, found, None)
    assert {each.name for each in experiment.hparam_infos if each.differs} == {"optim.lr", "seed"}
    assert [each.name.tag for each in experiment.metric_infos] == ["(best)/map@r", "(best)/recall@1", "1_val/map@r"]


def test_an_event_file_is_begun_by_what_is_written(tmp_path: Path) -> None:
    events = EventFiles(tmp_path, lapel.compose("train", TINY))
    events.note(3)
    close(events)
    assert not list(tmp_path.glob("events*"))
    for step in range(2):  # and one that goes on does not tell the config again
        events.add_scalars({"1_val/map@r": 0.5}, step)
        close(events)
    reader = EventAccumulator(str(tmp_path))
    reader.Reload()
    assert len(reader.Tensors("config/text_summary")) == 1
    assert [each.step for each in reader.Scalars("1_val/map@r")] == [0, 1]


def test_event_files_are_cut_in_the_run_folder_alone(tmp_path: Path) -> None:
    """What else lies below it, as the files of an earlier version do in `tensorboard/`, stays as it is."""
    (kept,) = written(tmp_path, [], 0.5).glob("events*")
    (earlier,) = written(tmp_path / "tensorboard", [], 0.5).glob("events*")
    sizes = [each.stat().st_size for each in (kept, earlier)]
    later = kept.with_name("events.out.tfevents.later")
    later.touch()
    cut_events(tmp_path, {kept.name: sizes[0] - 1})
    assert [each.stat().st_size for each in (kept, earlier)] == [sizes[0] - 1, sizes[1]]
    assert not later.exists()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_projector_has_each_image_where_tensorboard_looks_for_it(channels: int, tmp_path: Path) -> None:
    pixels = torch.arange(5, dtype=torch.uint8).reshape(5, 1, 1, 1).expand(5, channels, 32, 32) * 10
    names = [(f"item {number}", "kind") for number in range(5)]
    embeddings = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    project(tmp_path, "below/val", "val", embeddings, names, pixels)
    config = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (shown,) = config.embeddings
    np.testing.assert_allclose(np.loadtxt(tmp_path / shown.tensor_path), embeddings, rtol=1e-5)
    assert (tmp_path / shown.metadata_path).read_text().splitlines()[3] == "item 2\tkind"
    whole = np.asarray(sprite(pixels))
    assert whole.shape == (96, 96, 3)
    assert [int(whole[32 * (n // 3), 32 * (n % 3), 0]) for n in range(6)] == [0, 10, 20, 30, 40, 0]
    assert (tmp_path / shown.sprite.image_path).is_file()
    assert list(shown.sprite.single_image_dim) == [32, 32]
