"""Which precision is chosen where, and how threads wait."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lapel.config.trainer import Precision
from lapel.machine import devices
from lapel.machine.cores import TURNS

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu sse4_2 avx2 avx512f avx512_vnni", Precision.fp32),
        ("avx2 avx512f avx512_bf16 avx512_vnni", Precision.bf16),
        ("avx512f avx512_bf16 amx_bf16 amx_tile", Precision.bf16),
        ("amx_bf16_of_another_name avx512_bf16x", Precision.fp32),
    ],
)
def test_a_cpu_trains_in_bf16_where_it_multiplies_in_it(
    flags: str, expected: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n")
    monkeypatch.setattr(devices, "CPUINFO", cpuinfo)
    assert devices.choose_precision(Precision.auto, CPU) is expected


def test_without_a_list_of_flags_a_cpu_trains_in_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "CPUINFO", tmp_path / "none")
    assert devices.choose_precision(Precision.auto, CPU) is Precision.fp32


@pytest.mark.parametrize("asked", [Precision.fp32, Precision.bf16])
def test_a_precision_that_is_asked_for_is_kept(asked: Precision):
    assert devices.choose_precision(asked, CPU) is asked


@pytest.mark.parametrize(
    ("before", "after"),
    [({}, str(TURNS)), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_wait_briefly_unless_the_user_says_how(before: dict[str, str], after: str) -> None:
    """Torch's runtime reads it as it is loaded: it must be there before."""
    program = (
        "import os, sys; from lapel.commands.train import main; sys.argv = ['train.py', '--version']; main(); "
        "print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    )
    kept = {name: text for name, text in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=kept | before
    ).stdout
    assert told.splitlines()[-1] == f"{after} False"
