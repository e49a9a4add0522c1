"""Embeddings of catalogue rows, outside of training."""

import numpy as np
import torch
from torch import Tensor, nn

from lapel.images.store import ImageStore

# Images embedded at once: larger batches leave the CPU's cache, and are slower.
EMBED_BATCH = 128


@torch.inference_mode()
def embed(encoder: nn.Module, store: ImageStore, rows: np.ndarray) -> Tensor:
    """float32 `[rows, dimensions]`: embeddings of catalogue rows, on the store's device, in fp32 and evaluation mode.

    The encoder is left in the mode in which it came.
    """
    training = encoder.training
    encoder.eval()
    chunks = [rows[start : start + EMBED_BATCH] for start in range(0, len(rows), EMBED_BATCH)]
    parts = [encoder(images) for images in store.gather_all(chunks)]
    encoder.train(training)
    return torch.cat(parts)
