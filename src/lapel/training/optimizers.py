"""Optimizers, and how fast each part of the network learns at each step."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lapel.config.choices import build as build_choice
from lapel.config.choices import kind_of
from lapel.config.encoder import TrunkConfig
from lapel.config.optim import AdamConfig, AdamWConfig, MuonConfig, OptimConfig, Schedule, SGDConfig
from lapel.config.stages import StageConfig
from lapel.config.train import TrainConfig
from lapel.config.trainer import Precision
from lapel.encoders.encoder import Encoder
from lapel.encoders.trunks import layers
from lapel.training.course import Course
from lapel.training.muon import Matrices, Muon, matrices_in

# Parts of the network that are no layer of the trunk, in the place of a layer's depth.
HEAD, LOSSES = -1, -2


def build(config: TrainConfig, course: Course, encoder: Encoder, losses: nn.Module) -> tuple[Optimizer, LambdaLR]:
    """The optimizer of a run and the course of its learning rates.

    Args:
        config: of the run.
        course: its steps and stages.
        encoder, losses: whose weights are changed.
    """
    parts = _parts(config, encoder, losses)
    kinds = _Kinds(config, encoder)
    groups, rates = [], []
    for depth, weights in parts.items():
        for group in kinds.groups_of(weights):
            groups.append(group)
            rates.append(rate(config, course, depth, layers=sum(each >= 0 for each in parts)))
    # Lightning scales and clips gradients itself, and refuses to under mixed precision where a fused step might have.
    plain = config.trainer.precision is Precision.fp16 or config.optim.clip is not None
    optimizer = build_choice(kind_of(config.optim), config=config.optim, groups=groups, fused=not plain)
    return optimizer, LambdaLR(optimizer, rates)


def adamw(config: AdamWConfig, groups: list[dict[str, Any]], fused: bool) -> Optimizer:
    """See `AdamWConfig`; `groups` as torch has them, `fused` where nothing comes between gradients and step."""
    return torch.optim.AdamW(groups, lr=config.lr, fused=fused)


def adam(config: AdamConfig, groups: list[dict[str, Any]], fused: bool) -> Optimizer:
    """See `AdamConfig`; the others as for `adamw`."""
    return torch.optim.Adam(groups, lr=config.lr, fused=fused)


def sgd(config: SGDConfig, groups: list[dict[str, Any]], fused: bool) -> Optimizer:
    """See `SGDConfig`; the others as for `adamw`."""
    momentum, nesterov = config.momentum, config.nesterov
    return torch.optim.SGD(groups, lr=config.lr, momentum=momentum, nesterov=nesterov, fused=fused)


class _Kinds:
    """What weights are, beside where they are: each kind is a group of its own.

    Args:
        config: of the run.
        encoder: whose weights they may be; those of losses are no matrices to Muon, a row of them is a class.
    """

    def __init__(self, config: TrainConfig, encoder: Encoder) -> None:
        self.config = config.optim
        self.matrices = _matrices_of_muon(config, encoder)
        norms = [each for each in encoder.modules() if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d)]
        # At the same rate as others they are no kind of their own.
        self.norm_biases = {id(each.bias) for each in norms} if config.optim.norm_bias_lr != 1 else set()

    def groups_of(self, weights: list[nn.Parameter]) -> Iterator[dict[str, Any]]:
        """Groups of weights, as torch has them."""
        matrices = [self.matrices[id(each)] for each in weights if id(each) in self.matrices]
        others = [each for each in weights if id(each) not in self.matrices]
        norm_biases = [each for each in others if id(each) in self.norm_biases]
        undecayed = [each for each in others if each.ndim <= 1 and id(each) not in self.norm_biases]
        lr, decay = self.config.lr, self.config.weight_decay
        if isinstance(self.config, MuonConfig) and matrices:
            members = [each.weight for each in matrices]
            yield {"params": members, "matrices": matrices, "weight_decay": decay, "lr": self.config.matrix_lr}
        for members, factor, share in (
            ([each for each in others if each.ndim > 1], 1.0, decay),
            (undecayed, 1.0, 0.0),
            (norm_biases, self.config.norm_bias_lr, 0.0),
        ):
            if members:
                yield {"params": members, "weight_decay": share, "lr": lr * factor}


def _matrices_of_muon(config: TrainConfig, encoder: Encoder) -> dict[int, Matrices]:
    """Those of an encoder by the `id` of their weight; a step of their own length would soon undo what was learnt."""
    if not isinstance(config.optim, MuonConfig):
        return {}
    found = matrices_in(encoder)
    if config.optim.pretrained:
        return found
    learnt: set[int] = set()
    if isinstance(config.encoder, TrunkConfig) and config.encoder.pretrained:
        learnt = {id(each) for each in encoder.trunk.parameters()}
    if config.init is not None:
        learnt = set(found)
    return {key: matrices for key, matrices in found.items() if key not in learnt}


def learning_rates(optimizer: Optimizer) -> dict[str, list[float]]:
    """Of each group of weights, by the option that it follows: `lr`, or what Muon changes `matrix_lr`."""
    groups = optimizer.param_groups
    matrices = optimizer.matrices if isinstance(optimizer, Muon) else [None] * len(groups)
    found: dict[str, list[float]] = {}
    for group, of_muon in zip(groups, matrices, strict=True):
        found.setdefault("lr" if of_muon is None else "matrix_lr", []).append(group["lr"])
    return found


def _parts(config: TrainConfig, encoder: Encoder, losses: nn.Module) -> dict[int, list[nn.Parameter]]:
    """Weights that ever learn: of the trunk, by depth where that matters, of the head, and of the losses."""
    stages = config.stages or [StageConfig()]
    by_depth = any((stage.depth_decay or config.optim.depth_decay) < 1 for stage in stages)
    trunk = layers(encoder.trunk) if by_depth else [[*encoder.trunk.parameters()]]
    inside = {id(each) for layer in trunk for each in layer}
    head = [each for each in encoder.parameters() if id(each) not in inside and each.requires_grad]
    found = {depth: _ever_learning(config, layer) for depth, layer in enumerate(trunk)}
    found |= {HEAD: head, LOSSES: [each for each in losses.parameters() if each.requires_grad]}
    return {depth: weights for depth, weights in found.items() if weights}


def _ever_learning(config: TrainConfig, weights: list[nn.Parameter]) -> list[nn.Parameter]:
    """Without stages what is frozen now stays frozen; a stage may unfreeze anything."""
    unfreezes = any(stage.unfrozen is not None for stage in config.stages)
    return weights if unfreezes else [each for each in weights if each.requires_grad]


def rate(config: TrainConfig, course: Course, depth: int, layers: int) -> Callable[[int], float]:
    """Learning rate of one part of the network at each optimizer step, as a factor of `optim.lr`.

    A plain function: of other callables the scheduler would put what they hold into checkpoints.

    Args:
        config: of the run.
        course: its steps and stages.
        depth: of the trunk's layer, or HEAD, or LOSSES.
        layers: of the trunk.
    """
    schedules = {phase.number: schedule(config.optim, phase.end - phase.first) for phase in course.phases}
    factors = {phase.number: _factor(config, phase.stage, depth, layers) for phase in course.phases}

    def at(step: int) -> float:
        phase = course.phase(step)
        return schedules[phase.number](step - phase.first) * factors[phase.number]

    return at


def _factor(config: TrainConfig, stage: StageConfig, depth: int, layers: int) -> float:
    """What a stage makes of a part's learning rate."""
    if depth == HEAD:
        return stage.lr
    if depth == LOSSES:
        return stage.lr * config.optim.loss_lr
    trunk_lr = stage.trunk_lr
    if trunk_lr is None:
        trunk_lr = config.encoder.trunk_lr if isinstance(config.encoder, TrunkConfig) else 1.0
    decay = config.optim.depth_decay if stage.depth_decay is None else stage.depth_decay
    return stage.lr * trunk_lr * decay ** (layers - 1 - depth)


def schedule(config: OptimConfig, steps: int) -> Callable[[int], float]:
    """The learning rate over `steps` optimizer steps, as a factor of the highest."""
    match config.schedule:
        case Schedule.one_cycle:
            return OneCycle(steps, config.warmup)
        case Schedule.cosine:
            return Cosine(steps, config.warmup)
        case Schedule.linear:
            return Linear(steps, config.warmup)
        case Schedule.step:
            return Steps(steps, config.warmup, config.milestones, config.gamma)
        case Schedule.constant:
            return lambda _: 1.0


class OneCycle:
    """A cosine up from 1/25 in the warm-up, then a cosine down to nearly 0, which the last step has.

    Smith & Topin, "Super-convergence", 2018, in the form of torch's OneCycleLR; that one also cycles Adam's momentum,
    and divides by zero where the warm-up is all or nothing.

    Args:
        steps: of the whole course.
        warmup: share of them in which the rate rises.
    """

    START = 1 / 25
    END = 1e-5

    def __init__(self, steps: int, warmup: float) -> None:
        self.steps = steps
        self.rising = warmup * steps

    def __call__(self, step: int) -> float:
        """Factor at a step, from 0."""
        if step < self.rising:
            return _cosine(self.START, 1.0, step / self.rising)
        falling = self.steps - 1 - self.rising
        done = (step - self.rising) / falling if falling > 0 else float(step > 0)
        return _cosine(1.0, self.END, min(done, 1.0))


class RiseAndFall(ABC):
    """Straight up in the warm-up, then down to 0.

    Args:
        steps, warmup: as for `OneCycle`.
    """

    def __init__(self, steps: int, warmup: float) -> None:
        self.steps = steps
        self.rising = warmup * steps

    def __call__(self, step: int) -> float:
        """Factor at a step, from 0."""
        if step < self.rising:
            return min((step + 1) / self.rising, 1.0)
        return self.fall(min((step - self.rising) / max(self.steps - self.rising, 1), 1.0))

    @abstractmethod
    def fall(self, done: float) -> float:
        """Factor after a share of the steps that follow the warm-up."""


class Cosine(RiseAndFall):
    """A cosine down to 0 (Loshchilov & Hutter, "SGDR", ICLR 2017, without restarts)."""

    def fall(self, done: float) -> float:
        """See `RiseAndFall`."""
        return _cosine(1.0, 0.0, done)


class Linear(RiseAndFall):
    """Straight down to 0."""

    def fall(self, done: float) -> float:
        """See `RiseAndFall`."""
        return 1.0 - done


class Steps:
    """Straight up in the warm-up, then times `gamma` at each milestone.

    Args:
        steps, warmup: as for `OneCycle`.
        milestones: shares of the steps.
        gamma: the factor.
    """

    def __init__(self, steps: int, warmup: float, milestones: list[float], gamma: float) -> None:
        self.rising = warmup * steps
        self.milestones = [share * steps for share in milestones]
        self.gamma = gamma

    def __call__(self, step: int) -> float:
        """Factor at a step, from 0."""
        passed = sum(step >= milestone for milestone in self.milestones)
        rise = min((step + 1) / self.rising, 1.0) if step < self.rising else 1.0
        return rise * self.gamma**passed


def _cosine(start: float, end: float, share_done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share_done)) / 2
