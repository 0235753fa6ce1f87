"""What everything that moves over rails does alike upon the books."""

from __future__ import annotations

from danbao_kit.decision import Moment, RequestKey
from danbao_kit.money import MAX_MINOR
from danbao_payments.domain.account import Account, AccountState
from danbao_payments.domain.books import Books
from danbao_payments.domain.chart import CLEARING_PAYOUT, CLEARING_REFUND, PLATFORM, RAIL_SETTLED, SUSPENSE
from danbao_payments.domain.errors import BalanceOverflow


def standing_account(owner: str, kind: str, currency: str, books: Books, moment: Moment) -> Account:
    """The account, or suspense where it is closed: the money has moved, and somebody has to look whose it is."""
    account = books.account(owner, kind, currency, moment.now)
    if account.state == AccountState.CLOSED:
        return books.account(PLATFORM, SUSPENSE, currency, moment.now)
    return account


def check_room(rail: str, source: Account, amount_minor: int, books: Books, moment: Moment) -> None:
    """Raises BalanceOverflow where the rail's payment, or the money back into its account, could not be booked.

    `source` and the books are as they were before the money left the account for clearing.
    """
    settled = books.account(rail, RAIL_SETTLED, source.currency, moment.now)
    waiting = 0
    for kind in (CLEARING_PAYOUT, CLEARING_REFUND):
        clearing = books.account(PLATFORM, kind, source.currency, moment.now)
        waiting += clearing.credits_posted - clearing.debits_posted
    # What waits in clearing may all be this rail's.
    if settled.credits_posted + settled.credits_pending + waiting + amount_minor > MAX_MINOR:
        raise BalanceOverflow(settled.id, amount_minor=amount_minor)
    if source.credits_posted + source.credits_pending + amount_minor > MAX_MINOR:
        raise BalanceOverflow(source.id, amount_minor=amount_minor)


def open_request(moment: Moment) -> RequestKey:
    """The request that is answered when the rail has answered."""
    assert moment.request is not None, "only a request can be answered later"
    return moment.request
