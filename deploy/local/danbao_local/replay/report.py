"""The replay's report as plain values, ready for JSON."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from danbao_local.olist.orders import OlistOrders
from danbao_local.replay import audit as audits
from danbao_local.replay import outcomes
from danbao_local.replay.books import Books
from danbao_local.replay.calls import Gateway
from danbao_local.replay.complaints import RULES as RULES_OF_COMPLAINTS
from danbao_local.replay.complaints import Course
from danbao_local.replay.facts import RULES as RULES_OF_REPORTS
from danbao_local.replay.merchants import SHOWN
from danbao_local.replay.odd import RULES, Odd
from danbao_local.replay.run import Replay
from danbao_local.replay.troubles import cases_by_outcome, disputes_by_outcome

_EXAMPLES = 5
_MOST_LISTED = 100


@dataclass(frozen=True, slots=True)
class Times:
    """How long it took."""

    seconds: float
    """This run."""
    seconds_in_all: float
    """With the runs it went on from."""
    orders_before: int
    """Done by earlier runs."""


def make_report(
    *,
    replay: Replay,
    olist: OlistOrders,
    books: Books,
    in_by_files: int,
    gateway: Gateway,
    times: Times,
    assessment: dict[str, Any],
) -> dict[str, Any]:
    """Everything there is to tell."""
    ranking = replay.ranking
    numbers = range(len(replay.plans))
    by_status: Counter[str] = Counter()
    by_outcome: dict[str, Counter[str]] = defaultdict(Counter)
    unaccounted = []
    for number in numbers:
        order = replay.plans[number].order
        by_status[order.status] += 1
        by_outcome[order.status][outcomes.outcome(replay, number)] += 1
        why = list(outcomes.unaccounted(replay, number))
        if why:
            unaccounted.append({"order": order.order_id, "status": order.status, "why": why})
    checks = audits.audit(replay, books, in_by_files=in_by_files)
    violations = [f"{check.name}: {text}" for check in checks for text in check.violations]
    trades = Counter(audits.state_of(trade) for trade in replay.trades.values())
    new_orders = len(replay.plans) - times.orders_before
    return {
        "orders": len(replay.plans),
        "trades": len(replay.trades),
        "unaccounted": len(unaccounted),
        "by_status": dict(by_status.most_common()),
        "outcomes": {status: dict(found.most_common()) for status, found in sorted(by_outcome.items())},
        "money": audits.money(books),
        "audit": {
            "violations": len(violations),
            "found": violations[:_MOST_LISTED],
            "checks": {check.name: len(check.violations) for check in checks},
        },
        "seconds": round(times.seconds, 1),
        "seconds_in_all": round(times.seconds_in_all, 1),
        "orders_per_second": round(new_orders / times.seconds, 1) if times.seconds else 0.0,
        "in_by_files": in_by_files,
        "unaccounted_orders": unaccounted[:_MOST_LISTED],
        "complaints": _complaints(replay),
        "cases": cases_by_outcome(replay.cases, books.by_time),
        "disputes": disputes_by_outcome(replay.disputes),
        "defects": {
            "by_credit": books.defective,
            "paid_and_never_shipped": len(audits.never_shipped(replay)),
            "reported": len(audits.reported_defects(replay)),
        },
        "reports": _reports(replay),
        "assessment": assessment,
        "own_audits": {name: _own_audit(found) for name, found in books.audits.items()},
        "trades_by_state": dict(trades.most_common()),
        "odd": _odd(replay, olist),
        "merchants": {
            "all": len(ranking),
            "best": ranking[:SHOWN],
            "worst": ranking[: -SHOWN - 1 : -1],
            "by_grade": dict(Counter(merchant["grade"] for merchant in ranking).most_common()),
        },
        "rows_in_orders_file": olist.rows_in_orders_file,
        "missing_files": list(olist.missing_files),
        "steps": len(replay.steps),
        "business_time": {
            "from": replay.steps[0].clock.isoformat() if replay.steps else None,
            "to": replay.ends_at.isoformat() if replay.ends_at else None,
        },
        "calls": {
            "sent": dict(gateway.sent.most_common()),
            "sent_again": dict(gateway.retried.most_common()),
            "answered_from_records": gateway.replayed,
        },
        "events": {source: dict(counts.most_common()) for source, counts in books.events.items()},
    }


def _complaints(replay: Replay) -> dict[str, dict[str, Any]]:
    """By course, with its rule: how many trades and cases, and what buyers got back by them."""
    found: dict[str, dict[str, Any]] = {}
    for number, trade, made in replay.made():
        complaint = replay.plans[number].complaint_of(trade)
        if complaint is None or not made.cases:
            continue
        entry = found.setdefault(
            complaint.course.value,
            {"trades": 0, "cases": 0, "to_buyers_minor": 0, "rule": RULES_OF_COMPLAINTS[complaint.course]},
        )
        entry["trades"] += 1
        entry["cases"] += len(made.cases)
        entry["to_buyers_minor"] += replay.trades[made.name].refunded_minor
    return {course.value: found[course.value] for course in Course if course.value in found}


def _reports(replay: Replay) -> dict[str, Any]:
    """What credit was told besides the orders."""
    return {
        "told": len(replay.told),
        "seconds": round(replay.told_seconds, 1),
        "by_kind": dict(Counter(line["kind"] for line in replay.told).most_common()),
        "rules": dict(RULES_OF_REPORTS),
    }


def _own_audit(found: Any) -> dict[str, Any]:
    """One service's audit of itself."""
    return {
        "intact": found.intact,
        "violations": found.violation_count,
        "checks": len(found.checks),
        "seconds": round(found.elapsed_ms / 1000, 2),
    }


def is_clean(report: dict[str, Any]) -> bool:
    """Whether everything is accounted for and every check holds."""
    return report["unaccounted"] == 0 and report["audit"]["violations"] == 0


def _odd(replay: Replay, olist: OlistOrders) -> list[dict[str, Any]]:
    """Every kind that there is, with its rule, how often, and a few examples."""
    found: dict[Odd, list[tuple[str, int]]] = defaultdict(list)
    for kind, example, amount_minor in (*_of_orders(replay), *_of_rows(olist)):
        found[kind].append((example, amount_minor))
    entries = []
    for kind in Odd:
        facts = found.get(kind)
        if not facts:
            continue
        entry: dict[str, Any] = {
            "kind": kind.value,
            "count": len(facts),
            "rule": RULES[kind],
            "examples": [example for example, _ in facts[:_EXAMPLES]],
        }
        if amount_minor := sum(amount for _, amount in facts):
            entry["amount_minor"] = amount_minor
        entries.append(entry)
    return entries


def _of_orders(replay: Replay) -> Iterator[tuple[Odd, str, int]]:
    for number, plan in enumerate(replay.plans):
        for fact in plan.odd:
            yield fact.kind, f"order {plan.order.order_id}: {fact.detail}", fact.amount_minor
        for seller_id, made in replay.records[number].trades.items():
            if made.refusal:
                yield Odd.TRADE_REFUSED, f"order {plan.order.order_id}, seller {seller_id}: {made.refusal}", 0


def _of_rows(olist: OlistOrders) -> Iterator[tuple[Odd, str, int]]:
    for row in olist.odd_rows:
        yield Odd(row.kind), f"{row.file}, line {row.line}: {row.reason}", 0
