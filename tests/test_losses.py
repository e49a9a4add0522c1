"""The losses against plain loops and against pytorch-metric-learning: value and gradient."""

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import ContrastiveLoss as TheirContrastiveLoss
from pytorch_metric_learning.losses import SupConLoss as TheirSupConLoss
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner, TripletMarginMiner
from pytorch_metric_learning.reducers import AvgNonZeroReducer, MeanReducer
from torch import Tensor

from lapel.config.composing import compose
from lapel.config.objective import (
    ContrastiveConfig,
    ContrastiveForm,
    CrossEntropyConfig,
    Label,
    ObjectiveConfig,
    Pairs,
    Reduction,
    SupConConfig,
    TripletConfig,
    Triplets,
)
from lapel.config.variant import Metric, VariantConfig
from lapel.errors import LapelError
from lapel.losses import (
    ContrastiveLoss,
    CrossEntropyLoss,
    Objective,
    SupConLoss,
    TripletLoss,
    build,
    root,
    same_label,
    squared_distances,
    triplet_sums,
)

Loss = Callable[..., Tensor]

FEW = settings(max_examples=25, deadline=None)
TOLERANCE = 1e-5

# Items 4 and 5 have one image: they are negatives only.
LABELS = [0, 1, 2, 0, 1, 3, 0, 4, 2, 3, 5, 0, 1, 3]

# Scale of the embeddings; 0 for unit vectors.
SCALES = [0, 0.05, 0.5, 3.0]

REDUCERS = {Reduction.active: AvgNonZeroReducer, Reduction.mean: MeanReducer}


def embeddings_of(seed: int, scale: float, count: int = len(LABELS), dimensions: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, dimensions, generator=generator, dtype=torch.float64)
    return F.normalize(drawn, dim=1) if scale == 0 else drawn * scale


def value_and_gradient(loss: Loss, embeddings: Tensor, *arguments: object) -> tuple[Tensor, Tensor]:
    leaf = embeddings.clone().requires_grad_()
    value = loss(leaf, *arguments)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient


def assert_same(loss: Loss, oracle: Loss, embeddings: Tensor, *arguments: object) -> None:
    """The same value and gradient, in float64; and in float32, as training computes it, about the same value."""
    value, gradient = value_and_gradient(loss, embeddings, *arguments)
    expected, expected_gradient = value_and_gradient(oracle, embeddings, *arguments)
    torch.testing.assert_close(value, expected, rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(gradient, expected_gradient, rtol=TOLERANCE, atol=TOLERANCE)
    single = loss(embeddings.float(), *arguments)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=TOLERANCE, atol=TOLERANCE)


def contrastive_loop(
    config: ContrastiveConfig, positives: list[tuple[int, int]], negatives: list[tuple[int, int]]
) -> Loss:
    def average(losses: list[Tensor]) -> Tensor | float:
        counted = [each for each in losses if each > 0] if config.reduction is Reduction.active else losses
        return sum(losses) / max(len(counted), 1)

    def loss(embeddings: Tensor, *_: object) -> Tensor:
        def distance(i: int, j: int) -> Tensor:
            return (embeddings[i] - embeddings[j]).square().sum().sqrt()

        pull = [distance(i, j) ** 2 for i, j in positives]
        if config.form is ContrastiveForm.hadsell:
            push = [torch.clamp(config.margin - distance(i, j), min=0) ** 2 for i, j in negatives]
        else:
            push = [torch.clamp(config.margin**2 - distance(i, j) ** 2, min=0) for i, j in negatives]
        return embeddings.sum() * 0 + average(pull) + average(push)

    return loss


def label_pairs(labels: list[int]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    pairs = [(i, j) for i, j in product(range(len(labels)), repeat=2) if i != j]
    alike = [labels[i] == labels[j] for i, j in pairs]
    return (
        [pair for pair, same in zip(pairs, alike, strict=True) if same],
        [pair for pair, same in zip(pairs, alike, strict=True) if not same],
    )


def triplets_of(config: TripletConfig, embeddings: Tensor, labels: list[int]) -> list[tuple[int, int, int]]:
    """The triplets that a config speaks of, by the book."""
    distances = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist").tolist()
    found = []
    for a in range(len(labels)):
        positives = [p for p in range(len(labels)) if p != a and labels[p] == labels[a]]
        negatives = [n for n in range(len(labels)) if labels[n] != labels[a]]
        if config.triplets is Triplets.hard:
            if positives and negatives:
                farthest = max(positives, key=lambda p: distances[a][p])
                found.append((a, farthest, min(negatives, key=lambda n: distances[a][n])))
            continue
        for p, n in product(positives, negatives):
            gap = distances[a][n] - distances[a][p]
            if config.triplets is Triplets.batch_all or 0 < gap <= config.margin:
                found.append((a, p, n))
    return found


def triplet_loop(config: TripletConfig, triplets: list[tuple[int, int, int]]) -> Loss:
    def loss(embeddings: Tensor, *_: object) -> Tensor:
        def distance(i: int, j: int) -> Tensor:
            return (embeddings[i] - embeddings[j]).square().sum().sqrt()

        excess = [distance(a, p) - distance(a, n) + config.margin for a, p, n in triplets]
        losses = [torch.log(1 + each.exp()) if config.soft else torch.clamp(each, min=0) for each in excess]
        count = sum(bool(each > 0) for each in losses) if config.reduction is Reduction.active else len(losses)
        return embeddings.sum() * 0 + sum(losses) / max(count, 1)

    return loss


def our_triplets(config: TripletConfig) -> Loss:
    return TripletLoss(config)


def their_triplets(config: TripletConfig) -> Loss:
    distance = LpDistance(normalize_embeddings=False)
    reducer = REDUCERS[config.reduction]()
    loss = TripletMarginLoss(margin=config.margin, smooth_loss=config.soft, distance=distance, reducer=reducer)
    if config.triplets is Triplets.semi_hard:
        miner = TripletMarginMiner(margin=config.margin, type_of_triplets="semihard", distance=distance)
    elif config.triplets is Triplets.hard:
        miner = BatchHardMiner(distance=distance)
    else:
        return loss

    def mined(embeddings: Tensor, labels: Tensor) -> Tensor:
        return loss(embeddings, labels, miner(embeddings, labels))

    return mined


def given_triplets(count: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    a, p, n = torch.stack([torch.randperm(batch, generator=generator)[:3] for _ in range(count)]).T
    return a, p, n


# ---------------------------------------------------------------------------------------------------------------- parts


def test_squared_distances_are_those_of_a_loop():
    embeddings = embeddings_of(0, 1.0, 9)
    expected = [[(a - b).square().sum() for b in embeddings] for a in embeddings]
    torch.testing.assert_close(squared_distances(embeddings), torch.stack([torch.stack(row) for row in expected]))


def test_squared_distances_are_never_below_zero():
    embeddings = (embeddings_of(1, 1.0, 1) * 1e3).float().repeat(50, 1) * (1 + torch.arange(50)[:, None] * 1e-7)
    assert squared_distances(embeddings).min() >= 0


def test_the_root_has_no_gradient_at_zero():
    squared = torch.tensor([0.0, 4.0], requires_grad=True)
    value = root(squared)
    value.sum().backward()
    assert value.tolist() == [0, 2]
    assert squared.grad is not None
    assert squared.grad.tolist() == [0, 0.25]


def test_an_image_with_itself_is_neither_a_positive_nor_a_negative_pair():
    positive, negative = same_label(torch.tensor([7, 3, 7]))
    assert positive.tolist() == [[False, False, True], [False, False, False], [True, False, False]]
    assert negative.tolist() == [[False, True, False], [True, False, True], [False, True, False]]


# ---------------------------------------------------------------------------------------------------------- contrastive


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("reduction", list(Reduction))
@pytest.mark.parametrize("margin", [0.3, 1.0, 2.5])
def test_bell_equals_pytorch_metric_learning(scale: float, reduction: Reduction, margin: float):
    ours = ContrastiveLoss(ContrastiveConfig(margin=margin, reduction=reduction))
    theirs = TheirContrastiveLoss(
        pos_margin=0,
        neg_margin=margin**2,  # pyright: ignore[reportArgumentType]
        distance=LpDistance(normalize_embeddings=False, power=2),
        reducer=REDUCERS[reduction](),
    )
    for seed in range(2):
        assert_same(ours, theirs, embeddings_of(seed, scale), torch.tensor(LABELS))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("reduction", list(Reduction))
def test_bell_on_given_pairs_equals_pytorch_metric_learning(scale: float, reduction: Reduction):
    ours = ContrastiveLoss(ContrastiveConfig(pairs=Pairs.given, margin=1.0, reduction=reduction))
    theirs = TheirContrastiveLoss(
        pos_margin=0,
        neg_margin=1,
        distance=LpDistance(normalize_embeddings=False, power=2),
        reducer=REDUCERS[reduction](),
    )
    pairs = tuple(map(torch.tensor, ([0, 1, 3], [3, 4, 6], [0, 2, 5, 7], [1, 3, 8, 10])))
    assert_same(ours, theirs, embeddings_of(2, scale), torch.tensor(LABELS), pairs)


@pytest.mark.parametrize("form", list(ContrastiveForm))
@pytest.mark.parametrize("reduction", list(Reduction))
@pytest.mark.parametrize("scale", SCALES)
def test_contrastive_equals_a_double_loop(form: ContrastiveForm, reduction: Reduction, scale: float):
    config = ContrastiveConfig(form=form, reduction=reduction, margin=1.2)
    oracle = contrastive_loop(config, *label_pairs(LABELS))
    assert_same(ContrastiveLoss(config), oracle, embeddings_of(3, scale), torch.tensor(LABELS))


@pytest.mark.parametrize("form", list(ContrastiveForm))
@pytest.mark.parametrize("reduction", list(Reduction))
def test_contrastive_on_given_pairs_equals_a_loop(form: ContrastiveForm, reduction: Reduction):
    config = ContrastiveConfig(form=form, reduction=reduction, pairs=Pairs.given, margin=1.2)
    # The labels say nothing here: pairs are what the tuple says they are.
    a1, p, a2, n = [0, 1, 3, 3], [1, 4, 5, 5], [2, 0, 3], [9, 7, 6]
    oracle = contrastive_loop(config, list(zip(a1, p, strict=True)), list(zip(a2, n, strict=True)))
    pairs = tuple(map(torch.tensor, (a1, p, a2, n)))
    assert_same(ContrastiveLoss(config), oracle, embeddings_of(4, 0.4), torch.tensor(LABELS), pairs)


@pytest.mark.parametrize(("form", "expected"), [(ContrastiveForm.bell, 3.75), (ContrastiveForm.hadsell, 2.25)])
def test_contrastive_of_one_pair_by_hand(form: ContrastiveForm, expected: float):
    loss = ContrastiveLoss(ContrastiveConfig(form=form, margin=2.0))
    embeddings = torch.tensor([[0.0, 0.0], [0.3, 0.4]])
    assert loss(embeddings, torch.tensor([0, 1])).item() == pytest.approx(expected)
    assert loss(embeddings, torch.tensor([1, 1])).item() == pytest.approx(0.25)


@pytest.mark.parametrize("form", list(ContrastiveForm))
@pytest.mark.parametrize("pairs", list(Pairs))
@pytest.mark.parametrize("reduction", list(Reduction))
def test_no_active_pair_costs_nothing(form: ContrastiveForm, pairs: Pairs, reduction: Reduction):
    loss = ContrastiveLoss(ContrastiveConfig(form=form, pairs=pairs, reduction=reduction, margin=1.0))
    far = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    none = torch.empty(0, dtype=torch.int64)
    given_pairs = (none, none, torch.tensor([0, 1]), torch.tensor([1, 2]))
    value, gradient = value_and_gradient(loss, far, torch.arange(3), given_pairs)
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("pairs", [(), (torch.tensor([0]),) * 3, None])
def test_given_pairs_must_be_four(pairs: tuple[Tensor, ...] | None):
    loss = ContrastiveLoss(ContrastiveConfig(pairs=Pairs.given))
    with pytest.raises(ValueError, match="a1, p, a2, n"):
        loss(torch.zeros(2, 2), torch.tensor([0, 1]), pairs)


# ------------------------------------------------------------------------------------------------------------- triplets


@pytest.mark.parametrize("triplets", [Triplets.batch_all, Triplets.semi_hard, Triplets.hard])
@pytest.mark.parametrize("reduction", list(Reduction))
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("margin", "soft"), [(0.05, False), (0.2, False), (1.0, False), (0.3, True)])
def test_triplets_equal_pytorch_metric_learning(
    triplets: Triplets, reduction: Reduction, scale: float, margin: float, soft: bool
):
    config = TripletConfig(triplets=triplets, reduction=reduction, margin=margin, soft=soft)
    for seed in range(3):
        embeddings = embeddings_of(seed, scale)
        assert_same(our_triplets(config), their_triplets(config), embeddings, torch.tensor(LABELS))


@pytest.mark.parametrize("triplets", [Triplets.batch_all, Triplets.semi_hard, Triplets.hard])
@pytest.mark.parametrize("reduction", list(Reduction))
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("device", ["cpu", "another"])
def test_triplets_equal_a_triple_loop(
    triplets: Triplets, reduction: Reduction, scale: float, soft: bool, device: str, monkeypatch: pytest.MonkeyPatch
):
    if device == "another":  # where positives stay where they are
        monkeypatch.setattr(triplet_sums, "positives_of", triplet_sums.Positives)
    config = TripletConfig(triplets=triplets, reduction=reduction, margin=0.3, soft=soft)
    embeddings = embeddings_of(5, scale)
    oracle = triplet_loop(config, triplets_of(config, embeddings, LABELS))
    assert_same(our_triplets(config), oracle, embeddings, torch.tensor(LABELS))


@FEW
@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=9),
    triplets=st.sampled_from([Triplets.batch_all, Triplets.semi_hard, Triplets.hard]),
    reduction=st.sampled_from(list(Reduction)),
    margin=st.sampled_from([0.1, 0.5, 2.0]),
    soft=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_triplets_of_any_labels_equal_a_triple_loop(
    labels: list[int], triplets: Triplets, reduction: Reduction, margin: float, soft: bool, seed: int
):
    config = TripletConfig(triplets=triplets, reduction=reduction, margin=margin, soft=soft)
    embeddings = embeddings_of(seed, 0, len(labels), 3)
    oracle = triplet_loop(config, triplets_of(config, embeddings, labels))
    assert_same(our_triplets(config), oracle, embeddings, torch.tensor(labels))


@pytest.mark.parametrize("reduction", list(Reduction))
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("soft", [False, True])
def test_given_triplets_equal_pytorch_metric_learning_and_a_loop(reduction: Reduction, scale: float, soft: bool):
    config = TripletConfig(triplets=Triplets.given, reduction=reduction, margin=0.3, soft=soft)
    a, p, n = given_triplets(11, len(LABELS))
    embeddings = embeddings_of(6, scale)
    loop = triplet_loop(config, list(zip(a.tolist(), p.tolist(), n.tolist(), strict=True)))
    for oracle in (their_triplets(config), loop):
        assert_same(our_triplets(config), oracle, embeddings, torch.tensor(LABELS), (a, p, n))


def test_a_triplet_by_hand():
    embeddings = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    for triplets in (Triplets.batch_all, Triplets.hard):
        loss = TripletLoss(TripletConfig(triplets=triplets, margin=2.5, reduction=Reduction.mean))
        # Anchor 0: 3 - 4 + 2.5 = 1.5. Anchor 1: 3 - 5 + 2.5 = 0.5. Anchor 2 has no positive.
        assert loss(embeddings, torch.tensor([0, 0, 1])).item() == pytest.approx(1.0)


def test_the_soft_margin_by_hand():
    loss = TripletLoss(TripletConfig(triplets=Triplets.hard, margin=0, soft=True))
    # Anchor 0: log(1 + e^(3 - 4)). Anchor 1: log(1 + e^(3 - 5)). Anchor 2 has no positive.
    expected = (math.log1p(math.exp(-1)) + math.log1p(math.exp(-2))) / 2
    embeddings = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    assert loss(embeddings, torch.tensor([0, 0, 1])).item() == pytest.approx(expected)


@pytest.mark.parametrize("triplets", [Triplets.batch_all, Triplets.semi_hard])
def test_the_soft_margin_is_the_same_in_parts(triplets: Triplets, monkeypatch: pytest.MonkeyPatch):
    config = TripletConfig(triplets=triplets, margin=0.5, soft=True)
    embeddings, labels = embeddings_of(8, 0, 40, 6), torch.arange(40) % 5
    whole = value_and_gradient(TripletLoss(config), embeddings, labels)
    monkeypatch.setattr(triplet_sums, "HELD", 3 * 7 * 40)
    torch.testing.assert_close(value_and_gradient(TripletLoss(config), embeddings, labels), whole)


def test_semi_hard_triplets_need_a_margin():
    with pytest.raises(LapelError, match=r"margin=0: leaves no triplets=semi_hard"):
        TripletConfig(margin=0)
    TripletConfig(margin=0, triplets=Triplets.hard)


def test_a_large_batch_of_unit_vectors_keeps_its_precision():
    config = TripletConfig(triplets=Triplets.batch_all, margin=0.2)
    embeddings, labels = embeddings_of(7, 0, 256, 64), torch.arange(256) // 4
    value, gradient = value_and_gradient(TripletLoss(config), embeddings.float(), labels)
    expected, expected_gradient = value_and_gradient(their_triplets(config), embeddings, labels)
    torch.testing.assert_close(value.double(), expected, rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-4, atol=TOLERANCE)


@pytest.mark.parametrize("triplets", list(Triplets))
@pytest.mark.parametrize("reduction", list(Reduction))
def test_no_active_triplet_costs_nothing(triplets: Triplets, reduction: Reduction):
    loss = TripletLoss(TripletConfig(triplets=triplets, reduction=reduction, margin=0.2))
    apart = torch.tensor([[0.0, 0.1], [0.0, 0.0], [9.0, 0.1], [9.0, 0.0]])
    given_ones = (torch.tensor([0, 2]), torch.tensor([1, 3]), torch.tensor([2, 0]))
    value, gradient = value_and_gradient(loss, apart, torch.tensor([0, 0, 1, 1]), given_ones)
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("indices", [(), (torch.tensor([0]),) * 4, None])
def test_given_triplets_must_be_three(indices: tuple[Tensor, ...] | None):
    with pytest.raises(ValueError, match="a, p, n"):
        TripletLoss(TripletConfig(triplets=Triplets.given))(torch.zeros(2, 2), torch.tensor([0, 1]), indices)


# --------------------------------------------------------------------------------------------------------------- supcon


def supcon_loop(temperature: float) -> Loss:
    def loss(embeddings: Tensor, labels: Tensor) -> Tensor:
        unit = F.normalize(embeddings, dim=1)
        costs = []
        for a in range(len(labels)):
            others = [o for o in range(len(labels)) if o != a]
            shares = torch.stack([unit[a] @ unit[o] / temperature for o in others]).log_softmax(0)
            positives = [-share for o, share in zip(others, shares, strict=True) if labels[o] == labels[a]]
            if positives:
                costs.append(sum(positives) / len(positives))
        return sum(costs) / len(costs)  # type: ignore[return-value]

    return loss


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_supcon_equals_a_loop_and_pytorch_metric_learning(temperature: float, scale: float):
    loss, labels = SupConLoss(SupConConfig(temperature=temperature)), torch.tensor(LABELS)
    assert_same(loss, supcon_loop(temperature), embeddings_of(3, scale), labels)
    assert_same(loss, TheirSupConLoss(temperature), embeddings_of(3, scale), labels)


def test_supcon_without_positives_costs_nothing():
    value, gradient = value_and_gradient(SupConLoss(SupConConfig()), embeddings_of(0, 0.1, 5), torch.arange(5))
    assert value == 0
    assert not gradient.any()


def test_supcon_of_equal_embeddings_is_the_logarithm_of_the_others():
    value, gradient = value_and_gradient(
        SupConLoss(SupConConfig()), torch.full((4, 3), 0.5, dtype=torch.float64), torch.tensor([0, 0, 1, 1])
    )
    assert value.item() == pytest.approx(math.log(3))
    assert gradient.isfinite().all()


# ----------------------------------------------------------------------------------------------------------- both kinds

EVERY_BATCH_LOSS = [
    *(ContrastiveLoss(ContrastiveConfig(form=form, reduction=each)) for form in ContrastiveForm for each in Reduction),
    *(
        TripletLoss(TripletConfig(triplets=triplets, reduction=each, soft=soft))
        for triplets in (Triplets.batch_all, Triplets.semi_hard, Triplets.hard)
        for each in Reduction
        for soft in (False, True)
    ),
]


@pytest.mark.parametrize("loss", EVERY_BATCH_LOSS)
@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 2, 3]])
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_equal_embeddings_have_a_finite_gradient(loss: Loss, labels: list[int], scale: float):
    value, gradient = value_and_gradient(loss, torch.full((4, 3), 0.5) * scale, torch.tensor(labels))
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("loss", EVERY_BATCH_LOSS)
def test_two_equal_embeddings_among_others_have_a_finite_gradient(loss: Loss):
    embeddings = embeddings_of(0, 0.05, 6).float()
    embeddings[1] = embeddings[0]
    embeddings[3] = embeddings[2]
    _, gradient = value_and_gradient(loss, embeddings, torch.tensor([0, 0, 1, 2, 1, 2]))
    assert gradient.isfinite().all()
    assert gradient.any()


@pytest.mark.parametrize("loss", EVERY_BATCH_LOSS)
def test_one_label_only_makes_no_triplets_and_no_negatives(loss: Loss):
    embeddings = embeddings_of(0, 0.3, 5)
    value, gradient = value_and_gradient(loss, embeddings, torch.zeros(5, dtype=torch.int64))
    if isinstance(loss, TripletLoss):
        assert value == 0
        assert not gradient.any()
    else:
        assert value.item() == pytest.approx(squared_distances(embeddings).sum().item() / 20)


@pytest.mark.parametrize("loss", EVERY_BATCH_LOSS)
def test_all_labels_different_make_no_positives(loss: Loss):
    value, gradient = value_and_gradient(loss, embeddings_of(0, 0.1, 5), torch.arange(5))
    if isinstance(loss, TripletLoss):
        assert value == 0
        assert not gradient.any()
    else:
        assert value > 0
        assert gradient.any()


@pytest.mark.parametrize("loss", EVERY_BATCH_LOSS)
def test_the_order_of_the_batch_is_nothing_to_a_loss(loss: Loss):
    embeddings, labels = embeddings_of(8, 0.5), torch.tensor(LABELS)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    value, gradient = value_and_gradient(loss, embeddings, labels)
    other, other_gradient = value_and_gradient(loss, embeddings[order], labels[order])
    torch.testing.assert_close(other, value)
    torch.testing.assert_close(other_gradient, gradient[order])


# -------------------------------------------------------------------------------------------------------- cross-entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_that_of_a_linear_classifier(smoothing: float):
    torch.manual_seed(0)
    loss = CrossEntropyLoss(CrossEntropyConfig(smoothing=smoothing), 4, 6)
    embeddings, labels = embeddings_of(0, 1.0).float(), torch.tensor(LABELS)

    def oracle(embeddings: Tensor, labels: Tensor) -> Tensor:
        logits = embeddings @ loss.classifier.weight.T + loss.classifier.bias
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)

    assert loss.classifier.weight.shape == (6, 4)
    value, gradient = value_and_gradient(loss, embeddings, labels)
    expected, expected_gradient = value_and_gradient(oracle, embeddings, labels)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def test_cross_entropy_of_equal_logits_is_the_logarithm_of_the_classes():
    loss = CrossEntropyLoss(CrossEntropyConfig(), 4, 6)
    torch.nn.init.zeros_(loss.classifier.weight)
    torch.nn.init.zeros_(loss.classifier.bias)
    assert loss(torch.ones(3, 4), torch.tensor([0, 1, 5])).item() == pytest.approx(math.log(6))


# ----------------------------------------------------------------------------------------------------------- objectives


class Recorder(torch.nn.Module):
    """A loss that keeps what it was given."""

    def forward(self, *given: object) -> Tensor:
        self.given = given
        return torch.tensor(2.0)


@pytest.mark.parametrize("reads_raw", [True, False])
@pytest.mark.parametrize("label", list(Label))
def test_an_objective_gets_its_embedding_and_its_label(reads_raw: bool, label: Label):
    recorder = Recorder()
    config = (CrossEntropyConfig if reads_raw else TripletConfig)(weight=3.0, label=label)
    objective = Objective(config, recorder, dimensions=2)
    raw, embeddings, items, categories = (torch.full((2,), float(number)) for number in range(4))
    indices = (torch.tensor([0]),) * 3
    assert objective(raw, embeddings, items, categories, indices).item() == 2.0  # the weight is applied elsewhere
    assert objective.weight == 3.0
    assert recorder.given[0] is (raw if reads_raw else embeddings)
    assert recorder.given[1] is (items if label is Label.item else categories)
    assert recorder.given[2] is (None if reads_raw else indices)


VARIANTS = {
    "cat": {"category": (CrossEntropyLoss, True, Label.category)},
    "siam": {"pair": (ContrastiveLoss, False, Label.item)},
    "siam_cos": {"pair": (ContrastiveLoss, False, Label.item)},
    "siam_cat": {"pair": (ContrastiveLoss, False, Label.item), "category": (CrossEntropyLoss, True, Label.category)},
    "siam_cat_cos": {
        "pair": (ContrastiveLoss, False, Label.item),
        "category": (CrossEntropyLoss, True, Label.category),
    },
    "triplet": {"triplet": (TripletLoss, False, Label.item)},
    "supcon": {"supcon": (SupConLoss, False, Label.item)},
    "supcon_cat": {
        "supcon": (SupConLoss, False, Label.item),
        "category": (CrossEntropyLoss, True, Label.category),
    },
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_built(name: str):
    objectives = build(compose("train", [f"variant={name}"]).variant, dimensions=4, items=6, categories=3)
    built = {
        key: (type(objective.loss), objective.reads_raw, objective.label)
        for key, objective in objectives.items()
        if isinstance(objective, Objective)
    }
    assert built == VARIANTS[name]
    items = torch.tensor(LABELS)
    for objective in objectives.values():
        value = objective(embeddings_of(0, 1.0).float(), embeddings_of(0, 0).float(), items, items % 3, None)
        assert value.shape == ()
        assert value > 0


@pytest.mark.parametrize(("label", "classes"), [(Label.item, 6), (Label.category, 3)])
def test_a_classifier_has_one_output_for_each_label(label: Label, classes: int):
    variant = VariantConfig("cat", Metric.euclidean, {"one": CrossEntropyConfig(label=label)})
    (objective,) = build(variant, dimensions=4, items=6, categories=3).values()
    assert isinstance(objective, Objective)
    assert isinstance(objective.loss, CrossEntropyLoss)
    assert objective.loss.classifier.weight.shape == (classes, 4)


def test_build_refuses_an_unknown_objective():
    variant = VariantConfig("none", Metric.cosine, {"one": ObjectiveConfig()})
    with pytest.raises(TypeError, match="ObjectiveConfig is no choice of any group"):
        build(variant, 4, 6, 3)
