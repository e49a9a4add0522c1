"""Training: `fit` runs one process of it, `train` starts as many as are asked for, `find_lr` tries out rates."""

from lapel.training.launch import join, train
from lapel.training.process import fit
from lapel.training.rate_finder import find_lr

__all__ = ["find_lr", "fit", "join", "train"]
