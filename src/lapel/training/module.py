"""The LightningModule: one flat batch through one encoder, and the weighted sum of its objectives."""

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lapel import losses
from lapel.catalog import Catalog
from lapel.catalog.seen import Seen
from lapel.config.composing import to_plain
from lapel.config.train import TrainConfig
from lapel.encoders.embed import embed
from lapel.encoders.encoder import Encoder
from lapel.encoders.trunks import frozen_except, recompute_blocks
from lapel.errors import LapelError
from lapel.images.augmentation import Augmentation
from lapel.images.draws import key_of
from lapel.images.store import ImageStore
from lapel.machine.devices import on_device
from lapel.retrieval import Scores, equal_pairs, rows_once, score
from lapel.runs.checkpoint import LAPEL_KEY, told_of
from lapel.sampling import Batch, Sampler, share
from lapel.training import optimizers
from lapel.training.averaging import AveragedWeights
from lapel.training.batch_loss import BatchLoss, StepInput, StepValues, kept_buffers
from lapel.training.course import Course, Phase
from lapel.training.exchange import of_all_processes, rank_and_ranks, share_buffers

# Streams of random numbers, apart from those of augmentation and sampling: what the network draws (dropout), which each
# process does for its own images, and what losses and miners draw, which all do alike.
NETWORK_STREAM, LOSS_STREAM = 3, 4

# The K of the recall@K and precision@K that are followed on val.
VALIDATED_K = [1, 5, 10]

# Passes on made-up images: a graph of kernels is taken from the second, and the third is the first that runs from it.
WARM_UP = 3

logger = logging.getLogger(__name__)


class SimilarityModule(pl.LightningModule):
    """Trains an encoder with a variant's objectives.

    Every random draw is a function of the seed and the number of the batch, so that nothing random has to be kept for a
    resume.

    Args:
        config: of the run.
        encoder: that learns.
        catalog: what is trained and validated on.
        store: the catalogue's images, on this process's device.
        sampler: of the training batches; this process's share.
    """

    def __init__(
        self, config: TrainConfig, encoder: Encoder, catalog: Catalog, store: ImageStore, sampler: Sampler
    ) -> None:
        super().__init__()
        self.config = config
        self.catalog = catalog
        self.store = store
        self.sampler = sampler
        self.course = Course(config, len(sampler))
        self.encoder = encoder
        self.frozen_by_config = self.encoder.frozen
        self.objectives = losses.build(
            config.variant, self.encoder.dimensions, len(catalog.item_names), len(catalog.category_names)
        )
        self.losses_draw = any(each.draws for each in config.variant.objectives.values())
        self.averaged = None
        if config.optim.ema:
            self.averaged = AveragedWeights(self.encoder, self._losses(), config.optim.ema)
        items, categories = (torch.from_numpy(each) for each in (catalog.linked_items, catalog.categories))
        self.batch_loss = BatchLoss(
            self.encoder,
            self.objectives,
            Augmentation(config.augment, config.seed, store.device),
            items.to(store.device),
            categories.to(store.device),
            config.trainer.chunk,
        )
        self.step_values: StepValues | None = None  # of the latest batch
        self.steps_done = 0
        self.learning_rates: dict[str, list[float]] = {}  # of the latest step
        self.phase: Phase | None = None
        self._check_that_something_learns()
        self.warm_up_seconds = 0.0
        if config.trainer.recompute:
            recompute_blocks(self.encoder.trunk)

    def _losses(self) -> nn.ModuleDict:
        return nn.ModuleDict({name: objective.get_submodule("loss") for name, objective in self.objectives.items()})

    @cached_property
    def seen(self) -> Seen:
        """The images that training sees."""
        return Seen.of(self.catalog)

    @property
    def scored_encoder(self) -> Encoder:
        """What is validated: the averaged weights, where there are such."""
        return self.encoder if self.averaged is None else self.averaged.encoder

    # ------------------------------------------------------------------------------------------------ batches

    def train_dataloader(self) -> Any:
        """Batches from where training stands to its end: row numbers, whose images are gathered or come with them."""
        return self.store.loader(_Rest(self))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Nothing to move: the store gives images on the device."""
        del device, dataloader_idx
        return batch

    # -------------------------------------------------------------------------------------------------- steps

    def on_train_start(self) -> None:
        """Compile, where that is asked for, on images that are made up: what is trained on is not yet touched."""
        if not self.config.trainer.compile:
            return
        started = time.perf_counter()
        self.batch_loss.compile()
        batch = next(iter(_Rest(self)))
        self._begin_stage(batch)
        data, part = self.config.data, batch.part
        images = torch.randint(256, (part.stop - part.start, data.channels, data.height, data.width))
        given = self._on_device(batch, images.to(self.store.device, torch.uint8))
        with kept_buffers(self):
            for _ in range(WARM_UP):
                with self.trainer.precision_plugin.train_step_context():
                    loss = self.batch_loss(given).loss
                loss.backward()
        self.zero_grad()
        if self.store.device.type == "cuda":
            torch.cuda.synchronize()
        self.warm_up_seconds = time.perf_counter() - started
        logger.info("compiled in %.1f s, ahead of the first step", self.warm_up_seconds)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Begin a stage where the batch is its first, or the first one of a resume."""
        del batch_idx
        torch.manual_seed(self._seed(NETWORK_STREAM, batch.number, rank_and_ranks()[0]))
        self._begin_stage(batch)

    def _begin_stage(self, batch: Batch) -> None:
        phase = self.course.phase(self.course.step(batch.number))
        if phase != self.phase:
            self.phase = phase
            self.encoder.freeze(self._frozen_in(phase))
            self.batch_loss.size = None if phase.stage.size is None else list(phase.stage.size)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of the global batch."""
        del batch_idx
        self.step_values = self.batch_loss(self._on_device(batch, self.store.images_of(batch)))
        return self.step_values.loss

    def _on_device(self, batch: Batch, images: Tensor) -> StepInput:
        """A batch, on its way to the device."""
        device = self.store.device
        numbers = np.concatenate([[batch.number, batch.number // len(self.sampler)], batch.rows])
        numbers = on_device(torch.from_numpy(numbers), device)
        indices = batch.indices_tuple
        if indices is not None:
            indices = tuple(on_device(torch.from_numpy(each), device) for each in indices)
        seed = self._seed(LOSS_STREAM, batch.number) if self.losses_draw else None
        return StepInput(images, numbers[2:], batch.part.start, numbers[0], numbers[1], indices, seed)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """As Lightning's; then the running means take in the new weights."""
        self.learning_rates = optimizers.learning_rates(self.trainer.optimizers[0])
        super().optimizer_step(*arguments, **options)
        self.steps_done += 1
        if self.averaged is not None:
            self.averaged.update(self.encoder, self._losses(), self.steps_done)

    def _seed(self, *key: int) -> int:
        """For torch's next draws: a function of the run's seed and these numbers."""
        return key_of(self.config.seed, *key) >> 1

    # ------------------------------------------------------------------------------------------------- stages

    def _frozen_in(self, phase: Phase) -> Any:
        """Parts of the trunk that do not learn in a stage."""
        unfrozen = phase.stage.unfrozen
        if unfrozen is None:
            return self.frozen_by_config
        return frozen_except(self.encoder.trunk, unfrozen, f"stages.{phase.number}.unfrozen")

    def _check_that_something_learns(self) -> None:
        """Raise if what a stage, or the config, leaves unfrozen has no weights."""
        for phase in self.course.phases:
            self.encoder.freeze(self._frozen_in(phase))
            if not any(each.requires_grad for each in [*self.encoder.parameters(), *self._losses().parameters()]):
                key = f"stages.{phase.number}.unfrozen" if self.config.stages else "encoder.frozen"
                raise LapelError(f"{key}: leaves nothing that could learn")
        self.encoder.freeze(self.frozen_by_config)

    # --------------------------------------------------------------------------------------------- validation

    def validated(self) -> tuple[Scores, Tensor, Tensor]:
        """Scores of the val part, with the embeddings of its queries and of its gallery.

        Each row is embedded once, by one of the processes.

        Raises:
            LapelError: an embedding is not finite.
        """
        share_buffers(self.scored_encoder)
        queries, gallery = self.catalog.queries("val"), self.catalog.gallery("val")
        rows, query_positions, gallery_positions = rows_once(queries, gallery)
        part = share(len(rows), *rank_and_ranks())
        with torch.inference_mode():
            embeddings = of_all_processes(embed(self.scored_encoder, self.store, rows[part]), len(rows))
        if not torch.isfinite(embeddings).all():
            raise LapelError("training diverged: the embeddings of val are not finite; a lower optim.lr may help")
        found = embeddings[query_positions], embeddings[gallery_positions]
        scores = score(
            *found,
            self.catalog.item_sets[queries],
            self.catalog.item_sets[gallery],
            self.config.variant.metric,
            VALIDATED_K,
            exclude=equal_pairs(self.catalog.look_alikes[queries], self.catalog.look_alikes[gallery]),
        )
        return scores, *found

    # --------------------------------------------------------------------------------- optimizer, checkpoints

    def configure_optimizers(self) -> Any:
        """The optimizer, and its schedule a step."""
        optimizer, scheduler = optimizers.build(self.config, self.course, self.encoder, self._losses())
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a checkpoint of lapel carries besides Lightning's: plain containers only."""
        checkpoint[LAPEL_KEY] = {
            "config": to_plain(replace(self.config, resume=None)),
            **told_of(self.seen),
            "items": len(self.catalog.item_names),
            "categories": len(self.catalog.category_names),
            "steps": self.steps_done,
            "epoch": self.steps_done // self.course.steps_per_epoch,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the batch after those that were trained on."""
        self.steps_done = checkpoint[LAPEL_KEY]["steps"]


class _Rest:
    """The batches that are left to train on, when they are asked for."""

    def __init__(self, module: SimilarityModule) -> None:
        self.module = module

    def __iter__(self) -> Iterator[Batch]:
        course = self.module.course
        return self.module.sampler.batches(self.module.steps_done * course.parts, course.total_batches)
