"""`make train`: trains, evaluates, exports and searches on the defaults, and says where each thing is.

Arguments are overrides for train.py. Where Fashion-MNIST cannot be had, garments drawn by the program take its place.
"""

import json
import logging
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from lapel.commands.starting import EXIT_SIGNALLED
from lapel.config.composing import compose
from lapel.config.data import FashionMnistConfig
from lapel.config.train import TrainConfig
from lapel.datasets import fashion_mnist
from lapel.errors import DataNotFoundError, LapelError
from lapel.machine.console import plain_table, show
from lapel.runs.folder import latest

SHOWN = ["recall@1", "recall@5", "recall@10", "map@r"]

# The commands so far; the last one may be at work.
started: list[subprocess.Popen[bytes]] = []


def main() -> None:
    """Run the four steps, one after the other; stop at the first that fails, with its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("lapel").setLevel(logging.INFO)
    try:
        overrides = sys.argv[1:] + fallback(compose("train", sys.argv[1:]))
    except LapelError as error:
        sys.exit(f"make train: error: {error}")
    # The commands below handle Ctrl-C themselves; a handler that does nothing lets them finish doing so.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, pass_on)
    programs = Path(sys.executable).parent
    seconds = {"train": run(sys.executable, "train.py", *overrides)}
    folder = latest().resolve().relative_to(Path.cwd())
    seconds["evaluate"] = run(sys.executable, "evaluate.py", f"run={folder}")
    seconds["export"] = run(sys.executable, "export.py", f"run={folder}")
    seconds["search"] = run(str(programs / "lapel-search"), f"bundle={folder / 'bundle'}", "row=0", "k=5")
    show_all(folder, seconds)


def fallback(config: TrainConfig) -> list[str]:
    """The override that makes training possible where Fashion-MNIST is asked for and cannot be had."""
    if not isinstance(config.data, FashionMnistConfig):
        return []
    try:
        fashion_mnist.read_files(config.data)
    except DataNotFoundError as error:
        print(error)
        print("Falling back on data=wardrobe, garments drawn by the program: its scores are not Fashion-MNIST's.")
        return ["data=wardrobe"]
    return []


def pass_on(number: int, _: object) -> None:
    """A terminal sends Ctrl-C to the command, too; SIGTERM comes here alone."""
    if not started:
        sys.exit(EXIT_SIGNALLED + number)
    started[-1].send_signal(number)


def run(*command: str) -> float:
    """Run a command, shown as one would type it; its seconds."""
    program = Path(command[0])
    typed = program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program
    print("\n$", shlex.join([str(typed), *command[1:]]), flush=True)
    began = time.perf_counter()
    started.append(subprocess.Popen(command))
    code = started[-1].wait()
    if code:
        sys.exit(code if code > 0 else EXIT_SIGNALLED - code)
    return time.perf_counter() - began


def show_all(folder: Path, seconds: dict[str, float]) -> None:
    """The closing tables: scores, seconds, and where everything is."""
    metrics = json.loads((folder / "evaluation" / "metrics.json").read_text())
    protocol = metrics["protocol"]
    scores = plain_table("", "score", "", "seconds", right=["score", "seconds"])
    steps = [*seconds.items(), *[("", None)] * len(SHOWN)]
    for name, (step, took) in zip(SHOWN, steps, strict=False):
        scores.add_row(name, f"{metrics[name]:.4f}", step, "" if took is None else f"{took:.0f}")
    show("", f"{protocol['data']}, {protocol['split']} part, {protocol['queries']} queries", scores, "")
    for name in ("checkpoints/best.ckpt", "evaluation/report.html", "evaluation/metrics.json", "bundle"):
        show(f"{Path(name).stem:<9}{folder / name}")
    show(f"{'curves':<9}.venv/bin/tensorboard --logdir runs")


if __name__ == "__main__":
    main()
