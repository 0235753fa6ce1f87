"""A bank that writes down itself what it moved: its list and the books tell the same, and each planted lie is found.

Nothing of the statement comes from the service: neither from its answers nor from its tables.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from danbao.payments.v1 import payment_pb2, reconciliation_pb2
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.embedded_postgres import ServiceDatabase
from danbao_payments.application.ports import RailAnswer, RailOrder, Standing
from danbao_payments.clients.simulated_rail import Mood, SimulatedRail
from danbao_payments.testing.stack import (
    OPERATOR,
    PaymentsStack,
    money,
    new_id,
    payment,
    rail_report,
    top_up,
    withdrawal,
)
from danbao_payments.testing.statements import RAIL, Statement, found, items_of, report, send, today

MOODS = [*["ok"] * 6, "duplicate", "settle", "out-of-order", "return", "decline"]


class Moved(NamedTuple):
    """One movement in the bank's own list."""

    movement: str
    direction: str
    minor: int
    reference: str


class Bank(SimulatedRail):
    """The simulated rail with a list of its own."""

    def __init__(self) -> None:
        super().__init__(slow_s=0.05, silence_s=0.05, report_after_s=0.01)
        self.list: dict[tuple[str, str], Moved] = {}

    async def charge(self, order: RailOrder) -> RailAnswer:
        return self._noted("IN", order, await super().charge(order))

    async def pay_out(self, order: RailOrder) -> RailAnswer:
        return self._noted("OUT", order, await super().pay_out(order))

    async def pay_back(self, order: RailOrder) -> RailAnswer:
        return self._noted("OUT", order, await super().pay_back(order))

    def note(self, direction: str, order: str, minor: int, reference: str) -> None:
        """Once, however often it is asked."""
        self.list.setdefault((order, direction), Moved(order, direction, minor, reference))

    def _noted(self, direction: str, order: RailOrder, answer: RailAnswer) -> RailAnswer:
        if answer.standing is Standing.ACCEPTED:
            self.note(direction, order.reference, order.amount.minor, answer.rail_reference)
            if order.instrument == Mood.RETURN:
                other = "OUT" if direction == "IN" else "IN"
                self.note(other, order.reference, order.amount.minor, answer.rail_reference)
        return answer


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
async def banked(
    database: ServiceDatabase, authority: CertificateAuthority, bank: Bank
) -> AsyncIterator[PaymentsStack]:
    made = PaymentsStack(database, authority, {"clock": "test"}, {RAIL: bank})
    await made.start()
    yield made
    await made.stop()


async def trade(stack: PaymentsStack, bank: Bank, chance: random.Random, count: int) -> None:
    """Top-ups, payments that the rail brings, refunds of both, withdrawals, chargebacks, won and lost."""
    for number in range(count):
        owner, seller = f"subjects/b{number}", f"subjects/s{number % 3}"
        minor = chance.randrange(1_000, 90_000)
        filled = await stack.call("CreateTopUp", top_up(owner, minor, instrument=chance.choice(MOODS)))
        if filled.instrument == "ok":
            if chance.random() < 0.4:
                back = payment_pb2.RefundTopUpRequest(
                    request_id=new_id(), name=filled.name, amount=money(chance.randrange(1, minor // 2))
                )
                await stack.call("RefundTopUp", back)
            if chance.random() < 0.5:
                out = withdrawal(owner, chance.randrange(1, minor // 2), instrument=chance.choice(["ok", "return"]))
                await stack.call("CreateWithdrawal", out)
        if chance.random() < 0.5:
            paid = await stack.call("CreatePayment", payment(owner, seller, minor, rail=RAIL, instrument="ok"))
            await until(stack, f"SELECT 1 FROM payments WHERE state = 'CAPTURED' AND id = '{paid.name[9:]}'")
            reference = bank.list[paid.name[9:], "IN"].reference
            if chance.random() < 0.5:
                refund = payment_pb2.RefundPaymentRequest(
                    request_id=new_id(), name=paid.name, amount=money(chance.randrange(1, minor // 3))
                )
                await stack.call("RefundPayment", refund)
            if chance.random() < 0.5:
                taken = chance.randrange(1, minor // 3)
                await report(stack, paid.name, "CHARGEBACK", amount=money(taken), rail_reference=reference)
                bank.note("OUT", paid.name[9:], taken, reference)
                if chance.random() < 0.5:
                    request = rail_report(paid.name, "CHARGEBACK_REVERSED", rail_reference=reference)
                    await stack.call("ReportRailResult", request, as_=OPERATOR)
                    bank.list[paid.name[9:], "won back"] = Moved(paid.name[9:], "IN", taken, reference)
    await until(
        stack,
        "SELECT 1 WHERE NOT EXISTS (SELECT FROM rail_refunds WHERE state IN ('PENDING', 'UNKNOWN')) AND NOT EXISTS"
        " (SELECT FROM top_ups WHERE instrument = 'return' AND state <> 'RETURNED') AND NOT EXISTS"
        " (SELECT FROM withdrawals WHERE instrument = 'return' AND state <> 'RETURNED')",
    )


async def until(stack: PaymentsStack, query: str) -> None:
    deadline = time.monotonic() + 15
    while not await stack.sql(query):
        assert time.monotonic() < deadline, query
        await asyncio.sleep(0.02)


def by_id(breaks: Counter[Any]) -> Counter[Any]:
    """Movements by their ids: a bank knows no other names."""
    return Counter(
        {
            (kind, lines, tuple(name.rpartition("/")[2] for name in names)): count
            for (kind, lines, names), count in breaks.items()
        }
    )


@pytest.mark.parametrize("seed", [11, 12])
async def test_the_bank_s_own_list_and_the_books_tell_the_same_but_for_what_was_planted(
    banked: PaymentsStack, bank: Bank, seed: int
):
    chance = random.Random(seed)
    await trade(banked, bank, chance, 25)
    statement = Statement(*await today(banked))
    planted: Counter[Any] = Counter()
    entries = list(bank.list.values())
    assert {entry.direction for entry in entries} == {"IN", "OUT"}
    # Lies are told of movements whose reference stands for one thing only, so that each lie has one meaning.
    alone = Counter(entry.reference for entry in entries)
    lies = iter(["left out", "left out", "other amount", "other amount", "same id twice", "other id, same words"] * 2)
    for entry in chance.sample(entries, len(entries)):
        lie = next(lies, "") if alone[entry.reference] == 1 else ""
        if lie == "left out":
            planted["MISSING_THERE", (), (entry.movement,)] += 1
        elif lie == "other amount":
            wrong = statement.say(entry.direction, entry.minor + chance.choice([-1, 1]), entry.reference)
            planted["AMOUNT_DIFFERS", (wrong.external_id,), (entry.movement,)] += 1
        else:
            external_id = f"a{len(statement.lines):04}"
            statement.say(entry.direction, entry.minor, entry.reference, external_id=external_id)
            if lie:
                twin = external_id if lie == "same id twice" else f"b{len(statement.lines):04}"
                statement.say(entry.direction, entry.minor, entry.reference, external_id=twin)
                planted["DUPLICATE", (twin,), ()] += 1
    for _ in range(3):
        stranger = statement.say(chance.choice(["IN", "OUT"]), chance.randrange(1, 10**6), f"stranger {new_id()}")
        planted["MISSING_HERE", (stranger.external_id,), ()] += 1
    chance.shuffle(statement.lines)
    made = await send(banked, statement.parts())
    assert by_id(found(await items_of(banked, made.name, page_size=1000))) == planted
    assert planted.total() == 15
    # Told without the lies, what was broken is matched, and what was matched is told twice.
    statement = Statement(*await today(banked))
    for entry in entries:
        statement.say(entry.direction, entry.minor, entry.reference)
    again = await send(banked, statement.parts())
    assert again.matched_movements == len(entries) - made.matched_movements == 8
    assert [(total.kind, total.items) for total in again.breaks] == [
        (reconciliation_pb2.BREAK_KIND_DUPLICATE, made.matched_movements)
    ]
