"""Cross-batch memory (Wang et al., "Cross-batch memory for embedding learning", CVPR 2020)."""

import torch
from torch import Tensor, nn

from lapel.losses.distances import References


class CrossBatchMemory(nn.Module):
    """The embeddings of this and of earlier batches, the oldest given up first.

    It is part of the checkpoint. With several processes each remembers the whole global batch, so all hold the same.
    As in pytorch-metric-learning's `CrossBatchMemory`, a batch is remembered before it is compared.

    Args:
        size: embeddings kept, at least those of one batch.
        dimensions: of each.
    """

    embeddings: Tensor
    labels: Tensor
    written: Tensor

    def __init__(self, size: int, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", torch.zeros(size, dimensions))
        self.register_buffer("labels", torch.full((size,), -1))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))
        # The same number where no GPU has to be waited for; None where it has to be read first.
        self.known: int | None = 0
        self.register_load_state_dict_post_hook(_forget_known)

    @torch.no_grad()
    def remember(self, embeddings: Tensor, labels: Tensor) -> References:
        """Take in a batch, `[batch, dimensions]` with int64 labels; everything that is then remembered."""
        size, written = len(self.labels), int(self.written) if self.known is None else self.known
        own = (written + torch.arange(len(labels), device=labels.device)) % size
        self.embeddings[own] = embeddings.detach().to(self.embeddings.dtype)
        self.labels[own] = labels
        self.written += len(labels)
        self.known = written + len(labels)
        filled = min(self.known, size)
        return References(self.embeddings[:filled].clone(), self.labels[:filled].clone(), own)


def _forget_known(memory: CrossBatchMemory, _: object) -> None:
    memory.known = None
