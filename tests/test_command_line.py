"""The commands as a person types them: what they print, how they fail, and file names with any character."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY
from PIL import Image

import lapel
from lapel.commands import compare, data, evaluate, export, search, train
from lapel.commands.literal import read_literally
from lapel.commands.search import telling_digits
from lapel.commands.terminal import told_in_one_line
from lapel.config.search import SearchConfig, TableFormat
from lapel.errors import LapelError
from lapel.files.paths import from_here, run_path

COMMANDS = {
    "train": train.main,
    "evaluate": evaluate.main,
    "export": export.main,
    "search": search.main,
    "compare": compare.main,
    "data": data.main,
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], working_folder: Path):
    """Call a command in this process: exit code, what it printed, what it said to stderr."""
    assert working_folder

    def call(command: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [f"lapel-{command}", *arguments])
        try:
            COMMANDS[command]()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def told_once(error: str) -> str:
    """The one line of an error; fails where there are more, or a traceback."""
    lines = error.strip().splitlines()
    assert len(lines) == 1, error
    assert "Traceback" not in error
    return lines[0]


def test_an_error_is_one_line_whatever_it_speaks_of(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), told_in_one_line("lapel-test"):
        raise LapelError("a\nb \x1b[31mred\u2028\u00a0größe\udc80")
    assert capsys.readouterr().err == "lapel-test: error: a\\nb \\x1b[31mred\\u2028\u00a0größe\\udc80\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["variant=siamm"], "allowed are cat, siam"),
        (["optim.lrr=1"], "allowed here are lr"),
        (["data.batch_size=-1"], "at least 2"),
        (["data.root=/no/such (folder)"], "/no/such (folder): no such folder"),
        (["--cfg", "job", "seed=-1"], "at least 0"),
        (["--config-dir", "/nowhere"], "no such folder"),
        (["--bogus"], "--bogus"),
        (["=3"], "must be key=value"),
        (["-m", "--cfg", "job", "seed=0,1"], "leave out -m"),
        (["variant=siam,cat"], "needs -m"),
        (["encoder.widths=8"], "must be a list"),
        (["~seed"], "seed: cannot be removed"),
        (["variant.name=../x"], "letters, digits"),
        (["optim.lr=inf"], "more than 0"),
        (["hydra.run.dir="], "must name a folder"),
        (["hydra.job.chdir=true"], "must be false"),
        (["trainer=gpu", *TINY[:-2]], "accelerator=gpu"),
    ],
)
def test_bad_training_options_end_in_one_line_and_leave_nothing(run, arguments: list[str], told: str) -> None:
    code, _, error = run("train", *arguments)
    assert code == 2
    assert told in told_once(error)
    assert not Path("runs").exists() or not list(Path("runs").iterdir())


def test_cfg_prints_the_whole_run_and_makes_no_folder(run) -> None:
    code, printed, _ = run("train", "--cfg", "job", "variant=triplet")
    assert code == 0
    assert "objectives:\n    triplet:" in printed
    assert "batch_size:" in printed
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("train", ["data=folder", "data.root=nowhere"]),
        ("train", ["init=nowhere"]),
        ("train", ["-m", "seed=0,1", "init=nowhere"]),
        ("evaluate", ["run=nowhere"]),
        ("evaluate", ["bundle=nowhere"]),
        ("evaluate", ["report.against=nowhere"]),
        ("export", ["run=nowhere"]),
        ("search", ["bundle=nowhere", "row=1"]),
        ("compare", ["nowhere"]),
        ("data", ["check", "data=folder", "data.root=nowhere"]),
    ],
)
def test_what_is_not_there_is_told_before_anything_slow_is_imported(
    run, command: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would do the work cannot be imported here."""
    for name in (
        "training",
        "evaluation.evaluating",
        "evaluation.comparison",
        "exporting.export",
        "bundle",
        "inspection.prepare",
    ):
        monkeypatch.setitem(sys.modules, f"lapel.{name}", None)
    code, _, error = run(command, *arguments)
    assert code == 2
    assert "nowhere: no such" in told_once(error)


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_a_missing_run_is_named(run, command: str) -> None:
    code, _, error = run(command, "run=missing run (1)")
    assert code == 2
    assert "run=missing run (1): no such run folder" in told_once(error)


def test_a_run_without_checkpoint_is_named(run) -> None:
    Path("empty").mkdir()
    code, _, error = run("evaluate", "run=empty")
    assert code == 2
    assert "run=empty: is no run folder: it has no config.yaml" in told_once(error)


def test_a_checkpoint_that_is_cut_short_is_told(run, trained_run: Path) -> None:
    whole = (trained_run / "checkpoints/best.ckpt").read_bytes()
    Path("cut/checkpoints").mkdir(parents=True)
    for length in (0, 1000, len(whole) // 2, len(whole) - 1):
        Path("cut/checkpoints/best.ckpt").write_bytes(whole[:length])
        code, _, error = run("evaluate", "run=cut")
        assert code == 2
        assert "best.ckpt: not a readable checkpoint (it is " in told_once(error)
        assert "cut short)" in error


def test_a_file_in_the_place_of_the_evaluation_is_told(run, trained_run: Path) -> None:
    shutil.copytree(trained_run, "taken", ignore=shutil.ignore_patterns("evaluation"))
    Path("taken/evaluation").write_text("mine")
    code, _, error = run("evaluate", "run=taken")
    assert code == 2
    assert "taken/evaluation: is a file, must be a folder or absent; move it away" in told_once(error)
    assert Path("taken/evaluation").read_text() == "mine"


def test_a_pickle_in_place_of_a_checkpoint_is_refused(run) -> None:
    Path("bad/checkpoints").mkdir(parents=True)
    Path("bad/checkpoints/best.ckpt").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    code, _, error = run("evaluate", "run=bad")
    assert code == 2
    assert "best.ckpt: not a readable checkpoint" in told_once(error)
    assert not Path("owned").exists()


def test_train_evaluate_export_search_by_hand(run) -> None:
    assert run("train", *TINY, "hydra.run.dir=my runs/one (1)")[0] == 0
    folder = Path("my runs/one (1)")
    assert Path("latest").resolve() == folder.resolve()
    code, printed, _ = run("evaluate", f"run={folder}")
    assert code == 0
    assert "recall@10" in printed
    metrics = json.loads((folder / "evaluation/metrics.json").read_text())
    assert metrics["protocol"]["split"] == "test"
    with Image.open(folder / "evaluation/examples.png") as picture:
        assert picture.width > 500
    assert run("export", f"run={folder}")[0] == 0
    code, printed, _ = run("search", f"bundle={folder}/bundle", "row=0", "k=3", "format=json")
    assert code == 0
    assert len(json.loads(printed)) == 3
    assert run("train", *TINY, "hydra.run.dir=my runs/one (1)")[0] == 2


def test_a_sweep_makes_a_folder_a_trial_and_points_latest_to_the_best(run) -> None:
    code, _, error = run("train", "-m", *TINY, "seed=0,1", "trainer.max_epochs=1")
    assert code == 0, error
    summaries = {each.parent: json.loads(each.read_text()) for each in Path("runs").glob("sweep-*/*/train.json")}
    assert sorted(summary["seed"] for summary in summaries.values()) == [0, 1]
    best = max(summaries, key=lambda trial: summaries[trial]["monitored"])
    assert Path("latest").resolve() == best.resolve()


def test_a_sweep_that_cannot_begin_leaves_nothing(run) -> None:
    code, _, error = run("train", "-m", "variant=siamm,cat")
    assert code == 2
    assert "allowed are cat, siam" in told_once(error)
    assert not Path("runs").exists()


SMALL = ["data=wardrobe", "data.items=40", "data.size=8", "encoder.widths=[4,4]", "trainer.max_epochs=1", "trainer=cpu"]


def test_a_folder_with_something_in_it_is_neither_used_nor_removed(run) -> None:
    Path("precious").mkdir()
    Path("precious/thesis.txt").write_text("years of work")
    for arguments in (SMALL, ["data.root=precious"], [*SMALL, "sampler.images=200", "data.batch_size=400"]):
        code, _, error = run("train", *arguments, "hydra.run.dir=precious")
        assert code == 2
        assert "precious: is not empty" in told_once(error)
    assert [each.name for each in Path("precious").iterdir()] == ["thesis.txt"]


def test_a_training_that_failed_gives_latest_back(run) -> None:
    assert run("train", *SMALL, "hydra.run.dir=good")[0] == 0
    code, _, error = run("train", *SMALL, "optim.lr=1e30", "trainer.log_every=1", "trainer.max_epochs=9", "seed=1")
    assert (code, Path("latest").resolve()) == (2, Path("good").resolve()), error


def test_a_real_folder_in_place_of_latest_is_told_before_anything_is_made(run) -> None:
    Path("latest").mkdir(parents=True)
    code, _, error = run("train", *SMALL)
    assert (code, [each.name for each in Path().iterdir()]) == (2, ["latest"])
    assert "latest: is a folder" in told_once(error)


def test_latest_stands_beside_the_runs_and_is_understood_where_it_was(run, trained_run: Path) -> None:
    run_folder = Path(shutil.copytree(trained_run, "runs/a"))
    Path("latest").symlink_to(run_folder)
    for given in ("latest", "runs/latest", str(Path.cwd() / "runs/latest")):
        assert run_path(given).resolve() == run_folder.resolve()
        assert lapel.load(f"{given}/bundle").folder.resolve() == (run_folder / "bundle").resolve()
        code, _, error = run("evaluate", f"run={given}", "report=false", "bootstrap.samples=0")
        assert code == 0, error
    # A link of a version that had it inside is found as long as there is no other, and goes when training begins.
    Path("latest").rename("runs/latest")
    Path("runs/latest").unlink()
    Path("runs/latest").symlink_to("a")
    assert run_path("latest").resolve() == run_path("runs/latest").resolve() == run_folder.resolve()
    assert run("train", *SMALL)[0] == 0
    assert not Path("runs/latest").is_symlink()
    assert run_path("runs/latest").resolve() == Path("latest").resolve() != run_folder.resolve()
    assert [each.name for each in Path("runs").iterdir() if each.name != "a"] == [Path("latest").resolve().name]


def test_a_file_in_the_way_is_told_in_one_line(run) -> None:
    Path("runs").touch()
    code, _, error = run("train", *SMALL)
    assert code == 2
    assert "runs: File exists" in told_once(error)


def test_a_sweep_goes_on_after_a_failed_trial_and_latest_shows_the_best(run) -> None:
    code, _, error = run("train", "-m", *SMALL, "data.batch_size=64,99999,32", "hydra.sweep.dir=my sweep (1)")
    assert code == 2
    assert "trial 1: data.batch_size=99999: the training part has only" in error
    assert "1 trials failed: 1" in error
    summaries = {each.parent: json.loads(each.read_text()) for each in Path("my sweep (1)").glob("*/train.json")}
    assert sorted(each.name for each in summaries) == ["0", "2"]
    best = max(summaries, key=lambda trial: summaries[trial]["monitored"])
    assert Path("latest").resolve() == best.resolve()


@pytest.mark.slow
def test_a_launchers_workers_tell_failed_trials_as_this_process_does(working_folder: Path) -> None:
    """Whose process knows nothing of theirs, and whose environment they have."""
    command = [
        sys.executable,
        str(Path(__file__).parent.parent / "train.py"),
        "-m",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        *SMALL,
    ]
    command += ["data.batch_size=64,99999", "hydra.sweep.dir=sweep", "trainer.threads=1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=working_folder)
    assert ended.returncode == 2
    assert "trial 1: data.batch_size=99999: the training part has only" in ended.stderr
    assert "1 trials failed: 1" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "best val map@r" in ended.stderr
    assert "the training part has only" in (working_folder / "sweep" / "failed" / "1").read_text()
    assert (working_folder / "latest").resolve() == (working_folder / "sweep" / "0").resolve()


def test_what_hydra_is_asked_for_is_not_what_a_trial_sees(run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def train(*_: object) -> float:
        seen.append(os.environ.get("HYDRA_FULL_ERROR"))
        raise ZeroDivisionError("a mistake")

    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr("lapel.training.train", train)
    code, _, error = run("train", "-m", *SMALL, "seed=0,1")
    assert code == 2
    assert "trial 0: ZeroDivisionError: a mistake" in error
    assert "2 trials failed: 0, 1" in error
    assert seen == [None, None]
    assert "HYDRA_FULL_ERROR" not in os.environ


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("optim.lr=abc", "optim.lr=abc: must be a number, more than 0"),
        ("trainer.max_epochs=1.5", "trainer.max_epochs=1.5: must be a whole number, at least 1"),
        ("encoder.widths=[8,x]", "encoder.widths[1]=x: must be a whole number, at least 1"),
        ("trainer.compile=maybe", "trainer.compile=maybe: must be true or false"),
        ("data.resize=fold", "data.resize=fold: must be one of squash, pad"),
        ("optim.lr=[1]", "optim.lr=[1]: must be a number, more than 0"),
        ("optim.lr=null", "optim.lr: must not be null"),
    ],
)
def test_a_value_of_another_type_says_what_is_allowed(run, override: str, told: str) -> None:
    code, _, error = run("train", *SMALL, override)
    assert code == 2
    assert told in told_once(error)


@pytest.mark.parametrize(
    ("command", "key"), [("train", "resume"), ("train", "init"), ("evaluate", "run"), ("export", "run")]
)
def test_a_missing_run_is_told_in_the_same_words_everywhere(run, command: str, key: str) -> None:
    assert f"{key}=nowhere: no such run folder" in told_once(run(command, f"{key}=nowhere")[2])
    Path("empty").mkdir()
    assert f"{key}=empty: is no run folder: it has no config.yaml" in told_once(run(command, f"{key}=empty")[2])


def test_flags_may_stand_anywhere(run) -> None:
    """A folder of configs becomes an override that nobody typed, and is not what is complained of."""
    Path("mine/variant").mkdir(parents=True)
    Path("mine/variant/own.yaml").write_text(
        "defaults:\n  - /schema/variant/base@_here_\n  - /objective@objectives.pair: contrastive\n  - _self_\n"
        "name: own\nmetric: euclidean\n"
    )
    for arguments in (
        ["--config-dir", "mine", "variant=own", "--cfg", "job"],
        ["variant=own", "--cfg", "job", "--config-dir", "mine"],
        ["--cfg", "job", "--config-dir", "mine", "variant=own"],
    ):
        code, printed, error = run("train", *arguments)
        assert code == 0, error
        assert "name: own" in printed
    error = told_once(run("train", "--nonsense", "variant=siam")[2])
    assert "--nonsense" in error
    assert "searchpath" not in error


def test_cfg_checks_the_encoder_too(run) -> None:
    error = told_once(run("train", "--cfg", "job", "encoder=trunk", "encoder.name=test_vit", "data.size=30")[2])
    assert "cannot take images of data.size=30x30: sides must be multiples of 16 and 16" in error
    code, _, error = run("train", "-m", "encoder=trunk", "encoder.name=test_vit", "data.size=32,30")
    assert code == 2
    assert "cannot take images of data.size=30x30" in told_once(error)
    assert not Path("runs").exists()


def test_a_mistake_in_the_last_trial_is_told_before_the_first_one_trains(run) -> None:
    code, _, error = run("train", "-m", *SMALL, "seed=0,-1")
    assert code == 2
    assert "seed=-1: must be at least 0" in told_once(error)
    assert not Path("runs").exists()


def test_evaluating_in_a_sweep_leaves_no_folder_of_its_own(run, trained_run: Path) -> None:
    copy = shutil.copytree(trained_run, "copy")
    code, _, error = run("evaluate", "-m", f"run={copy}", "split=val,test", "report=false")
    assert code == 0, error
    assert [each.name for each in Path().iterdir()] == ["copy"]
    assert Path("copy/evaluation/val/metrics.json").is_file()


@pytest.mark.slow
def test_a_sweep_never_removes_a_folder_that_the_user_named(run, trained_run: Path) -> None:
    copy = shutil.copytree(trained_run, "copy")
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("keep")
    assert run("evaluate", "-m", f"run={copy}", "split=val,test", "report=false", "hydra.sweep.dir=mine")[0] == 0
    assert run("train", "-m", *SMALL, "data.batch_size=9999,8888", "hydra.sweep.dir=mine")[0] == 2
    assert Path("mine/notes.txt").read_text() == "keep"


def test_the_manifest_has_the_scores_of_its_own_checkpoint_alone(run, trained_run: Path) -> None:
    copy = Path(shutil.copytree(trained_run, "copy"))
    for arguments in (["checkpoint=last"], ["export.invert=always"]):
        assert run("export", f"run={copy}", *arguments)[0] == 0
        assert json.loads((copy / "bundle/manifest.json").read_text())["scores"] is None
    assert run("evaluate", f"run={copy}", "checkpoint=last", "report=false")[0] == 0
    assert run("export", f"run={copy}", "checkpoint=last")[0] == 0
    scores = json.loads((copy / "bundle/manifest.json").read_text())["scores"]
    assert scores["protocol"]["checkpoint"] == "last"


def test_a_linked_bundle_is_replaced_by_a_real_one(run, trained_run: Path) -> None:
    copy = Path(shutil.copytree(trained_run, "copy"))
    shutil.move(copy / "bundle", "elsewhere")
    (copy / "bundle").symlink_to(Path("elsewhere").resolve())
    assert run("export", f"run={copy}")[0] == 0
    assert not (copy / "bundle").is_symlink()
    assert (Path("elsewhere") / "manifest.json").is_file()
    assert not [each.name for each in copy.iterdir() if each.name.startswith(".")]


def test_a_sweep_is_no_run_but_its_trials_are_named(run) -> None:
    Path("sweep/0/checkpoints").mkdir(parents=True)
    assert "it is a sweep with the trials 0" in told_once(run("evaluate", "run=sweep")[2])


@pytest.fixture
def bundle(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run / "bundle", tmp_path / "bundle"))


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "name",
    ["my photo (1).png", "a,b.png", "x=1.png", "ünï '\"[]{}$.png", "row=3", "null", "${x}.png", "\\${image}", "~x.png"],
)
def test_any_file_name_can_be_searched_with(run, bundle: Path, photo: Image.Image, name: str) -> None:
    photo.save(name, format="PNG")
    code, printed, error = run("search", f"bundle={bundle}", f"image={name}", "k=4", "format=json")
    assert code == 0, error
    found = json.loads(printed)
    assert len(found) == 4
    assert [each["score"] for each in found] == sorted((each["score"] for each in found), reverse=True)
    assert {"row", "score", "item", "category", "colour", "pattern"} <= set(found[0])


def test_csv_and_table_show_the_same_rows(run, bundle: Path) -> None:
    _, csv, _ = run("search", f"bundle={bundle}", "row=1", "k=3", "format=csv")
    Path("found.csv").write_text(csv)
    rows = pd.read_csv("found.csv")["row"]
    _, table, _ = run("search", f"bundle={bundle}", "row=1", "k=3")
    assert all(str(row) in table for row in rows)
    assert 1 not in rows.tolist()


def test_a_narrow_terminal_cuts_names_not_scores(run, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    _, listed, _ = run("search", f"bundle={bundle}", "row=1", "k=3", "format=json")
    _, table, _ = run("search", f"bundle={bundle}", "row=1", "k=3")
    scores = [each["score"] for each in json.loads(listed)]
    assert all(f"{score:.{telling_digits(scores)}f}" in table for score in scores)


def test_a_search_says_what_it_searched_with(run, bundle: Path) -> None:
    described = lapel.load(bundle).items.iloc[1]
    _, table, _ = run("search", f"bundle={bundle}", "row=1", "k=3")
    assert f"Look-alikes of row 1 ({described['item']}, image {described['image']})\nin {bundle}\n" in table
    assert "score: cosine, 1 at most" in table
    Image.new("RGB", (40, 60), "navy").save("a coat.png")
    assert "Look-alikes of a coat.png\n" in run("search", f"bundle={bundle}", "image=a coat.png", "k=3")[1]
    assert "Look-alikes" not in run("search", f"bundle={bundle}", "image=a coat.png", "k=3", "quiet=true")[1]


def test_finds_are_shown_as_pictures(run, bundle: Path) -> None:
    Image.new("RGB", (40, 60), "navy").save("a <coat>.png")
    code, printed, error = run("search", f"bundle={bundle}", "image=a <coat>.png", "k=7", "format=png")
    assert (code, error) == (0, "")
    assert printed.splitlines()[-1] == "finds.png"
    with Image.open("finds.png") as sheet:
        navy = [count for count, colour in sheet.getcolors(1 << 20) or [] if colour == (0, 0, 128)]
        assert navy == [120 * 180], "what was searched with, in its own proportions"
    code, printed, error = run(
        "search", f"bundle={bundle}", "image=a <coat>.png", "k=7", "format=html", "out=x/found.html"
    )
    assert (code, error) == (0, "")
    page = Path("x/found.html").read_text()
    assert page.count("data:image/webp") == 8
    assert "a &lt;coat&gt;.png" in page
    assert "<coat>" not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page), "it asks for no other file"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give either image=FILE or row=N"),
        (["image="], "image=: must name a file"),
        (["image=~nosuchuser/x.png"], "~nosuchuser/x.png: no such file"),
        (["=1"], "must be key=value"),
        (["image=x.png", "row=1"], "give either image=FILE or row=N"),
        (["image=nothing.png"], "nothing.png: no such file"),
        (["image=notes.txt"], "notes.txt: not a readable image"),
        (["image=."], "not a readable image"),
        (["row=100000"], "row=100000: must be from 0 to"),
        (["row=-1"], "row=-1: must be at least 0"),
        (["row=one"], "row"),
        (["row=1", "k=0"], "k=0: must be at least 1"),
        (["row=1", "format=xml"], "table, json, csv, html, png"),
        (["row=1", "out=x.html"], "is for pictures, with format=html, png"),
        (["row=1", "format=png", "out="], "out=: must name a file"),
        (["row=1", "format=png", "out=a.html"], "out=a.html: must end in .png"),
        (["row=1", "format=png", "out=folder.png"], "out=folder.png: is a folder, must name a file"),
        (["row=1", "format=png", "out=/proc/x.png"], "out=/proc/x.png: cannot be written: "),
        (["row=1", "format=html", "out=/proc/x/y.html"], "out=/proc/x/y.html: cannot be written: "),
        (["row=1", "format=html", "out=notes.txt/y.html"], "cannot be written: notes.txt is no folder"),
        (["row=1", "format=html", "out=/proc/x.html", "bundle=none"], "out=/proc/x.html: cannot be written"),
        (["row=100000", "format=png", "out=new/x.png"], "row=100000: must be from 0 to"),
        (["row=1", "kk=3"], "kk"),
        (["photo.png"], "photo.png: must be key=value"),
    ],
)
def test_bad_searches_end_in_one_line(run, bundle: Path, arguments: list[str], told: str) -> None:
    Path("notes.txt").write_text("this is no image")
    Path("folder.png").mkdir()
    before = sorted(Path().iterdir())
    code, printed, error = run("search", f"bundle={bundle}", *arguments)
    assert (code, printed) == (2, "")
    assert told in told_once(error)
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("name", ["encoder.ts", "index.faiss", "items.parquet"])
def test_one_changed_byte_in_a_bundle_is_found_and_named(run, bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(bytes(content))
    code, _, error = run("search", f"bundle={bundle}", "row=1")
    assert code == 2
    assert f"{name}: is not the file that was exported" in told_once(error)


def test_a_changed_manifest_and_a_missing_file_are_named(run, bundle: Path) -> None:
    (bundle / "index.faiss").unlink()
    assert "index.faiss: is missing" in told_once(run("search", f"bundle={bundle}", "row=1")[2])
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text()[:-40])
    assert "manifest.json: is damaged" in told_once(run("search", f"bundle={bundle}", "row=1")[2])
    manifest.unlink()
    assert "manifest.json: is missing" in told_once(run("search", f"bundle={bundle}", "row=1")[2])


def test_literal_options_are_split_at_the_first_equals_sign() -> None:
    config = read_literally(["image=~/a=b, (c).png", "k=3", "format=csv"], SearchConfig)
    assert (config.image, config.k, config.format) == ("~/a=b, (c).png", 3, TableFormat.csv)
    with pytest.raises(LapelError, match="must be key=value"):
        read_literally(["image"], SearchConfig)


def test_search_explains_itself(run) -> None:
    code, printed, _ = run("search", "--help")
    assert code == 0
    assert "  format=table" in printed
    assert "table|json|csv" in printed


@pytest.mark.parametrize("command", ["train", "search"])
def test_version_is_lapels(run, command: str) -> None:
    code, printed, _ = run(command, "--version")
    assert (code, printed) == (0, f"lapel {lapel.__version__}\n")


def test_importing_lapel_is_light() -> None:
    """The base package, config, catalogue and bundle modules come without torch and Lightning."""
    code = (
        "import sys, lapel, lapel.config.composing, lapel.catalog, lapel.bundle, lapel.commands.train\n"
        "import lapel.datasets.wardrobe\n"
        "print(sorted({'torch', 'pytorch_lightning', 'faiss', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_paths_below_the_working_folder_are_told_as_seen_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert from_here(tmp_path / "runs" / "a") == Path("runs/a")
    assert from_here(Path("runs/a")) == Path("runs/a")
    assert from_here(tmp_path.parent) == tmp_path.parent
