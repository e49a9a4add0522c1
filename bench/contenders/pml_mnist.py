"""pytorch-metric-learning's own example for MNIST, on Fashion-MNIST, with the published package.

Re-written from its examples/notebooks/TripletMarginLossMNIST.ipynb: the network, batches of 256 in random order, Adam
at 0.01, semi-hard triplets by cosine similarity, chosen by its miner. The rate stays as it is, as there.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_metric_learning import distances, losses, miners, reducers
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader
from torchvision import transforms

from contenders import fashion
from contenders.turns import Turns


class Net(nn.Module):
    """The example's network: two convolutions and a layer, 128 dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.conv2 = nn.Conv2d(32, 64, 3, 1)
        self.dropout1 = nn.Dropout2d(0.25)
        self.fc1 = nn.Linear(9216, 128)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, 1, 28, 28]` to `[batch, 128]`."""
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.dropout1(F.max_pool2d(x, 2))
        return self.fc1(torch.flatten(x, 1))


def semi_hard() -> tuple[nn.Module, nn.Module]:
    """The example's loss and miner."""
    distance = distances.CosineSimilarity()
    reducer = reducers.ThresholdReducer(low=0)
    loss_func = losses.TripletMarginLoss(margin=0.2, distance=distance, reducer=reducer)
    mining_func = miners.TripletMarginMiner(margin=0.2, distance=distance, type_of_triplets="semihard")
    return loss_func, mining_func


def train(
    model: nn.Module,
    loss_func: nn.Module,
    mining_func: nn.Module,
    train_loader: Iterable[Any],
    optimizer: optim.Optimizer,
    stepped: Callable[[int], None],
) -> None:
    """The example's epoch; `stepped` is told the images of each step."""
    model.train()
    for data, labels in train_loader:
        optimizer.zero_grad()
        embeddings = model(data)
        indices_tuple = mining_func(embeddings, labels)
        loss = loss_func(embeddings, labels, indices_tuple)
        loss.backward()
        optimizer.step()
        stepped(len(labels))


def main() -> None:
    """Take part; the argument is the folder of the data."""
    turns = Turns.of_this_process()
    folder = Path(sys.argv[1])
    torch.manual_seed(0)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    train_loader = DataLoader(fashion.part(folder, "train", transform), batch_size=256, shuffle=True)
    val = fashion.part(folder, "val", transform)
    model = Net()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    loss_func, mining_func = semi_hard()
    turns.ready(lambda: fashion.embeddings(model, val), "cosine")
    while True:
        train(model, loss_func, mining_func, train_loader, optimizer, turns.step)


if __name__ == "__main__":
    main()
