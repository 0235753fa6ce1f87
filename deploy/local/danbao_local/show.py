"""What the demo trade looks like on a terminal."""

import os
import shutil
import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from danbao_kit.money import exponent
from danbao_local.demo import DemoResult
from danbao_local.waterfall import render

_WIDTH_WITHOUT_TERMINAL = 100
_NARROWEST = 80


def make_console() -> Console:
    """A console as wide as the terminal, 100 columns where there is none."""
    width = shutil.get_terminal_size((_WIDTH_WITHOUT_TERMINAL, 24)).columns if sys.stdout.isatty() else 0
    if os.environ.get("COLUMNS", "").isdigit():
        width = int(os.environ["COLUMNS"])
    return Console(width=max(width or _WIDTH_WITHOUT_TERMINAL, _NARROWEST), highlight=False, soft_wrap=False)


def show(result: DemoResult, console: Console) -> None:
    """Timeline, ledger, credit, trace."""
    trade = result.trade
    console.print()
    console.print(f"[bold]One secured trade[/]  {trade.name}")
    console.print(
        f"{trade.buyer} pays {amount(trade.total_minor, trade.currency)}, the platform holds it, "
        f"{trade.seller} ships, the buyer confirms."
    )
    console.print(_timeline(result))
    console.print(_ledger(result))
    console.print(_credit(result))
    console.print()
    render(result.spans, result.trace_id, console=console, fold=True)


def amount(minor: int, currency: str) -> str:
    """Minor units as people write them."""
    digits = exponent(currency)
    sign, minor = ("-" if minor < 0 else ""), abs(minor)
    whole, part = divmod(minor, 10**digits)
    return f"{sign}{whole:,}{f'.{part:0{digits}d}' if digits else ''} {currency}"


def _timeline(result: DemoResult) -> Table:
    table = _table("Timeline")
    for heading in ("Time", "Command", "By", "Trade is then"):
        table.add_column(heading)
    table.add_column("Money moved", justify="right")
    for entry in result.timeline:
        moved = amount(entry.amount.amount_minor, entry.amount.currency) if entry.amount.amount_minor else ""
        table.add_row(
            entry.create_time.ToDatetime().strftime("%H:%M:%S.%f")[:-3],
            entry.command,
            _enum(entry.actor, "role", "ROLE_").lower(),
            _enum(entry, "state", "STATE_"),
            moved,
        )
    return table


def _ledger(result: DemoResult) -> Table:
    table = _table("Ledger")
    table.add_column("Account", overflow="fold")
    table.add_column("Against", overflow="fold")
    for heading in ("Debit", "Credit", "Balance after"):
        table.add_column(heading, justify="right")
    trade = result.trade.name
    for statement in result.statements:
        for position, entry in enumerate(statement.entries):
            value = amount(entry.amount.amount_minor, entry.amount.currency)
            is_debit = _enum(entry, "side", "SIDE_") == "DEBIT"
            account = statement.account
            table.add_row(
                "" if position else f"{account.kind} ({_owner(account.owner, trade)})",
                f"{entry.counterparty_kind} ({_owner(entry.counterparty_owner, trade)})",
                value if is_debit else "",
                "" if is_debit else value,
                amount(entry.balance_after_minor, entry.amount.currency),
            )
        table.add_section()
    return table


def _credit(result: DemoResult) -> Table:
    table = _table("Credit")
    for heading in ("Party", "Before", "After"):
        table.add_column(heading, no_wrap=True)
    table.add_column("What costs points now", overflow="fold")
    for change in result.credit:
        before, after = change.before, change.after
        reasons = [f"{reason.code} −{reason.points_lost}: {reason.text}" for reason in after.reasons]
        reasons += [f"{rule.code} {_signed(rule.points)}: {rule.text}" for rule in after.adjustments]
        moved = f"{after.score} {after.grade} ({_signed(after.score - before.score)})"
        if after.adjustments:
            # A capped score stands still while what is under the cap grows.
            moved += f"\nbefore rules {_sum(before)} → {_sum(after)}"
        table.add_row(
            change.role,
            f"{before.score} {before.grade}",
            moved,
            "\n".join(reasons) or "nothing",
        )
    return table


def _sum(evaluation: Any) -> int:
    return int(evaluation.base_points) + sum(part.points for part in evaluation.sub_scores)


def _signed(points: int) -> str:
    return f"{points:+}".replace("-", "−")


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE, expand=False)


def _owner(owner: str, trade: str) -> str:
    return "this trade" if owner == trade else owner.removeprefix("subjects/")


def _enum(message: Any, field: str, prefix: str) -> str:
    values = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    return str(values[getattr(message, field)].name).removeprefix(prefix)
