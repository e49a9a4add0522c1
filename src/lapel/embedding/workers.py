"""Processes that share work, each with what it needs made once. Needs no torch."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from typing import Any


@contextmanager
def workers(count: int, begin: Callable[..., None], *given: Any) -> Iterator[ProcessPoolExecutor]:
    """A pool of so many processes, started afresh: nothing of this one is in them but what they are given.

    Args:
        count: of processes.
        begin: called once in each of them, ahead of its first task, with its number from 0, and `given`.
        given: travels to each process.
    """
    context = multiprocessing.get_context("spawn")
    begun = context.Value("i", 0)
    with ProcessPoolExecutor(count, context, _begin, (begun, begin, given)) as pool:
        yield pool


def _begin(begun: "Synchronized[int]", begin: Callable[..., None], given: tuple[Any, ...]) -> None:
    with begun.get_lock():
        number = begun.value
        begun.value += 1
    begin(number, *given)
