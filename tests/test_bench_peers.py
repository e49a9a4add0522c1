"""The pieces of bench/peers.py: turns of processes, steps of contenders on a few images, and who stands where."""

import io
import json
import re
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import peers
import pytest
import torch
import torch.nn.functional as F
from contenders import environment, pml_lapel, pml_mnist, siamese_triplet
from contenders.processes import Contender, FailedError, Turn
from contenders.standing import Standing, row
from contenders.turns import Turns

from lapel import losses
from lapel.config.composing import compose
from lapel.config.variant import Metric
from lapel.losses.classifier import CrossEntropyLoss

ROOT = Path(__file__).parent.parent

# A contender that counts: it speaks when it is told to train, and embeds what it has seen so far.
FAKE = """
import sys
import numpy as np
from contenders.turns import Turns

turns = Turns.of_this_process()
print("loading")
seen = 0
turns.ready(lambda: np.full((2, 3), seen, np.float32), "euclidean")
while True:
    print("a step")
    seen += 10
    turns.step(10)
    if seen >= 60:
        sys.exit("out of memory")
"""


@pytest.fixture
def fake(tmp_path: Path) -> Contender:
    return Contender([sys.executable, "-c", FAKE], tmp_path / "fake", threads=1)


def test_a_contender_trains_in_turns_and_ends_when_it_is_told(fake: Contender) -> None:
    assert fake.metric == "euclidean"
    first, second = fake.train(25), fake.train(10)
    assert (first.images, second.images) == (30, 10)
    assert first.seconds > 0
    assert first.peak > 1
    assert fake.embed().tolist() == [[40.0] * 3] * 2
    assert fake.train(1000, within=0).images == 10
    fake.end()
    assert fake.process.returncode == 0
    assert "a step" in fake.log.read_text()


def test_a_contender_that_fails_says_why(fake: Contender) -> None:
    fake.train(50)
    with pytest.raises(FailedError, match="out of memory"):
        fake.train(50)
    fake.end()


def test_a_command_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match=r"No module named .*nobody"):
        Contender([sys.executable, "-m", "contenders.nobody"], tmp_path / "nobody", threads=1)


def test_embeddings_are_given_between_turns_alone(tmp_path: Path) -> None:
    orders = [{"embed": str(tmp_path / "a.npy")}, {"train": 5, "within": 60}, {"embed": str(tmp_path / "b.npy")}]
    said = io.StringIO()
    turns = Turns(io.StringIO("".join(json.dumps(each) + "\n" for each in orders)), said)
    assert turns.ready(lambda: np.ones((4, 2), np.float32), "cosine") == 5
    assert not (tmp_path / "b.npy").exists()
    turns.step(3)
    with pytest.raises(SystemExit):
        turns.step(3)
    answers = [json.loads(line) for line in said.getvalue().splitlines()]
    assert [sorted(each) for each in answers] == [
        ["metric", "ready"], ["embedded"], ["images", "peak", "seconds"], ["embedded"],
    ]  # fmt: skip
    assert answers[2]["images"] == 6
    assert np.load(tmp_path / "b.npy").shape == (4, 2)


# ------------------------------------------------------------------------------------------------- contenders


def twenty_images() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    labels = torch.arange(20) % 4
    return torch.randn(20, 1, 28, 28) + labels[:, None, None, None], labels


def test_the_mnist_example_steps() -> None:
    model, (loss_func, mining_func) = pml_mnist.Net(), pml_mnist.semi_hard()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    before = [each.detach().clone() for each in model.parameters()]
    stepped: list[int] = []
    pml_mnist.train(model, loss_func, mining_func, [twenty_images()], optimizer, stepped.append)
    assert stepped == [20]
    assert all(not torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_the_librarys_loss_is_lapels() -> None:
    variant = compose("train", []).variant
    _, labels = twenty_images()
    raw = torch.randn(20, 8)
    theirs = pml_lapel.ContrastiveAndClassifier(variant, 8, 10)
    ours = losses.build(variant, 8, 10, 10)
    classifiers = [each for each in ours.modules() if isinstance(each, CrossEntropyLoss)]
    classifiers[0].classifier.load_state_dict(theirs.classifier.state_dict())
    unit = F.normalize(raw, dim=1)
    expected = sum(each.weight * each(raw, unit, labels, labels, None) for each in ours.values())
    assert float(theirs(raw, labels).detach()) == pytest.approx(float(torch.as_tensor(expected).detach()), rel=1e-5)


def test_siamese_triplets_random_negatives_cost_something() -> None:
    _, labels = twenty_images()
    embeddings = torch.randn(20, 2)
    triplets = siamese_triplet.random_negatives(embeddings, labels)
    distances = torch.cdist(embeddings, embeddings).square()
    pairs = [(a, p) for a, p in combinations(range(20), 2) if labels[a] == labels[p]]
    costly = {
        (a, p)
        for a, p in pairs
        if any(labels[n] != labels[a] and distances[a, p] - distances[a, n] + 1 > 0 for n in range(20))
    }
    assert {(a, p) for a, p, _ in triplets.tolist()} == costly
    for a, p, n in triplets.tolist():
        assert labels[a] == labels[p] != labels[n]
        assert distances[a, p] - distances[a, n] + 1 > 0
    assert siamese_triplet.triplet_loss(embeddings, labels) > 0
    assert siamese_triplet.triplet_loss(100.0 * labels[:, None].expand(20, 2), labels) == 0


def test_siamese_triplets_batches_hold_all_classes_alike() -> None:
    labels = np.arange(600) % 10
    found = list(siamese_triplet.BalancedBatches(labels))
    assert len(found) == 2
    for batch in found:
        assert len(set(batch)) == 250
        assert np.bincount(labels[batch]).tolist() == [25] * 10
    assert not set(found[0]) & set(found[1])


# --------------------------------------------------------------------------------------------------- standing


def test_who_reached_what_is_told_by_the_first_mark_that_did() -> None:
    standing = Standing("someone", epoch=800, budget=50)
    assert standing.next_turn() == 100
    for images, recall in ((100, 0.8), (100, 0.86), (100, 0.84), (500, 0.89)):
        standing.trained(Turn(images, images / 50, 10.0, aside=1.0))
        standing.scored(recall)
    assert standing.reached(0.85) == 4.0
    assert standing.reached(0.88) == 16.0
    assert standing.reached(0.9) is None
    assert standing.best == 0.89
    assert standing.seconds_an_epoch == 16.0
    assert standing.setup == 4.0
    assert standing.next_turn() == 400
    assert not standing.done(0.9)
    assert standing.done(0.88)
    assert standing.why_not(0.9) == "someone: 0.890 in 16 s"
    assert standing.why_not(0.88) == ""


def test_a_budget_that_is_used_up_ends_it() -> None:
    standing = Standing("slow", epoch=8000, budget=10)
    standing.trained(Turn(100, 8.0, 1.0))
    assert standing.left == 2
    assert not standing.done(0.9)
    standing.trained(Turn(25, 2.5, 1.0))
    assert standing.done(0.9)


def test_rows_compare_only_what_both_have() -> None:
    assert row("time", "s", 2.0, "peer", 3.0)["ratio"] == 1.5
    assert row("speed", "images/s", 2.0, "peer", 3.0, True)["ratio"] == 0.667
    missing = row("time", "s", 2.0, "peer", None, note="why")
    assert (missing["peer_value"], missing["ratio"], missing["note"]) == (None, None, "why")


def test_every_target_is_told_of_every_peer() -> None:
    runs = {target: Standing("lapel", 100, 1e9) for target in peers.SCHEDULES}
    for target, standing in runs.items():
        standing.trained(Turn(100, 100 * target, 300.0))
        standing.scored(target)
    fast, slow = Standing("fast", 100, 50), Standing("slow", 100, 50)
    for standing, recall in ((fast, 0.95), (slow, 0.5)):
        standing.trained(Turn(100, 42.5, 500.0))
        standing.scored(recall)
    rows = list(peers.time_rows(runs, {"fast": fast, "slow": slow}))
    times = [each for each in rows if "time to" in each["name"]]
    assert [(each["value"], each["peer_value"]) for each in times[:2]] == [(85.0, 42.5), (85.0, None)]
    assert times[0]["ratio"] == 0.5
    assert times[1]["note"].endswith("slow: 0.500 in 42 s")
    assert len(times) == 2 * len(peers.SCHEDULES)
    assert {each["name"] for each in rows if each not in times} == {
        "peers/best recall@1", "peers/an epoch", "peers/peak memory", "peers/set-up",
    }  # fmt: skip


def test_every_schedule_composes() -> None:
    for target, overrides in peers.SCHEDULES.items():
        assert 0 < target < 1
        compose("train", [*peers.COMMON, *overrides])
    compose("train", [*peers.COMMON, *peers.SPEED])


def test_recall_is_of_the_nearest_other_image() -> None:
    items = np.array([0, 0, 1, 1])
    embeddings = torch.tensor([[1.0, 0.0], [9.0, 1.0], [1.0, 0.2], [0.0, 1.0]])
    assert peers.recall_at_1(embeddings, items, Metric.cosine) == 0.5
    assert peers.recall_at_1(embeddings, items, Metric.euclidean) == 0.25


# ------------------------------------------------------------------------------------- open-metric-learning's


def test_an_environment_that_cannot_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment.sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(environment.NotInstalledError) as refused:
        environment.python_of_oml(tmp_path / "oml")
    assert re.fullmatch(r"open-metric-learning cannot be installed: .*no-python.*", str(refused.value))
    assert "once" in capsys.readouterr().err


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, ...]] = []

    def fake_run(*command: str) -> str:
        ran.append(command)
        python = tmp_path / "oml" / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        return f"{tmp_path}\n"

    monkeypatch.setattr(environment, "_run", fake_run)
    for _ in range(2):
        environment.python_of_oml(tmp_path / "oml")
    assert [command[1:3] for command in ran] == [("-m", "venv"), ("-c", ran[1][2]), ("-m", "pip")]
    assert "site-packages" in (tmp_path / "lapel.pth").read_text()


def test_its_packages_are_pinned_by_name_and_version_alone() -> None:
    lines = environment.PINS.read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert any(line.startswith("numpy==1.") for line in lines)
    assert any(line.startswith("open-metric-learning==") for line in lines)
