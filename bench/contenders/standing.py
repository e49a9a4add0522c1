"""Who stands where: seconds of training until each recall was reached, and what else is told of a contender."""

from dataclasses import dataclass, field
from typing import Any

from contenders.processes import Turn

# Images between two scores, as a share of an epoch: in the first one, then.
EARLY, LATER = 1 / 8, 1 / 2


@dataclass
class Standing:
    """Of one contender.

    Args:
        name: in the rows.
        epoch: images of one.
        budget: seconds of training that it has.
        setup: seconds from the start of its process until it could begin.
    """

    name: str
    epoch: int
    budget: float
    setup: float = 0.0
    images: int = 0
    seconds: float = 0.0
    peak: float = 0.0
    marks: list[tuple[float, float]] = field(default_factory=list)
    failed: str = ""

    def trained(self, turn: Turn) -> None:
        """Take in a turn."""
        self.images += turn.images
        self.seconds += turn.seconds
        self.peak = max(self.peak, turn.peak)
        self.setup += turn.aside

    def scored(self, recall: float) -> None:
        """Take in recall@1 on val after the latest turn."""
        self.marks.append((self.seconds, recall))

    def next_turn(self) -> int:
        """Images of the next turn, which goes up to the next mark."""
        return round(self.epoch * (EARLY if self.images < self.epoch else LATER))

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.budget - self.seconds

    def done(self, last: float) -> bool:
        """Whether it has reached the last target, has used its budget up, or has failed."""
        return bool(self.failed) or self.left <= 0 or self.reached(last) is not None

    def reached(self, target: float) -> float | None:
        """Seconds of training at the first mark with so much recall@1; None where there is none."""
        return next((seconds for seconds, recall in self.marks if recall >= target), None)

    @property
    def best(self) -> float:
        """Highest recall@1 of all marks."""
        return max((recall for _, recall in self.marks), default=0.0)

    @property
    def seconds_an_epoch(self) -> float:
        """At the mean speed so far."""
        return self.seconds / max(self.images, 1) * self.epoch

    def why_not(self, target: float) -> str:
        """Why a target was not reached; empty where it was."""
        if self.reached(target) is not None:
            return ""
        return self.failed or f"{self.name}: {self.best:.3f} in {self.seconds:.0f} s"


def row(
    name: str,
    unit: str,
    ours: float | None,
    peer: str,
    theirs: float | None,
    higher_is_better: bool = False,
    note: str = "",
) -> dict[str, Any]:
    """One line of the bench; ratio > 1 means better than the peer, null that one of the two has no figure."""
    ratio = None
    if ours and theirs:
        ratio = round(ours / theirs if higher_is_better else theirs / ours, 3)
    figures = {"value": _rounded(ours), "unit": unit, "peer": peer, "peer_value": _rounded(theirs), "ratio": ratio}
    return {"name": name, **figures, **({"note": note} if note else {})}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4 if value < 1 else 2 if value < 100 else 1)
