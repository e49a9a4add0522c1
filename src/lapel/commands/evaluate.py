"""lapel-evaluate, and the table of scores that it prints."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapel.commands.asked import helped
from lapel.commands.starting import ended_at_once, say_at_once, typed

if TYPE_CHECKING:
    from lapel.config.evaluation import EvaluateConfig


def _evaluate(config: "EvaluateConfig") -> float:
    from lapel.commands.terminal import say_next
    from lapel.config.data import DataConfig
    from lapel.evaluation import evaluated_in_folder
    from lapel.machine.console import show_whole

    result, folder = evaluated_in_folder(config)
    _show_scores(result)
    if config.report.make:
        show_whole(f"report: {folder / 'report.html'}")
    if config.bundle is None and not isinstance(config.data, DataConfig):  # a run, on its own data
        say_next(f"{typed('lapel-export')} run={Path(config.run)}")
    return result["map@r"]


def _check_named(config: "EvaluateConfig") -> None:
    from lapel.files.named import bundle_folder, check_data_root
    from lapel.files.paths import run_folder

    if config.report.against is not None:
        run_folder("report.against", config.report.against)
    if config.bundle is not None:
        bundle_folder(config.bundle)
    elif config.encoder is None:
        run_folder("run", config.run)
    check_data_root(config.data.root)


def _show_scores(result: dict[str, Any]) -> None:
    from lapel.errors import counted
    from lapel.machine.console import plain_table, show

    protocol = result["protocol"]
    intervals, cost, before = result["intervals"], result.get("approximation", {}), result.get("before", {})
    ends = [protocol["intervals"].partition(" by ")[0]] if intervals else []
    others = ["exact search", "cost"] if cost else ["before", "difference"] if before else []
    heads = ["value", *ends, *others]
    table = plain_table("metric", *heads, right=heads)
    for name, value in result.items():
        if isinstance(value, float):
            cells = [_interval(intervals.get(name))] if intervals else []
            cells += [f"{value + cost[name]:.4f}", f"{cost[name]:+.4f}"] if name in cost else []
            cells += [f"{before[name]:.4f}", f"{value - before[name]:+.4f}"] if name in before else []
            table.add_row(name, f"{value:.4f}", *cells)
    queries = counted(protocol["queries"], "query", "queries")
    if lone := protocol["queries_without_match"]:
        queries += f" ({lone:,} more without a match)"
    told = f"{protocol['data']}, {protocol['split']} part, {queries}, {protocol['metric']}"
    show(told, table)
    if times := result.get("milliseconds_per_query"):
        show(f"{protocol['search']}: {times['index']:.3f} ms per query, exact search {times['exact']:.3f}")


def _interval(ends: list[float] | None) -> str:
    return f"{ends[0]:.4f}-{ends[1]:.4f}" if ends else ""


def main() -> None:
    """`lapel-evaluate`."""
    with ended_at_once("lapel-evaluate"):
        if helped("evaluate"):
            return
        say_at_once("lapel-evaluate: getting ready: options, torch, data")
        from lapel.commands.hydra_app import ComposedCommand, run_composed
    run_composed(ComposedCommand("evaluate", _evaluate, "lapel.evaluation.evaluating", _check_named))
