"""lapel's network with pytorch-metric-learning's semi-hard miner and triplet loss: its MNIST example, but for the net.

Batches of lapel's size; AdamW at torch's own rate.
"""

import torch
from torch import optim

from contenders import fashion, lapel_net, pml_mnist
from contenders.turns import Turns


def main() -> None:
    """Take part; arguments as for `lapel_net.given`."""
    turns = Turns.of_this_process()
    torch.manual_seed(0)
    ours = lapel_net.given()
    optimizer = optim.AdamW(ours.net.parameters())
    loss_func, mining_func = pml_mnist.semi_hard()
    turns.ready(lambda: fashion.embeddings(ours.net, ours.val), "cosine")
    while True:
        pml_mnist.train(ours.net, loss_func, mining_func, ours.loader, optimizer, turns.step)


if __name__ == "__main__":
    main()
