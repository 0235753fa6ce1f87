"""What events of escrow and payments mean for memberships: claims counted, deposits moved, members looked at again."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime

from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.membership import State
from danbao_credit.domain.membership_model import ClaimCount, ClaimTurn, Deposit, Heard, Membership, Movement, Posting


def apply_heard(heard: Iterable[Heard], working: CreditSet, *, after_sequence: int) -> dict[str, str]:
    """Counts what lies beyond the cursor; whose memberships it concerns, with the trace of what concerned them last."""
    concerned: dict[str, str] = {}
    for item in heard:
        if item.sequence <= after_sequence:
            continue
        if isinstance(item.what, ClaimTurn):
            _count_claim(item.what, item.at, working)
            concerned[item.what.seller] = item.traceparent
            continue
        for account in set(item.what.accounts()):
            deposit = working.deposits.get(account)
            if deposit is not None and count_posting(deposit, item.what, working):
                concerned[deposit.subject] = item.traceparent
    return concerned


def count_posting(deposit: Deposit, posting: Posting, working: CreditSet) -> bool:
    """Counts a transaction in a deposit, once: whether its event or the answer to our own call comes first. Whether it
    had not been counted before."""
    key = (deposit.account, posting.transaction_id)
    if working.movements.get(key) is not None:
        return False
    credited = sum(minor for _, credit, minor in posting.transfers if credit == deposit.account)
    debited = sum(minor for debit, _, minor in posting.transfers if debit == deposit.account)
    working.movements.put(key, Movement(deposit.account, posting.transaction_id, credited, debited))
    moved = replace(deposit, balance_minor=deposit.balance_minor + credited - debited)
    working.deposits.put(deposit.account, moved)
    return True


def look_again(working: CreditSet, changed: Collection[str], concerned: dict[str, str], now: datetime) -> None:
    """Members whose facts have changed are looked at as soon as this is committed. What concerns the membership itself
    names the trace; a change of the profile only where nothing else does."""
    for membership in list(working.memberships.values()):
        if membership.state is State.LEFT:
            continue
        if membership.subject in concerned:
            _look_at(working, membership, now, concerned[membership.subject])
        elif membership.subject in changed and not _is_due(membership, now):
            _look_at(working, membership, now, membership.look_cause)


def _look_at(working: CreditSet, membership: Membership, now: datetime, cause: str) -> None:
    due = now if membership.look_time is None else min(now, membership.look_time)
    working.memberships.put(membership.membership_id, replace(membership, look_time=due, look_cause=cause))


def _is_due(membership: Membership, now: datetime) -> bool:
    return membership.look_time is not None and membership.look_time <= now


def _count_claim(turn: ClaimTurn, at: datetime, working: CreditSet) -> None:
    count = working.claim_counts.get(turn.seller) or ClaimCount(turn.seller)
    if turn.opens:
        counted = replace(count, opened=count.opened + 1)
    else:
        last = at if count.last_end_time is None else max(at, count.last_end_time)
        counted = replace(count, ended=count.ended + 1, last_end_time=last)
    working.claim_counts.put(turn.seller, counted)
