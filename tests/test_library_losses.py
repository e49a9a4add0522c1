"""pytorch-metric-learning's losses and miners as lapel offers them: same options, same values; and the memory."""

import inspect
import json
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY
from pytorch_metric_learning.losses import CrossBatchMemory as TheirMemory
from pytorch_metric_learning.losses import MultiSimilarityLoss, SupConLoss
from torch import Tensor

import lapel
from lapel.config.choices import builder, choices_of, name_of
from lapel.config.composing import compose
from lapel.config.export import ExportConfig
from lapel.config.library_losses import LibraryLossConfig
from lapel.config.miner import BatchHardMinerConfig, MinerConfig
from lapel.config.objective import ObjectiveConfig
from lapel.config.variant import VariantConfig
from lapel.errors import LapelError
from lapel.losses import CrossBatchMemory, LibraryLoss, Miner, Objective, build

CONF = Path(__file__).parent.parent / "conf"

# Config -> class of the library.
LOSSES: dict[type, Any] = {
    config: next(each for each in builder(f"objective/{name}").__mro__ if each.__module__.startswith("pytorch_metric"))
    for name, config in choices_of("objective").items()
    if issubclass(config, LibraryLossConfig)
}
MINERS: dict[type, Any] = {config: builder(f"miner/{name}") for name, config in choices_of("miner").items()}

# What the library's classes are told by lapel itself (how large things are), what is an object of its own there, and
# what batch_hard sets for the class that it is one of.
NO_OPTIONS = {
    "self", "args", "kwargs", "num_classes", "embedding_size", "descriptors_dim", "num_labels", "delta",
    "mat_based_loss", "embedding_regularizer", "embedding_reg_weight", "weight_regularizer", "weight_reg_weight",
    "weight_init_func",
}  # fmt: skip
SET_BY_BATCH_HARD = {"pos_strategy", "neg_strategy", "allowed_pos_range", "allowed_neg_range"}


def batch(seed: int = 0, items: int = 4, images: int = 4, dimensions: int = 8) -> tuple[Tensor, Tensor]:
    """Unit vectors and the items they show."""
    torch.manual_seed(seed)
    labels = torch.arange(items).repeat_interleave(images)
    return F.normalize(torch.randn(len(labels), dimensions), dim=1), labels


def own_fields(cls: type, base: type) -> dict[str, Any]:
    shared = {each.name for each in fields(base)}
    made = cls()
    values = {each.name: getattr(made, each.name) for each in fields(cls) if each.name not in shared}
    return {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}


def signature(cls: type) -> dict[str, Any]:
    """Options and defaults of a class of the library, those of its bases included where it passes them on."""
    found: dict[str, Any] = {}
    for each in reversed(
        [base for base in cls.__mro__ if base.__module__.startswith(cls.__module__.rpartition(".")[0])]
    ):
        if "__init__" in vars(each):
            parameters = inspect.signature(each.__init__).parameters
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
                found = {}
            found |= {name: parameter.default for name, parameter in parameters.items()}
    return found


# Values that the library wants to be told, or to be told in one of two ways.
WITHOUT_DEFAULT = {"n_bins", "margin", "Tn"}


@pytest.mark.parametrize("config", [*LOSSES, *MINERS], ids=lambda cls: name_of(cls()))
def test_options_and_defaults_are_those_of_the_library(config: type) -> None:
    theirs = signature((LOSSES | MINERS)[config])
    base = ObjectiveConfig if config in LOSSES else MinerConfig
    ours = own_fields(config, base)
    fixed = SET_BY_BATCH_HARD if config is BatchHardMinerConfig else set()
    assert set(ours) == set(theirs) - NO_OPTIONS - fixed
    told = {name for name in ours if name in WITHOUT_DEFAULT and theirs[name] in (None, inspect.Parameter.empty)}
    assert {name: ours[name] for name in ours if name not in told} == {
        name: theirs[name] for name in ours if name not in told
    }


@pytest.mark.parametrize("config", LOSSES, ids=lambda cls: name_of(cls()))
def test_a_loss_of_the_library_has_its_value_and_gradient(config: type[LibraryLossConfig]) -> None:
    embeddings, labels = batch()
    torch.manual_seed(1)
    ours = LibraryLoss(config(), dimensions=8, classes=4)
    torch.manual_seed(1)
    sizes = {"num_classes": 4, "embedding_size": 8, "descriptors_dim": 8}
    sized = {name: value for name, value in sizes.items() if name in signature(LOSSES[config])}
    if name_of(config()) == "ranked_list":
        sized = {"margin": config().margin, "Tn": config().Tn}  # type: ignore[attr-defined]
    theirs = LOSSES[config](**sized)
    found, expected = (gradient(each, embeddings, labels) for each in (ours, theirs))
    torch.testing.assert_close(found, expected)


def gradient(loss: Any, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    leaf = embeddings.clone().requires_grad_()
    torch.manual_seed(2)
    value = loss(leaf, labels)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


# -------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("override", "theirs"),
    [
        ("multi_similarity", MultiSimilarityLoss()),
        ("supcon", SupConLoss(temperature=0.1)),
    ],
)
def test_memory_equals_that_of_pytorch_metric_learning(override: str, theirs: Any) -> None:
    config = compose("train", [*TINY, f"loss={override}", "loss.memory=40"]).variant
    objective = build(config, dimensions=8, items=4, categories=4)["pair"]
    assert isinstance(objective, Objective)
    memory = TheirMemory(theirs, embedding_size=8, memory_size=40)
    for seed in range(5):  # 16 a batch: the third begins to overwrite
        embeddings, labels = batch(seed)
        found = gradient(lambda leaf, items: objective(leaf, leaf, items, items, None), embeddings, labels)
        torch.testing.assert_close(found, gradient(memory, embeddings, labels))


def test_memory_of_the_own_contrastive_loss_equals_theirs() -> None:
    config = compose("train", [*TINY, "loss=contrastive", "loss.memory=48", "loss.form=hadsell"]).variant
    objective = build(config, dimensions=8, items=4, categories=4)["pair"]
    for seed in range(4):
        embeddings, labels = batch(seed)
        found = objective(embeddings, embeddings, labels, labels, None)
        assert found == pytest.approx(float(contrastive_with(objective, embeddings, labels)), abs=1e-6)


def contrastive_with(objective: Any, embeddings: Tensor, labels: Tensor) -> Tensor:
    """Hadsell's contrastive loss of each image with everything that is remembered, pair by pair."""
    memory = objective.memory
    filled = min(int(memory.written), len(memory.labels))
    positives, negatives = [], []
    for row, label in enumerate(labels):
        own = (int(memory.written) - len(labels) + row) % len(memory.labels)
        for place in range(filled):
            distance = (embeddings[row] - memory.embeddings[place]).norm()
            if memory.labels[place] != label:
                negatives.append((1.0 - distance).clamp_min(0) ** 2)
            elif place != own:
                positives.append(distance**2)
    return torch.stack(positives).mean() + torch.stack(negatives).mean()


EVERY_MINER = sorted(choices_of("miner"))
REMEMBERING = sorted(name for name, each in choices_of("objective").items() if each.takes_memory)


def objective_of(loss: str, miner: str | None, memory: int) -> Objective:
    config = choices_of("objective")[loss](memory=memory, miner=None if miner is None else choices_of("miner")[miner]())
    torch.manual_seed(0)
    variant = VariantConfig(name="made", objectives={"pair": config})
    objective = build(variant, dimensions=8, items=16, categories=16)["pair"]
    assert isinstance(objective, Objective)
    return objective


# Of all triplets of a batch, which takes seconds.
COSTLY = ("angular", "triplet_margin")


@pytest.mark.parametrize(
    "miner", [None, *(pytest.param(each, marks=pytest.mark.slow if each in COSTLY else ()) for each in EVERY_MINER)]
)
@pytest.mark.parametrize("loss", REMEMBERING)
def test_the_first_batch_with_a_memory_costs_what_it_costs_without(loss: str, miner: str | None) -> None:
    """Each image's own copy lies in the memory; a miner that took it for the easiest positive left nothing to learn."""
    if miner is not None and not choices_of("objective")[loss].takes_miner:
        pytest.skip("takes no miner")
    embeddings = F.normalize(torch.randn(32, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    labels = torch.arange(32) % 8
    values = []
    for memory in (0, 32, 100):
        objective = objective_of(loss, miner, memory)
        torch.manual_seed(1)  # of miners that draw
        values.append(float(objective(embeddings, embeddings, labels, labels, None)))
    assert values[1:] == pytest.approx([values[0]] * 2, rel=1e-5, abs=1e-6)


def drew(objective: Objective, embeddings: Tensor, labels: Tensor) -> bool:
    """Whether torch's generator is not where it was."""
    before = torch.get_rng_state()
    objective(embeddings, embeddings, labels, labels, None)
    return not torch.equal(torch.get_rng_state(), before)


DRAWING = [(name, None) for name in choices_of("objective")] + [("multi_similarity", name) for name in EVERY_MINER]


@pytest.mark.parametrize(("loss", "miner"), DRAWING)
def test_what_draws_says_so(loss: str, miner: str | None) -> None:
    """Only for those that do is the generator set in a step."""
    objective = objective_of(loss, miner, 0)
    embeddings, labels = batch()
    assert (
        drew(objective, embeddings, labels) == objective.draws == (miner in ("distance_weighted", "uniform_histogram"))
    )


def test_a_loss_that_draws_triplets_says_so() -> None:
    options = ["variant=supcon", "loss=margin", "loss.triplets_per_anchor=3"]
    variant = lapel.compose("train", options).variant
    objective = next(iter(build(variant, 8, 4, 4).values()))
    assert isinstance(objective, Objective)
    assert objective.draws
    assert drew(objective, *batch())


def test_a_memory_goes_on_where_the_loaded_one_was() -> None:
    first, second = CrossBatchMemory(10, 8), CrossBatchMemory(10, 8)
    embeddings, labels = batch(items=3, images=1)
    for _ in range(4):
        first.remember(embeddings, labels)
    second.remember(embeddings, labels)
    second.load_state_dict(first.state_dict())
    for memory in (first, second):
        assert memory.remember(embeddings, labels).own.tolist() == [2, 3, 4]
        assert int(memory.written) == 15


# Those of which what they take for one anchor depends on no other.
BY_ANCHOR = ["angular", "batch_easy_hard", "batch_hard", "multi_similarity", "pair_margin", "triplet_margin"]


@pytest.mark.parametrize("lone", [False, True])
@pytest.mark.parametrize("miner", BY_ANCHOR)
def test_miners_look_at_everything_remembered_but_an_anchors_own_copy(miner: str, lone: bool) -> None:
    """Anchor by anchor, each with a memory from which its own copy was taken."""
    generator = torch.Generator().manual_seed(3)
    memory = CrossBatchMemory(100, 8)
    mine = Miner(choices_of("miner")[miner](), None)
    for step in range(4):
        embeddings = F.normalize(torch.randn(32, 8, generator=generator), dim=1)
        labels = torch.arange(32) % 8 + (100 * step if lone else 0)
        labels = torch.where(torch.arange(32) < 3, 1000 * step + torch.arange(32), labels)  # without any positive
        references = memory.remember(embeddings, labels)
        found = sorted(tuples_of(mine(embeddings, labels, references)))
        expected = []
        for row in range(32):
            others = torch.arange(len(references.labels))
            others = others[others != references.own[row]]
            alone = mine.miner(
                embeddings[row : row + 1],
                labels[row : row + 1],
                references.embeddings[others],
                references.labels[others],
            )
            expected += [(kind, row, *others[list(rest)].tolist()) for kind, _, *rest in tuples_of(alone)]
        assert found == sorted(expected)


def tuples_of(indices: tuple[Tensor, ...]) -> list[tuple[Any, ...]]:
    if len(indices) == 3:
        return [("triplet", *map(int, each)) for each in zip(*indices, strict=True)]
    pairs = [("positive", int(a), int(p)) for a, p in zip(*indices[:2], strict=True)]
    return pairs + [("negative", int(a), int(n)) for a, n in zip(*indices[2:], strict=True)]


def test_nca_with_a_memory_compares_with_everything_but_the_own_copy() -> None:
    objective = objective_of("nca", None, 100)
    memory = []
    for seed in range(4):
        embeddings, labels = batch(seed)
        found = objective(embeddings, embeddings, labels, labels, None)
        memory += [(embeddings[row], int(labels[row])) for row in range(len(labels))]
        costs = []
        for row, label in enumerate(labels):
            others = [each for number, each in enumerate(memory) if number != len(memory) - len(labels) + row]
            shares = torch.softmax(-torch.stack([(embeddings[row] - other).square().sum() for other, _ in others]), 0)
            same = torch.tensor([other == int(label) for _, other in others])
            costs.append(-shares[same].sum().log())
        assert float(found) == pytest.approx(float(torch.stack(costs).mean()), rel=1e-5)


# ---------------------------------------------------------------------------------------- all of them, trained


EVERY_LOSS = sorted(each.stem for each in (CONF / "objective").glob("*.yaml") if each.stem != "cross_entropy")


def trained_and_exported(overrides: list[str], folder: Path) -> dict[str, Any]:
    """What two steps of training say; the run is loaded, evaluated and exported."""
    lapel.train(lapel.compose("train", [*TINY, "trainer.max_steps=2", *overrides]), folder)
    lapel.export(ExportConfig(run=str(folder)))
    assert lapel.load(folder / "bundle").search_row(0, 3).shape[0] == 3
    return json.loads((folder / "train.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY_LOSS)
def test_every_loss_trains_saves_loads_and_exports(name: str, working_folder: Path) -> None:
    summary = trained_and_exported([f"loss={name}"], working_folder / "run")
    assert summary["steps"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY_MINER)
@pytest.mark.parametrize("loss", ["triplet", "contrastive", "multi_similarity"])
def test_every_miner_trains_saves_loads_and_exports(name: str, loss: str, working_folder: Path) -> None:
    assert trained_and_exported([f"loss={loss}", f"miner={name}"], working_folder / "run")["steps"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", REMEMBERING)
def test_every_loss_with_a_memory_trains(name: str, working_folder: Path) -> None:
    assert trained_and_exported([f"loss={name}", "loss.memory=64"], working_folder / "run")["steps"] == 2


def test_losses_that_take_no_miner_say_so() -> None:
    refusing = [name_of(each()) for each in LOSSES if not each.takes_miner]
    assert refusing == ["ranked_list", "pnp", "p2s_grad"]
    for name in refusing:
        with pytest.raises(LapelError, match="takes no miner"):
            compose("train", [*TINY, f"loss={name}", "miner=batch_hard"])
