"""Runs side by side, made of their files alone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lapel.commands import compare as compare_command
from lapel.config.evaluation import CompareConfig
from lapel.errors import LapelError
from lapel.evaluation.comparison import compare
from lapel.evaluation.intervals import paired_bootstrap, spread_of_seeds
from lapel.evaluation.telling_apart import names_of
from lapel.files.writing import write_yaml


def make_run(
    folder: Path, seed: int, lr: float, grades: list[float], split_hash: str = "abc", items: np.ndarray | None = None
) -> Path:
    (folder / "evaluation").mkdir(parents=True)
    write_yaml(folder / "config.yaml", {"optim": {"lr": lr}, "seed": seed, "resume": None, "init": None})
    mean = float(np.mean(grades))
    card = {"data": "made", "split": "test", "split_hash": split_hash, "images_hash": "", "comparison": "all"}
    told = {"recall@1": mean, "intervals": {"recall@1": [mean - 0.1, mean + 0.1]}, "protocol": card}
    table = pd.DataFrame({"row": range(len(grades)), "recall@1": grades})
    if items is not None:
        card["intervals"] = "95% by 1000 resamples of items, drawn by seed 0"
        table["item"] = items
    (folder / "evaluation" / "metrics.json").write_text(json.dumps(told))
    table.to_parquet(folder / "evaluation" / "queries.parquet")
    summary = {"images_per_second": 100.0 + seed, "training_seconds": 10.0, "parameters": 1234}
    (folder / "train.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture
def four(tmp_path: Path) -> list[Path]:
    generator = np.random.default_rng(0)
    base = generator.random(50)
    return [
        make_run(tmp_path / "sweep" / str(number), number % 2, lr, np.clip(base + up, 0, 1).tolist())
        for number, (lr, up) in enumerate([(0.1, 0.0), (0.1, 0.02), (0.2, 0.1), (0.2, 0.14)])
    ]


OPTIONS = CompareConfig(metrics=["recall@1"])


def test_seeds_are_one_line_with_what_lies_between_them(four: list[Path]):
    table = compare([str(four[0].parent)], OPTIONS)
    assert table["name"].tolist() == ["optim.lr=0.1", "optim.lr=0.2"]
    assert table["seeds"].tolist() == [2, 2]
    means = [json.loads((run / "evaluation/metrics.json").read_text())["recall@1"] for run in four]
    assert table["recall@1"].tolist() == pytest.approx([np.mean(means[:2]), np.mean(means[2:])])
    low, high = stats.t.interval(0.95, 1, np.mean(means[:2]), stats.sem(means[:2]))
    assert table.loc[0, ["recall@1 low", "recall@1 high"]].tolist() == pytest.approx([low, high])
    grades = [pd.read_parquet(run / "evaluation/queries.parquet")["recall@1"].to_numpy() for run in four]
    expected = paired_bootstrap((grades[0] + grades[1]) / 2, (grades[2] + grades[3]) / 2, 1000, 0.95, 0)
    found = table.loc[1, ["recall@1 difference low", "recall@1 difference high", "recall@1 p"]].tolist()
    assert found == pytest.approx(expected)
    assert table.loc[1, "recall@1 difference"] == pytest.approx(np.mean(means[2:]) - np.mean(means[:2]))
    assert np.isnan(table.loc[0, "recall@1 difference"])
    assert table["images/s"].tolist() == [100.5, 100.5]
    assert table["parameters"].tolist() == [1234, 1234]


def test_runs_that_began_elsewhere_are_not_seeds_of_one(four: list[Path]):
    config = (four[1] / "config.yaml").read_text()
    (four[1] / "config.yaml").write_text(config.replace("init: null", "init: runs/other"))
    table = compare([str(four[0]), str(four[1])], OPTIONS)
    assert table["name"].tolist() == ["init=None", "init=runs/other"]


SIAM = {"variant.name": "siam", "variant.metric": "euclidean", "encoder.kind": "encoder/tiny", "optim.lr": 0.1}


def test_names_are_the_fewest_options_that_tell_runs_apart() -> None:
    cat = SIAM | {"variant.name": "cat", "variant.objectives.category.weight": 1.0}
    folders = [Path("runs/a"), Path("runs/b"), Path("runs/c"), Path("runs/d")]
    assert names_of([SIAM, cat], folders[:2]) == (["variant=siam", "variant=cat"], [0, 0]), (
        "a category's weight follows from the variant"
    )
    faster = cat | {"optim.lr": 0.3}
    assert names_of([SIAM, faster], folders[:2]) == (
        ["variant=siam optim.lr=0.1", "variant=cat optim.lr=0.3"],
        [0, 0],
    ), "a rate does not"
    heavier = cat | {"variant.objectives.category.weight": 2.0}
    assert names_of([SIAM, heavier], folders[:2])[1] == [0, 1]
    larger = cat | {"encoder.kind": "encoder/trunk", "encoder.name": "resnet50"}
    assert names_of([SIAM, cat, larger], folders[:3]) == (
        ["encoder=tiny variant=siam", "encoder=tiny variant=cat", "encoder=trunk variant=cat"],
        [0, 0, 1],
    )
    assert names_of([SIAM], folders[:1]) == (["a"], [0])
    assert names_of([SIAM, SIAM | {"new": 1}], folders[:2]) == (["a", "b"], [0, 1]), (
        "of older runs an option is missing"
    )


def test_names_are_those_of_folders_where_many_options_would_be_needed() -> None:
    one = dict.fromkeys("abcd", 0)
    runs = [one, *(one | {key: 1} for key in one)]
    folders = [Path("runs/x/0"), *(Path(f"runs/{key}/0") for key in one)]
    assert names_of(runs, folders) == (["x/0", "a/0", "b/0", "c/0", "d/0"], [0, 1, 1, 1, 1])
    assert names_of(runs[:4], folders[:4])[0] == ["a=0 b=0 c=0", "a=1 b=0 c=0", "a=0 b=1 c=0", "a=0 b=0 c=1"]


def test_options_that_names_do_not_tell_are_told_below(
    four: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in four[2:]:
        (run / "config.yaml").write_text((run / "config.yaml").read_text() + "other: 1\nthird: a|b\n")
    monkeypatch.setattr("sys.argv", ["lapel-compare", str(four[0].parent), "metrics=recall@1"])
    compare_command.main()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("Run 2 differs from run 1 in 2 options that the names do not tell: `diff ")
    assert last.endswith(f"{four[0]}/config.yaml {four[2]}/config.yaml`")


def test_trials_of_sweeps_below_a_folder_are_compared_too(four: list[Path], tmp_path: Path):
    sweep = tmp_path / "all" / "sweep-1"
    sweep.mkdir(parents=True)
    (sweep.parent / "link").symlink_to(four[3])
    four[0].rename(sweep / "0")
    four[2].rename(sweep.parent / "alone")
    (sweep.parent / "alone" / "copy").mkdir()
    (sweep.parent / "alone" / "copy" / "config.yaml").write_text("seed: 0\n")  # of a run, and no run
    table = compare([str(sweep.parent)], OPTIONS)
    assert sorted(table["folder"]) == [str(sweep.parent / "alone"), str(sweep / "0")]


def test_what_intervals_are_of_is_said_where_they_are_of_different_things(
    four: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for runs, said in ((four, True), (four[::2], False)):
        monkeypatch.setattr("sys.argv", ["lapel-compare", *map(str, runs), "metrics=[recall@1]", "samples=10"])
        compare_command.main()
        assert ("Intervals of scores are of the seeds" in capsys.readouterr().out) is said


def test_a_run_counts_once(four: list[Path], tmp_path: Path):
    (tmp_path / "latest").symlink_to(four[1])
    for again in (four[1], tmp_path / "latest", four[1].parent):
        with pytest.raises(LapelError, match=r": is the same run as .*; each counts once"):
            compare([str(four[1]), str(again)], OPTIONS)


def test_a_folder_of_rates_is_no_run(four: list[Path]):
    (four[2] / "lr.csv").write_text("lr,loss,smoothed")
    assert compare([str(four[0].parent)], OPTIONS)["seeds"].tolist() == [2, 1]
    with pytest.raises(LapelError, match=r"2: has tried out rates \(find_lr\), and trained nothing"):
        compare([str(four[2])], OPTIONS)


def test_files_of_two_evaluations_are_told(four: list[Path]):
    """What a killed evaluation may leave: new scores of each query beside the means of before."""
    shutil.copy(four[3] / "evaluation/queries.parquet", four[0] / "evaluation/queries.parquet")
    with pytest.raises(LapelError, match=r"metrics\.json and queries\.parquet are of two evaluations"):
        compare([str(four[0]), str(four[2])], OPTIONS)


def test_what_cannot_be_compared_in_a_folder_is_left_out_and_told(
    four: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(four[0] / "evaluation")
    (four[1] / "train.json").unlink()
    (four[2] / "evaluation" / "metrics.json").write_text("{")
    sweep = str(four[0].parent)
    table = compare([sweep], OPTIONS)
    assert table["name"].tolist() == ["3"]
    assert [each.split(": ")[2].partition(" (")[0] for each in caplog.messages] == [
        f"has no evaluation in {four[0]}/evaluation; python evaluate.py run={four[0]} makes one",
        "its training has not ended",
        "cannot be read",
    ]
    assert f"python train.py resume={four[1]} goes on, then python evaluate.py run={four[1]}" in caplog.text
    with pytest.raises(LapelError, match="0: has no evaluation"):
        compare([str(four[0])], OPTIONS)
    shutil.rmtree(four[3] / "evaluation")
    with pytest.raises(LapelError, match=r"sweep: none of its 4 runs can be compared; .*0: has no evaluation"):
        compare([sweep], OPTIONS)


def test_a_folder_without_the_evaluation_of_a_split_names_the_command_that_makes_it(four: list[Path]) -> None:
    with pytest.raises(LapelError, match=r"python evaluate\.py run=.*0 split=val makes one"):
        compare([str(four[0])], CompareConfig(metrics=["recall@1"], evaluation="val"))


def test_runs_of_one_seed_are_warned_of(four: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture):
    compare([str(four[0].parent)], OPTIONS)
    assert not caplog.text
    copy = shutil.copytree(four[1], tmp_path / "copy")
    table = compare([*map(str, four[:2]), str(copy)], OPTIONS)
    assert table["seeds"].tolist() == [3]
    assert "3 runs like it have 2 seeds" in caplog.text


def test_one_run_has_its_own_interval(four: list[Path]):
    table = compare([str(four[3])], OPTIONS)
    assert table["name"].tolist() == ["3"]
    assert table.loc[0, "recall@1 high"] - table.loc[0, "recall@1 low"] == pytest.approx(0.2)


def test_seeds_that_came_to_one_value_have_the_interval_of_their_queries(tmp_path: Path):
    """Between them lies nothing: Student's interval of two that found all of 8 queries is from 1 to 1."""
    for seed in range(2):
        make_run(tmp_path / "sweep" / str(seed), seed, 0.1, [1.0] * 8)
    table = compare([str(tmp_path / "sweep")], OPTIONS)
    assert table.loc[0, ["seeds", "recall@1 low", "recall@1 high"]].tolist() == pytest.approx([2, 0.9, 1.1])


def test_the_interval_of_two_seeds_stays_where_the_score_can_be(tmp_path: Path) -> None:
    for seed, grades in enumerate([[1.0] * 9 + [0.0], [1.0] * 8 + [0.0] * 2]):
        make_run(tmp_path / "high" / str(seed), seed, 0.1, grades)
        make_run(tmp_path / "low" / str(seed), seed, 0.1, [1 - grade for grade in grades])
    reach = stats.t.ppf(0.975, 1) * 0.05
    for name, ends in (("high", [0.85 - reach, 1]), ("low", [0, 0.15 + reach])):
        table = compare([str(tmp_path / name)], OPTIONS)
        assert table.loc[0, ["recall@1 low", "recall@1 high"]].tolist() == pytest.approx(ends)
    low, high = spread_of_seeds(np.array([0.8, 0.9]), 0.95)
    assert (low, high) == pytest.approx((0.85 - reach, 0.85 + reach)), "what is no share has no such ends"


def test_what_cannot_be_compared_is_told(four: list[Path], tmp_path: Path):
    other = make_run(tmp_path / "other", 0, 0.1, [1.0] * 50, split_hash="def")
    with pytest.raises(LapelError, match=r"other: was scored with split_hash=def, and .*0 with abc"):
        compare([str(four[0]), str(other)], OPTIONS)
    fewer = make_run(tmp_path / "fewer", 0, 0.1, [1.0] * 3)
    with pytest.raises(LapelError, match="fewer: was scored on other queries"):
        compare([str(four[0]), str(fewer)], OPTIONS)
    with pytest.raises(LapelError, match=r"metrics=map: .* has no such score .* allowed are recall@1"):
        compare([str(four[0])], CompareConfig(metrics=["map"]))
    with pytest.raises(LapelError, match=r"no such run folder|is no run folder"):
        compare([str(tmp_path / "nowhere")], OPTIONS)
    (four[1] / "evaluation" / "queries.parquet").unlink()
    with pytest.raises(LapelError, match=r"1: has no evaluation in .*; python evaluate\.py run=.*1 makes one"):
        compare([str(four[0]), str(four[1])], OPTIONS)
    (four[2] / "train.json").write_text("{")
    with pytest.raises(LapelError, match=r"2/train.json: is damaged"):
        compare([str(four[2])], OPTIONS)


@pytest.mark.parametrize("form", ["markdown", "csv", "json"])
def test_the_command_prints_what_was_found(
    form: str, four: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.argv", ["lapel-compare", str(four[0].parent), "metrics=recall@1", f"format={form}"])
    compare_command.main()
    printed = capsys.readouterr().out
    assert "optim.lr=0.2" in printed
    if form == "json":
        assert json.loads(printed)[1]["seeds"] == 2
    elif form == "csv":
        assert len(printed.splitlines()) == 3
    else:
        runs, scores, of_chance = printed.strip().split("\n\n")
        assert of_chance.startswith("Intervals of scores are of the seeds")
        assert runs.splitlines() == [
            "| run | name | seeds | parameters | images/s | in training steps |",
            "| ---: | --- | ---: | ---: | ---: | ---: |",
            "| 1 | optim.lr=0.1 | 2 | 1,234 | 100 | 10 s |",
            "| 2 | optim.lr=0.2 | 2 | 1,234 | 100 | 10 s |",
        ]
        heads, _, first, second = scores.splitlines()
        assert heads == "| run | recall@1 | 95% | less run 1 | 95% | p |"
        assert first.endswith(" |  |  |  |")
        assert second == "| 2 | 0.6390 | 0.4183 to 0.8597 | +0.1024 | +0.0953 to +0.1080 | 0.002 |"


@pytest.mark.parametrize(("arguments", "told"), [([], "at least one run"), (["x", "metric=y"], "did you mean metrics")])
def test_the_command_tells_mistakes(
    arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.argv", ["lapel-compare", *arguments])
    with pytest.raises(SystemExit) as ended:
        compare_command.main()
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_chance_is_told_as_seldom_as_it_should_be(tmp_path: Path):
    """Two models that differ by nothing but luck, on 30 items of 10 alike queries each: queries drawn one by one would
    find a difference in more than half of 200 such comparisons."""
    generator = np.random.default_rng(0)
    items = np.repeat(np.arange(30), 10)
    chances = []
    for number in range(200):
        pair = [tmp_path / f"{number}-{lr}" for lr in (0.1, 0.2)]
        for lr, folder in zip((0.1, 0.2), pair, strict=True):
            right = (generator.random(30) < 0.6)[items] ^ (generator.random(300) < 0.05)
            make_run(folder, 0, lr, right.astype(float).tolist(), items=items)
        chances.append(compare([str(each) for each in pair], OPTIONS).loc[1, "recall@1 p"])
    assert 0.02 <= np.mean(np.array(chances) < 0.05) <= 0.08


def test_an_evaluation_that_kept_no_items_is_told(four: list[Path], caplog: pytest.LogCaptureFixture):
    for run in four:
        told = json.loads((run / "evaluation/metrics.json").read_text())
        told["protocol"]["intervals"] = "95% by 1000 resamples of items, drawn by seed 0"
        (run / "evaluation/metrics.json").write_text(json.dumps(told))
    compare([str(four[0].parent)], OPTIONS)
    assert "did not keep the queries' items" in caplog.text
