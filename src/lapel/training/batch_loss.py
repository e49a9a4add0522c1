"""From a batch of images to its loss: tensors to tensors, without a look at any of their values."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lapel.encoders.encoder import Encoder
from lapel.images.augmentation import Augmentation
from lapel.losses import IndicesTuple
from lapel.training.exchange import of_all_processes, rank_and_ranks


@dataclass(frozen=True)
class StepInput:
    """What a step reads, on the device: nothing else tells one step from another.

    Args:
        images: uint8 `[share, channels, height, width]`, those of this process.
        rows: int64 `[batch]`, of the images of all processes in the catalogue.
        start: position of this process's first image among them.
        number, epoch: int64 `[]`, of the batch.
        indices: pairs or triplets that the sampler formed.
        loss_seed: of what losses and miners draw; None where they draw nothing.
    """

    images: Tensor
    rows: Tensor
    start: int
    number: Tensor
    epoch: Tensor
    indices: IndicesTuple
    loss_seed: int | None


@dataclass(frozen=True)
class StepValues:
    """What a step came to, on the device.

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


class BatchLoss:
    """Augmentation, encoder, and the weighted sum of the objectives on the rows of all processes.

    Args:
        encoder, objectives: that learn.
        augmentation: of the images.
        items, categories: int64 of every row of the catalogue, on the device.
        chunk: images whose activations are held at once; None for all.
    """

    def __init__(
        self,
        encoder: Encoder,
        objectives: nn.ModuleDict,
        augmentation: Augmentation,
        items: Tensor,
        categories: Tensor,
        chunk: int | None,
    ) -> None:
        self.encoder = encoder
        self.objectives = objectives
        self.augmentation = augmentation
        self.items = items
        self.categories = categories
        self.chunk = chunk
        self.size: list[int] | None = None  # of images in the present stage; None for that of the data
        self.values_of = self._values_of
        self.graphs = False  # whether values come from a graph of kernels, which writes them where the last ones were

    def compile(self) -> None:
        """From now on in as few kernels as torch.compile can make of it, and on a GPU from a graph of them.

        The whole of it, where no shape in it depends on a value and nothing is drawn or exchanged; elsewhere the trunk.
        """
        alone = rank_and_ranks()[1] == 1
        if alone and self.chunk is None and all(each.compiles for each in self.objectives.children()):
            self.graphs = self.items.device.type == "cuda"
            self.values_of = torch.compile(self._values_of, mode="reduce-overhead" if self.graphs else None)
        else:
            self.encoder.trunk.compile()

    def __call__(self, given: StepInput) -> StepValues:
        """The loss of the global batch, and what it was made of: on a GPU until the next call, where it is compiled."""
        if self.graphs:  # elsewhere this would import the compiler, in seconds
            torch.compiler.cudagraph_mark_step_begin()
        return self.values_of(given)

    def _values_of(self, given: StepInput) -> StepValues:
        own = given.rows[given.start : given.start + len(given.images)]
        images = self.augmentation(given.images, own, given.number, given.epoch, given.start)
        raw = of_all_processes(self._encode(self._resized(images)), len(given.rows))
        if given.loss_seed is not None:
            torch.manual_seed(given.loss_seed)
        return self._weighed(raw, given)

    def _resized(self, images: Tensor) -> Tensor:
        """uint8 images in the size of the stage."""
        if self.size is None or list(images.shape[2:]) == self.size:
            return images
        if images.device.type == "cpu":  # torch has antialiased uint8 kernels there alone
            return F.interpolate(images, self.size, mode="bilinear", antialias=True)
        smaller = F.interpolate(images.float(), self.size, mode="bilinear", antialias=True)
        return smaller.round_().clamp_(0, 255).to(torch.uint8)

    def _encode(self, images: Tensor) -> Tensor:
        """Raw embeddings, in chunks whose activations are computed again for the gradient, where so configured.

        The gradient of one pass at the memory of a chunk: Gao et al., "Scaling deep contrastive learning batch size
        under memory limited setup", 2021 (GradCache), by torch's own recomputation.
        """
        if self.chunk is None or len(images) <= self.chunk:
            return self.encoder.raw(images)
        parts = [
            checkpoint(self.encoder.raw, part, use_reentrant=False, context_fn=self._recomputing)
            for part in images.split(self.chunk)
        ]
        return torch.cat(parts)

    def _recomputing(self) -> tuple[Any, Any]:
        return nullcontext(), kept_buffers(self.encoder)

    def _weighed(self, raw: Tensor, given: StepInput) -> StepValues:
        """The weighted losses, in fp32: differences of nearly equal distances do not survive bf16."""
        with torch.autocast(raw.device.type, enabled=False):
            raw = raw.float()
            embeddings = self.encoder.finish(raw)
            items, categories = self.items[given.rows], self.categories[given.rows]
            parts = {
                name: objective(raw, embeddings, items, categories, given.indices)
                for name, objective in self.objectives.items()
            }
            loss = torch.stack([self.objectives[name].weight * part for name, part in parts.items()]).sum()
        detached = {name: part.detach() for name, part in parts.items()}
        return StepValues(loss, detached, raw.detach(), embeddings.detach(), items, categories, given.indices)


@contextmanager
def kept_buffers(module: nn.Module) -> Iterator[None]:
    """Undo what a pass does to running statistics, which another one has already taken in, or shall."""
    before = [buffer.clone() for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, kept in zip(module.buffers(), before, strict=True):
                buffer.copy_(kept)
