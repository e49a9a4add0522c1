"""The work of an evaluation, done here or shared out to several processes, with the same result to the bit.

Images are embedded in the same batches, and queries compared in the same tiles, by whichever process; each computes
with as many threads as one process alone would, since sums of floats depend on it.
"""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lapel.config.evaluation import EvaluateConfig
from lapel.config.trainer import Accelerator
from lapel.embedding.workers import workers
from lapel.encoders.embed import EMBED_BATCH, embed
from lapel.errors import LapelError
from lapel.evaluation.protocols import Comparison, Embedded, Graded, Protocol, joined, score_protocol
from lapel.evaluation.subjects import Subject, subject_of
from lapel.images.store import ImageStore, open_store
from lapel.machine.devices import choose_device
from lapel.retrieval import Scores
from lapel.retrieval.tiles import QUERY_TILE, Tiles

# What a process takes at a time: whole batches of images, and whole tiles of queries.
IMAGES = 16 * EMBED_BATCH
QUERIES = QUERY_TILE


class Alone:
    """This process does everything.

    Args:
        config: of the evaluation.
        subject: what is scored.
        store: of its images.
    """

    def __init__(self, config: EvaluateConfig, subject: Subject, store: ImageStore) -> None:
        self.config, self.subject, self.store = config, subject, store

    def embed(self, rows: np.ndarray) -> Tensor:
        """Embeddings of catalogue rows, before they are finished."""
        return embed(self.subject.encoder.to(self.store.device), self.store, rows)

    def score(self, protocol: Protocol, embedded: Embedded, listed: int) -> Scores:
        """Scores of a protocol's queries, and lists as long as told.

        Raises:
            NothingToScoreError: no query has a match.
        """
        return score_protocol(protocol, embedded, self.config.k, self.config.memory, listed)


class Together:
    """As `Alone`, by several processes.

    Args:
        pool: of the processes.
        config: of the evaluation.
        device: on which the embeddings are wanted.
    """

    def __init__(self, pool: ProcessPoolExecutor, config: EvaluateConfig, device: torch.device) -> None:
        self.pool, self.config, self.device = pool, config, device

    def embed(self, rows: np.ndarray) -> Tensor:
        """See `Alone`."""
        parts = self.pool.map(_embed, (rows[start : start + IMAGES] for start in range(0, len(rows), IMAGES)))
        return torch.from_numpy(np.concatenate(list(parts))).to(self.device)

    def score(self, protocol: Protocol, embedded: Embedded, listed: int) -> Scores:
        """See `Alone`; similarities of another kind than the plain one, which know all queries at once, here."""
        if embedded.tiles is not Tiles:
            return score_protocol(protocol, embedded, self.config.k, self.config.memory, listed)
        compared = [part for each in protocol.comparisons() for part in each.split(QUERIES)]
        with tempfile.TemporaryDirectory(prefix="lapel-") as folder:
            for name, each in (("queries", embedded.queries), ("gallery", embedded.gallery)):
                np.save(Path(folder) / f"{name}.npy", each.cpu().numpy())
            told = replace(embedded, queries=torch.empty(0), gallery=torch.empty(0))
            tasks = [_Task(folder, told, each, listed) for each in compared]
            return joined(protocol, zip(compared, self.pool.map(_grade, tasks), strict=True))


@contextmanager
def team(config: EvaluateConfig, subject: Subject, store: ImageStore) -> Iterator[Alone | Together]:
    """Those who do the work of an evaluation: this process, or `config.processes` others.

    Raises:
        LapelError: there are fewer GPUs than processes, and they are asked for.
    """
    if config.processes == 1:
        yield Alone(config, subject, store)
        return
    gpus = torch.cuda.device_count()
    if config.accelerator is Accelerator.gpu and gpus < config.processes:
        raise LapelError(f"processes={config.processes}: must be at most {gpus}, the number of GPUs")
    with workers(config.processes, _begin, config, torch.get_num_threads()) as pool:
        yield Together(pool, config, store.device)


# ----------------------------------------------------------------------------------------- in the processes


@dataclass(frozen=True)
class _Task:
    """Queries to be graded, by embeddings that lie in a folder."""

    folder: str
    embedded: Embedded
    compared: Comparison
    listed: int


@dataclass
class _Worker:
    """What a process has at hand."""

    config: EvaluateConfig
    device: torch.device

    @cached_property
    def alone(self) -> Alone:
        """With a model and images of its own."""
        subject = subject_of(self.config)
        return Alone(self.config, subject, open_store(subject.catalog, subject.data, self.device))


_workers: list[_Worker] = []


def _begin(number: int, config: EvaluateConfig, threads: int) -> None:
    torch.set_num_threads(threads)
    gpus = torch.cuda.device_count()
    _workers.append(_Worker(config, choose_device(config.accelerator, number % gpus if gpus else 0)))


def _embed(rows: np.ndarray) -> np.ndarray:
    return _workers[0].alone.embed(rows).cpu().numpy()


def _grade(task: _Task) -> Graded:
    worker = _workers[0]
    given = [torch.from_numpy(np.load(Path(task.folder) / f"{name}.npy")) for name in ("queries", "gallery")]
    given = [each.to(worker.device) for each in given]
    embedded = replace(task.embedded, queries=given[0], gallery=given[1])
    return embedded.graded(task.compared, worker.config.k, worker.config.memory, task.listed)
