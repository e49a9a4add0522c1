"""open-metric-learning, the published package, as its documented example begins, in an environment of its own.

The example of its README: an extractor, `ImageLabeledDataset`, `BalanceSampler`, `TripletLossWithMiner(0.1,
AllTripletsMiner())`, Adam at 0.0001. Adapted as far as small grey images need it: its resnet18 extractor, without
weights since they would have to be downloaded, in the place of a vision transformer; batches of all 10 classes with 4
images each in the place of 2 with 2; no resizing. Its data sets read files, so each image is one, a png.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from oml import datasets as d  # type: ignore[import-not-found]
from oml.inference import inference  # type: ignore[import-not-found]
from oml.losses import TripletLossWithMiner  # type: ignore[import-not-found]
from oml.miners import AllTripletsMiner  # type: ignore[import-not-found]
from oml.models import ResnetExtractor  # type: ignore[import-not-found]
from oml.samplers import BalanceSampler  # type: ignore[import-not-found]
from oml.transforms.images.torchvision import get_normalisation_torch  # type: ignore[import-not-found]
from PIL import Image
from torch.optim import Adam
from torch.utils.data import DataLoader, Subset

from contenders import fashion
from contenders.turns import Turns

CLASSES, IMAGES = 10, 4


def table_of(images: Subset, folder: Path) -> pd.DataFrame:
    """Files of the images, written into a folder, and their labels, as the library wants to be told of them."""
    folder.mkdir(exist_ok=True)
    paths = [str(folder / f"{row}.png") for row in images.indices]
    for path, row in zip(paths, images.indices, strict=True):
        Image.fromarray(images.dataset.data[row].numpy()).save(path, compress_level=1)  # type: ignore[attr-defined]
    return pd.DataFrame({"path": paths, "label": fashion.labels_of(images).tolist()})


def main() -> None:
    """Take part; the argument is the folder of the data."""
    turns = Turns.of_this_process()
    folder = Path(sys.argv[1])
    torch.manual_seed(0)
    np.random.seed(0)
    transform = get_normalisation_torch()
    train, val = (
        d.ImageLabeledDataset(table_of(fashion.part(folder, name, transform), Path.cwd() / name), transform=transform)
        for name in ("train", "val")
    )
    model = ResnetExtractor(weights=None, arch="resnet18", gem_p=None, remove_fc=True, normalise_features=False).train()
    optimizer = Adam(model.parameters(), lr=1e-4)
    criterion = TripletLossWithMiner(0.1, AllTripletsMiner())
    sampler = BalanceSampler(train.get_labels(), n_labels=CLASSES, n_instances=IMAGES)
    turns.ready(lambda: inference(model, val, batch_size=fashion.EMBED_BATCH).numpy(), "euclidean")
    while True:
        for batch in DataLoader(train, batch_sampler=sampler):
            embeddings = model(batch["input_tensors"])
            loss = criterion(embeddings, batch["labels"])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            turns.step(len(embeddings))


if __name__ == "__main__":
    main()
