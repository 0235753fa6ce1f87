"""The report for a person at a terminal."""

from collections.abc import Iterable, Iterator
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from danbao_local.olist.orders import CURRENCY
from danbao_local.show import amount


def show(report: dict[str, Any], console: Console) -> None:
    """Orders, odd rows, merchants, money, checks; the verdict last."""
    console.print()
    console.print(_outcomes(report))
    console.print(_complaints(report["complaints"]))
    console.print(_ends("Refund cases", report["cases"]))
    console.print(_ends("Disputes", report["disputes"]))
    console.print(_odd(report["odd"]))
    console.print(_merchants("Best credit", report["merchants"]["best"]))
    console.print(_merchants("Worst credit", report["merchants"]["worst"]))
    for currency, figures in report["money"].items():
        console.print(_money(currency, figures, report["in_by_files"]))
    for kind, found in report["assessment"]["grades"].items():
        console.print(_grades(kind, found))
    console.print(_checks(report["audit"]))
    for name, found in report["own_audits"].items():
        console.print(
            f"{name} audits itself: {found['checks']} checks, {found['violations']} violations, {found['seconds']} s"
        )
    reports = report["reports"]
    console.print(f"defective orders, by credit: {report['defects']['by_credit']}")
    console.print(
        f"{reports['told']} reports of {len(reports['by_kind'])} kinds told to credit, {reports['seconds']} s"
    )
    for text in assessment_lines(report["assessment"]):
        console.print(text, markup=False, soft_wrap=True)
    for entry in report["unaccounted_orders"]:
        console.print(
            f"not accounted for: order {entry['order']} ({entry['status']}): {'; '.join(entry['why'])}",
            markup=False,
            soft_wrap=True,
        )
    for text in report["audit"]["found"]:
        console.print(f"violated: {text}", markup=False, soft_wrap=True)
    again = sum(report["calls"]["sent_again"].values())
    console.print(
        f"{report['orders']} orders, {report['trades']} trades, {report['unaccounted']} not accounted for, "
        f"{report['audit']['violations']} violations; {report['seconds']:.0f} s, "
        f"{report['orders_per_second']:.0f} orders/s, {sum(report['calls']['sent'].values())} calls, "
        f"{again} sent again, {report['calls']['answered_from_records']} answered from records",
        markup=False,
        soft_wrap=True,
    )


def _outcomes(report: dict[str, Any]) -> Table:
    table = _table("What was done with every order", "Status", "What became of it", right=("Orders",))
    for status, found in report["outcomes"].items():
        for position, (text, count) in enumerate(found.items()):
            table.add_row("" if position else status, text, str(count))
    table.add_row("", "all", str(report["orders"]))
    return table


def _complaints(courses: dict[str, dict[str, Any]]) -> Table:
    table = _table("Complaints", "Course and rule", right=("Trades", "Cases", "To buyers"))
    for course, found in courses.items():
        to_buyers = amount(found["to_buyers_minor"], CURRENCY)
        table.add_row(f"[bold]{course}[/]  {found['rule']}", str(found["trades"]), str(found["cases"]), to_buyers)
    return table


def _ends(title: str, outcomes: dict[str, dict[str, int]]) -> Table:
    table = _table(title, "How they ended", right=("Count", "To buyers"))
    for outcome, found in outcomes.items():
        table.add_row(outcome, str(found["count"]), amount(found["to_buyers_minor"], CURRENCY))
    return table


def _odd(entries: Iterable[dict[str, Any]]) -> Table:
    table = _table("Odd orders and rows", "Kind, rule, examples", right=("Count", "Amount"))
    for entry in entries:
        minor = entry.get("amount_minor")
        examples = "\n".join(f"  {example}" for example in entry["examples"])
        table.add_row(
            f"[bold]{entry['kind']}[/]  {entry['rule']}\n[dim]{examples}[/]",
            str(entry["count"]),
            amount(minor, CURRENCY) if minor else "",
        )
    return table


def _merchants(title: str, entries: Iterable[dict[str, Any]]) -> Table:
    table = _table(title, "Merchant", "Credit", "What costs points", right=("Trades",))
    for entry in entries:
        subject = entry["subject"].removeprefix("subjects/")
        reasons = "\n".join(entry["reasons"]) or "nothing"
        table.add_row(subject, f"{entry['score']} {entry['grade']}", reasons, str(entry["trades"]))
    return table


def _grades(kind: str, found: dict[str, Any]) -> Table:
    headings = ("Subjects", "Outcomes", "Defects", "Rate", "95 % interval")
    table = _table(f"{kind.capitalize()}s: defects out of time, by grade", "Grade", right=headings)
    rows = [(" ".join(entry["grades"]), entry) for entry in found.get("by_grade", ())]
    rows += [
        (f"{name}: {' '.join(found[name]['grades'])}", found[name]) for name in ("best", "worst") if found.get(name)
    ]
    for grades, entry in rows:
        rate = "–" if entry["rate"] is None else f"{entry['rate']:.2%}"
        low, high = entry["interval"]
        counts = (entry["subjects"], entry["outcomes"], entry["defects"])
        table.add_row(grades, *map(str, counts), rate, f"{low:.2%} to {high:.2%}")
    return table


def assessment_lines(assessment: dict[str, Any]) -> Iterator[str]:
    """What the grades show, and what the indicators tell apart."""
    for kind, found in assessment["grades"].items():
        if "impossible" in found:
            yield f"{kind}s, {assessment['model']}: {found['impossible']}"
            continue
        ratio = "" if found["ratio"] is None else f", ratio {found['ratio']:.2f}"
        aside = f"; not compared, with too few outcomes: {' '.join(found['aside'])}" if found["aside"] else ""
        yield (
            f"{kind}s, {assessment['model']}: worst grades against best {found['verdict']}{ratio} "
            f"({found['outcome']}; {found['rows']} scores at {found['cuts']} cuts{aside})"
        )
    for kind, found in assessment["indicators"].items():
        yield (
            f"{kind}s: {found['known']} of {found['indicators']} indicators have a value for somebody "
            f"({found['share']:.1%}), {len(found['constant'])} never another than one, "
            f"{len(found['equal'])} groups are equal for everybody"
        )
        yield from (f"  equal: {' = '.join(group)}" for group in found["equal"])


def _money(currency: str, figures: dict[str, Any], in_by_files: int) -> Table:
    table = _table(f"Money, {currency}", "", right=("Amount",))
    table.add_row("in: top-ups the rail reported", amount(figures["in"], currency))
    if currency == CURRENCY:
        table.add_row("  the same by the files alone", amount(in_by_files, currency))
    table.add_row("out: paid back over rails", amount(figures["out"], currency))
    table.add_row("held", amount(figures["held"], currency))
    for kind, minor in figures["held_by_kind"].items():
        table.add_row(f"  {kind}", amount(minor, currency))
    table.add_row("in − out − held", amount(figures["in"] - figures["out"] - figures["held"], currency))
    return table


def _checks(audit: dict[str, Any]) -> Table:
    table = _table("Checks", "", right=("Violations",))
    for name, violations in audit["checks"].items():
        table.add_row(name, str(violations) if violations else "none")
    return table


def _table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE, expand=False)
    for heading in columns:
        table.add_column(heading, overflow="fold")
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
