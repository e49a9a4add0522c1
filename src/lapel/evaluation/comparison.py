"""Runs side by side: those that differ only by seed are one, with what lies between them told."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lapel.config.composing import flat
from lapel.config.evaluation import CompareConfig, Split
from lapel.errors import LapelError
from lapel.evaluation.intervals import paired_bootstrap, spread_of_seeds
from lapel.evaluation.telling_apart import names_of
from lapel.files.paths import CONFIG_FILE, run_path
from lapel.files.writing import read_yaml
from lapel.retrieval.words import is_share
from lapel.runs.folder import METRICS_FILE, QUERIES_FILE, has_ended, read_train_summary, runs_in

logger = logging.getLogger(__name__)

# Parts of a config that say nothing about what is compared; where training began (init) does.
ASIDE = ("seed", "resume", "quiet")

# What two evaluations must have in common, in their protocols, to be put side by side.
SAME = ("data", "split", "split_hash", "images_hash", "comparison")

# How far the mean of all queries' scores, computed again, may be from the one that was written.
ROUNDING = 1e-6


@dataclass(frozen=True)
class ScoredRun:
    """A run with its evaluation.

    Args:
        folder: of the run.
        config: plain, without seed.
        seed: of the run.
        scores: metric -> mean.
        intervals: metric -> lower and upper end.
        card: the protocol.
        grades: a line a query: `row`, `item`, and each metric.
        summary: train.json.
    """

    folder: Path
    config: dict[str, Any]
    seed: int
    scores: dict[str, float]
    intervals: dict[str, list[float]]
    card: dict[str, Any]
    grades: pd.DataFrame
    summary: dict[str, Any]


def compare(folders: list[str], config: CompareConfig) -> pd.DataFrame:
    """A line for each group of runs that differ only by seed, in the order in which they were named.

    Args:
        folders: run folders, and folders of several (a sweep).
        config: which scores are compared.

    Returns:
        name, folder of its first run, in how many options that the name does not tell it differs from the first line,
        seeds; mean, lower and upper end of each metric; its difference from the first line with the ends of a
        paired bootstrap over queries, or over items where evaluation draws items (seeds averaged), and its p-value;
        parameters, images/s, and the seconds of training's steps.

    Raises:
        LapelError: a folder is no run, a run that is named has no evaluation (of a folder of several: all of them), or
            one was scored on other images or in another way.
    """
    runs = _read(folders, config)
    for other in runs[1:]:
        _check_same(runs[0], other)
    groups: dict[str, list[ScoredRun]] = {}
    for run in runs:
        groups.setdefault(json.dumps(run.config, sort_keys=True), []).append(run)
    gathered = list(groups.values())
    for group in gathered:
        _warn_of_equal_seeds(group)
    named = names_of([flat(group[0].config) for group in gathered], [group[0].folder for group in gathered])
    return pd.DataFrame(
        [
            {"name": name, "folder": str(group[0].folder), "other options": others} | _line(group, gathered[0], config)
            for name, others, group in zip(*named, gathered, strict=True)
        ]
    )


def _read(folders: list[str], config: CompareConfig) -> list[ScoredRun]:
    """The runs that are named; and those in folders of several that can be compared, with a line about each other."""
    named = [(name, runs_in(name)) for name in folders]
    _check_once([folder for _, found in named for folder in found])
    runs, refusals = [], []
    for name, found in named:
        for folder in found:
            try:
                runs.append(read_run(folder, config))
            except LapelError as error:
                if folder == run_path(name):
                    raise
                refusals.append(error)
    if not runs:
        several = f"none of its {len(refusals)} runs can be compared; " if len(refusals) > 1 else ""
        raise LapelError(f"{', '.join(folders)}: {several}{refusals[0]}")
    for each in refusals:
        logger.warning("left out: %s", each)
    return runs


def read_run(folder: Path, config: CompareConfig) -> ScoredRun:
    """A run with its evaluation.

    Raises:
        LapelError: it has none, its training has not ended, or what is there is damaged.
    """
    evaluation = folder / "evaluation" / config.evaluation if config.evaluation else folder / "evaluation"
    summary = _summary(folder)
    command = f"python evaluate.py run={folder}"
    if not (evaluation / METRICS_FILE).is_file() or not (evaluation / QUERIES_FILE).is_file():
        raise LapelError(f"{folder}: has no evaluation in {evaluation}; {command}{_of_split(config)} makes one")
    try:
        plain = read_yaml(folder / CONFIG_FILE)
        told = json.loads((evaluation / METRICS_FILE).read_text())
        scores = {name: value for name, value in told.items() if name not in ("intervals", "protocol")}
        without_seed = {name: value for name, value in plain.items() if name not in ASIDE}
        grades = pd.read_parquet(evaluation / QUERIES_FILE)
        run = ScoredRun(
            folder, without_seed, plain["seed"], scores, told["intervals"], told["protocol"], grades, summary
        )
        whole = all(abs(grades[name].mean() - scores[name]) < ROUNDING for name in scores.keys() & set(grades))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LapelError(f"{folder}: cannot be read ({type(error).__name__}: {error})") from error
    if not whole:  # the process that wrote the files was killed before it had named the last
        raise LapelError(
            f"{evaluation}: {METRICS_FILE} and {QUERIES_FILE} are of two evaluations; {command} makes them anew"
        )
    return run


def _summary(folder: Path) -> dict[str, Any]:
    """The `train.json` of a run whose training has ended."""
    summary = read_train_summary(folder)
    if not summary or not has_ended(summary):
        why = summary.get("why", "it goes on, or was cut short")
        raise LapelError(
            f"{folder}: its training has not ended ({why}); python train.py resume={folder} goes on, then "
            f"python evaluate.py run={folder}"
        )
    return summary


def _of_split(config: CompareConfig) -> str:
    """The option that makes an evaluation of another part of the data, which is called by that part's name."""
    return f" split={config.evaluation}" if config.evaluation in Split.__members__ else ""


def _check_once(folders: list[Path]) -> None:
    """Raise where a run is named twice, perhaps by a link."""
    seen: dict[Path, Path] = {}
    for folder in folders:
        if (other := seen.setdefault(folder.resolve(), folder)) is not folder:
            raise LapelError(f"{folder}: is the same run as {other}; each counts once")


def _warn_of_equal_seeds(group: list[ScoredRun]) -> None:
    seeds = [run.seed for run in group]
    if len(set(seeds)) < len(seeds):
        logger.warning(
            "%s: %d runs like it have %d seeds: those of one seed say nothing of chance, the interval is too narrow",
            group[0].folder, len(seeds), len(set(seeds)),
        )  # fmt: skip


def _check_same(one: ScoredRun, other: ScoredRun) -> None:
    """Raise where two runs were not scored on the same images in the same way."""
    for key in SAME:
        if one.card[key] != other.card[key]:
            raise LapelError(
                f"{other.folder}: was scored with {key}={other.card[key]}, and {one.folder} with {one.card[key]}"
            )
    if one.grades["row"].tolist() != other.grades["row"].tolist():
        raise LapelError(f"{other.folder}: was scored on other queries than {one.folder}")


def _line(group: list[ScoredRun], first: list[ScoredRun], config: CompareConfig) -> dict[str, Any]:
    line: dict[str, Any] = {"seeds": len(group)}
    clusters = None if group is first else clusters_of([*first, *group])
    for metric in config.metrics:
        for run in group:
            if metric not in run.grades:
                allowed = ", ".join(each for each in run.grades if each not in ("row", "item"))
                raise LapelError(
                    f"metrics={metric}: {run.folder} has no such score of each query; allowed are {allowed}"
                )
        values = np.array([run.scores[metric] for run in group])
        line[metric] = float(values.mean())
        line[f"{metric} low"], line[f"{metric} high"] = _ends(metric, values, group, config)
        if group is not first:
            line |= _difference(metric, first, group, clusters, config)
    line["parameters"] = group[0].summary.get("parameters")
    line["images/s"] = float(np.mean([run.summary["images_per_second"] for run in group]))
    line["training_seconds"] = float(np.mean([run.summary["training_seconds"] for run in group]))
    return line


def _ends(
    metric: str, values: np.ndarray, group: list[ScoredRun], config: CompareConfig
) -> tuple[float | None, float | None]:
    """The interval of a group's score: over its seeds; over queries where it has one, or all came to one value."""
    if values.min() < values.max():
        return spread_of_seeds(values, config.confidence, is_share(metric))
    ends = [each for run in group if (each := run.intervals.get(metric))]
    return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else (None, None)


def _difference(
    metric: str, first: list[ScoredRun], group: list[ScoredRun], clusters: np.ndarray | None, options: CompareConfig
) -> dict[str, float]:
    one, other = (np.mean([run.grades[metric].to_numpy() for run in each], axis=0) for each in (first, group))
    low, high, chance = paired_bootstrap(one, other, options.samples, options.confidence, options.seed, clusters)
    return {
        f"{metric} difference": float((other - one).mean()), f"{metric} difference low": low,
        f"{metric} difference high": high, f"{metric} p": chance,
    }  # fmt: skip


def clusters_of(runs: list[ScoredRun]) -> np.ndarray | None:
    """int64 `[queries]`: the queries' items, where an evaluation drew items for its intervals; else None."""
    if not any(" of items" in (run.card.get("intervals") or "") for run in runs):
        return None
    found = next((run.grades["item"].to_numpy() for run in runs if "item" in run.grades), None)
    if found is None:
        logger.warning(
            "%s: was evaluated by a version of lapel that did not keep the queries' items: queries are drawn, and "
            "differences look surer than they are; evaluate again", runs[0].folder,
        )  # fmt: skip
    return found
