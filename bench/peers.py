"""Fashion-MNIST as users of other libraries train on it, beside lapel: seconds to a recall@1, and images a second.

    python bench/peers.py [--seconds S] [--rounds N] [--threads N] [--only time|speed] [overrides of train.py]

Each contender (`bench/contenders/`, whose modules say what each is, and of what source) is a process of its own, whose
memory can be told, with the same number of threads; one at a time works, the others wait. All see the same training
part, lapel's, and are scored on the same val part by lapel's exact search, leave-one-out, in their own metric.

Time. The peers' schedules are those of their examples: they have no end, and are scored every eighth of an epoch, then
every half, until the last target is reached or S seconds of training are used up. Scoring is not timed. lapel has a
schedule for each target, `SCHEDULES`, which is run whole, between the rounds of the peers, and scored at its end alone.

Speed. lapel's very network, batch size and, but for the row that says otherwise, loss; each trains some steps in turn,
and medians count. lapel runs with its default optimizer, and with AdamW, which the others have.

Each figure is one JSON object a line; a target that was not reached is null, and the note says how far it was. Where a
contender fails, its rows say so, and the exit code is 1; where open-metric-learning cannot be installed, one line does.
"""

import argparse
import json
import logging
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from contenders.environment import NotInstalledError, python_of_oml
from contenders.fashion import ROWS_FILE
from contenders.processes import Contender, FailedError, module
from contenders.standing import Standing, row

from lapel import datasets
from lapel.commands.hydra_app import quoted_arguments
from lapel.config.choices import name_of
from lapel.config.composing import compose
from lapel.config.data import FashionMnistConfig
from lapel.config.train import TrainConfig
from lapel.config.variant import Metric
from lapel.datasets import fashion_mnist
from lapel.machine.cores import available_cores
from lapel.retrieval import Depth, equal_pairs, score

# recall@1 on val -> what train.py is told, chosen beforehand: a schedule is cut to its target, and run whole.
SCHEDULES: dict[float, list[str]] = {
    0.85: ["trainer.max_steps=120"],
    0.88: ["trainer.max_epochs=1"],
    0.90: ["trainer.max_epochs=3"],
}

# For all of lapel's runs here: the others compute in fp32 on the CPU, too. A larger val part than the default's tells
# scores apart.
COMMON = ["trainer.accelerator=cpu", "trainer.precision=fp32", "data.val_images=5000"]

# Steps of a turn where speed is measured; val, which is not timed, is kept small.
STEPS = 40
SPEED = [f"trainer.max_steps={STEPS}", "data.val_images=100"]
WARM_UP = 3

MNIST_EXAMPLE = "pytorch-metric-learning, its MNIST example"
PML = "pytorch-metric-learning, lapel's network and loss"
SEMI_HARD = "pytorch-metric-learning, lapel's network, semi-hard triplets"
LIGHTNING = "plain Lightning module, lapel's network and loss"
SIAMESE = "siamese-triplet, re-written"
OML = "open-metric-learning, resnet18"
LOADER = "torchvision's data set in a DataLoader, no training"


class Contest:
    """What all contenders share.

    Args:
        folder: scratch; the data lies in it, too.
        threads: of each contender.
        overrides: for lapel's runs, and for who trains lapel's network.
    """

    def __init__(self, folder: Path, threads: int, overrides: list[str]) -> None:
        self.folder = folder
        self.threads = threads
        self.overrides = [*COMMON, f"trainer.threads={threads}", *overrides]
        self.config: TrainConfig = compose("train", quoted_arguments(self.overrides, "train"))
        self.items, self.epoch = lay_out(self.config, folder)
        self.started = 0

    @contextmanager
    def contender(self, name: str, *overrides: str, python: str | Path = sys.executable) -> Iterator[Contender]:
        """A contender of a module, which gets lapel's overrides and some more."""
        command = module(name, str(self.folder), *self.overrides, *overrides, python=python)
        self.started += 1
        contender = Contender(command, self.folder / f"{self.started}-{name}", self.threads)
        try:
            yield contender
        finally:
            contender.end()

    def recall(self, contender: Contender) -> float:
        """recall@1 on val, leave-one-out, in the contender's metric."""
        embeddings, metric = torch.from_numpy(contender.embed()), Metric[contender.metric]
        return recall_at_1(embeddings, self.items, metric)


def recall_at_1(embeddings: torch.Tensor, items: np.ndarray, metric: Metric) -> float:
    """Share of the images `[images, dimensions]` whose nearest other one is of the same item."""
    if metric is Metric.cosine:
        embeddings = F.normalize(embeddings, dim=1)
    each = np.arange(len(items))
    itself = equal_pairs(each, each)
    return score(embeddings, embeddings, items, items, metric, [1], itself, depth=Depth.lists).means()["recall@1"]


def lay_out(config: TrainConfig, folder: Path) -> tuple[np.ndarray, int]:
    """Write the data where torchvision, and lapel, find it, with the rows of each part.

    Returns:
        The items of val, and the images of an epoch.
    """
    assert isinstance(config.data, FashionMnistConfig), "bench/peers.py is of Fashion-MNIST"
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in fashion_mnist.read_files(config.data).items():
        (raw / name).write_bytes(content)
    catalog = datasets.load(config.data)
    train, val = catalog.rows("train"), catalog.rows("val")
    np.savez(folder / ROWS_FILE, train=train, val=val)
    return catalog.items[val], len(train)


# -------------------------------------------------------------------------------------------------- time


def time_to_score(contest: Contest, budget: float) -> bool:
    """Measure, and print the rows; whether all went well."""
    peers = {MNIST_EXAMPLE: "pml_mnist", PML: "pml_lapel", LIGHTNING: "plain_lightning", SIAMESE: "siamese_triplet"}
    pythons: dict[str, str | Path] = dict.fromkeys(peers, sys.executable)
    try:
        pythons[OML], peers[OML] = python_of_oml(), "oml_resnet"
    except NotInstalledError as error:
        tell(f"{error}; its row is left out")
    standings = {name: Standing(name, contest.epoch, budget) for name in peers}
    runs = {target: Standing("lapel", contest.epoch, float("inf")) for target in SCHEDULES}
    left = list(SCHEDULES)
    with ExitStack() as stack:
        working = {}
        for name in peers:
            with failing(standings[name]):
                working[name] = stack.enter_context(contest.contender(peers[name], python=pythons[name]))
                standings[name].setup = working[name].setup
        while left or any(not standings[name].done(max(SCHEDULES)) for name in working):
            for name, contender in working.items():
                if not standings[name].done(max(SCHEDULES)):
                    take_turn(contest, contender, standings[name])
            if left:
                run_schedule(contest, left[0], runs[left.pop(0)])
    show(time_rows(runs, standings))
    return not any(each.failed for each in [*runs.values(), *standings.values()])


def take_turn(contest: Contest, contender: Contender, standing: Standing) -> None:
    """Train up to the next mark, and score."""
    with failing(standing):
        standing.trained(contender.train(standing.next_turn(), standing.left))
        standing.scored(contest.recall(contender))
        tell(f"{standing.name}: {standing.marks[-1][1]:.3f} after {standing.seconds:.0f} s")


def run_schedule(contest: Contest, target: float, standing: Standing) -> None:
    """One of lapel's own runs, whole."""
    with failing(standing), contest.contender("lapel_run", *SCHEDULES[target]) as contender:
        standing.setup = contender.setup
        standing.trained(contender.train(0))
        standing.scored(contest.recall(contender))
        told = f"{standing.marks[-1][1]:.4f} after {standing.seconds:.1f} s"
        tell(f"lapel for {target:.2f} ({' '.join(SCHEDULES[target])}): {told}")


@contextmanager
def failing(standing: Standing) -> Iterator[None]:
    """A contender that fails is told, and the others go on."""
    try:
        yield
    except FailedError as error:
        standing.failed = f"{standing.name} failed: {error}"
        tell(standing.failed)


def time_rows(runs: dict[float, Standing], peers: dict[str, Standing]) -> Iterator[dict[str, Any]]:
    """The rows: each of lapel's figures beside each peer's."""
    for target, ours in runs.items():
        schedule = f"lapel: {' '.join(SCHEDULES[target])}"
        for name, theirs in peers.items():
            note = "; ".join(filter(None, [schedule, ours.why_not(target), theirs.why_not(target)]))
            figure = f"peers/time to recall@1 {target:.2f}"
            yield row(figure, "s", ours.reached(target), name, theirs.reached(target), note=note)
    longest = runs[max(runs)]
    best = max(each.best for each in runs.values())
    for name, theirs in peers.items():
        note = theirs.failed or f"{theirs.seconds:.0f} s of training"
        yield row("peers/best recall@1", "share of queries", best, name, theirs.best or None, True, note=note)
    figures: dict[str, tuple[str, Callable[[Standing], float]]] = {
        "an epoch": ("s", lambda each: each.seconds_an_epoch),
        "peak memory": ("MB", lambda each: each.peak),
        "set-up": ("s", lambda each: each.setup),
    }
    for figure, (unit, of) in figures.items():
        note = "lapel: validation and checkpoints included" if figure == "set-up" else ""
        for name, theirs in peers.items():
            yield row(f"peers/{figure}", unit, of(longest) or None, name, of(theirs) or None, note=note)


# ------------------------------------------------------------------------------------------------- speed


def speed(contest: Contest, rounds: int) -> bool:
    """Measure, and print the rows; whether all went well."""
    own = {f"optim={optimizer}": ["lapel_run", *SPEED, *more] for optimizer, more in optimizers(contest).items()}
    peers = {PML: ["pml_lapel"], LIGHTNING: ["plain_lightning"], SEMI_HARD: ["pml_semihard"], LOADER: ["loader"]}
    found: dict[str, list[float]] = {name: [] for name in [*own, *peers]}
    standings = {name: Standing(name, contest.epoch, 0) for name in found}
    batch = contest.config.data.batch_size
    with ExitStack() as stack:
        working: dict[str, Contender] = {}
        for name, arguments in {**own, **peers}.items():
            with failing(standings[name]):
                working[name] = stack.enter_context(contest.contender(*arguments))
                working[name].train(WARM_UP * batch)  # of lapel a whole run
        for number in range(rounds):
            for name, contender in working.items():
                if standings[name].failed:
                    continue
                with failing(standings[name]):
                    turn = contender.train(STEPS * batch)
                    found[name].append(turn.images / turn.seconds)
            tell(f"speed, round {number + 1} of {rounds}")
    medians = {name: statistics.median(each) if each else None for name, each in found.items()}
    show(
        row(f"peers/training, {name}", "images/s", medians[name], peer, medians[peer], True, standings[peer].failed)
        for name in own
        for peer in peers
    )
    return not any(each.failed for each in standings.values())


def optimizers(contest: Contest) -> dict[str, list[str]]:
    """lapel's optimizers: name -> overrides."""
    return {name_of(contest.config.optim): [], "adamw": ["optim=adamw"]}


# -------------------------------------------------------------------------------------------------- words


def show(rows: Iterator[dict[str, Any]]) -> None:
    """A line each."""
    for each in rows:
        print(json.dumps(each), flush=True)


def tell(message: str) -> None:
    """What happens meanwhile."""
    print(f"peers: {message}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure in turns, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=45.0, help="of training that each peer has")
    parser.add_argument("--rounds", type=int, default=3, help="in which speed is measured")
    parser.add_argument("--threads", type=int, default=available_cores(), help="of each contender")
    parser.add_argument("--only", choices=["time", "speed"], help="one of the two parts")
    parser.add_argument("overrides", nargs="*", help="of train.py, for lapel and for who trains its network")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # the scratch folder is to go
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as scratch:
        contest = Contest(Path(scratch).resolve(), given.threads, given.overrides)
        well = given.only == "speed" or time_to_score(contest, given.seconds)
        well = (given.only == "time" or speed(contest, given.rounds)) and well
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
