"""Augmentation of batches of colour photos, each image with its own draw: lapel's, torchvision's and kornia's.

    python bench/augmentation.py

The same changes (random resized crop, mirror, turn, brightness, contrast, saturation) of 128 images of 80x60, on a CPU.
torchvision draws one set of parameters a call, so it is called once an image. kornia is measured where it is installed
(it is no dependency of lapel). Images a second; one JSON object a line.
"""

import importlib
import importlib.util
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import v2

from lapel.config.augment import AugmentConfig
from lapel.config.composing import compose
from lapel.images.augmentation import Augmentation

BATCH = 128
HEIGHT, WIDTH = 80, 60
ROUNDS = 7


def main() -> None:
    """Measure in turns, then print."""
    config = compose("train", ["augment=photo"]).augment
    images = torch.randint(0, 256, (BATCH, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    own = Augmentation(config, seed=0)
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "lapel": lambda batch: own(batch, torch.arange(BATCH), 0, 0),
        "torchvision v2": one_by_one(torchvision_changes(config)),
    }
    if importlib.util.find_spec("kornia"):
        ways["kornia"] = kornia_changes(config)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, change in ways.items():
            started = time.perf_counter()
            assert change(images).shape == images.shape
            seconds[name].append(time.perf_counter() - started)
    speeds = {name: BATCH / statistics.median(each) for name, each in seconds.items()}
    for name in list(ways)[1:]:
        figures = {"value": round(speeds["lapel"], 1), "unit": "images/s", "peer": name}
        ratio = {"peer_value": round(speeds[name], 1), "ratio": round(speeds["lapel"] / speeds[name], 3)}
        print(json.dumps({"name": f"augmentation/photo/{BATCH}x3x{HEIGHT}x{WIDTH}", **figures, **ratio}))


def torchvision_changes(config: AugmentConfig) -> v2.Transform:
    """augment=photo in torchvision's words."""
    stretch = 1 + config.stretch
    return v2.Compose(
        [
            v2.RandomRotation([-config.rotate, config.rotate], interpolation=v2.InterpolationMode.BILINEAR, fill=255),
            v2.RandomResizedCrop((HEIGHT, WIDTH), (config.crop, 1.0), (0.75 / stretch, 0.75 * stretch)),
            v2.RandomHorizontalFlip(config.flip),
            v2.ColorJitter(config.brightness, config.contrast, config.saturation),
        ]
    )


def one_by_one(change: v2.Transform) -> Callable[[Tensor], Tensor]:
    """A change with parameters of its own for each image of a batch."""
    return lambda batch: torch.stack([change(image) for image in batch])


def kornia_changes(config: AugmentConfig) -> Callable[[Tensor], Tensor]:
    """augment=photo in kornia's words; it wants floats from 0 to 1."""
    kornia = importlib.import_module("kornia.augmentation")
    stretch = 1 + config.stretch
    change = kornia.AugmentationSequential(
        kornia.RandomRotation(config.rotate, p=1.0),
        kornia.RandomResizedCrop((HEIGHT, WIDTH), (config.crop, 1.0), (0.75 / stretch, 0.75 * stretch), p=1.0),
        kornia.RandomHorizontalFlip(p=config.flip),
        kornia.ColorJitter(config.brightness, config.contrast, config.saturation, p=1.0),
    )
    return lambda batch: (change(batch.float() / 255) * 255).round().clamp(0, 255).to(torch.uint8)


if __name__ == "__main__":
    main()
