"""Who may send money out over rails, and say what became of it."""

from __future__ import annotations

from danbao_payments.domain.callers import PAYING, Caller, Party
from danbao_payments.domain.chart import RAILS, SELLER_PAYABLE, SUBJECTS, USER_AVAILABLE
from danbao_payments.domain.errors import KindNotAllowed
from danbao_payments.domain.tenancy import sees

_REPORTING = frozenset({Party.OPERATOR, Party.OURSELVES})
_WITHDRAWN_FROM = frozenset({USER_AVAILABLE, SELLER_PAYABLE})


def check_may_withdraw(owner: str, kind: str, caller: Caller) -> None:
    """Raises KindNotAllowed unless the caller may send money of this account out."""
    if kind not in _WITHDRAWN_FROM:
        raise KindNotAllowed(f"nobody withdraws from {kind!r}", owner=owner, kind=kind, caller=caller.party.value)
    if caller.party not in PAYING or not caller.owns(owner):
        why = f"{kind} of {owner} is not the caller's to debit"
        raise KindNotAllowed(why, owner=owner, kind=kind, caller=caller.party.value)


def can_see_movement(owner: str, rail: str, caller: Caller, partner: str) -> bool:
    """Whether the movement exists for the caller: a rail sees what goes over it. `partner` has brought the owner."""
    return sees(caller, owner, partner) or _is_rail(caller, rail)


def check_may_report(movement: str, rail: str, caller: Caller) -> None:
    """Raises KindNotAllowed unless the caller may say what became of what went over this rail."""
    if caller.party not in _REPORTING and not _is_rail(caller, rail):
        why = f"what became of {movement} is not the caller's to say"
        raise KindNotAllowed(why, owner=rail, kind="rail results", caller=caller.party.value)


def _is_rail(caller: Caller, rail: str) -> bool:
    return caller.party is Party.RAIL and caller.subject == SUBJECTS + rail.removeprefix(RAILS)
