"""Tells early, and in words, that a training collapses or diverges."""

import logging
import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from lapel.config.watchdog import Action, WatchdogConfig
from lapel.errors import LapelError
from lapel.losses import Objective, TripletLoss
from lapel.sampling import Batch
from lapel.training.batch_loss import StepValues
from lapel.training.callbacks.curves import Curves
from lapel.training.callbacks.events import EventFiles
from lapel.training.module import SimilarityModule

logger = logging.getLogger(__name__)


class Watchdog(Callback):
    """Looks for signs of a collapse at each point of the curves.

    Args:
        config: what counts as a sign, and what is done.
        curves: which say when a point is due, and the mean loss since the last one.
        events: to which what it measures goes.
    """

    def __init__(self, config: WatchdogConfig, curves: Curves, events: EventFiles) -> None:
        self.config = config
        self.curves = curves
        self.events = events
        self.in_a_row: dict[str, int] = {}
        self.told: list[str] = []
        self.eased: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        """Signs so far, and which objectives were made easier."""
        return {"in_a_row": dict(self.in_a_row), "told": list(self.told), "eased": list(self.eased)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`; the objectives are made easier when training starts."""
        self.in_a_row, self.told = dict(state_dict["in_a_row"]), list(state_dict["told"])
        self.eased = list(state_dict["eased"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make objectives as easy as they were where a resume begins."""
        del trainer
        assert isinstance(pl_module, SimilarityModule)
        for name in self.eased:
            objective_of(pl_module, name).ease()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Look, where a point is due."""
        del outputs, batch_idx
        assert isinstance(pl_module, SimilarityModule)
        course, steps = pl_module.course, pl_module.steps_done
        if not course.ends_step(batch.number) or not self.curves.is_due(pl_module, steps):
            return
        self._stop_where_diverged(steps)
        values = pl_module.step_values
        assert values is not None
        measured = self._measured(pl_module, values)
        if trainer.is_global_zero:
            self.events.add_scalars(measured, steps)
        for sign, words in self._signs(pl_module, values, measured).items():
            self.in_a_row[sign] = self.in_a_row.get(sign, 0) + 1 if words else 0
            needed = self._points_of_an_epoch(pl_module) if sign.startswith("margin") else self.config.patience
            if words and self.in_a_row[sign] >= needed and sign not in self.told:
                self.told.append(sign)
                self._act(pl_module, words, steps)

    def _stop_where_diverged(self, steps: int) -> None:
        loss, first = self.curves.latest_loss, self.curves.first_loss
        limit = self.config.growth * max(abs(first or 0.0), 1.0)
        if loss > limit:
            raise LapelError(
                f"training diverged: the loss is {loss:.4g} at step {steps}, and was {first:.4g} at the first; "
                f"a lower optim.lr may help (watchdog.growth={self.config.growth:g} is the limit)"
            )

    @torch.no_grad()
    def _measured(self, module: SimilarityModule, values: StepValues) -> dict[str, float]:
        """The rank of the embeddings, and the share of each objective's pairs or triplets that have a loss."""
        found = {"embedding/effective_rank": effective_rank(values.embeddings)}
        for name, objective in module.objectives.items():
            assert isinstance(objective, Objective)
            active = objective.active_share(values.embeddings, values.items, values.categories, values.indices)
            if active is not None:
                found[f"active/{name}"] = active
        return found

    def _signs(self, module: SimilarityModule, values: StepValues, measured: dict[str, float]) -> dict[str, str]:
        """Each sign, with its words where it shows."""
        signs = {
            "rank": self._rank_sign(values, measured["embedding/effective_rank"]),
            "gap": self._gap_sign(self.curves.distances),
            "nothing": (
                "the loss has been exactly 0: no pair or triplet counts; other options of loss or miner may help"
                if self.curves.latest_loss == 0
                else ""
            ),
        }
        for name, objective in module.objectives.items():
            active = measured.get(f"active/{name}")
            few = active is not None and active < self.config.active
            signs[f"active {name}"] = (
                f"{name}: only {active:.2%} of its pairs or triplets have a loss, so little is left to learn from; a "
                "larger margin, or harder ones, may help"
                if few
                else ""
            )
            if isinstance(objective.loss, TripletLoss):
                collapsed, part = objective.loss.collapsed, float(values.parts[name])
                at_margin = abs(part - collapsed) <= self.config.margin * collapsed
                signs[f"margin {name}"] = (
                    f"{name}: its loss has stayed at its margin for an epoch: all embeddings are nearly one; easier "
                    "triplets (watchdog.action=easier_miner) or a lower optim.lr may help"
                    if at_margin
                    else ""
                )
        return signs

    def _rank_sign(self, values: StepValues, rank: float) -> str:
        highest = min(values.embeddings.shape[1], len(values.embeddings) - 1)
        items = len(values.items.unique())
        # Few items need few dimensions: those of a training that goes well span one fewer than there are.
        if rank >= min(self.config.rank * highest, 0.5 * (items - 1)):
            return ""
        return (
            f"the embeddings have collapsed: they fill {rank:.1f} of {highest} dimensions; a lower optim.lr, easier "
            "pairs or triplets, or another loss may help"
        )

    def _gap_sign(self, found: dict[str, float]) -> str:
        if len(found) < 2 or not found["distance/positive"]:
            return ""
        gap = found["distance/negative"] / found["distance/positive"] - 1
        if gap >= self.config.gap:
            return ""
        return f"negative pairs are {gap:.1%} farther apart than positive ones: nothing is learnt so far"

    def _points_of_an_epoch(self, module: SimilarityModule) -> int:
        return max(self.config.patience, -(-module.course.steps_per_epoch // self.curves.every))

    def _act(self, module: SimilarityModule, words: str, steps: int) -> None:
        if self.config.action is Action.stop:
            raise LapelError(f"stopped by the watchdog at step {steps}: {words}")
        logger.warning("watchdog, step %d: %s", steps, words)
        if self.config.action is Action.easier_miner:
            for name in module.objectives:
                if easier := objective_of(module, name).ease():
                    self.eased.append(name)
                    self.told.clear()  # the signs count anew
                    logger.warning("watchdog, step %d: %s goes on with %s", steps, name, easier)


def objective_of(module: SimilarityModule, name: str) -> Objective:
    """An objective by its name."""
    found = module.objectives[name]
    assert isinstance(found, Objective)
    return found


def effective_rank(embeddings: Tensor) -> float:
    """Dimensions that embeddings `[batch, dimensions]` fill: the exponential of the entropy of their variances.

    Roy & Vetterli, "The effective rank", EUSIPCO 2007, of the centred embeddings' singular values, squared.
    """
    centred = embeddings.double() - embeddings.double().mean(0)
    variances = torch.linalg.svdvals(centred).square()
    total = variances.sum()
    if total <= 1e-12 * max(len(embeddings), 1):
        return 0.0
    shares = variances / total
    return math.exp(float(-(shares * shares.clamp_min(1e-30).log()).sum()))
