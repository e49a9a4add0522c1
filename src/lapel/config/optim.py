"""How weights are changed."""

from dataclasses import dataclass
from enum import Enum

from lapel.config.options import Options, choice, option


class Schedule(Enum):
    """one_cycle: up to `lr` and down to nearly 0 (Smith & Topin 2018). constant: `lr` throughout."""

    one_cycle = "one_cycle"
    constant = "constant"


@choice("optim", "adamw")
@dataclass
class AdamWConfig(Options):
    """AdamW (Loshchilov & Hutter 2019) and the course of its learning rate."""

    lr: float = option(5e-3, above=0)
    """Learning rate; the highest one of a schedule."""
    weight_decay: float = option(0.05, at_least=0)
    """Decay of weight matrices and filters; biases and normalisation are not decayed."""
    schedule: Schedule = Schedule.one_cycle
    warmup: float = option(0.25, at_least=0, at_most=1)
    """Share of the steps in which the learning rate rises."""
