"""lapel's own network, loss and augmentation, given to others: what is then compared is how one trains, not what."""

import sys
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms

from contenders import fashion
from lapel.commands.hydra_app import quoted_arguments
from lapel.config.composing import compose
from lapel.config.train import TrainConfig
from lapel.encoders.encoder import build


@dataclass(frozen=True)
class Given:
    """What a contender with lapel's network begins with.

    Args:
        config: lapel's.
        net: standardised images to embeddings before normalisation, of `dimensions`.
        loader: the training part, shuffled, in batches of lapel's size, standardised and mirrored as lapel does.
        val: the val part.
    """

    config: TrainConfig
    net: nn.Sequential
    dimensions: int
    loader: DataLoader
    val: Subset


def given() -> Given:
    """By the command line: the folder of the data, then overrides of train.py."""
    folder, overrides = Path(sys.argv[1]), sys.argv[2:]
    config: TrainConfig = compose("train", quoted_arguments(overrides, "train"))
    encoder = build(config.encoder, config.data, config.variant.metric)
    plain = [transforms.ToTensor(), transforms.Normalize(encoder.trunk.mean, encoder.trunk.std)]
    mirrored = [transforms.RandomHorizontalFlip(config.augment.flip), *plain] if config.augment.flip else plain
    train = fashion.part(folder, "train", transforms.Compose(mirrored))
    return Given(
        config,
        nn.Sequential(encoder.trunk, encoder.pool, encoder.head),
        encoder.dimensions,
        DataLoader(train, batch_size=config.data.batch_size, shuffle=True),
        fashion.part(folder, "val", transforms.Compose(plain)),
    )
