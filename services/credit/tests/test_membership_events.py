"""What a deposit holds and how many claims are open, however the events and our own answers are interleaved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from uuid import UUID

from danbao_credit.application.membership_events import count_posting, hear
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.membership_model import ClaimTurn, Deposit, Heard, Posting, deposit_account

SELLER = "subjects/seller"
ACCOUNT = deposit_account(SELLER, "CNY")
ELSEWHERE = UUID(int=9)
AT = datetime(2026, 3, 1, tzinfo=UTC)


def posting(number: int, minor: int) -> Posting:
    """Money into the deposit, or out of it where it is negative."""
    pair = (ELSEWHERE, ACCOUNT) if minor > 0 else (ACCOUNT, ELSEWHERE)
    return Posting(UUID(int=number), ((*pair, abs(minor)),))


def working_set() -> CreditSet:
    working = CreditSet()
    working.deposits.load(ACCOUNT, Deposit(ACCOUNT, SELLER, "CNY"))
    return working


def balance(working: CreditSet) -> int:
    deposit = working.deposits.get(ACCOUNT)
    assert deposit is not None
    return deposit.balance_minor


def test_a_transaction_counts_once_in_whatever_order_and_however_often_it_is_told() -> None:
    funded, taken, more = posting(1, 100_000), posting(2, -30_000), posting(3, 500)
    for told in permutations([funded, funded, taken, more, taken]):
        working = working_set()
        for each in told:
            deposit = working.deposits.get(ACCOUNT)
            assert deposit is not None
            count_posting(deposit, each, working)
        assert balance(working) == 70_500
        assert len(list(working.movements.values())) == 3


def test_of_a_compensation_only_the_deposits_own_part_is_counted() -> None:
    """What the fund gave, and what is owed for it, stands in the same transaction."""
    working = working_set()
    fund, buyer, debt = UUID(int=20), UUID(int=21), UUID(int=22)
    compensation = Posting(UUID(int=5), ((ACCOUNT, buyer, 600), (fund, buyer, 400), (debt, fund, 400)))
    hear([Heard(1, AT, "00-a", posting(4, 600)), Heard(2, AT, "00-b", compensation)], working, after_sequence=0)
    assert balance(working) == 0
    touched = working.touched.get(SELLER)
    assert touched is not None
    assert touched.urgent


def test_transactions_of_others_touch_nobody() -> None:
    working = working_set()
    other = Posting(UUID(int=5), ((UUID(int=20), UUID(int=21), 600),))
    hear([Heard(1, AT, "", other)], working, after_sequence=0)
    assert balance(working) == 0
    assert working.touched.get(SELLER) is None
    assert not list(working.movements.values())


def test_what_lies_before_the_cursor_is_not_heard_again() -> None:
    working = working_set()
    turns = [Heard(n, AT + timedelta(days=n), "", ClaimTurn(SELLER, opens=n % 2 == 1)) for n in range(1, 6)]
    hear(turns[:3], working, after_sequence=0)
    hear(turns, working, after_sequence=3)
    hear(turns, working, after_sequence=5)
    count = working.claim_counts.get(SELLER)
    assert count is not None
    assert (count.opened, count.ended, count.open) == (3, 2, 1)
    assert count.last_end_time == AT + timedelta(days=4)


def test_the_end_of_a_claim_whose_opening_was_never_heard_hides_no_open_one() -> None:
    """It was set aside, or told before claims were counted."""
    working = working_set()
    turns = [(1, False), (2, True), (3, False), (4, True)]
    hear([Heard(n, AT, "", ClaimTurn(SELLER, opens=opens)) for n, opens in turns[:1]], working, after_sequence=0)
    unheard = working.claim_counts.get(SELLER)
    assert unheard is not None
    assert (unheard.open, unheard.last_end_time) == (0, AT)
    hear([Heard(n, AT, "", ClaimTurn(SELLER, opens=opens)) for n, opens in turns], working, after_sequence=1)
    count = working.claim_counts.get(SELLER)
    assert count is not None
    assert count.open == 1
