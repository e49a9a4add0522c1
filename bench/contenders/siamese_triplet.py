"""siamese-triplet (github.com/adambielski/siamese-triplet), re-written from its Experiments_FashionMNIST.ipynb.

The "online triplet selection" of that page: its network of 5x5 convolutions, whose embedding has 2 dimensions, batches
of 10 classes with 25 images each, for every pair of a class a random negative that costs something, Adam at 0.001 with
a decay of 0.0001, and a tenth of the rate after every 8 epochs. Triplets are chosen in Python, pair by pair, as there.
"""

import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader
from torchvision import transforms

from contenders import fashion
from contenders.turns import Turns

MEAN, STD = 0.28604059698879553, 0.35302424451492237
MARGIN = 1.0
CLASSES, IMAGES = 10, 25
EPOCHS_OF_A_RATE = 8


class EmbeddingNet(nn.Module):
    """Its network."""

    def __init__(self) -> None:
        super().__init__()
        self.convnet = nn.Sequential(
            nn.Conv2d(1, 32, 5), nn.PReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 5), nn.PReLU(), nn.MaxPool2d(2)
        )
        self.fc = nn.Sequential(
            nn.Linear(64 * 4 * 4, 256), nn.PReLU(), nn.Linear(256, 256), nn.PReLU(), nn.Linear(256, 2)
        )

    def forward(self, images: Tensor) -> Tensor:
        """`[batch, 1, 28, 28]` to `[batch, 2]`."""
        return self.fc(self.convnet(images).flatten(1))


class BalancedBatches:
    """Batches of as many images of each class; each class is shuffled anew when it is used up.

    Args:
        labels: of the data set.
    """

    def __init__(self, labels: np.ndarray) -> None:
        self.of_class = [np.random.permutation(np.flatnonzero(labels == each)) for each in range(CLASSES)]
        self.used = [0] * CLASSES
        self.count = len(labels) // (CLASSES * IMAGES)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self.count):
            yield [row for each in range(CLASSES) for row in self._next(each)]

    def _next(self, label: int) -> list[int]:
        rows, first = self.of_class[label], self.used[label]
        self.used[label] += IMAGES
        found = rows[first : first + IMAGES].tolist()
        if self.used[label] + IMAGES > len(rows):
            np.random.shuffle(rows)
            self.used[label] = 0
        return found


def random_negatives(embeddings: Tensor, labels: Tensor) -> Tensor:
    """int64 `[triplets, 3]`: for each pair of a class a random one of the negatives that cost something."""
    embeddings = embeddings.detach()
    squares = embeddings.square().sum(1)
    distances = squares[:, None] + squares[None] - 2 * embeddings @ embeddings.T
    found = []
    for label in labels.unique():
        own = torch.nonzero(labels == label).flatten().tolist()
        others = torch.nonzero(labels != label).flatten()
        for anchor, positive in combinations(own, 2):
            costs = (distances[anchor, positive] - distances[anchor, others] + MARGIN).numpy()
            costly = np.flatnonzero(costs > 0)
            if len(costly):
                found.append([anchor, positive, int(others[np.random.choice(costly)])])
    return torch.tensor(found, dtype=torch.int64).reshape(-1, 3)


def triplet_loss(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Its loss, on squared distances; 0 where no negative costs anything."""
    anchors, positives, negatives = (embeddings[each] for each in random_negatives(embeddings, labels).T)
    near, far = (anchors - positives).square().sum(1), (anchors - negatives).square().sum(1)
    return F.relu(near - far + MARGIN).sum() / max(len(near), 1)


def main() -> None:
    """Take part; the argument is the folder of the data."""
    turns = Turns.of_this_process()
    folder = Path(sys.argv[1])
    torch.manual_seed(0)
    np.random.seed(0)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    train, val = (fashion.part(folder, name, transform) for name in ("train", "val"))
    loader = DataLoader(train, batch_sampler=BalancedBatches(fashion.labels_of(train).numpy()))
    model = EmbeddingNet()
    optimizer = optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    scheduler = optim.lr_scheduler.StepLR(optimizer, EPOCHS_OF_A_RATE, gamma=0.1)
    turns.ready(lambda: fashion.embeddings(model, val), "euclidean")
    while True:
        for images, labels in loader:
            optimizer.zero_grad()
            triplet_loss(model(images), labels).backward()
            optimizer.step()
            turns.step(len(labels))
        scheduler.step()


if __name__ == "__main__":
    main()
