"""Processes that somebody else starts: torchrun and SLURM; one run folder, and a job that is started again."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import TINY

import lapel
from lapel.machine.launchers import _first_node, outer_rank, processes_outside

TRAIN = Path(__file__).parent.parent / "train.py"


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def runs(folder: Path) -> list[Path]:
    return sorted(each for each in (folder / "runs").iterdir() if not each.is_symlink())


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node1", "node1"), ("gpu[03-05,9]", "gpu03"), ("a,b", "a"), ("a[1,4],b", "a1"), ("127.0.0.1", "127.0.0.1")],
)
def test_the_first_node_of_slurms_list(nodes: str, first: str) -> None:
    assert _first_node(nodes) == first


def test_a_training_on_a_machine_with_srun_is_not_told_to_use_it(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    (working_folder / "bin").mkdir()
    (working_folder / "bin" / "srun").touch(0o755)
    monkeypatch.setenv("PATH", f"{working_folder / 'bin'}:{os.environ['PATH']}")
    lapel.train(lapel.compose("train", TINY))
    assert not [each for each in recwarn if "srun" in str(each.message)]


def test_sruns_words_become_torchruns(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    assert (processes_outside(), outer_rank()) == (1, 0)
    slurms = {
        "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1", "SLURM_NODEID": "1",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_STEP_NODELIST": "gpu[07-08]", "SLURM_JOB_ID": "123",
    }  # fmt: skip
    for name, value in slurms.items():
        monkeypatch.setenv(name, value)
    assert (processes_outside(), outer_rank()) == (4, 3)
    assert (os.environ["LOCAL_WORLD_SIZE"], os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == (
        "2",
        "gpu07",
        "15123",
    )


def test_a_batch_script_without_srun_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    for name, value in {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "1"}.items():
        monkeypatch.setenv(name, value)
    assert processes_outside() == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("begun", [True, False])
def test_a_signal_ends_all_processes_between_two_steps(
    number: signal.Signals, begun: bool, working_folder: Path
) -> None:
    command = [sys.executable, str(TRAIN), *TINY, "trainer.devices=2", "trainer.max_epochs=100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    awaited = "latest/checkpoints/last.ckpt" if begun else "runs/*/config.yaml"
    while not list(working_folder.glob(awaited)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    # A terminal signals them all, a scheduler often the first alone.
    (os.killpg if number is signal.SIGINT else os.kill)(process.pid, number)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 128 + number, told
    expected = r"after step \d+; .*; python train.py resume=.* goes on" if begun else "before training had begun"
    assert re.fullmatch(f"lapel-train: stopped by a signal {expected}", told.splitlines()[-1])
    assert len(runs(working_folder)) == begun
    deadline = time.monotonic() + 20
    while subprocess.run(["pgrep", "-g", str(process.pid)], capture_output=True, check=False).stdout:
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.2)


@pytest.mark.slow
def test_torchrun_trains_in_one_folder(working_folder: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    done = subprocess.run([*launcher, str(TRAIN), *TINY], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (run,) = runs(working_folder)
    assert '"processes": 2' in (run / "train.json").read_text()
    resumed = [*launcher, str(TRAIN), f"resume={run}"]
    assert subprocess.run(resumed, capture_output=True, text=True, timeout=300, check=False).returncode == 0
    wrong = [*launcher, str(TRAIN), *TINY, "optim.lr=-1"]
    told = subprocess.run(wrong, capture_output=True, text=True, timeout=300, check=False)
    assert told.returncode
    assert "optim.lr=-1.0: must be more than 0" in told.stderr
    sweep = [*launcher, str(TRAIN), "-m", *TINY, "seed=1,2"]
    assert "start it without torchrun" in subprocess.run(sweep, capture_output=True, text=True, check=False).stderr
    assert runs(working_folder) == [run]


@pytest.mark.slow
def test_srun_trains_in_one_folder(working_folder: Path) -> None:
    port = free_port()
    started = []
    for rank in range(2):
        place = {
            "SLURM_PROCID": str(rank),
            "SLURM_LOCALID": str(rank),
            "SLURM_STEP_NUM_TASKS": "2",
            "SLURM_NODEID": "0",
        }
        place |= {"SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_STEP_NODELIST": "127.0.0.1", "MASTER_PORT": port}
        environment = os.environ | place
        command = [sys.executable, str(TRAIN), *TINY]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    told = [each.communicate(timeout=300)[1] for each in started]
    assert [each.returncode for each in started] == [0, 0], told
    (run,) = runs(working_folder)
    assert '"processes": 2' in (run / "train.json").read_text()


@pytest.mark.slow
def test_a_job_of_slurm_asks_to_be_started_again_and_goes_on(working_folder: Path) -> None:
    (working_folder / "bin").mkdir()
    scontrol = working_folder / "bin" / "scontrol"
    scontrol.write_text('#!/bin/sh\necho "$@" > asked\n')
    scontrol.chmod(0o755)
    environment = os.environ | {"SLURM_JOB_ID": "77", "PATH": f"{working_folder / 'bin'}:{os.environ['PATH']}"}
    command = [
        sys.executable,
        str(TRAIN),
        *TINY,
        "trainer.max_epochs=40",
        "data.items=80",
        "trainer.checkpoint_every=1",
    ]
    first = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while not list(working_folder.glob("runs/*/checkpoints/last.ckpt")):
        time.sleep(0.05)
    first.send_signal(signal.SIGUSR1)
    told = first.communicate(timeout=120)[1]
    assert "SLURM will start it again" in told
    assert (working_folder / "asked").read_text().split() == ["requeue", "77"]
    (run,) = runs(working_folder)
    assert json.loads((run / "train.json").read_text())["end"] == "interrupted"
    again = environment | {"SLURM_RESTART_COUNT": "1"}
    second = subprocess.run(command, env=again, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    assert second.returncode == 0, second.stderr
    assert "going on after step" in second.stderr
    assert runs(working_folder) == [run]
    assert '"epochs": 40' in (run / "train.json").read_text()
