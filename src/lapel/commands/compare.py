"""lapel-compare: runs side by side, as markdown, csv or json."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapel.commands.starting import asks_for_help, ended_at_once

if TYPE_CHECKING:
    from lapel.config.evaluation import CompareConfig


def _compare(config: "CompareConfig", folders: list[str]) -> None:
    from lapel.errors import LapelError

    if not folders:
        raise LapelError("name at least one run folder, or a folder of runs")
    from lapel.evaluation.comparison import compare

    _print_compared(compare(folders, config), config)


def _is_folder(argument: str) -> bool:
    return not argument.startswith("-") and ("=" not in argument or Path(argument).is_dir())


def _print_compared(table: Any, config: "CompareConfig") -> None:
    from lapel.config.evaluation import CompareFormat
    from lapel.files.tables import csv_text
    from lapel.machine.console import console

    form = config.format or (CompareFormat.table if console().is_terminal else CompareFormat.markdown)
    if form is CompareFormat.json:
        print(json.dumps(json.loads(table.to_json(orient="records", double_precision=10)), indent=2))
    elif form is CompareFormat.csv:
        print(csv_text(table), end="")
    elif form is CompareFormat.markdown:
        print(markdown(table, config.metrics))
    else:
        _show(table, config)


def _show(table: Any, config: "CompareConfig") -> None:
    """The runs by number, then a table for each score, which fits a terminal of 80 columns."""
    from lapel.machine.console import plain_table, show

    ends = f"{config.confidence:.0%}"
    for number, row in enumerate(table.to_dict("records"), start=1):
        costs = f"{_number(row['parameters'], ',.0f')} parameters, {_number(row['images/s'], '.0f')} images/s"
        seeds = f"{row['seeds']} seed{'s' if row['seeds'] > 1 else ''}"
        show(f"{number}  {row['name']}", f"   {seeds}, {costs}, {_number(row['seconds'], '.0f')} s")
    for metric in config.metrics:
        compared = f"{metric} difference" in table
        heads = ["run", metric, ends, *(["less run 1", f"{ends} ", "p"] if compared else [])]
        told = plain_table(*heads, right=heads)
        for number, row in enumerate(table.to_dict("records"), start=1):
            cells = [str(number), _number(row[metric], ".4f"), _ends(row, metric, ".4f")]
            if compared:
                name = f"{metric} difference"
                cells += [_number(row[name], "+.4f"), _ends(row, name, "+.4f"), _number(row[f"{metric} p"], ".3f")]
            told.add_row(*cells)
        show("", told)


def markdown(table: Any, metrics: list[str]) -> str:
    """A comparison for reading: each score with its interval, and its difference from the first line."""
    heads = ["run", "seeds"]
    for metric in metrics:
        heads += [metric, "difference", "p"] if f"{metric} difference" in table else [metric]
    lines = [[*heads, "parameters", "images/s", "seconds"]]
    for row in table.to_dict("records"):
        cells = [row["name"], str(row["seeds"])]
        for metric in metrics:
            cells.append(_with_ends(row, metric, ".4f"))
            if f"{metric} difference" in table:
                cells += [_with_ends(row, f"{metric} difference", "+.4f"), _number(row[f"{metric} p"], ".3f")]
        numbers = _number(row["parameters"], ",.0f"), _number(row["images/s"], ".0f"), _number(row["seconds"], ".0f")
        lines.append([*cells, *numbers])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    return "\n".join([padded[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *padded[1:]])


def _with_ends(row: dict[str, Any], name: str, form: str) -> str:
    value, ends = _number(row[name], form), _ends(row, name, form)
    return f"{value} ({ends})" if ends else value


def _ends(row: dict[str, Any], name: str, form: str) -> str:
    low, high = (_number(row[f"{name} {end}"], form) for end in ("low", "high"))
    return f"{low} to {high}" if low else ""


def _number(value: Any, form: str) -> str:
    return "" if value is None or value != value else format(value, form)


def main() -> None:
    """`lapel-compare`."""
    with ended_at_once("lapel-compare"):
        if asks_for_help():
            from lapel.commands.help import print_help

            print_help("compare")
            return
        from lapel.commands.literal import run_literal

        run_literal("compare", _compare, is_subject=_is_folder)
