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

    if config.format is CompareFormat.json:
        print(json.dumps(json.loads(table.to_json(orient="records", double_precision=10)), indent=2))
    elif config.format is CompareFormat.csv:
        print(csv_text(table), end="")
    else:
        print(markdown(table, config.metrics))


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
    value, low, high = (_number(row[key], form) for key in (name, f"{name} low", f"{name} high"))
    return f"{value} ({low} to {high})" if low else value


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
