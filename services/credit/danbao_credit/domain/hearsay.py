"""Of whom an unpaid trade tells nothing: anybody may name anybody in one, and only who took part in it answers for it.

From payment on a trade is genuine: a buyer's money moves by the buyer's own token or by the partner that brought the
buyer, and a partner's seller is its own. Before that, who made it speaks for those whom it may speak for: a party for
itself, a partner for the subjects that it brought and for those that nobody has, an operator for both.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from danbao_credit.domain.events import Event, Role, TradeEvent
from danbao_credit.domain.profile import Change, Profile, peer_hash
from danbao_credit.domain.telling import Telling

PARTNERS_SLOT = 235
"""Of the catalogue: the partners that brought a subject. One, or none."""

# What is done in the buyer's name only, by itself or by a partner: to pay an invoice is to accept it.
_BUYERS_ACTS = frozenset({"trade_payment_pending", "trade_payment_refused"})


@dataclass(frozen=True, slots=True)
class Hearsay:
    """What is hearsay in an event: of a party it tells nothing, or only if `partner` may speak for it."""

    # The buyer is left out already.
    is_invoice: bool
    # These took part if that partner, by its hash, or nobody has brought them.
    doubted: tuple[str, ...]
    partner: int

    def is_of_others(self, profile: Profile | None) -> bool:
        """Whether another partner has brought whoever's profile this is, as far as was heard until now."""
        return profile is not None and profile.knows_others(PARTNERS_SLOT, self.partner)


def is_invoice(event: TradeEvent) -> bool:
    """Whether the seller only asks to be paid: it tells nothing of the buyer, who may know nothing of it."""
    return event.made_by is Role.SELLER and event.pay_us is None and event.kind not in _BUYERS_ACTS


def hearsay_of(event: Event) -> Hearsay | None:
    """What is hearsay in an event; None: nothing, as in everything but unpaid trades."""
    if not isinstance(event, TradeEvent) or event.pay_us is not None:
        return None
    invoice = is_invoice(event)
    doubted: list[str] = []
    if event.partner and event.made_by is not Role.OPERATOR:
        # Who has made it by itself answers for it, but not for what the partner does later in its name.
        is_anothers_act = event.made_by_partner or (event.by_partner and event.actor is event.made_by)
        itself = None if is_anothers_act else event.made_by
        if not invoice and itself is not Role.BUYER:
            doubted.append(event.buyer)
        if itself is not Role.SELLER:
            doubted.append(event.seller)
    return Hearsay(invoice, tuple(doubted), _hash_of(event.partner)) if invoice or doubted else None


# There are few partners, and many trades of each.
@lru_cache(maxsize=4096)
def _hash_of(partner: str) -> int:
    return peer_hash(partner)


def without(
    subjects: Collection[str], telling: Telling, changes: tuple[tuple[str, Change], ...]
) -> tuple[Telling, tuple[tuple[str, Change], ...]]:
    """What is told, and what it changes, without these subjects."""
    roles = tuple((role, subject) for role, subject in telling.roles if subject not in subjects)
    return telling._replace(roles=roles), tuple(change for change in changes if change[0] not in subjects)
