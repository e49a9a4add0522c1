"""Fashion-MNIST as torchvision gives it, in lapel's training and val part.

Needs no lapel: contenders of other environments use it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.datasets import FashionMNIST

# Of the file that says which images are in which part.
ROWS_FILE = "rows.npz"

EMBED_BATCH = 256


def part(folder: Path, name: str, transform: Callable[[Any], Any]) -> Subset:
    """The images of a part, "train" or "val"; `folder` is that of the data, as the driver lays it out."""
    rows = np.load(folder / ROWS_FILE)[name]
    return Subset(FashionMNIST(str(folder), train=True, transform=transform), rows.tolist())


def labels_of(images: Subset) -> torch.Tensor:
    """int64 `[images]`."""
    whole = images.dataset
    assert isinstance(whole, FashionMNIST)
    return whole.targets[images.indices]


def embeddings(model: nn.Module, images: Dataset) -> np.ndarray:
    """float32 `[images, dimensions]`; the model is then in training mode, as it was."""
    model.eval()
    with torch.no_grad():
        found = [model(batch) for batch, _ in DataLoader(images, batch_size=EMBED_BATCH)]
    model.train()
    return torch.cat(found).float().numpy()
