"""Stages of one training: what learns, from images of which size, and how fast."""

from dataclasses import dataclass
from typing import Any

from lapel.config.data import height_and_width
from lapel.config.options import Options, option


@dataclass
class StageConfig(Options):
    """A part of a training, with the whole course of the schedule; null stands for what the rest of the config says."""

    epochs: int = option(1, at_least=1)
    """Epochs of this stage."""
    size: Any = option(None, at_least=8, at_most=4096)
    """Of the images that are trained on, as `data.size`, which they must not exceed; val is always of that size."""
    unfrozen: list[str] | None = None
    """Parts of the trunk that learn, by name: `[all]`, `[blocks.5,blocks.6]`; `[]` for the head alone."""
    lr: float = option(1.0, above=0)
    """Factor of all learning rates."""
    trunk_lr: float | None = option(None, at_least=0)
    """As `encoder.trunk_lr`."""
    depth_decay: float | None = option(None, above=0, at_most=1)
    """As `optim.depth_decay`."""

    def __post_init__(self) -> None:
        if self.size is not None:
            self.size = height_and_width(self.size, "size")
        super().__post_init__()
