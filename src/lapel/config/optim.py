"""How weights are changed."""

from dataclasses import dataclass
from enum import Enum

from lapel.config.choices import choice
from lapel.config.options import Options, option
from lapel.errors import LapelError


class Schedule(Enum):
    """The course of the learning rate over a stage of the training.

    one_cycle: a cosine up to `lr` and down to nearly 0 (Smith & Topin 2018). cosine: straight up to `lr`, then a cosine
    down to 0 (Loshchilov & Hutter 2017). linear: straight up, then straight down to 0. step: straight up, then times
    `gamma` at each milestone. constant: `lr`.
    """

    one_cycle = "one_cycle"
    cosine = "cosine"
    linear = "linear"
    step = "step"
    constant = "constant"


@dataclass
class OptimConfig(Options):
    """What every optimizer has: a learning rate, its course, and what is done to gradients and weights besides."""

    lr: float = option(5e-3, above=0)
    """Learning rate; the highest one of a schedule."""
    weight_decay: float = option(0.05, at_least=0)
    """Decay of weight matrices and filters; biases and normalisation are not decayed."""
    schedule: Schedule = Schedule.one_cycle
    warmup: float = option(0.25, at_least=0, at_most=1)
    """Share of the steps in which the learning rate rises; not for schedule=constant."""
    milestones: list[float] = option([0.6, 0.85], at_least=0, at_most=1)
    """schedule=step: shares of the steps after which the learning rate is multiplied by `gamma`."""
    gamma: float = option(0.1, above=0, at_most=1)
    """schedule=step: the factor."""
    loss_lr: float = option(1.0, at_least=0)
    """Learning rate of what losses learn (proxies, classifiers, boundaries), as a factor of `lr`."""
    norm_bias_lr: float = option(1.0, at_least=0)
    """Learning rate of the biases of batch normalisation, as a factor of `lr`."""
    depth_decay: float = option(1.0, above=0, at_most=1)
    """Learning rate of each layer of the trunk, as a factor of the next one's: 1 for the same in all."""
    clip: float | None = option(None, above=0)
    """Greatest norm of all gradients together; longer ones are shortened to it."""
    ema: float = option(0.0, at_least=0, at_most=0.99999)
    """Share of the old value in the running mean of the weights, which is then validated and exported; 0 for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.milestones != sorted(self.milestones):
            raise LapelError(f"optim.milestones={self.milestones}: must ascend")


@choice("optim", "adamw", build="lapel.training.optimizers:adamw")
@dataclass
class AdamWConfig(OptimConfig):
    """AdamW (Loshchilov & Hutter 2019)."""


@choice("optim", "adam", build="lapel.training.optimizers:adam")
@dataclass
class AdamConfig(OptimConfig):
    """Adam (Kingma & Ba 2015): the decay is part of the gradient."""

    weight_decay: float = option(0.0, at_least=0)


@choice("optim", "sgd", build="lapel.training.optimizers:sgd")
@dataclass
class SGDConfig(OptimConfig):
    """Stochastic gradient descent with momentum."""

    lr: float = option(0.1, above=0)
    weight_decay: float = option(5e-4, at_least=0)
    momentum: float = option(0.9, at_least=0, at_most=0.9999)
    """Share of the last step that the next one goes on with."""
    nesterov: bool = True
    """Whether the gradient is taken where the momentum leads (Nesterov 1983)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0:
            raise LapelError("optim.nesterov=true: needs optim.momentum above 0")


@choice("optim", "muon", build="lapel.training.muon:Muon")
@dataclass
class MuonConfig(OptimConfig):
    """Muon (Jordan et al. 2024) for filters and matrices that begin at random, AdamW for all else."""

    schedule: Schedule = Schedule.linear
    warmup: float = option(0.1, at_least=0, at_most=1)
    matrix_lr: float = option(0.04, above=0)
    """Learning rate of filters and matrices; with `renorm` the length of a step as a share of the weight's own."""
    momentum: float = option(0.8, at_least=0, at_most=0.9999)
    """Share of the old momentum of filters and matrices in the new one."""
    nesterov: bool = True
    """Whether the gradient is taken where the momentum leads (Nesterov 1983)."""
    iterations: int = option(3, at_least=1, at_most=20)
    """Newton-Schulz iterations that make a step of a matrix orthogonal; 5 nearly so, 3 in less time."""
    pretrained: bool = False
    """Whether filters and matrices that were learnt before, by `encoder.weights` or `init`, are Muon's too."""
    renorm: bool = True
    """Whether filters and matrices keep the length that they began with; their decay has then nothing to do."""
