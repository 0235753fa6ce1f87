"""What a person sees, and what bench.json holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from danbao_local.bench.bodies import payment_bytes
from danbao_local.bench.figures import Figure
from danbao_local.bench.measures import ACCOUNTS
from danbao_local.bench.processes import OTHERS
from danbao_local.bench.run import TRACE_RATIO, BenchResult, Pace
from danbao_local.layout import write_atomically

FORMAT = 1
_SHORT = {
    "echo_direct": "echo direct",
    "echo_gateway": "echo",
    "create_payment_untraced": "not sampled",
    "create_payment_alone": "one at a time",
    "pgbench_s100": "pgbench s100",
    "pgbench_s1": "pgbench s1",
    "batch": "spread",
    "trades": "unary",
}
_WORTH_SHOWING = 0.02


def to_json(
    result: BenchResult, pace: Pace, machine: Mapping[str, Any], *, began: str, seconds: float
) -> dict[str, Any]:
    """The whole content of bench.json."""
    return {
        "format": FORMAT,
        "began": began,
        "seconds": round(seconds, 1),
        "machine": dict(machine),
        "pace": {"rounds": pace.rounds, "seconds": pace.seconds, "warm_up_seconds": pace.warm_up_seconds},
        "accounts": ACCOUNTS,
        "echo_bytes": payment_bytes(),
        "trace_ratio": TRACE_RATIO,
        "figures": [figure.to_json(result.figures) for figure in result.figures.values()],
        "credit_lags": [lag.to_json() for lag in result.lags],
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace bench.json as a whole."""
    write_atomically(path.absolute(), json.dumps(content, indent=2) + "\n")


def show(result: BenchResult, machine: Mapping[str, Any], console: Console) -> None:
    """The tables."""
    console.print(_figures_table(result.figures))
    console.print(_cpu_table(result.figures))
    for figure in result.figures.values():
        if figure.void:
            console.print(f"[bold]void[/] {figure.title}: {figure.void}", highlight=False)
        for what, times in figure.remarks.items():
            console.print(f"{figure.title}: {times} {what}.", highlight=False)
    slowest = max(result.lags, key=lambda lag: (lag.left, lag.seconds), default=None)
    if slowest is not None:
        left = f", {slowest.left} events left then" if slowest.left else ""
        console.print(
            f"Credit at its furthest behind: {slowest.behind} events at the end of {slowest.after}; waited "
            f"{slowest.seconds:.1f} s for it{left}.",
            highlight=False,
        )
    console.print(
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, load average "
        f"{machine['load_average'][0]} before; Python {machine['python']}, PostgreSQL {machine['postgresql']}, "
        f"revision {machine['revision'] or 'unknown'}. Client, services and database share them: only the ratios "
        "count.\n"
        f"Medians over the rounds; a ratio is the median of the rounds' own. Everything goes "
        f"through the gateway unless it says direct. Traces at {TRACE_RATIO:.0%}, as the local stack has them. "
        f"Echo of {payment_bytes()} bytes, as long as a CreatePayment. "
        "Others: cores that everything else on this machine kept busy meanwhile.",
        highlight=False,
    )


def _figures_table(figures: Mapping[str, Figure]) -> Table:
    table = Table("measure", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("in flight", "a second", "p50 / p99 ms"):
        table.add_column(heading, justify="right")
    table.add_column("÷ baseline")
    for figure in figures.values():
        in_flight = str(figure.in_flight or "")
        if figure.void:
            table.add_row(figure.title, in_flight, "void")
            continue
        ratios = "\n".join(
            f"[bold]{ratio.median:.2f}[/] {ratio.note or _SHORT.get(ratio.to, ratio.to)}"
            for ratio in figure.ratios(figures)
        )
        table.add_row(figure.title, in_flight, _rate(figure), _latency(figure), ratios)
    return table


def _cpu_table(figures: Mapping[str, Figure]) -> Table:
    table = Table("CPU of one item, µs by process", "", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("others", justify="right")
    for figure in figures.values():
        used = {name: each for name, each in figure.cpu_us.items() if name != OTHERS}
        if figure.void or not used:
            continue
        least = _WORTH_SHOWING * sum(used.values())
        shown = [f"{name} {_number(each)}" for name, each in used.items() if each >= least]
        table.add_row(figure.title, "  ".join(shown), f"{figure.cores(OTHERS):.1f}")
    return table


def _rate(figure: Figure) -> str:
    median = figure.median
    assert median is not None, "it is not void"
    return f"{_number(median)} [dim]({_number(min(figure.values))}-{_number(max(figure.values))})[/]"


def _latency(figure: Figure) -> str:
    timed = sorted((seen for seen in figure.observations if seen.p50_ms), key=lambda seen: seen.p50_ms)
    if not timed:
        return ""
    middle = timed[len(timed) // 2]
    return f"{middle.p50_ms:.1f} / {middle.p99_ms:.1f}" if middle.p99_ms else f"{middle.p50_ms:.1f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
