"""lapel-compare: runs side by side, as markdown, csv or json."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapel.commands.asked import helped
from lapel.commands.starting import ended_at_once

if TYPE_CHECKING:
    from lapel.config.evaluation import CompareConfig


def _compare(config: "CompareConfig", folders: list[str]) -> None:
    from lapel.errors import LapelError

    if not folders:
        raise LapelError("name at least one run folder, or a folder of runs")
    from lapel.runs.folder import runs_in

    for each in folders:
        runs_in(each)  # raises where there is none, before what reads it is imported
    from lapel.evaluation.comparison import compare

    _print_compared(compare(folders, config), config)


def _is_folder(argument: str) -> bool:
    return not argument.startswith("-") and ("=" not in argument or Path(argument).is_dir())


def _print_compared(table: Any, config: "CompareConfig") -> None:
    from lapel.config.evaluation import CompareFormat
    from lapel.files.tables import csv_text
    from lapel.machine.console import console
    from lapel.machine.messages import printable_lines

    form = config.format or (CompareFormat.table if console().is_terminal else CompareFormat.markdown)
    if form is CompareFormat.json:
        print(json.dumps(json.loads(table.to_json(orient="records", double_precision=10)), indent=2))
    elif form is CompareFormat.csv:
        print(csv_text(table), end="")
    elif form is CompareFormat.markdown:
        print(printable_lines(markdown(table, config)))
    else:
        _show(table, config)


def _show(table: Any, config: "CompareConfig") -> None:
    """The runs by number, then a table for each score, which fits a terminal of 80 columns."""
    from lapel.errors import counted
    from lapel.machine.console import plain_table, show, show_whole

    for number, name, seeds, *costs in _runs(table):
        told = (f"{cost} {unit}" for cost, unit in zip(costs, _costs(), strict=True) if cost)
        show_whole(f"{number}  {name}")
        show("   " + ", ".join([counted(int(seeds), "seed"), *told]))
    for metric in config.metrics:
        heads = _heads(metric, table, config)
        told = plain_table(*heads, right=heads)
        for cells in _scores(metric, table):
            told.add_row(*cells)
        show("", told)
    if told := _of_chance(table):
        show("", told)
    if others := _others(table):
        show("", others[0])
        show_whole(others[1])


def markdown(table: Any, config: "CompareConfig") -> str:
    """What a terminal shows, as tables of markdown: the runs by number, then a table for each score."""
    parts = [_markdown(["run", "name", "seeds", *_costs()], _runs(table))]
    parts += [_markdown(_heads(metric, table, config), _scores(metric, table)) for metric in config.metrics]
    if told := _of_chance(table):
        parts.append(told)
    if others := _others(table):
        parts.append(f"{others[0]} `{others[1]}`")
    return "\n\n".join(parts)


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    sides = ["---" if each == "name" else "---:" for each in heads]
    lines = [heads, sides, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(each.strip() for each in line)} |" for line in lines)


def _costs() -> tuple[str, ...]:
    """What a run's training cost, in words."""
    from lapel.runs.words import IN_STEPS

    return "parameters", "images/s", IN_STEPS


def _runs(table: Any) -> list[list[str]]:
    """A line a run: its number, name, seeds, and what it cost, as `_costs` has it."""
    from lapel.runs.words import duration

    return [
        [
            str(number), row["name"], str(row["seeds"]), _number(row["parameters"], ",.0f"),
            _number(row["images/s"], ".0f"), duration(row["training_seconds"]),
        ]
        for number, row in enumerate(table.to_dict("records"), start=1)
    ]  # fmt: skip


def _heads(metric: str, table: Any, config: "CompareConfig") -> list[str]:
    ends = f"{config.confidence:.0%}"
    return ["run", metric, ends, *(["less run 1", f"{ends} ", "p"] if f"{metric} difference" in table else [])]


def _scores(metric: str, table: Any) -> list[list[str]]:
    """A line a run: its number, a score with its ends, and its difference from the first run with its ends and p."""
    name, lines = f"{metric} difference", []
    for number, row in enumerate(table.to_dict("records"), start=1):
        cells = [str(number), _number(row[metric], ".4f"), _ends(row, metric, ".4f")]
        if name in table:
            cells += [_number(row[name], "+.4f"), _ends(row, name, "+.4f"), _number(row[f"{metric} p"], ".3f")]
        lines.append(cells)
    return lines


def _of_chance(table: Any) -> str:
    """What the intervals of scores and those of differences are of, where they are of different things; else empty."""
    if len(table) < 2 or table["seeds"].max() < 2:
        return ""
    return (
        "Intervals of scores are of the seeds; those of differences, and p, of the queries, seeds averaged: p tells "
        "whether these runs differ on such queries, not whether other seeds would."
    )


def _others(table: Any) -> tuple[str, str] | None:
    """That runs differ in more options than their names tell, and a command that shows them; None where they do not."""
    from lapel.errors import counted
    from lapel.files.paths import CONFIG_FILE

    first, *rest = table.to_dict("records")
    most = max((row["other options"] for row in rest), default=0)
    if not most:
        return None
    row = next(each for each in rest if each["other options"] == most)
    number = rest.index(row) + 2
    options = f"{counted(most, 'option')} that the names do not tell"
    told = f"Run {number} differs from run 1 in {options}" + (", no other in more:" if len(rest) > 1 else ":")
    return told, shlex.join(["diff", *(str(Path(each["folder"]) / CONFIG_FILE) for each in (first, row))])


def _ends(row: dict[str, Any], name: str, form: str) -> str:
    low, high = (_number(row[f"{name} {end}"], form) for end in ("low", "high"))
    return f"{low} to {high}" if low else ""


def _number(value: Any, form: str) -> str:
    return "" if value is None or value != value else format(value, form)


def main() -> None:
    """`lapel-compare`."""
    with ended_at_once("lapel-compare"):
        if helped("compare"):
            return
        from lapel.commands.literal import run_literal

        run_literal("compare", _compare, is_subject=_is_folder)
