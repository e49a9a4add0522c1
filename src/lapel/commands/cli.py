"""The commands: lapel-train, lapel-evaluate and lapel-export are Hydra applications.

lapel-search takes `key=value` literally, since Hydra's grammar rejects file names such as `my photo (1).png`.
"""

import dataclasses
import json
import sys
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from lapel.composing import escape_interpolation, explain, no_such_option, to_config
from lapel.config import (
    CompareConfig,
    CompareFormat,
    EvaluateConfig,
    ExportConfig,
    SearchConfig,
    TableFormat,
    TrainConfig,
)
from lapel.errors import LapelError
from lapel.hydra_app import hydra_command
from lapel.outside import outer_rank
from lapel.terminal import log_to_terminal, print_version, told_in_one_line

# What a table of search results shows (json and csv have every column), and the least width of its numbers in a narrow
# terminal, where only names are cut.
TABLE_COLUMNS = ["rank", "row", "score", "item", "category", "image"]
NARROWEST = {"rank": 4, "row": 5, "score": 7}


def _train(config: TrainConfig) -> float:
    from lapel.training import find_lr, join, train

    if outer_rank() > 0:
        return join()
    folder = _relative(Path(HydraConfig.get().runtime.output_dir)) if HydraConfig.initialized() else None
    return find_lr(config, folder) if config.find_lr else train(config, folder)


def _relative(folder: Path) -> Path:
    """A folder as the user would write it: relative where it lies below the working directory."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _evaluate(config: EvaluateConfig) -> float:
    from lapel.evaluation import evaluate

    result = evaluate(config)
    _print_scores(result)
    return result["map@r"]


def _export(config: ExportConfig) -> str:
    from lapel.bundle import export

    return str(export(config))


train_command = hydra_command("train", _train, keeps_folders=True)
evaluate_command = hydra_command("evaluate", _evaluate, keeps_folders=False)
export_command = hydra_command("export", _export, keeps_folders=False)


def search_command() -> None:
    """`lapel-search bundle=FOLDER image=FILE|row=N k=10 format=table|json|csv`."""
    with told_in_one_line("lapel-search"):
        log_to_terminal()
        config: SearchConfig = read_literally(sys.argv[1:], SearchConfig)
        from lapel.bundle import load

        bundle = load(config.bundle)
        if config.row is not None:
            found = bundle.search_row(config.row, config.k)
        else:
            found = bundle.search(config.image, config.k)
        _print_found(found.drop(columns="query"), config.format)


def compare_command() -> None:
    """`lapel-compare RUN|FOLDER … metrics=recall@1,map@r format=markdown|csv|json`."""
    with told_in_one_line("lapel-compare"):
        log_to_terminal()
        folders = [
            each for each in sys.argv[1:] if not each.startswith("-") and ("=" not in each or Path(each).is_dir())
        ]
        config: CompareConfig = read_literally([each for each in sys.argv[1:] if each not in folders], CompareConfig)
        if not folders:
            raise LapelError("name at least one run folder, or a folder of runs")
        from lapel.comparison import compare

        _print_compared(compare(folders, config), config)


# ------------------------------------------------------------------------------------- literal options


def read_literally(arguments: list[str], options: type) -> Any:
    """A config from `key=value` arguments, split at the first `=`; the value is taken as it stands.

    Raises:
        LapelError: an argument is no `key=value`, the key does not exist, or the value is not allowed.
    """
    if {"-h", "--help"} & set(arguments):
        print(_help(options))
        raise SystemExit(0)
    if "--version" in arguments:
        print_version()
        raise SystemExit(0)
    node = OmegaConf.structured(options)
    hints = get_type_hints(options)
    allowed = [each.name for each in dataclasses.fields(options)]
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not key:
            raise LapelError(f"{argument}: must be key=value with one of the keys {', '.join(allowed)}")
        if key not in allowed:
            raise LapelError(no_such_option(key, allowed))
        try:
            if get_origin(hints[key]) is list:
                node[key] = [escape_interpolation(each) for each in value.split(",")]
            else:
                node[key] = escape_interpolation(value)
        except OmegaConfBaseException as error:
            raise LapelError(explain(error, options)) from error
    return to_config(node)


def _help(options: type) -> str:
    lines = [(options.__doc__ or "").strip(), "", "Options, as key=value:"]
    for each in dataclasses.fields(options):
        default = f"  (default {getattr(each.default, 'name', each.default)})" if each.default is not None else ""
        lines.append(f"  {each.name}={_allowed_values(each.type)}{default}")
    return "\n".join(lines)


def _allowed_values(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(kind.__members__)
    if get_origin(kind) is list:
        return f"{_allowed_values(get_args(kind)[0])},…"
    inner = next((each for each in get_args(kind) if each is not type(None)), kind)
    return {str: "TEXT", int: "NUMBER", float: "NUMBER"}[inner]


# ---------------------------------------------------------------------------------------------- output


def _print_scores(result: dict[str, Any]) -> None:
    protocol = result["protocol"]
    print(f"{protocol['data']}, {protocol['split']} part, {protocol['queries']} queries, {protocol['metric']}")
    table = Table()
    table.add_column("metric")
    table.add_column("value", justify="right")
    intervals, cost, before = result["intervals"], result.get("approximation", {}), result.get("before", {})
    if intervals:
        table.add_column(protocol["intervals"].partition(" by ")[0], justify="right")
    for heading in ("exact search", "cost") if cost else ("before", "difference") if before else ():
        table.add_column(heading, justify="right")
    for name, value in result.items():
        if isinstance(value, float):
            cells = [_interval(intervals.get(name))] if intervals else []
            cells += [f"{value + cost[name]:.4f}", f"{cost[name]:+.4f}"] if name in cost else []
            cells += [f"{before[name]:.4f}", f"{value - before[name]:+.4f}"] if name in before else []
            table.add_row(name, f"{value:.4f}", *cells)
    Console().print(table)
    if times := result.get("milliseconds_per_query"):
        print(f"{protocol['search']}: {times['index']:.3f} ms per query, exact search {times['exact']:.3f}")


def _interval(ends: list[float] | None) -> str:
    return f"{ends[0]:.4f}-{ends[1]:.4f}" if ends else ""


def _print_compared(table: Any, config: CompareConfig) -> None:
    if config.format is CompareFormat.json:
        print(json.dumps(json.loads(table.to_json(orient="records", double_precision=10)), indent=2))
    elif config.format is CompareFormat.csv:
        print(table.to_csv(index=False), end="")
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


def _print_found(found: Any, form: TableFormat) -> None:
    if form is TableFormat.json:
        records = json.loads(found.drop(columns="rank").to_json(orient="records", double_precision=10))
        print(json.dumps(records, indent=2, ensure_ascii=False))
    elif form is TableFormat.csv:
        print(found.to_csv(index=False), end="")
    else:
        table = Table()
        for name in TABLE_COLUMNS:
            table.add_column(name, min_width=NARROWEST.get(name))
        for row in found[TABLE_COLUMNS].itertuples(index=False):
            table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row))
        Console().print(table)
