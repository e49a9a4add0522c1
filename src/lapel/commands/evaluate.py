"""lapel-evaluate, and the table of scores that it prints."""

from typing import TYPE_CHECKING, Any

from lapel.commands.starting import asks_for_help, ended_at_once, say_at_once

if TYPE_CHECKING:
    from lapel.config.evaluation import EvaluateConfig


def _evaluate(config: "EvaluateConfig") -> float:
    from lapel.evaluation import evaluate

    result = evaluate(config)
    _print_scores(result)
    return result["map@r"]


def _print_scores(result: dict[str, Any]) -> None:
    from rich.table import Table

    from lapel.machine.console import console

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
    console().print(table)
    if times := result.get("milliseconds_per_query"):
        print(f"{protocol['search']}: {times['index']:.3f} ms per query, exact search {times['exact']:.3f}")


def _interval(ends: list[float] | None) -> str:
    return f"{ends[0]:.4f}-{ends[1]:.4f}" if ends else ""


def main() -> None:
    """`lapel-evaluate`."""
    with ended_at_once("lapel-evaluate"):
        if asks_for_help():
            from lapel.commands.help import print_help

            print_help("evaluate")
            return
        say_at_once("lapel-evaluate: getting ready: options, torch, data")
        from lapel.commands.hydra_app import ComposedCommand, run_composed
    run_composed(ComposedCommand("evaluate", _evaluate, room="lapel.evaluation"))
