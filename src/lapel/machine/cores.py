"""How many cores there are to work on. Needs no torch."""

import os

TURNS = 3_000  # of a waiting thread, before it sleeps


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wait_briefly() -> None:
    """Have torch's threads leave their cores soon where they wait for each other; ahead of the first import of torch.

    OpenMP's threads run idle at the end of each operation until the last one is there. Where another program needs a
    core that keeps from work just the thread that they wait for. GNU's runtime counts 300,000 turns before it sleeps.
    Where the user has said how to wait, that stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(TURNS))
