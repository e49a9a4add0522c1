"""TensorBoard's curves of a training."""

import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from lapel.errors import LapelError
from lapel.losses import root, same_label, squared_distances
from lapel.sampling import Batch
from lapel.training.batch_loss import StepValues
from lapel.training.callbacks.events import EventFiles
from lapel.training.callbacks.speed import Speed
from lapel.training.callbacks.tags import LOSS
from lapel.training.module import SimilarityModule


class Curves(Callback):
    """Scalars every `every` steps and at the end of each epoch: the mean of each loss since the last point, and the
    state at the point.

    Args:
        every: steps.
        speed: which counts images and seconds.
        checkpoints: folder of the last good checkpoint, which the message of a divergence names.
        events: to which they go.
    """

    def __init__(self, every: int, speed: Speed, checkpoints: Path, events: EventFiles) -> None:
        self.every = every
        self.speed = speed
        self.checkpoints = checkpoints
        self.events = events
        # Since the last point: the number of the step, and each loss by name.
        self.recorded: list[tuple[int, dict[str, Tensor | float]]] = []
        self.last_point = (0, 0.0)
        self.latest_loss = float("nan")
        self.first_loss: float | None = None
        self.epoch = (0.0, 0)  # sum of the losses of this epoch's batches so far, and their number
        self.distances: dict[str, float] = {}  # of the last point

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers: what the next point is the mean of."""
        self.settle()
        recorded = [[step, dict(values)] for step, values in self.recorded]
        return {
            "recorded": recorded,
            "last_point": list(self.last_point),
            "latest_loss": self.latest_loss,
            "first_loss": self.first_loss,
            "epoch": list(self.epoch),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""
        self.recorded = [(step, dict(values)) for step, values in state_dict["recorded"]]
        self.last_point = tuple(state_dict["last_point"])
        self.latest_loss, self.first_loss = state_dict["latest_loss"], state_dict["first_loss"]
        self.epoch = tuple(state_dict["epoch"])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add a batch; write a point when one is due."""
        del outputs, batch_idx
        assert isinstance(pl_module, SimilarityModule)
        values = pl_module.step_values
        assert values is not None
        step = pl_module.course.step(batch.number) + 1
        # Copies: a compiled step writes its values where it wrote the last one's.
        losses = {"total": values.loss.detach(), **values.parts}
        self.recorded.append((step, {name: value.clone() for name, value in losses.items()}))
        if values.loss.device.type == "cpu":  # elsewhere looking would hold up the device
            self.settle()
        if pl_module.course.ends_step(batch.number) and self.is_due(pl_module, step):
            self._write(trainer, pl_module, values, step)

    def is_due(self, module: SimilarityModule, steps: int) -> bool:
        """Whether a point is written after so many steps."""
        return steps % self.every == 0 or module.course.ends_epoch(steps)

    def settle(self) -> None:
        """Make plain numbers of what was recorded.

        Raises:
            LapelError: one of them is not finite; it names step and loss.
        """
        waiting = [(step, values) for step, values in self.recorded if isinstance(values["total"], Tensor)]
        if not waiting:
            return
        numbers = iter(torch.stack([value for _, values in waiting for value in values.values()]).tolist())  # type: ignore[arg-type]
        for step, values in waiting:
            values.update({name: next(numbers) for name in list(values)})
            self._check_finite(step, values)
            total = float(values["total"])
            self.epoch = (self.epoch[0] + total, self.epoch[1] + 1)
            if self.first_loss is None:
                self.first_loss = total

    def loss_so_far(self) -> float | None:
        """Mean loss since the last point, or of that point; None where nothing is known yet."""
        known = [float(each["total"]) for _, each in self.recorded if not isinstance(each["total"], Tensor)]
        if known:
            return _mean(known)
        return self.latest_loss if math.isfinite(self.latest_loss) else None

    def end_epoch(self) -> float:
        """The mean loss of the batches since the last epoch's end."""
        self.settle()
        total, batches = self.epoch
        self.epoch = (0.0, 0)
        return total / batches

    def _check_finite(self, step: int, values: dict[str, Any]) -> None:
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if not wrong:
            return
        name = wrong[-1]  # a part, where there is one: the total is wrong because of it
        good = self.checkpoints / "last.ckpt"
        kept = f"; {good} is from before" if good.is_file() else ""
        raise LapelError(
            f"training diverged: loss/{name} is {values[name]} at step {step}; a lower optim.lr may help{kept}"
        )

    def _write(self, trainer: pl.Trainer, module: SimilarityModule, values: StepValues, step: int) -> None:
        self.settle()
        names = list(self.recorded[0][1])
        means = {f"{LOSS}/{name}": _mean([float(each[name]) for _, each in self.recorded]) for name in names}
        self.recorded = []
        self.latest_loss = means[f"{LOSS}/total"]
        images, seconds = self.speed.images, self.speed.elapsed()
        point, self.last_point = self.last_point, (images, seconds)
        rates = _rates(module.learning_rates)
        self.distances = pair_distances(values)
        scalars = {**means, **self.distances, **rates}
        if point[1]:
            scalars["speed/images_per_second"] = (images - point[0]) / (seconds - point[1])
        if trainer.is_global_zero:
            self.events.add_scalars(scalars, step)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def _rates(rates: dict[str, list[float]]) -> dict[str, float]:
    """The highest of the groups of weights that follow an option, and the lowest where it differs."""
    found = {f"optim/{name}": max(each) for name, each in rates.items()}
    return found | {f"optim/{name}_lowest": min(each) for name, each in rates.items() if min(each) < max(each)}


def pair_distances(values: StepValues) -> dict[str, float]:
    """Mean euclidean distance of the batch's positive and negative pairs."""
    distances = root(squared_distances(values.embeddings.float()))
    positive, negative = same_label(values.items)
    pairs = {"distance/positive": positive, "distance/negative": negative}
    return {name: float(distances[mask].mean()) for name, mask in pairs.items() if mask.any()}
