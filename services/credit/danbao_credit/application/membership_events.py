"""What events of escrow and payments mean for memberships: claims are counted, and deposits moved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from danbao_credit.application.marking import touch
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.membership_model import ClaimCount, ClaimTurn, Deposit, Heard, Movement, Posting

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def hear(heard: Iterable[Heard], working: CreditSet, *, after_sequence: int) -> None:
    """Counts what lies beyond the cursor. Whom it concerns is touched, so that the membership is looked at."""
    for item in heard:
        if item.sequence <= after_sequence:
            continue
        if isinstance(item.what, ClaimTurn):
            tombstone = working.tombstones.get(item.what.seller)
            if tombstone is not None and tombstone.covers(_microseconds(item.at)):
                continue
            _count_claim(item.what, item.at, working)
            touch(working, item.what.seller, item.traceparent, urgent=True)
            continue
        for account in sorted(set(item.what.accounts())):
            deposit = working.deposits.get(account)
            if deposit is not None and count_posting(deposit, item.what, working):
                touch(working, deposit.subject, item.traceparent, urgent=True)


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def count_posting(deposit: Deposit, posting: Posting, working: CreditSet) -> bool:
    """Counts a transaction in a deposit, once: whether its event or the answer to our own call comes first. Whether it
    had not been counted before."""
    credited = sum(minor for _, credit, minor in posting.transfers if credit == deposit.account)
    debited = sum(minor for debit, _, minor in posting.transfers if debit == deposit.account)
    return _count(Movement(deposit.account, posting.transaction_id, credited, debited), working)


def count_statement(statement: Iterable[Movement], working: CreditSet) -> None:
    """Counts what payments' own statement shows and no event told us: it was set aside, or came before we listened.
    What an event has told, or will tell, counts once. The deposits must be loaded."""
    for movement in statement:
        _count(movement, working)


def _count(movement: Movement, working: CreditSet) -> bool:
    key = (movement.account, movement.transaction_id)
    if working.movements.get(key) is not None:
        return False
    working.movements.put(key, movement)
    deposit = working.deposits.get(movement.account)
    assert deposit is not None, "movements are of deposits that are loaded"
    balance_minor = deposit.balance_minor + movement.credited_minor - movement.debited_minor
    working.deposits.put(deposit.account, replace(deposit, balance_minor=balance_minor))
    return True


def _count_claim(turn: ClaimTurn, at: datetime, working: CreditSet) -> None:
    count = working.claim_counts.get(turn.seller) or ClaimCount(turn.seller)
    if turn.opens:
        counted = replace(count, opened=count.opened + 1)
    else:
        last = at if count.last_end_time is None else max(at, count.last_end_time)
        # One whose opening was never heard ends nothing that is counted: it would hide the next that is open.
        counted = replace(count, ended=min(count.ended + 1, count.opened), last_end_time=last)
    working.claim_counts.put(turn.seller, counted)
