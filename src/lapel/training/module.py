"""The LightningModule: one flat batch through one encoder, and the weighted sum of its objectives."""

import math
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor

from lapel import losses
from lapel.catalog import Catalog
from lapel.checkpoint import LAPEL_KEY
from lapel.composing import to_plain
from lapel.config import Schedule, TrainConfig, TrunkConfig
from lapel.encoder import build as build_encoder
from lapel.encoder import dimensions, embed
from lapel.images.augmentation import Augmentation
from lapel.images.store import ImageStore
from lapel.retrieval import Scores, equal_pairs, rows_once, score
from lapel.sampling import Batch, Sampler, share


class GatherRows(torch.autograd.Function):
    """Concatenates the rows of all processes, which may differ in number, with their gradients.

    Every process computes the same loss on the result, and DDP averages gradients over the processes: summing the
    incoming gradients here gives each process N times its share of the gradient, and the average the whole of it, once.
    """

    @staticmethod
    def forward(ctx: Any, local: Tensor, sizes: list[int], rank: int) -> Tensor:
        """Local `[sizes[rank], dimensions]` to `[sum(sizes), dimensions]`, in the order of the ranks."""
        ctx.part = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        # Uneven lengths give garbage or hang on gloo: pad to the longest, then cut.
        padded = local.new_zeros(max(sizes), *local.shape[1:])
        padded[: len(local)] = local
        gathered = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(gathered, padded)
        return torch.cat([part[:size] for part, size in zip(gathered, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The sum over the processes of the gradients of this process's rows."""
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.part], None, None


@dataclass(frozen=True)
class StepValues:
    """Scalars of one training step, still on the device: name -> value."""

    loss: Tensor
    parts: dict[str, Tensor]
    embeddings: Tensor
    items: Tensor


class SimilarityModule(pl.LightningModule):
    """Trains an encoder with a variant's objectives.

    Args:
        config: of the run.
        catalog: what is trained and validated on.
        store: the catalogue's images, on this process's device.
        sampler: of the training batches; this process's share.
    """

    def __init__(self, config: TrainConfig, catalog: Catalog, store: ImageStore, sampler: Sampler) -> None:
        super().__init__()
        self.config = config
        self.catalog = catalog
        self.store = store
        self.sampler = sampler
        self.encoder = build_encoder(config.encoder, config.data, config.variant.metric)
        self.objectives = losses.build(
            config.variant, dimensions(self.encoder), len(catalog.item_names), len(catalog.category_names)
        )
        self.augmentation = Augmentation(config.augment, config.seed)
        self.items = torch.from_numpy(catalog.linked_items).to(store.device)
        self.categories = torch.from_numpy(catalog.categories).to(store.device)
        self.step_values: StepValues | None = None
        self.last_step = -1

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training."""
        trainer = self.config.trainer
        steps = len(self.sampler) * trainer.max_epochs
        return min(steps, trainer.max_steps) if trainer.max_steps else steps

    def train_dataloader(self) -> Any:
        """The sampler's batches: row numbers, whose images are gathered on the device or come with them."""
        return self.store.loader(self.sampler)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Nothing to move: the store gives images on the device."""
        del device, dataloader_idx
        return batch

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of the global batch."""
        del batch_idx
        images = self.store.images_of(batch)
        images = self.augmentation(images, batch.step, batch.part.start, len(batch.rows))
        raw = self._gather(self.encoder.raw(images), len(batch.rows))
        values = self._objectives(raw, batch)
        self.step_values = values
        self.last_step = batch.step
        return values.loss

    def _objectives(self, raw: Tensor, batch: Batch) -> StepValues:
        """The weighted losses, in fp32: differences of nearly equal distances do not survive bf16."""
        rows = torch.from_numpy(batch.rows).to(raw.device)
        indices = batch.indices_tuple and tuple(torch.from_numpy(each).to(raw.device) for each in batch.indices_tuple)
        with torch.autocast(raw.device.type, enabled=False):
            raw = raw.float()
            embeddings = self.encoder.finish(raw)
            items, categories = self.items[rows], self.categories[rows]
            parts = {
                name: objective(raw, embeddings, items, categories, indices)
                for name, objective in self.objectives.items()
            }
            loss = torch.stack([self.objectives[name].weight * part for name, part in parts.items()]).sum()
        return StepValues(loss, {name: part.detach() for name, part in parts.items()}, embeddings.detach(), items)

    def _gather(self, local: Tensor, total: int) -> Tensor:
        """The rows of all processes, where there are several."""
        if self.trainer.world_size == 1:
            return local
        parts = [share(total, rank, self.trainer.world_size) for rank in range(self.trainer.world_size)]
        return GatherRows.apply(local, [part.stop - part.start for part in parts], self.global_rank)

    def validate(self) -> Scores:
        """Scores of the val part: each row is embedded once, by one of the processes."""
        queries, gallery = self.catalog.queries("val"), self.catalog.gallery("val")
        rows, query_places, gallery_places = rows_once(queries, gallery)
        part = share(len(rows), self.trainer.global_rank, self.trainer.world_size)
        with torch.inference_mode():
            embeddings = self._gather(embed(self.encoder, self.store, rows[part]), len(rows))
        return score(
            embeddings[query_places],
            embeddings[gallery_places],
            self.catalog.item_sets[queries],
            self.catalog.item_sets[gallery],
            self.config.variant.metric,
            [1, 5, 10],
            exclude=equal_pairs(self.catalog.look_alikes[queries], self.catalog.look_alikes[gallery]),
        )

    def configure_optimizers(self) -> Any:
        """AdamW with decayed matrices and undecayed vectors, and the schedule a step."""
        options = self.config.optim
        groups = self._parameter_groups(options.lr, options.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=options.lr, fused=True)
        if options.schedule is Schedule.constant:
            return optimizer
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, OneCycle(self.total_steps, options.warmup))
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def _parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Matrices and vectors of the trunk and of everything else, those that are trained."""
        encoder = self.config.encoder
        factor = encoder.trunk_lr if isinstance(encoder, TrunkConfig) else 1.0
        trunk = {id(each) for each in self.encoder.trunk.parameters()} if factor != 1.0 else set()
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for each in self.parameters():
            if each.requires_grad:
                key = (lr * (factor if id(each) in trunk else 1.0), weight_decay if each.ndim > 1 else 0.0)
                groups.setdefault(key, []).append(each)
        return [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a checkpoint of lapel carries besides Lightning's: plain containers only."""
        checkpoint[LAPEL_KEY] = {
            "config": to_plain(self.config),
            "catalog": self.catalog.name,
            "items": len(self.catalog.item_names),
            "categories": len(self.catalog.category_names),
            "sampler": self.sampler.state_after(self.last_step),
            "epoch": (self.last_step + 1) // len(self.sampler),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the sampler where it was."""
        self.sampler.load_state_dict(checkpoint[LAPEL_KEY]["sampler"])


class OneCycle:
    """Learning rate as a factor of the highest: a cosine up from 1/25 in the warm-up, then a cosine down to nearly 0.

    Smith & Topin, "Super-convergence", 2018, in the form of torch's OneCycleLR; that one also cycles Adam's momentum,
    and divides by zero where the warm-up is all or nothing.

    Args:
        steps: of the whole training.
        warmup: share of them in which the rate rises.
    """

    START = 1 / 25
    END = 1e-5

    def __init__(self, steps: int, warmup: float) -> None:
        self.steps = steps
        self.rising = warmup * steps

    def __call__(self, step: int) -> float:
        """Factor at a step, from 0."""
        if step < self.rising:
            return _cosine(self.START, 1.0, step / self.rising)
        return _cosine(1.0, self.END, min((step - self.rising) / max(self.steps - self.rising, 1), 1.0))


def _cosine(start: float, end: float, share_done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share_done)) / 2
