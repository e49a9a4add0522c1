"""scripts/setup.sh, with a uv and a pip that only note how they were called."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "setup.sh"

TOOLS = ("cat", "dirname", "head", "mktemp", "rm", "sed", "sh", "uname")

NOTES = """#!/bin/sh
echo "{name} $* / backend ${{UV_TORCH_BACKEND:-none}}, index ${{PIP_EXTRA_INDEX_URL:-none}}" >> called
case "$*" in *install*--editable*) {then} ;; esac
"""

UNREACHABLE = (
    """printf 'error: Request failed\\n  cause: Failed to fetch: host/torch/\\n  cause: dns error\\n' >&2; exit 2"""
)
UNSOLVED = """printf 'No solution found:\\n  torch==0 is on no index\\n' >&2; exit 1"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the script, with a virtual environment and a PATH of the tools that it needs alone."""
    for each in ("scripts", ".venv/bin", "bin"):
        (tmp_path / each).mkdir(parents=True)
    shutil.copy(SCRIPT, tmp_path / "scripts")
    for each in TOOLS:
        found = shutil.which(each)
        assert found is not None
        (tmp_path / "bin" / each).symlink_to(found)
    noted(tmp_path / ".venv" / "bin" / "python")
    return tmp_path


def noted(path: Path, then: str = "true") -> None:
    path.write_text(NOTES.format(name=path.name, then=then))
    path.chmod(0o755)


def set_up(house: Path, extras: str, **settings: str) -> subprocess.CompletedProcess[str]:
    told = {"PATH": str(house / "bin"), "TMPDIR": str(house), **settings}
    call = [str(house / "scripts" / "setup.sh"), extras]
    return subprocess.run(call, env=told, capture_output=True, text=True, timeout=30, check=False)


def installed(house: Path) -> str:
    (line,) = [each for each in (house / "called").read_text().splitlines() if "--editable" in each]
    return line


@pytest.mark.parametrize(
    ("extras", "backend", "told"),
    [
        ("cpu,dev", "", "7 GB, 4 of them for CUDA; less: UV_TORCH_BACKEND=cpu"),
        ("cpu", "cpu", "3 GB"),
        ("cpu", "auto", "3 GB, or 7 where uv finds a GPU"),
        ("gpu", "", "7 GB"),
    ],
)
@pytest.mark.skipif(os.uname().sysname != "Linux", reason="elsewhere PyTorch brings no CUDA")
def test_uv_gets_its_users_backend_and_a_line_says_how_much_comes(
    extras: str, backend: str, told: str, house: Path
) -> None:
    noted(house / "bin" / "uv")
    ended = set_up(house, extras, UV_TORCH_BACKEND=backend)
    assert ended.stdout == f"setup: installing lapel[{extras}] into .venv, in some minutes: {told}\n"
    assert (ended.stderr, ended.returncode) == ("", 0)
    assert installed(house).startswith("uv pip install")
    assert f"--constraint constraints.txt --editable .[{extras}] / backend {backend or 'none'}" in installed(house)


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="elsewhere PyTorch brings no CUDA")
def test_pip_gets_its_users_settings(house: Path) -> None:
    ended = set_up(house, "cpu", PIP_EXTRA_INDEX_URL="theirs", UV_TORCH_BACKEND="cpu")
    assert ended.stdout.endswith("7 GB, 4 of them for CUDA; less: PyTorch's CPU builds, by pip's own settings\n")
    assert ended.returncode == 0
    assert installed(house).startswith("python -m pip install")
    assert installed(house).endswith("index theirs")
    assert "index-url" not in installed(house)


def test_an_index_out_of_reach_is_one_line_and_another_failure_is_told_whole(house: Path) -> None:
    noted(house / "bin" / "uv", UNREACHABLE)
    ended = set_up(house, "cpu", UV_TORCH_BACKEND="cpu")
    assert ended.stderr == "setup: host/torch/ cannot be reached (UV_TORCH_BACKEND=cpu); nothing was installed\n"
    assert ended.returncode == 1
    noted(house / "bin" / "uv", UNSOLVED)
    ended = set_up(house, "cpu")
    assert ended.stderr == "No solution found:\n  torch==0 is on no index\n"
    assert ended.returncode == 1
    assert not list(house.glob("tmp.*")), "what uv said is not left behind"
