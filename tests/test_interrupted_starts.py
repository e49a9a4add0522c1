"""Ctrl-C, SIGTERM and SIGUSR1 before a command does what it is for: one line, and nothing left behind."""

import signal
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from photo_trees import photo, save

from lapel.commands.data import main as data_main
from lapel.commands.train import main
from lapel.errors import AWAITED

# A Ctrl-C when a module is looked for, wherever the import stands; what is imported may make another error of it.
INTERRUPTED = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            print("reached", flush=True)
            try:
                os.kill(os.getpid(), {number})
                for _ in range(1000):
                    pass
            except KeyboardInterrupt:
                raise ImportError("of another kind") from None

sys.meta_path.insert(0, Interrupting())
from lapel.commands.{command} import main
main()
"""

SMALL = ["data=wardrobe", "data.items=40", "data.size=32", "trainer=cpu"]


@pytest.mark.parametrize(
    ("command", "module", "arguments"),
    [
        ("train", "lapel.commands.hydra_app", SMALL),
        ("train", "hydra.conf", SMALL),
        ("train", "lapel.config.train", SMALL),
        ("train", "lapel.training", SMALL),
        pytest.param("train", "lapel.losses", SMALL, marks=pytest.mark.slow),
        pytest.param("train", "lapel.training", ["-m", *SMALL, "seed=0,1"], marks=pytest.mark.slow),
        ("train", "lapel.encoders.checking", ["--cfg", "job", *SMALL, "encoder=resnet18"]),
        ("evaluate", "lapel.evaluation.evaluating", ["run=made"]),
        ("export", "lapel.exporting", ["run=made"]),
        ("search", "lapel.config.search", ["row=1"]),
        ("search", "lapel.bundle", ["row=1", "bundle=made"]),
        ("compare", "lapel.evaluation", ["made"]),
        ("data", "lapel.machine.console", ["check", *SMALL[:3]]),
        ("data", "lapel.config.composing", ["check", *SMALL[:3]]),
    ],
)
def test_ctrl_c_during_imports_is_one_line(command: str, module: str, arguments: list[str], tmp_path: Path) -> None:
    interrupt_an_import(command, module, arguments, signal.SIGINT, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize(("command", "arguments"), [("train", SMALL), ("export", ["run=nowhere"])])
def test_signals_of_schedulers_during_imports_are_one_line(
    command: str, arguments: list[str], number: signal.Signals, tmp_path: Path
) -> None:
    interrupt_an_import(command, "hydra.conf", arguments, number, tmp_path)


def interrupt_an_import(
    command: str, module: str, arguments: list[str], number: signal.Signals, tmp_path: Path
) -> None:
    code = INTERRUPTED.format(command=command, module=module, number=int(number))
    call = [sys.executable, "-c", code, *arguments]
    (tmp_path / "made" / "checkpoints").mkdir(parents=True)  # a folder of a run, as far as that can be known at once
    there = set(tmp_path.rglob("*"))
    ended = subprocess.run(call, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    *begun, reached = ended.stdout.splitlines()
    assert reached == "reached"
    assert begun in ([], [f"lapel-{command}: getting ready: options, torch, data"])
    assert ended.stderr == f"lapel-{command}: interrupted\n"
    assert ended.returncode == 128 + number
    assert set(tmp_path.rglob("*")) == there, "nothing was made"


def test_ctrl_c_that_is_ignored_stays_so(tmp_path: Path) -> None:
    """As that of what a shell runs in the background."""
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    code = ignoring + INTERRUPTED.format(command="train", module="hydra", number=int(signal.SIGINT))
    call = [sys.executable, "-c", code, "--version"]
    ended = subprocess.run(call, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("reached\nlapel ")


def test_what_a_command_imports_before_it_minds_ctrl_c_is_little() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import {}\n"
        "print(sorted({{each.partition('.')[0] for each in set(sys.modules) - before}} & "
        "{{'hydra', 'omegaconf', 'rich', 'numpy', 'pandas', 'yaml', 'importlib.metadata', 'logging'}}))"
    )
    for command in ("train", "evaluate", "export", "search", "compare", "data"):
        call = [sys.executable, "-c", code.format(f"lapel.commands.{command}")]
        assert subprocess.run(call, capture_output=True, text=True, check=True).stdout == "[]\n", command


def test_an_interrupted_start_leaves_no_empty_run_folder(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object, folder: Path) -> float:
        assert folder.is_dir()
        raise KeyboardInterrupt

    monkeypatch.setattr("lapel.training.train", interrupted)
    monkeypatch.setattr(sys, "argv", ["lapel-train", *SMALL])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 128 + signal.SIGINT
    assert capsys.readouterr().err == "lapel-train: interrupted\n"
    assert not list((working_folder / "runs").iterdir())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", AWAITED)
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("lapel.training.launch", "write_yaml"),  # the folder is made
        ("lapel.training.process", "prepare"),  # data is loaded
        ("lapel.training.process", "point_latest"),
    ],
)
def test_a_signal_before_training_has_begun_leaves_no_folder(
    module: str,
    name: str,
    number: signal.Signals,
    working_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def signalled(*_: object) -> None:
        signal.raise_signal(number)
        pytest.fail("it went on")

    before = {each: signal.getsignal(each) for each in AWAITED}
    monkeypatch.setattr(f"{module}.{name}", signalled)
    monkeypatch.setattr(sys, "argv", ["lapel-train", *SMALL])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 128 + number
    told = capsys.readouterr().err.splitlines()
    assert told[-1] == "lapel-train: stopped by a signal before training had begun"
    assert not list((working_folder / "runs").iterdir())
    assert not (working_folder / "latest").is_symlink()
    assert {each: signal.getsignal(each) for each in AWAITED} == before


@pytest.mark.parametrize("number", AWAITED)
def test_a_signal_while_photos_are_decoded_leaves_no_half_of_them(
    number: signal.Signals, working_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def signalled(*_: object) -> None:
        signal.raise_signal(number)
        pytest.fail("it went on")

    for item, view in product(range(4), range(3)):
        save(working_folder / "photos" / "shirts" / f"{item}" / f"{view}.jpg", photo(item, view))
    before = {each for each in working_folder.rglob("*") if each.is_file()}
    monkeypatch.setattr("lapel.photos.building._decode_part", signalled)
    monkeypatch.setattr(sys, "argv", ["lapel-data", "prepare", "data=folder", "data.root=photos", "data.size=32"])
    with pytest.raises(SystemExit) as ended:
        data_main()
    assert ended.value.code == 128 + number
    assert capsys.readouterr().err.splitlines()[-1] == "lapel-data: interrupted"
    assert {each for each in working_folder.rglob("*") if each.is_file()} == before


# A command that takes SIGTERM well, started as `make train` does.
PASSED_ON = """
import runpy, signal, sys
quickstart = runpy.run_path({script!r})
signal.signal(signal.SIGTERM, quickstart["pass_on"])
at_work = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); print('ready', flush=True)"
quickstart["run"](sys.executable, "-c", at_work + "; time.sleep(60)")
"""


def test_make_train_leaves_no_command_behind_where_it_is_ended() -> None:
    script = Path(__file__).parent.parent / "scripts" / "quickstart.py"
    call = [sys.executable, "-c", PASSED_ON.format(script=str(script))]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "ready\n":
            assert process.poll() is None
        process.terminate()
        assert process.wait(30) == 7
