"""The files of an evaluation: they appear together, in the place of those of one before, the scores last."""

import json
from typing import Any

import pandas as pd

from lapel.evaluation.evaluated import Evaluated
from lapel.evaluation.neighbors import NEIGHBORS_FILE, exact_lists, write_neighbors
from lapel.evaluation.reporting import report_content
from lapel.evaluation.verification import ScoredPairs
from lapel.files.tables import csv_text
from lapel.files.writing import Staged, together
from lapel.images.store import ImageStore
from lapel.pictures.examples import examples, spread
from lapel.report import FIGURES, REPORT_FILE, write_report
from lapel.runs.folder import METRICS_FILE, QUERIES_FILE


def write_evaluation(
    found: Evaluated,
    store: ImageStore,
    result: dict[str, Any],
    pairs: ScoredPairs | None,
    tables: dict[str, pd.DataFrame],
) -> None:
    """Write everything that is kept of an evaluation into its folder.

    Args:
        found: the evaluation.
        store: of its images.
        result: what metrics.json holds.
        pairs: with their similarities; None where there are matches alone.
        tables: `items`, `categories` and `confusion`.
    """
    folder, config = found.subject.folder, found.config
    with together(folder, METRICS_FILE) as staged:
        figures = (f"{FIGURES}/{each.name}" for each in (folder / FIGURES).glob("*"))
        for name in (REPORT_FILE, NEIGHBORS_FILE, *figures):  # of an evaluation before this one
            staged.remove(name)
        staged.file(METRICS_FILE).write_text(json.dumps(result, indent=2) + "\n")
        _write_tables(staged, found, tables)
        _write_examples(staged, found, store)
        if config.report.make:
            write_report(report_content(found, store, result, pairs, tables), staged)
        if config.neighbors:
            _write_neighbors(staged, found)


def _write_tables(staged: Staged, found: Evaluated, tables: dict[str, pd.DataFrame]) -> None:
    """Scores of each query, and the tables."""
    rows = found.protocol.queries[found.scores.queries]
    queries = pd.DataFrame({"row": rows, "item": found.catalog.items[rows], **found.scores.grades})
    queries.to_parquet(staged.file(QUERIES_FILE), index=False)
    for name, table in tables.items():
        staged.file(f"{name}.csv").write_text(csv_text(table, index=name == "confusion"), encoding="utf-8", newline="")


def _write_examples(staged: Staged, found: Evaluated, store: ImageStore) -> None:
    protocol, scores = found.protocol, found.scores
    shown = spread(scores.queries)
    sheet = examples(found.catalog, store, protocol.queries, protocol.gallery, scores.neighbors.positions, shown)
    sheet.save(staged.file("examples.png"), format="PNG")


def _write_neighbors(staged: Staged, found: Evaluated) -> None:
    subject, protocol, k = found.subject, found.protocol, found.config.neighbors_k
    if subject.index is not None:
        lists = subject.index.lists(protocol, found.embeddings[0], k)
    else:
        lists = exact_lists(protocol, found.embedded, k)
    write_neighbors(staged, protocol, lists)
