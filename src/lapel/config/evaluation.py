"""What is scored, how, and what else is told about it."""

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from lapel.config.choices import choice
from lapel.config.commands import CommandConfig
from lapel.config.data import DataConfig, MovedData
from lapel.config.encoder import EncoderConfig
from lapel.config.options import Options, option
from lapel.config.trainer import Accelerator
from lapel.config.variant import Metric
from lapel.errors import LapelError

# Megabytes of similarities held at once, unless told otherwise. More takes no less time: new memory costs time, too.
DEFAULT_MEMORY = 64.0


class Split(Enum):
    """Parts of a catalogue."""

    train = "train"
    val = "val"
    test = "test"


class Checkpoint(Enum):
    """best: the highest MAP@R on val. last: where training ended."""

    best = "best"
    last = "last"


@dataclass
class VerificationConfig(Options):
    """Whether two images are of one item, told by their similarity alone."""

    pairs: int = option(1_000_000, at_least=2)
    """Pairs looked at, at most; where there are more, half of them are matches."""
    fpr: list[float] = option([0.001, 0.01, 0.1], at_least=0, at_most=1)
    """False positive rates at which the true positive rate is told."""
    seed: int = option(0, at_least=0)
    """Of the draw."""


@dataclass
class BootstrapConfig(Options):
    """Confidence intervals, from queries drawn again with replacement; whole items where training saw none of them."""

    samples: int = option(1000, at_least=0)
    """Resamples; 0 for no intervals."""
    confidence: float = option(0.95, above=0, at_most=0.9999)
    """Share of the resamples inside an interval."""
    seed: int = option(0, at_least=0)
    """Of the draws."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples == 1:
            raise LapelError("samples=1: must be at least 2, or 0 for no intervals")


@dataclass
class PostConfig(Options):
    """What is done with embeddings before they are compared, in this order; scores are told before and after."""

    pca: str | None = None
    """Principal components to keep: a number, or `auto`, chosen on val by MAP@R; fitted on the training part."""
    whiten: bool = False
    """Make the components equally wide."""
    augment_database: int = option(0, at_least=0)
    """Nearest gallery images that each gallery image takes in."""
    expand_queries: int = option(0, at_least=0)
    """Nearest images that each query takes in."""
    alpha: float = option(3.0, at_least=0)
    """Power of the similarity by which they count."""
    rerank: bool = False
    """Compare by shared neighbours, too: k-reciprocal re-ranking."""
    rerank_k1: int = option(20, at_least=1)
    """Neighbours that are looked at."""
    rerank_k2: int = option(6, at_least=1)
    """Neighbours over which encodings are averaged."""
    rerank_lambda: float = option(0.3, at_least=0, at_most=1)
    """Share of the plain distance."""

    @property
    def projects(self) -> bool:
        """Whether principal components are looked for."""
        return self.pca is not None or self.whiten

    @property
    def label(self) -> str:
        """Everything that is done, as a folder's name; empty where nothing is."""
        names = [
            f"pca{self.pca}" if self.pca else None,
            "whiten" if self.whiten else None,
            f"augment{self.augment_database}" if self.augment_database else None,
            f"expand{self.expand_queries}-alpha{self.alpha:g}" if self.expand_queries else None,
            f"rerank{self.rerank_k1}-{self.rerank_k2}-{self.rerank_lambda:g}" if self.rerank else None,
        ]
        return "-".join(name for name in names if name)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_idle(["alpha"], self.expand_queries > 0, "post.expand_queries=N")
        self.check_idle(["rerank_k1", "rerank_k2", "rerank_lambda"], self.rerank, "post.rerank=true")
        if self.pca is None or self.pca == "auto":
            return
        if not (self.pca.isascii() and self.pca.isdigit() and int(self.pca) >= 1):
            raise LapelError(f"post.pca={self.pca}: must be auto, or a whole number of at least 1")


@dataclass
class ReportConfig(Options):
    """The page that shows what was found; `report=false` leaves it out."""

    make: bool = True
    """Whether `report.html` is made."""
    against: str | None = option(None, free_text=True)
    """Run that the report puts beside this one, difference by difference; it was scored on the same images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.against is not None and not self.make:
            raise LapelError(f"report.against={self.against}: does nothing without report=true")
        if self.against == "":
            raise LapelError("report.against=: must name a run folder")


def _report_options(value: Any) -> ReportConfig:
    """What a report is told, also where all that is said is whether to make it."""
    if isinstance(value, bool):
        return ReportConfig(make=value)
    if not isinstance(value, ReportConfig):
        raise LapelError(f"report={value}: must be true or false; report.against=RUN puts another run beside it")
    return value


class CompareFormat(Enum):
    """How a comparison is printed."""

    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"


@choice("command", "compare", build="lapel.commands.compare:main")
@dataclass
class CompareConfig(BootstrapConfig, CommandConfig):
    """Compares runs, or all runs of a sweep's folder; those that differ only by seed are one line."""

    program: ClassVar[str] = "lapel-compare"
    usage: ClassVar[str] = "RUN … [key=value …]"
    subjects: ClassVar[dict[str, str]] = {"RUN": "a run folder that was evaluated, or a folder of such, as a sweep's"}
    examples: ClassVar[tuple[tuple[str, str], ...]] = (
        ("runs/a runs/b", "the second against the first"),
        ("runs/sweep-20261128-120000", "all trials of a sweep, seeds averaged"),
        ("runs/a runs/b metrics=recall@5,mrr", "other scores"),
        ("runs format=csv > runs.csv", "all runs, for a spreadsheet"),
    )

    metrics: list[str] = option(["recall@1", "map@r"])
    """Scores that are compared."""
    evaluation: str = option("", free_text=True)
    """Subfolder of `evaluation/` with the scores; by default those of the test part."""
    format: CompareFormat | None = None
    """How it is printed; by default as a table on a terminal, and else in markdown."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples == 0:
            raise LapelError("samples=0: must be at least 2")
        if not self.metrics:
            raise LapelError("metrics=[]: must have at least one name")


@choice("command", "evaluate", build="lapel.commands.evaluate:main")
@dataclass
class EvaluateConfig(CommandConfig):
    """Scores a trained run, its exported bundle or a pretrained encoder on a part of the data, exactly."""

    program: ClassVar[str] = "lapel-evaluate"
    composed: ClassVar[bool] = True
    examples: ClassVar[tuple[tuple[str, str], ...]] = (
        ("", "the newest run"),
        ("run=runs/NAME split=val k=[1,20]", "another, on val"),
        ("bundle=latest/bundle", "encoder and index"),
        ("data=wardrobe encoder=resnet50 encoder.weights=default", "untrained"),
    )
    often: ClassVar[tuple[str, ...]] = (
        "run",
        "bundle",
        "checkpoint",
        "split",
        "k",
        "within",
        "across",
        "graded",
        "report",
        "report.against",
        "neighbors",
        "neighbors_k",
        "post.pca",
        "post.expand_queries",
        "post.rerank",
        "bootstrap.samples",
        "processes",
        "accelerator",
        "data.root",
        "encoder.weights",
    )
    then: ClassVar[str] = "Then: open evaluation/report.html of the run; python export.py"

    run: str = option("latest", free_text=True)
    """Run folder."""
    bundle: str | None = option(None, free_text=True)
    """Bundle folder, scored in place of a run; its index is compared with exact search."""
    encoder: EncoderConfig | None = None
    """Scored in place of a run: its trunk's features, without a head."""
    metric: Metric | None = None
    """In which the features of `encoder` are compared, by default cosine; a run has its own."""
    checkpoint: Checkpoint = Checkpoint.best
    """Which of the run's checkpoints: that with the highest MAP@R on val, or that of the end of training."""
    split: Split = Split.test
    """Part of the data that is scored."""
    k: list[int] = option([1, 5, 10], at_least=1)
    """The K of recall@K and precision@K."""
    within: str | None = option(None, free_text=True)
    """Compare a query within its own value of this column, as `gender`: what a filter would leave."""
    across: str | None = option(None, free_text=True)
    """Compare a query with other values of this column, as `domain`."""
    vote: int = option(5, at_least=1)
    """Nearest images that tell a query's category."""
    graded: list[str] = option([])
    """What equal values are worth in nDCG, as `[colour:1,gender:2]`, by columns of the catalogue."""
    post: PostConfig = field(default_factory=PostConfig)
    verification: VerificationConfig = field(default_factory=VerificationConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    report: Any = field(default_factory=ReportConfig)
    """Whether `report.html` is made; `report.against=RUN` puts another run beside this one."""
    accelerator: Accelerator = Accelerator.auto
    processes: int = option(1, at_least=1, at_most=64)
    """Processes that share the work, each with a GPU of its own where there are so many; no score depends on it."""
    data: MovedData = field(default_factory=MovedData)
    memory: float = option(DEFAULT_MEMORY, above=0)
    """Megabytes of similarities held at once; results do not depend on it."""
    neighbors: bool = False
    """Write each query's nearest rows to neighbors.parquet."""
    neighbors_k: int = option(50, at_least=1)
    """Rows that neighbors.parquet has of each query."""

    @property
    def gains(self) -> dict[str, float]:
        """Column -> gain.

        Raises:
            LapelError: a gain is no number above 0.
        """
        found = {}
        for each in self.graded:
            column, _, gain = each.rpartition(":")
            if column in found:
                raise LapelError(f"graded: {column} is named twice")
            try:
                found[column] = float(gain)
            except ValueError:
                found[column] = -1.0
            if not column or not 0 < found[column] < math.inf:
                raise LapelError(f"graded=[{each}]: must be column:gain with a gain above 0, as in [colour:1,gender:2]")
        return found

    def __post_init__(self) -> None:
        super().__post_init__()
        self.report = _report_options(self.report)
        if not self.k:
            raise LapelError("k=[]: must have at least one number")
        if self.encoder is not None and self.run != type(self).run:
            raise LapelError("encoder and run: one of them alone is scored")
        if self.encoder is not None and not isinstance(self.data, DataConfig):
            raise LapelError("encoder: scoring it without a run needs data=NAME")
        if self.encoder is None and self.metric is not None:
            raise LapelError(
                f"metric={self.metric.name}: is for encoder=NAME; a run is scored in the metric it was trained in"
            )
        if self.bundle is not None:
            self._check_bundle()
        self.check_idle(["neighbors_k"], self.neighbors, "neighbors=true")
        if self.within is not None and self.across is not None:
            raise LapelError("within and across: a query is compared by one of them alone")
        self.gains  # noqa: B018 - checks them

    def _check_bundle(self) -> None:
        if not self.bundle:
            raise LapelError("bundle=: must name a folder")
        if self.encoder is not None:
            raise LapelError("bundle and encoder: one of them alone is scored")
        if self.run != type(self).run:
            raise LapelError("bundle and run: one of them alone is scored")
        if self.post.label:
            raise LapelError("post: is for runs and encoders; a bundle's index holds embeddings as they were exported")
        if self.checkpoint is not Checkpoint.best:
            raise LapelError(f"checkpoint={self.checkpoint.name}: a bundle has that of its export alone")
