"""The LightningModule: one flat batch through one encoder, and the weighted sum of its objectives."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

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
from lapel.images.store import ImageStore
from lapel.losses import IndicesTuple
from lapel.retrieval import Scores, equal_pairs, rows_once, score
from lapel.runs.checkpoint import LAPEL_KEY, told_of
from lapel.sampling import Batch, Sampler, share
from lapel.training import optimizers
from lapel.training.averaging import AveragedWeights
from lapel.training.course import Course, Phase
from lapel.training.exchange import GatherRows, rank_and_ranks, share_buffers

# Streams of random numbers, apart from those of augmentation and sampling: what the network draws (dropout), which each
# process does for its own images, and what losses and miners draw, which all do alike.
NETWORK_STREAM, LOSS_STREAM = 3, 4

# The K of the recall@K and precision@K that are followed on val.
VALIDATED_K = [1, 5, 10]


@dataclass(frozen=True)
class StepValues:
    """What a training step came to, on the device.

    Args:
        loss: of the global batch, with its gradient.
        parts: each objective's, not weighted, by name.
        raw, embeddings: `[batch, dimensions]` before and after normalisation.
        items, categories: int64 `[batch]`.
        indices: pairs or triplets that the sampler formed.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    raw: Tensor
    embeddings: Tensor
    items: Tensor
    categories: Tensor
    indices: IndicesTuple


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
        self.augmentation = Augmentation(config.augment, config.seed)
        self.items = torch.from_numpy(catalog.linked_items).to(store.device)
        self.categories = torch.from_numpy(catalog.categories).to(store.device)
        self.step_values: StepValues | None = None
        self.steps_done = 0
        self.learning_rates: list[float] = []  # of the latest step, a group of weights each
        self.phase: Phase | None = None
        self._check_that_something_learns()
        if config.trainer.recompute:
            recompute_blocks(self.encoder.trunk)
        if config.trainer.compile:
            self.encoder.trunk.compile()

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

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Begin a stage where the batch is its first, or the first one of a resume."""
        del batch_idx
        self._seed(NETWORK_STREAM, batch.number, rank_and_ranks()[0])
        phase = self.course.phase(self.course.step(batch.number))
        if phase != self.phase:
            self.phase = phase
            self.encoder.freeze(self._frozen_in(phase))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of the global batch."""
        del batch_idx
        images = self.store.images_of(batch)
        rows = torch.from_numpy(batch.rows).to(images.device)
        epoch = batch.number // len(self.sampler)
        images = self.augmentation(images, rows[batch.part], batch.number, epoch, batch.part.start)
        raw = self._gather(self._encode(self._resized(images)), len(batch.rows))
        if self.losses_draw:
            self._seed(LOSS_STREAM, batch.number)
        self.step_values = self._objectives(raw, batch)
        return self.step_values.loss

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """As Lightning's; then the running means take in the new weights."""
        self.learning_rates = [group["lr"] for group in self.trainer.optimizers[0].param_groups]
        super().optimizer_step(*arguments, **options)
        self.steps_done += 1
        if self.averaged is not None:
            self.averaged.update(self.encoder, self._losses())

    def _seed(self, *key: int) -> None:
        """Make torch's next draws a function of the run's seed and these numbers."""
        torch.manual_seed(int(np.random.SeedSequence([self.config.seed, *key]).generate_state(1, np.uint64)[0] >> 1))

    def _resized(self, images: Tensor) -> Tensor:
        """uint8 images in the size of the stage."""
        size = None if self.phase is None else self.phase.stage.size
        if size is None or list(images.shape[2:]) == list(size):
            return images
        if images.device.type == "cpu":  # torch has antialiased uint8 kernels there alone
            return F.interpolate(images, list(size), mode="bilinear", antialias=True)
        smaller = F.interpolate(images.float(), list(size), mode="bilinear", antialias=True)
        return smaller.round_().clamp_(0, 255).to(torch.uint8)

    def _encode(self, images: Tensor) -> Tensor:
        """Raw embeddings, in chunks whose activations are computed again for the gradient, where so configured.

        The gradient of one pass at the memory of a chunk: Gao et al., "Scaling deep contrastive learning batch size
        under memory limited setup", 2021 (GradCache), by torch's own recomputation.
        """
        chunk = self.config.trainer.chunk
        if chunk is None or len(images) <= chunk:
            return self.encoder.raw(images)
        parts = [
            checkpoint(self.encoder.raw, part, use_reentrant=False, context_fn=self._recomputing)
            for part in images.split(chunk)
        ]
        return torch.cat(parts)

    def _recomputing(self) -> tuple[Any, Any]:
        return nullcontext(), kept_buffers(self.encoder)

    def _objectives(self, raw: Tensor, batch: Batch) -> StepValues:
        """The weighted losses, in fp32: differences of nearly equal distances do not survive bf16."""
        rows = torch.from_numpy(batch.rows).to(raw.device)
        indices = None
        if batch.indices_tuple is not None:
            indices = tuple(torch.from_numpy(each).to(raw.device) for each in batch.indices_tuple)
        with torch.autocast(raw.device.type, enabled=False):
            raw = raw.float()
            embeddings = self.encoder.finish(raw)
            items, categories = self.items[rows], self.categories[rows]
            parts = {
                name: objective(raw, embeddings, items, categories, indices)
                for name, objective in self.objectives.items()
            }
            loss = torch.stack([self.objectives[name].weight * part for name, part in parts.items()]).sum()
        detached = {name: part.detach() for name, part in parts.items()}
        return StepValues(loss, detached, raw.detach(), embeddings.detach(), items, categories, indices)

    def _gather(self, local: Tensor, total: int) -> Tensor:
        """The rows of all processes, where there are several."""
        rank, ranks = rank_and_ranks()
        if ranks == 1:
            return local
        parts = [share(total, each, ranks) for each in range(ranks)]
        return GatherRows.apply(local, [part.stop - part.start for part in parts], rank)

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
            embeddings = self._gather(embed(self.scored_encoder, self.store, rows[part]), len(rows))
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


@contextmanager
def kept_buffers(module: nn.Module) -> Iterator[None]:
    """Undo what a second pass does to running statistics, which the first one has already taken in."""
    before = [buffer.clone() for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, kept in zip(module.buffers(), before, strict=True):
                buffer.copy_(kept)
