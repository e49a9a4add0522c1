"""`make bench`: runs the benches, each within its time, and writes docs/performance.md of what they print.

    python scripts/performance_page.py [NAME ...]

With names those alone are run, and the page stays as it is. A bench that fails, or runs past its time, is told on the
page, the others stand there all the same, and the exit code is 1.
"""

import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from lapel.config.trainer import Accelerator, Precision
from lapel.files.writing import written_whole
from lapel.machine.cores import available_cores
from lapel.machine.devices import choose_device, choose_precision, describe
from lapel.machine.provenance import git_commit, package_versions

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "bench"
PAGE = ROOT / "docs" / "performance.md"

# Seconds of all benches together.
TOTAL = 25 * 60

# Seconds that a bench has to tidy up when it is stopped.
GRACE = 5.0

BEGINNING = """# Performance

Reading order: ← [Results](results.md) · [What was tried](log.md) →

Written by `make bench`, which runs every command below on one machine, in 25 minutes at most. Each figure stands beside
that of a peer in the same run; a ratio above 1 is better than the peer, whether the figure is a speed or a time.
"""


@dataclass(frozen=True)
class Bench:
    """One command.

    Args:
        arguments: of Python, from the root of the repository.
        seconds: it may take.
        tells: what it measures, in a sentence.
    """

    arguments: list[str]
    seconds: float
    tells: str

    @property
    def command(self) -> str:
        """As one types it."""
        return shlex.join(["python", *self.arguments])


@dataclass
class Outcome:
    """What a bench came to.

    Args:
        bench: that was run.
        rows: it printed.
        said: other lines it printed.
        seconds: it took.
        problem: why it did not end well; empty where it did.
    """

    bench: Bench
    rows: list[dict[str, Any]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    seconds: float = 0.0
    problem: str = ""


BENCHES = {
    "peers": Bench(
        ["bench/peers.py"],
        870,
        "Fashion-MNIST as users of other libraries train on it: seconds of training until recall@1 on val is reached, "
        "seconds an epoch, memory, and images/s with lapel's own network.",
    ),
    "training": Bench(
        ["bench/training.py"],
        120,
        "How near a training comes to steps of the same network on a batch that lies ready.",
    ),
    "augmentation": Bench(
        ["bench/augmentation.py"], 30, "Random changes of colour photos of 80x60, with a draw for each image."
    ),
    "losses": Bench(
        ["bench/losses.py"], 60, "A loss of 512 embeddings of 128 dimensions, forward and backward, equal in value."
    ),
    "retrieval": Bench(
        ["bench/retrieval.py", "10k_map_at_r", "60k_recall", "60k_map_at_r", "1m_recall"],
        260,
        "Exact search and its scores, and the memory they take above the embeddings.",
    ),
    "data": Bench(["bench/data.py"], 60, "Getting 4,000 photos of 400x300 ready for training at 80x60."),
    "gpu": Bench(
        ["bench/gpu.py"],
        100,
        "The recall@1 on test after five seconds of training on one GPU, and the floor of a step.",
    ),
}


def main() -> None:
    """Run, then write the page, where all were run."""
    names = sys.argv[1:] or list(BENCHES)
    unknown = sorted(set(names) - set(BENCHES))
    if unknown:
        sys.exit(f"make bench: error: {unknown[0]}: is no bench; allowed are {', '.join(BENCHES)}")
    outcomes = []
    for number, name in enumerate(names, 1):
        bench = BENCHES[name]
        print(f"[{number}/{len(names)}] {bench.command}, at most {bench.seconds:.0f} s", flush=True)
        outcomes.append(run(bench))
    if len(names) == len(BENCHES):
        with written_whole(PAGE) as temporary:
            temporary.write_text(page(outcomes, machine()), encoding="utf-8")
        print(f"wrote {PAGE.relative_to(ROOT)}")
    sys.exit(int(any(each.problem for each in outcomes)))


def run(bench: Bench) -> Outcome:
    """Run a bench, and show its lines as they come."""
    outcome, started = Outcome(bench), time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *bench.arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    late = threading.Event()

    def stop() -> None:
        late.set()
        end(process)

    clock = threading.Timer(bench.seconds, stop)
    clock.start()
    assert process.stdout is not None
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
            take_in(outcome, line.strip())
        code = process.wait()
    finally:
        clock.cancel()
        if process.poll() is None:  # Ctrl-C comes here alone
            end(process)
    outcome.seconds = time.monotonic() - started
    if late.is_set():
        outcome.problem = f"ran past its {bench.seconds:g} s and was stopped"
    elif code:
        outcome.problem = f"ended with exit code {code}"
    if outcome.problem:
        print(f"make bench: {bench.command} {outcome.problem}", file=sys.stderr, flush=True)
    return outcome


def end(process: subprocess.Popen[str]) -> None:
    """Stop a bench with all that it has started; it may tidy up first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)


def take_in(outcome: Outcome, line: str) -> None:
    """A line that a bench printed: a row, or words."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        row = None
    if isinstance(row, dict):
        outcome.rows.append(row)
    elif line:
        outcome.said.append(line)


def machine() -> dict[str, str]:
    """What the figures depend on, beside the code."""
    device = choose_device(Accelerator.auto)
    return {
        "machine": f"{processor()}, {available_cores()} cores",
        **({"GPU": describe(device)} if device.type == "cuda" else {}),
        "instruction set": torch.backends.cpu.get_cpu_capability(),
        "precision": choose_precision(Precision.auto, device).name,
        "versions": ", ".join(f"{name} {found}" for name, found in package_versions().items()),
        "in an environment of its own": ", ".join(of_oml()),
        "Python": platform.python_version(),
        "commit": git_commit() or "unknown",
        "date": datetime.now(UTC).date().isoformat(),
    }


def of_oml() -> list[str]:
    """What the environment that bench/peers.py makes is pinned to, by name."""
    pins = (line.partition("==") for line in (BENCH / "oml-constraints.txt").read_text().splitlines())
    return [f"{name} {found}" for name, _, found in pins if name in ("open-metric-learning", "numpy")]


def processor() -> str:
    """Its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def page(outcomes: list[Outcome], about: dict[str, str]) -> str:
    """The page's text.

    Args:
        outcomes: in the page's order.
        about: the machine: what -> which.
    """
    lines = [
        BEGINNING,
        "| | |",
        "|---|---|",
        *(f"| {_cell(name)} | {_cell(text)} |" for name, text in about.items()),
        "",
    ]
    for outcome in outcomes:
        bench = outcome.bench
        lines += [f"## {Path(bench.arguments[0]).stem.capitalize()}", ""]
        lines += [f"`{bench.command}`, {outcome.seconds:.0f} s. {bench.tells}", ""]
        if outcome.problem:
            lines += [f"It {outcome.problem}.", ""]
        lines += [f"It said: {line}" for line in outcome.said] + [""] * bool(outcome.said)
        lines += _table(outcome.rows)
    return "\n".join(lines).rstrip("\n") + "\n"


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Rows as a table; a column for notes where there are some."""
    if not rows:
        return []
    noted = any("note" in row for row in rows)
    names = ["what", "value", "unit", "peer", "peer's value", "ratio", *["note"] * noted]
    keys = ["name", "value", "unit", "peer", "peer_value", "ratio", *["note"] * noted]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    return [*lines, *(f"| {' | '.join(_cell(row.get(key)) for key in keys)} |" for row in rows), ""]


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", "\\|")


if __name__ == "__main__":
    main()
