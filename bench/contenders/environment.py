"""The environment of open-metric-learning, which wants numpy<2: made once, beside lapel's own, and kept.

It sees lapel's packages behind its own: torch is the same build in both, and is not installed twice.
"""

import hashlib
import subprocess
import sys
import sysconfig
from pathlib import Path

PINS = Path(__file__).parents[1] / "oml-constraints.txt"
FOLDER = Path(__file__).parents[2] / ".venv-oml"
PACKAGE = "open-metric-learning"

# Written when all is installed: says with what.
MARK = ".made-of"

# Seconds that the installation may take.
PATIENCE = 600.0


class NotInstalledError(Exception):
    """The environment cannot be made."""


def python_of_oml(folder: Path = FOLDER) -> Path:
    """The environment's Python; the environment is made where it is not there.

    Raises:
        NotInstalledError: it cannot be made; the message is one line.
    """
    python, mark = folder / "bin" / "python", folder / MARK
    if not (mark.is_file() and python.exists() and mark.read_text() == _made_of()):
        print(f"peers: installing {PACKAGE} into {folder.name}, once, in a minute or two", file=sys.stderr, flush=True)
        mark.unlink(missing_ok=True)
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        inside = "import sysconfig; print(sysconfig.get_path('purelib'))"
        packages = Path(_run(str(python), "-c", inside).strip())
        (packages / "lapel.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        _run(str(python), "-m", "pip", "install", "--quiet", "--constraint", str(PINS), PACKAGE)
        mark.write_text(_made_of())
    return python


def _made_of() -> str:
    """What the environment depends on."""
    pins = hashlib.sha256(PINS.read_bytes()).hexdigest()
    return f"{sys.version}\n{sysconfig.get_path('purelib')}\n{pins}\n"


def _run(*command: str) -> str:
    """Run a command; what it prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(f"{PACKAGE} cannot be installed: {' '.join(str(error).split())[:200]}") from error
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if "error" in line.lower()]
        reason = said[-1] if said else f"exit code {done.returncode}"
        raise NotInstalledError(f"{PACKAGE} cannot be installed: {reason.strip()[:200]}")
    return done.stdout
