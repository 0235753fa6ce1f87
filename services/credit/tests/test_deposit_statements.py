"""What is on a deposit though no event told of it: payments' statement says so, and nothing counts twice."""

from __future__ import annotations

from datetime import UTC, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from danbao.credit.v1 import membership_pb2
from danbao_credit.application.membership_events import count_statement, hear
from danbao_credit.domain.membership_model import Movement

from .test_membership_events import ACCOUNT, AT, Heard, balance, posting, working_set
from .test_memberships import DAY, PARTNER, SELLER, START, Members, refusal

S = membership_pb2.Membership


@pytest.fixture
async def members(make_credit: Any, catalogue: Any) -> Members:
    made = Members(await make_credit(clock="test"), catalogue)
    await made.move_to(START)
    return made


def test_an_event_and_the_statement_count_a_transaction_once_whichever_is_first() -> None:
    movements = (Movement(ACCOUNT, UUID(int=1), 900, 0), Movement(ACCOUNT, UUID(int=2), 0, 300))
    parts = [
        lambda working: count_statement(movements, working),
        lambda working: count_statement(movements[:1], working),
        lambda working: hear([Heard(1, AT, "", posting(1, 900))], working, after_sequence=0),
        lambda working: hear([Heard(2, AT, "", posting(2, -300))], working, after_sequence=0),
    ]
    for order in permutations(parts):
        working = working_set()
        for part in order:
            part(working)
        assert balance(working) == 600


async def test_money_of_a_membership_that_credit_has_forgotten_counts_and_goes_back(members: Members) -> None:
    """credit was built anew from an empty database: payments' events name accounts only, so they told it nothing."""
    ledger = members.ledger
    told = [ledger.give(SELLER, 90_000), ledger.give(SELLER, 30_000), ledger.take(SELLER, 15_000)]
    await members.told(*(ledger.event_of(each, members.now) for each in told))
    made = await members.applied()
    assert (made.state, made.deposits[0].balance_minor) == (S.STATE_ACTIVE, 105_000)
    assert (await members.badge()).member
    # What comes after counts by its event, and what came before is not told a second time.
    await members.told(*(ledger.event_of(each, members.now) for each in told))
    await members.take(5_000)
    assert (await members.get(made.name)).deposits[0].balance_minor == 100_000
    left = await members.ask("LeaveMembership", name=made.name)
    await members.move_to(left.return_time.ToDatetime(UTC))
    await members.until(made.name, S.STATE_LEFT)
    assert ledger.balance(SELLER, "seller.payable") == 100_000
    assert ledger.balance(SELLER, "guarantee.deposit") == 0


async def test_nobody_joins_while_payments_does_not_say_what_is_there(members: Members) -> None:
    members.ledger.give(SELLER, 40_000)
    members.ledger.away = 1
    await members.seller()
    asked = {"subject": SELLER, "currencies": ["CNY"], "request_id": "once"}
    code, reason, _, metadata = await refusal(members.ask("ApplyMembership", **asked))
    assert (code, reason, metadata["payment_reason"]) == ("UNAVAILABLE", "STATEMENT_UNKNOWN", "UNAVAILABLE")
    assert await members.execute("SELECT * FROM memberships") == []
    made = await members.ask("ApplyMembership", **asked)
    assert (made.state, made.deposits[0].balance_minor) == (S.STATE_AWAITING_DEPOSIT, 40_000)
    # Answered before: the same id needs payments no more.
    members.ledger.away, asked_so_far = 1, members.ledger.statements
    assert await members.ask("ApplyMembership", **asked) == made
    assert members.ledger.statements == asked_so_far


async def test_what_moves_between_listening_and_reading_counts_once(members: Members) -> None:
    """An application broke off after the deposit was opened: an event of then was heard, and is in the statement."""
    members.ledger.away = 1
    await members.seller()
    asked = {"subject": SELLER, "currencies": ["CNY"], "request_id": "once"}
    assert (await refusal(members.ask("ApplyMembership", **asked)))[1] == "STATEMENT_UNKNOWN"
    moved = members.ledger.event_of(members.ledger.give(SELLER, 70_000), members.now)
    await members.told(moved)
    assert (await members.ask("ApplyMembership", **asked)).deposits[0].balance_minor == 70_000


async def test_whoever_may_not_join_leaves_no_deposit_behind(members: Members) -> None:
    await members.seller(completed=57)
    call = members.ask("ApplyMembership", PARTNER, subject=SELLER, currencies=["CNY"])
    assert (await refusal(call))[1] == "NOT_ELIGIBLE"
    assert await members.execute("SELECT * FROM deposits") == []


@pytest.mark.parametrize("taken_minor", [30_000, 100_000])
async def test_a_compensation_that_was_never_told_keeps_nobody_from_leaving(members: Members, taken_minor: int) -> None:
    paid = await members.active(100_000)
    lost = members.ledger.take(SELLER, taken_minor)
    await members.ask("LeaveMembership", name=paid.name)
    # Once payments does not answer; the next refusal asks again.
    members.ledger.away = 1
    await members.move_to(START + 90 * DAY + timedelta(hours=1))
    gone = await members.until(paid.name, S.STATE_LEFT)
    assert gone.deposits[0].balance_minor == 0
    assert members.ledger.balance(SELLER, "seller.payable") == 100_000 - taken_minor
    assert members.ledger.balance(SELLER, "guarantee.deposit") == 0
    # Told after all: it has been counted.
    await members.told(members.ledger.event_of(lost, members.now))
    (deposit,) = await members.execute("SELECT balance_minor FROM deposits")
    assert deposit["balance_minor"] == 0
