"""What every sampler shares: seeded batches of an epoch, each process's part of them, and where to go on.

Every process draws the same global batch from (seed, epoch) and takes its own contiguous part of it, so what is trained
on does not depend on how many processes there are.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lapel.errors import LapelError

# Stream of random numbers, apart from those of other parts of a run with the same seed.
SAMPLING_STREAM = 2


@dataclass(frozen=True)
class Batch:
    """The images of one optimizer step, and this process's part of them.

    Args:
        rows: int64 catalogue rows of the global batch.
        part: positions of this process's rows in it.
        number: of the batch, counted from the start of training.
        indices_tuple: positions in the global batch, as pytorch-metric-learning has them: `(a1, p, a2, n)` for pairs,
            `(a, p, n)` for triplets, None where the loss forms them.
        images: this process's images, where the store made them ready.
    """

    rows: np.ndarray
    part: slice
    number: int
    indices_tuple: tuple[np.ndarray, ...] | None
    images: Any = None

    def pin_memory(self) -> "Batch":
        """With images where a GPU can fetch them from; torch's loader calls it by this name."""
        return replace(self, images=self.images.pin_memory()) if hasattr(self.images, "pin_memory") else self


@dataclass(frozen=True)
class Labels:
    """What a sampler knows of the images it draws from: int64 arrays of one length.

    Args:
        rows: of the catalogue.
        items, categories: codes.
        domains: codes of what the two images of a pair shall differ in; None where it does not matter.
    """

    rows: np.ndarray
    items: np.ndarray
    categories: np.ndarray
    domains: np.ndarray | None = None


@dataclass(frozen=True)
class Division:
    """How the images of an optimizer step are divided.

    Args:
        rank, ranks: this process, and how many there are.
        parts: batches, one after the other, of an optimizer step.
    """

    rank: int = 0
    ranks: int = 1
    parts: int = 1


WHOLE = Division()


def share(count: int, rank: int, ranks: int) -> slice:
    """The contiguous part of `count` things that is this process's; the parts differ by one at most."""
    return slice(count * rank // ranks, count * (rank + 1) // ranks)


class Sampler(ABC):
    """Batches of any epoch, each a function of (seed, epoch, number).

    Args:
        labels: images to draw from.
        batch_size: images of the global batch.
        seed: of the run.
        division: of the images of an optimizer step; an epoch has whole steps.

    Raises:
        LapelError: the images do not fill one batch.
    """

    def __init__(self, labels: Labels, batch_size: int, seed: int, division: Division = WHOLE) -> None:
        self.labels = labels
        self.batch_size = batch_size
        self.seed = seed
        self.division = division
        if len(self) < 1:
            asked = batch_size * division.parts
            raise LapelError(f"data.batch_size={asked}: the training part has only {len(labels.rows)} images")

    def __len__(self) -> int:
        """Batches of an epoch, in which about as many images are drawn as there are."""
        return len(self.labels.rows) // (self.batch_size * self.division.parts) * self.division.parts

    def batches(self, first: int, end: int) -> Iterator[Batch]:
        """The batches numbered `first` to `end - 1`, on any number of processes the same."""
        while first < end:
            epoch, done = divmod(first, len(self))
            drawn = self.draw(np.random.default_rng([self.seed, SAMPLING_STREAM, epoch]))
            for number in range(epoch * len(self), min((epoch + 1) * len(self), end)):
                local, indices_tuple = next(drawn)
                if number >= epoch * len(self) + done:
                    part = share(len(local), self.division.rank, self.division.ranks)
                    yield Batch(self.labels.rows[local], part, number, indices_tuple)
            first = (epoch + 1) * len(self)

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...] | None]]:
        """Endless global batches: positions in `labels`, and how they pair up."""


class Deck:
    """Deals values in random order, all of them before any comes again."""

    def __init__(self, values: np.ndarray, generator: np.random.Generator) -> None:
        self.generator = generator
        self.values = generator.permutation(values)
        self.dealt = 0

    def deal(self, count: int) -> np.ndarray:
        """The next `count` values."""
        parts = [self.values[:0]]
        while count:
            if self.dealt == len(self.values):
                self.values, self.dealt = self.generator.permutation(self.values), 0
            part = self.values[self.dealt : self.dealt + count]
            self.dealt += len(part)
            count -= len(part)
            parts.append(part)
        return np.concatenate(parts)

    def deal_distinct(self, count: int) -> np.ndarray:
        """The next `count` values, none twice; `count` is at most the number of values.

        Where the deck ends amid a hand, it is shuffled so that what the hand already holds comes last.
        """
        rest = self.values[self.dealt :]
        if len(rest) >= count:
            return self.deal(count)
        shuffled = self.generator.permutation(self.values)
        held = np.isin(shuffled, rest)
        self.values = np.concatenate([shuffled[~held], shuffled[held]])
        self.dealt = count - len(rest)
        return np.concatenate([rest, self.values[: self.dealt]])

    def deal_mostly_distinct(self, count: int) -> np.ndarray:
        """The next `count` values, none twice where there are as many."""
        return self.deal_distinct(count) if count <= len(self.values) else self.deal(count)
