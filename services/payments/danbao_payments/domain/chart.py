"""Which kinds of account there are, how each grows, what it must never be, and who may move it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from danbao_payments.domain.callers import Party

_E, _C, _O = Party.ESCROW, Party.CREDIT, Party.OPERATOR


class AccountClass(StrEnum):
    ASSET = "ASSET"
    LIABILITY = "LIABILITY"
    REVENUE = "REVENUE"
    EXPENSE = "EXPENSE"
    TECHNICAL = "TECHNICAL"


class Side(StrEnum):
    DEBIT = "DEBIT"
    CREDIT = "CREDIT"


class Rule(StrEnum):
    """What an account's totals must obey after every posting, holds counted."""

    CREDITS_COVER_DEBITS = "CREDITS_COVER_DEBITS"
    DEBITS_COVER_CREDITS = "DEBITS_COVER_CREDITS"
    NONE = "NONE"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of account."""

    name: str
    account_class: AccountClass
    # Whose it may be: a prefix of the owner's name, or `platform`.
    owner_prefix: str
    rule: Rule
    # Who may name it as a leg's debit or credit in PostTransaction. Payments' own movements need no leave.
    debited_by: frozenset[Party]
    credited_by: frozenset[Party]

    @property
    def normal_side(self) -> Side:
        """The side on which it grows."""
        grows_by_debits = self.account_class in (AccountClass.ASSET, AccountClass.EXPENSE)
        return Side.DEBIT if grows_by_debits else Side.CREDIT

    def may_belong_to(self, owner: str) -> bool:
        """Whether such an owner may have an account of this kind."""
        return owner == self.owner_prefix if self.owner_prefix == PLATFORM else owner.startswith(self.owner_prefix)


PLATFORM = "platform"
SUBJECTS = "subjects/"
TRADES = "trades/"
RAILS = "rails/"

USER_AVAILABLE = "user.available"
SELLER_PAYABLE = "seller.payable"
ESCROW_TRADE = "escrow.trade"
CLEARING_CAPTURE = "clearing.capture"
CLEARING_PAYOUT = "clearing.payout"
CLEARING_REFUND = "clearing.refund"
RAIL_IN_TRANSIT = "rail.in_transit"
RAIL_SETTLED = "rail.settled"
SUSPENSE = "suspense"
FEE_PAYMENT = "fee.payment"
TAX_PAYABLE = "tax.payable"
GUARANTEE_DEPOSIT = "guarantee.deposit"
GUARANTEE_FUND = "guarantee.fund"
# What the fund is owed by those for whom it paid: always the sum of receivable.guarantee.
FUND_RECOVERABLE = "fund.recoverable"
LOSS_CHARGEBACK = "loss.chargeback"
LOSS_BAD_DEBT = "loss.bad_debt"
RECEIVABLE_GUARANTEE = "receivable.guarantee"
RECEIVABLE_CHARGEBACK = "receivable.chargeback"
RECEIVABLE_USER = "receivable.user"
# What an owner owes the platform.
RECEIVABLES = (RECEIVABLE_GUARANTEE, RECEIVABLE_CHARGEBACK, RECEIVABLE_USER)

# fmt: off
_ROWS: tuple[tuple[str, AccountClass, str, tuple[Party, ...], tuple[Party, ...]], ...] = (
    # kind                   class                    owner     may debit        may credit
    (RAIL_SETTLED,           AccountClass.ASSET,      RAILS,    (_O,),           (_O,)),
    (RAIL_IN_TRANSIT,        AccountClass.ASSET,      RAILS,    (_O,),           (_O,)),
    ("receivable.guarantee", AccountClass.ASSET,      SUBJECTS, (_O,),           (_O,)),
    ("receivable.chargeback", AccountClass.ASSET,     SUBJECTS, (_O,),           (_O,)),
    ("receivable.user",      AccountClass.ASSET,      SUBJECTS, (_O,),           (_O,)),
    (SUSPENSE,               AccountClass.ASSET,      PLATFORM, (_O,),           (_O,)),
    (USER_AVAILABLE,         AccountClass.LIABILITY,  SUBJECTS, (_C, _O),        (_E, _C, _O)),
    (ESCROW_TRADE,           AccountClass.LIABILITY,  TRADES,   (_E,),           (_E,)),
    (CLEARING_CAPTURE,       AccountClass.LIABILITY,  PLATFORM, (),              ()),
    (SELLER_PAYABLE,         AccountClass.LIABILITY,  SUBJECTS, (_C, _O),        (_E, _C, _O)),
    ("seller.payable_held",  AccountClass.LIABILITY,  SUBJECTS, (_E,),           (_E,)),
    ("guarantee.deposit",    AccountClass.LIABILITY,  SUBJECTS, (_E, _C),        (_E, _C)),
    ("guarantee.fund",       AccountClass.LIABILITY,  PLATFORM, (_E, _O),        (_E, _C, _O)),
    ("fund.recoverable",     AccountClass.LIABILITY,  PLATFORM, (_O,),           (_O,)),
    (CLEARING_PAYOUT,        AccountClass.LIABILITY,  PLATFORM, (),              ()),
    (CLEARING_REFUND,        AccountClass.LIABILITY,  PLATFORM, (),              ()),
    (TAX_PAYABLE,            AccountClass.LIABILITY,  PLATFORM, (_O,),           (_E, _O)),
    ("fee.escrow",           AccountClass.REVENUE,    PLATFORM, (_O,),           (_E, _O)),
    (FEE_PAYMENT,            AccountClass.REVENUE,    PLATFORM, (_O,),           (_E, _O)),
    ("penalty",              AccountClass.REVENUE,    PLATFORM, (_O,),           (_E, _O)),
    ("rail.cost",            AccountClass.EXPENSE,    PLATFORM, (_O,),           (_O,)),
    ("loss.chargeback",      AccountClass.EXPENSE,    PLATFORM, (_O,),           (_O,)),
    ("loss.bad_debt",        AccountClass.EXPENSE,    PLATFORM, (_O,),           (_O,)),
    ("goodwill",             AccountClass.EXPENSE,    PLATFORM, (_O,),           (_O,)),
    ("opening",              AccountClass.TECHNICAL,  PLATFORM, (_O,),           (_O,)),
)
# fmt: on

# What stands for the world outside, and what is not explained yet, may go either way.
_UNBOUND = frozenset({RAIL_SETTLED, RAIL_IN_TRANSIT, SUSPENSE, "opening"})


def _rule(name: str, account_class: AccountClass) -> Rule:
    if name in _UNBOUND:
        return Rule.NONE
    if account_class in (AccountClass.ASSET, AccountClass.EXPENSE):
        return Rule.DEBITS_COVER_CREDITS
    return Rule.CREDITS_COVER_DEBITS


CHART: Mapping[str, Kind] = MappingProxyType(
    {
        name: Kind(name, account_class, owner, _rule(name, account_class), frozenset(debit), frozenset(credit))
        for name, account_class, owner, debit, credit in _ROWS
    }
)
