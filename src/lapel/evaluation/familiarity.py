"""How much of what is scored the model has seen before."""

from dataclasses import dataclass

import numpy as np

from lapel.catalog.fingerprints import fingerprints
from lapel.evaluation.protocols import Protocol
from lapel.evaluation.subjects import Subject


@dataclass(frozen=True)
class Familiarity:
    """What of the queries training has seen; None where that is not known.

    Args:
        trained: number of queries that are an image of its training part, pixel for pixel.
        validated: likewise of the part by which the checkpoint was chosen.
        items: whether it has seen any of their items.
    """

    trained: int | None
    validated: int | None
    items: bool | None

    @property
    def unseen(self) -> bool:
        """Whether it is known to have seen none of their items."""
        return self.items is False


def familiarity(subject: Subject, protocol: Protocol) -> Familiarity:
    """See `Familiarity`."""
    if subject.seen is None:
        return Familiarity(None, None, None)
    marks = fingerprints(subject.catalog, protocol.queries)
    trained, validated = (int(np.isin(marks, each).sum()) for each in (subject.seen.train, subject.seen.val))
    known = subject.trained_items
    items = None if known is None else bool(known & subject.catalog.items_of(protocol.queries))
    return Familiarity(trained, validated, True if trained else items)
