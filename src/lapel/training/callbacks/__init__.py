"""What happens around the steps of a training: curves, validation, checkpoints, warnings, a progress bar."""

from lapel.training.callbacks.curves import Curves
from lapel.training.callbacks.events import EventFiles
from lapel.training.callbacks.interrupt import Interrupt
from lapel.training.callbacks.keeper import Keeper
from lapel.training.callbacks.pictures import Pictures
from lapel.training.callbacks.progress import ProgressBar
from lapel.training.callbacks.speed import Speed
from lapel.training.callbacks.tags import MONITORED
from lapel.training.callbacks.watchdog import Watchdog

__all__ = [
    "MONITORED",
    "Curves",
    "EventFiles",
    "Interrupt",
    "Keeper",
    "Pictures",
    "ProgressBar",
    "Speed",
    "Watchdog",
]
