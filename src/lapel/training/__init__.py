"""Training: `fit` runs one process of it, and `launch.train` starts as many as the config asks for."""

from lapel.training.fit import fit
from lapel.training.launch import train

__all__ = ["fit", "train"]
