"""What made a result: package versions and the commit of the code."""

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "lapel", "torch", "torchvision", "pytorch-lightning", "pytorch-metric-learning", "faiss-cpu", "faiss-gpu", "numpy",
    "pandas", "pillow",
)  # fmt: skip


def package_versions() -> dict[str, str]:
    """Package -> installed version, of those that a result depends on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Commit of the checkout that lapel runs from, with "+" where files differ from it; None outside of one."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--abbrev=40",
        "--exclude=*",
        "--dirty=+",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
