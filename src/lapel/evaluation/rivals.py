"""Another run beside the one that is reported: checked before anything is computed, then difference by difference."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lapel.catalog.seen import images_hash
from lapel.config.evaluation import Checkpoint, CompareConfig, EvaluateConfig, Split
from lapel.errors import LapelError
from lapel.evaluation.comparison import SAME, ScoredRun, clusters_of, read_run
from lapel.evaluation.evaluated import Evaluated
from lapel.evaluation.intervals import paired_bootstrap
from lapel.evaluation.protocols import Protocol
from lapel.evaluation.subjects import Subject
from lapel.files.paths import run_folder
from lapel.report import Difference, Rival
from lapel.runs.folder import METRICS_FILE, QUERIES_FILE, called

# Queries of a category, fewer of which give no interval: their resamples hardly differ.
FEWEST = 10


def named_rival(config: EvaluateConfig) -> Path | None:
    """The folder of the run that is to stand beside the one that is reported; None without one.

    Raises:
        LapelError: there is no such run.
    """
    given = config.report.against
    return None if given is None else run_folder("report.against", given)


def read_rival(folder: Path, subject: Subject, config: EvaluateConfig, protocol: Protocol) -> ScoredRun:
    """The run's evaluation of what is about to be scored.

    Raises:
        LapelError: it has none, was scored on other images or in another way, or is the very run that is reported.
    """
    key = f"report.against={config.report.against}"
    if subject.run is not None and subject.run.resolve() == folder.resolve():
        raise LapelError(f"{key}: is the run that is scored; name another one")
    evaluation = folder / "evaluation" / subject.evaluation
    if not all((evaluation / name).is_file() for name in (METRICS_FILE, QUERIES_FILE)):
        command = " ".join(["python evaluate.py", f"run={folder}", *_asked(config)])
        raise LapelError(f"{key}: has no evaluation in {evaluation}; {command} makes one")
    rival = read_run(folder, CompareConfig(evaluation=subject.evaluation))
    mine = _protocol(subject, config, protocol)
    for name in SAME:
        if rival.card.get(name) != mine[name]:
            raise LapelError(
                f"{key}: was scored with {name}={rival.card.get(name)}, and this is scored with {mine[name]}; only "
                "evaluations of the same images can stand side by side"
            )
    return rival


def _asked(config: EvaluateConfig) -> list[str]:
    """The options by which an evaluation of the same kind is made."""
    columns = {"within": config.within, "across": config.across}
    return [
        *([] if config.split is Split.test else [f"split={config.split.name}"]),
        *([] if config.checkpoint is Checkpoint.best else [f"checkpoint={config.checkpoint.name}"]),
        *(f"{name}={column}" for name, column in columns.items() if column is not None),
    ]


def _protocol(subject: Subject, config: EvaluateConfig, protocol: Protocol) -> dict[str, Any]:
    """Of what is about to be scored, that by which evaluations are told apart."""
    catalog, split = subject.catalog, config.split.name
    return {
        "data": catalog.name,
        "split": split,
        "split_hash": catalog.split_hash(split),
        "images_hash": images_hash(catalog, split),
        "comparison": protocol.rule,
    }


def beside(found: Evaluated, rival: ScoredRun, result: dict[str, Any]) -> Rival:
    """The scores of both runs, with what lies between them.

    Args:
        found: the evaluation that is reported.
        rival: the other run's.
        result: what metrics.json holds.
    """
    options = found.config.bootstrap
    clusters = _clusters(found, rival)
    drawn = "queries" if clusters is None else "items"
    told = f"{options.confidence:.0%} by a paired bootstrap of {options.samples:,} resamples of {drawn}"
    return Rival(
        name=called(rival.folder),
        told=told if options.samples else None,
        scores=[
            _difference(name, found, rival, result, clusters)
            for name, value in result.items()
            if isinstance(value, float) and name in rival.scores
        ],
        categories=_by_category(found, rival, clusters),
        fewest=FEWEST,
    )


def _clusters(found: Evaluated, rival: ScoredRun) -> np.ndarray | None:
    """int64 `[queries]`: the queries' items, where either evaluation has drawn items for its intervals; else None."""
    if found.familiar.unseen:
        return found.catalog.items[found.protocol.queries[found.scores.queries]]
    return clusters_of([rival])


def _difference(
    name: str, found: Evaluated, rival: ScoredRun, result: dict[str, Any], clusters: np.ndarray | None
) -> Difference:
    """Of one score; of those of pairs, which queries do not have, without an interval."""
    plain = Difference(name, result[name], rival.scores[name])
    if name not in found.scores.grades or name not in rival.grades:
        return plain
    return _drawn(plain, found, rival, name, np.arange(len(found.scores.queries)), clusters)


def _drawn(
    plain: Difference, found: Evaluated, rival: ScoredRun, metric: str, places: np.ndarray, clusters: np.ndarray | None
) -> Difference:
    """A difference with the ends of its interval, and its p-value, of the graded queries at some places."""
    options = found.config.bootstrap
    if not options.samples:
        return plain
    mine, other = found.scores.grades[metric][places], rival.grades[metric].to_numpy()[places]
    grouped = None if clusters is None else clusters[places]
    low, high, chance = paired_bootstrap(other, mine, options.samples, options.confidence, options.seed, grouped)
    return replace(plain, ends=(low, high), chance=chance)


def _by_category(found: Evaluated, rival: ScoredRun, clusters: np.ndarray | None) -> list[Difference]:
    catalog = found.catalog
    categories = catalog.categories[found.protocol.queries[found.scores.queries]]
    mine, other = found.scores.grades["map@r"], rival.grades["map@r"].to_numpy()
    differences = []
    for code in np.unique(categories).tolist():
        places = np.flatnonzero(categories == code)
        means = float(mine[places].mean()), float(other[places].mean())
        plain = Difference(catalog.category_names[code], *means, queries=len(places))
        enough = len(places) >= FEWEST
        differences.append(_drawn(plain, found, rival, "map@r", places, clusters) if enough else plain)
    return sorted(differences, key=lambda each: each.mine - each.other)
