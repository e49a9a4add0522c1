"""Which precision is chosen where."""

from pathlib import Path

import pytest
import torch

from lapel.config.trainer import Precision
from lapel.machine import devices

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
