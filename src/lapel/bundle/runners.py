"""What runs an exported encoder: one runner for each format, which brings in what that format needs when it is used."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lapel.config.choices import choice, choices_of
from lapel.errors import LapelError

# Images that go through an encoder at once: larger batches leave the CPU's cache, and are slower.
AT_ONCE = 128


class Runner(ABC):
    """An exported encoder, ready to embed.

    A subclass is the choice of a format: its builder, in `exporting/`, writes the file that it reads.

    Args:
        path: the encoder's file.
    """

    # Name of the encoder's file in a bundle.
    file: ClassVar[str]

    def __init__(self, path: Path) -> None:
        self.path = path

    def embed(self, images: list[np.ndarray]) -> np.ndarray:
        """float32 `[images, dimensions]`, as the metric wants them.

        Args:
            images: uint8 `[1 or 3, height, width]` each, of any size.

        Raises:
            LapelError: the encoder cannot take them.
        """
        try:
            return self._embed(images)
        except RuntimeError as error:  # what torch raises, whatever the reason
            reason = " ".join(str(error).split())[:200]
            raise LapelError(f"{self.path}: cannot embed an image ({reason})") from error

    @abstractmethod
    def _embed(self, images: list[np.ndarray]) -> np.ndarray: ...


@choice("format", "torchscript", build="lapel.exporting.torchscript:write")
class TorchScriptRunner(Runner):
    """Runs `encoder.ts` with torch, on the CPU."""

    file = "encoder.ts"

    @cached_property
    def module(self) -> Any:
        """The TorchScript module."""
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", (FutureWarning, DeprecationWarning))
            return torch.jit.load(str(self.path), map_location="cpu").eval()

    def _embed(self, images: list[np.ndarray]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            given = [torch.from_numpy(each) for each in images]
            embed = self._embed_fitted
            if embed is None:
                return _by_shape(given, self.module).numpy()
            fitted = _by_shape(given, self.module.preprocess.fit)
            return torch.cat([embed(part) for part in fitted.split(AT_ONCE)]).numpy()

    @property
    def _embed_fitted(self) -> Callable[[Any], Any] | None:
        """What embeds images that have their channels and size.

        A bundle from before has nothing but the whole encoder for it. To fit what is fitted changes nothing, unless a
        negative is made of it once more: then there is none.
        """
        if hasattr(self.module, "embed_fitted"):
            return self.module.embed_fitted
        preprocess = self.module.preprocess
        return None if preprocess.invert_always or preprocess.invert_white else self.module


def _by_shape(images: list[Any], work: Callable[[Any], Any]) -> Any:
    """What comes of images of any shapes, in their order, those of one shape worked on together."""
    import torch

    of_shape: dict[Any, list[int]] = {}
    for row, image in enumerate(images):
        of_shape.setdefault(image.shape, []).append(row)
    parts = [rows[start : start + AT_ONCE] for rows in of_shape.values() for start in range(0, len(rows), AT_ONCE)]
    done = torch.cat([work(torch.stack([images[row] for row in rows])) for rows in parts])
    return done[torch.tensor([row for rows in parts for row in rows]).argsort()]


def runners() -> dict[str, type[Runner]]:
    """File of an encoder -> what runs it."""
    return {runner.file: runner for runner in choices_of("format").values()}


def check_formats(names: list[str]) -> None:
    """Raise where there is no format of a name."""
    for name in names:
        if name not in choices_of("format"):
            raise LapelError(f"export.formats=[{name}]: no such format; allowed are {', '.join(choices_of('format'))}")
