"""Does it all add up? Each check compares what was asked for with what the services say, and names what differs."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from danbao.escrow.v1 import trade_pb2
from danbao_local.olist.orders import CURRENCY
from danbao_local.replay import merchants
from danbao_local.replay.books import Books
from danbao_local.replay.parties import seller_subject
from danbao_local.replay.record import OrderRecord
from danbao_local.replay.run import ENDED, Replay

_MOST_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One invariant, and every way in which it does not hold."""

    name: str
    violations: list[str] = field(default_factory=list)


def audit(replay: Replay, books: Books, *, in_by_files: int) -> list[Check]:
    """Every check, also those that hold."""
    checks: tuple[tuple[str, Callable[[], Iterator[str]]], ...] = (
        ("debits and credits are equal in every currency", lambda: _balanced(books)),
        ("nothing is left in any clearing account, nothing on hold", lambda: _clearing(books)),
        ("escrow.trade holds what was funded less what was released and refunded", lambda: _escrow(replay, books)),
        ("the account of each trade holds what it was funded less released and refunded", lambda: _each(replay, books)),
        ("every trade has ended, with nothing held back and no step open", lambda: _ended(replay)),
        ("every ended trade gave away what it was funded with, and fees agree", lambda: _shares(replay, books)),
        ("every order's money is where its trades and its returns say", lambda: _orders(replay)),
        (
            "what came in by the rail, by the files and by the books is the same",
            lambda: _in(replay, books, in_by_files),
        ),
        ("what went out by the rail, by the books and by our requests is the same", lambda: _out(replay, books)),
        ("in = out + held", lambda: _in_out_held(books)),
        ("wallets hold what cancelled trades gave back", lambda: _wallets(replay, books)),
        ("as many trades, payments and top-ups as were asked for", lambda: _once(replay, books)),
        ("as many refund cases and disputes as were asked for", lambda: _cases(replay, books)),
        ("the cases of each trade gave back what the rule says", lambda: _to_buyers(replay)),
        (
            "credit counts as defective what was paid and never shipped, or reported as a defect",
            lambda: _defective(replay, books),
        ),
        ("every merchant has a score", lambda: merchants.without_score(replay.ranking, _sellers(replay))),
        ("no merchant has more than four reasons", lambda: merchants.with_too_many_reasons(replay.ranking)),
        ("every reason is a text with a figure", lambda: merchants.with_wordless_reasons(replay.ranking)),
        ("credit took every report, once", lambda: _reports(replay, books)),
        ("payments' and escrow's own audits find nothing", lambda: _own_audits(books)),
        ("the streams of events have no gap, and credit put nothing aside", lambda: _streams(books)),
    )
    return [Check(name, list(find())) for name, find in checks]


def money(books: Books) -> dict[str, dict[str, Any]]:
    """By currency, in minor units: in, out, held, and held by kind of account."""
    found = {}
    for currency in books.currencies or [CURRENCY]:
        kinds = {kind: held for kind, held in sorted(books.kinds(currency).items()) if not kind.startswith("rail.")}
        found[currency] = {
            "in": books.topped_up[currency],
            "out": books.paid_back(currency),
            "held": sum(kinds.values()),
            "held_by_kind": kinds,
        }
    return found


# --- the books ----------------------------------------------------------------------------------


def _balanced(books: Books) -> Iterator[str]:
    for total in books.totals:
        if total.debits_posted_minor != total.credits_posted_minor:
            yield f"{total.currency}: debits {total.debits_posted_minor}, credits {total.credits_posted_minor}"
    for currency in books.currencies:
        if sum(books.kinds(currency).values()) != 0:
            yield f"{currency}: the kinds of account add up to {sum(books.kinds(currency).values())}, not to 0"


def _clearing(books: Books) -> Iterator[str]:
    for row in books.rows:
        left_minor = row.credits_posted_minor - row.debits_posted_minor
        if row.kind.startswith("clearing.") and left_minor:
            yield f"{row.kind} {row.currency}: {left_minor}"
        if row.debits_pending_minor or row.credits_pending_minor:
            yield f"{row.kind} {row.currency}: something is on hold"


def _in(replay: Replay, books: Books, in_by_files: int) -> Iterator[str]:
    by_rail = books.topped_up[CURRENCY]
    by_books = sum(
        row.debits_posted_minor for row in books.rows if row.kind == "rail.in_transit" and row.currency == CURRENCY
    )
    asked = sum(record.topped_up_minor for record in replay.records.values())
    figures = {"files": in_by_files, "rail": by_rail, "books": by_books, "answers": asked}
    if len(set(figures.values())) > 1:
        yield ", ".join(f"by the {name} {minor}" for name, minor in figures.items())


def _out(replay: Replay, books: Books) -> Iterator[str]:
    by_rail = books.paid_back(CURRENCY)
    by_books = sum(
        row.credits_posted_minor for row in books.rows if row.kind == "rail.settled" and row.currency == CURRENCY
    )
    asked = sum(record.returned_minor for record in replay.records.values())
    figures = {"rail": by_rail, "books": by_books, "requests": asked}
    if len(set(figures.values())) > 1:
        yield ", ".join(f"by the {name} {minor}" for name, minor in figures.items())


def _in_out_held(books: Books) -> Iterator[str]:
    for currency, figures in money(books).items():
        if figures["in"] != figures["out"] + figures["held"]:
            yield f"{currency}: in {figures['in']}, out {figures['out']}, held {figures['held']}"


# --- trades and orders --------------------------------------------------------------------------


def _escrow(replay: Replay, books: Books) -> Iterator[str]:
    held = books.kinds(CURRENCY).get("escrow.trade", 0)
    by_trades = sum(
        trade.funded_minor - trade.released_minor - trade.refunded_minor for trade in replay.trades.values()
    )
    if held != by_trades:
        yield f"the books hold {held}, the trades say {by_trades}"


def _each(replay: Replay, books: Books) -> Iterator[str]:
    for name, trade in replay.trades.items():
        left_minor = trade.funded_minor - trade.released_minor - trade.refunded_minor
        held_minor = books.held_for.get(name, 0)
        if held_minor != left_minor:
            yield f"{name}: its account holds {held_minor}, the trade says {left_minor}"
    for name in sorted(set(books.held_for) - set(replay.trades)):
        yield f"{name} has an account and is no trade of this replay"


def _ended(replay: Replay) -> Iterator[str]:
    for name, trade in replay.trades.items():
        if trade.state not in ENDED:
            yield f"{name} ({trade.reference}) is {state_of(trade)}"
        elif trade.held_back_minor or trade.step_pending or trade.step_blocked:
            yield f"{name} ({trade.reference}) holds {trade.held_back_minor} back, step refused: {trade.step_refusal}"


def _shares(replay: Replay, books: Books) -> Iterator[str]:
    for name, trade in replay.trades.items():
        gone_minor = trade.released_minor + trade.refunded_minor
        by_lines = sum(line.released_minor + line.refunded_minor for line in trade.lines)
        if trade.state in ENDED and (trade.funded_minor != gone_minor or gone_minor != by_lines):
            yield f"{name}: funded {trade.funded_minor}, gone {gone_minor}, by its lines {by_lines}"
        if trade.funded_minor not in (0, trade.total_minor):
            yield f"{name}: funded {trade.funded_minor} of {trade.total_minor}"
    kinds = books.kinds(CURRENCY)
    fees = sum(trade.fees_minor for trade in replay.trades.values())
    released = sum(trade.released_minor for trade in replay.trades.values())
    if kinds.get("fee.escrow", 0) != fees:
        yield f"fees by the books {kinds.get('fee.escrow', 0)}, by the trades {fees}"
    to_sellers = kinds.get("seller.payable", 0) + kinds.get("seller.payable_held", 0)
    if to_sellers != released - fees:
        yield f"sellers by the books {to_sellers}, by the trades {released - fees}"


def _orders(replay: Replay) -> Iterator[str]:
    for number, record in replay.records.items():
        difference = order_difference(replay, record)
        if difference:
            yield f"order {replay.plans[number].order.order_id}: {difference} minor units are not where they belong"


def order_difference(replay: Replay, record: OrderRecord) -> int:
    """What came in for an order less what its trades got and what went back: 0."""
    funded = sum(replay.trades[made.name].funded_minor for made in record.trades.values() if made.name)
    came_in = record.topped_up_minor + record.from_suspense_minor
    return came_in - funded - record.returned_minor - record.to_suspense_minor


def _wallets(replay: Replay, books: Books) -> Iterator[str]:
    held = books.kinds(CURRENCY).get("user.available", 0)
    refunded = sum(trade.refunded_minor for trade in replay.trades.values())
    if held != refunded:
        yield f"wallets hold {held}, trades gave back {refunded}"


def _once(replay: Replay, books: Books) -> Iterator[str]:
    records = replay.records.values()
    trades = [made for record in records for made in record.trades.values() if made.name]
    paid = sum(made.paid for made in trades)
    top_ups = [top_up.name for record in records for top_up in record.top_ups]
    posted = sum(bool(record.from_suspense_minor) + bool(record.to_suspense_minor) for record in records)
    escrow, payments = books.events.get("escrow", Counter()), books.events.get("payments", Counter())
    asked = {
        "trades": (len(trades), escrow["trade_created"], len({made.name for made in trades}), len(books.trades)),
        "payments of trades": (paid, escrow["trade_paid"], payments["payment_captured"]),
        "top-ups": (len(top_ups), payments["top_up_succeeded"], len(set(top_ups)), len(books.top_ups)),
        "returned top-ups": (
            sum(bool(top_up.returned_minor) for record in records for top_up in record.top_ups),
            payments["top_up_refund_settled"],
        ),
    }
    for what, counts in asked.items():
        if len(set(counts)) > 1:
            yield f"{what}: asked for {counts[0]}, told of {', '.join(str(count) for count in counts[1:])}"
    references = Counter(books.trades.values())
    for reference, count in references.items():
        if count > 1:
            yield f"{count} trades for {reference}"
    if payments["transaction_posted"] < posted:
        yield f"{posted} postings with suspense were asked for, told of {payments['transaction_posted']} postings"


def _cases(replay: Replay, books: Books) -> Iterator[str]:
    opened = [case for _, _, made in replay.made() for case in made.cases.values()]
    escrow = books.events.get("escrow", Counter())
    disputed = [case.dispute for case in opened if case.dispute]
    asked = {
        "refund cases": (len(opened), escrow["refund_case_opened"], {case.name for case in opened}, replay.cases),
        "disputes": (len(disputed), escrow["dispute_opened"], set(disputed), replay.disputes),
    }
    for what, (count, told, mine, listed) in asked.items():
        if count != told or mine != set(listed):
            yield f"{what}: asked for {count}, told of {told}, listed {len(listed)}"


def _to_buyers(replay: Replay) -> Iterator[str]:
    for number, trade, made in replay.made():
        complaint = replay.plans[number].complaint_of(trade)
        if complaint is None or not made.cases:
            continue
        found = [replay.cases[case.name] for case in made.cases.values() if case.name in replay.cases]
        given_minor = sum(case.refunded_minor for case in found)
        if given_minor != complaint.refunded_minor:
            yield f"{made.name}: by its cases {given_minor} minor units went back instead of {complaint.refunded_minor}"


def _defective(replay: Replay, books: Books) -> Iterator[str]:
    wanted = len(never_shipped(replay) | reported_defects(replay))
    if books.defective != wanted:
        yield f"credit counts {books.defective}, {wanted} trades were paid and never shipped, or reported"


def never_shipped(replay: Replay) -> set[str]:
    """Trades that were paid and never shipped: their money went back."""
    return {made.name for _, _, made in replay.made() if made.paid and not made.shipped}


def reported_defects(replay: Replay) -> set[str]:
    """Trades that the replay reported as defects: a bad review after a late delivery."""
    return {line["about"] for line in replay.told if line["kind"] == "delivery_defect"}


def _sellers(replay: Replay) -> set[str]:
    return {seller_subject(trade.seller_id) for _, trade, _ in replay.made()}


def _reports(replay: Replay, books: Books) -> Iterator[str]:
    applied = sum(stream.applied for stream in books.ingest if stream.source == "reports")
    if applied != len(replay.told):
        yield f"credit applied {applied}, {len(replay.told)} were told"
    yield from replay.wrongly_told[:_MOST_SHOWN]


def _own_audits(books: Books) -> Iterator[str]:
    for name, found in books.audits.items():
        if not found.complete:
            yield f"{name}: the audit did not come to its end"
        for violation in found.violations[:_MOST_SHOWN]:
            yield f"{name}: {violation.check} of {violation.resource}: {violation.found}, not {violation.expected}"


def _streams(books: Books) -> Iterator[str]:
    yield from books.gaps[:_MOST_SHOWN]
    for stream in books.ingest:
        if stream.parked:
            yield f"credit put {stream.parked} events of {stream.source} aside"


def state_of(trade: trade_pb2.Trade) -> str:
    """The name of a trade's state."""
    return trade_pb2.Trade.State.Name(trade.state).removeprefix("STATE_")
