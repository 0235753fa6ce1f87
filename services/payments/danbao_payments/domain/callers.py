"""Who asks, and what they may move and see."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Party(StrEnum):
    """What kind of caller it is: a peer service, or what a token's roles make of its bearer."""

    ESCROW = "ESCROW"
    CREDIT = "CREDIT"
    OPERATOR = "OPERATOR"
    ARBITER = "ARBITER"
    RAIL = "RAIL"
    PARTNER = "PARTNER"
    USER = "USER"
    # This service itself: timers, and results of rails.
    OURSELVES = "OURSELVES"
    NOBODY = "NOBODY"


# Those who may pay from a wallet, capture, void, refund, and bring money in and out.
PAYING = frozenset({Party.ESCROW, Party.OPERATOR, Party.PARTNER, Party.USER})
# Services that ask on somebody's behalf.
PEERS = frozenset({Party.ESCROW, Party.CREDIT})
# Those to whom only what is their own subject's exists.
_CONFINED = frozenset({Party.USER, Party.RAIL, Party.NOBODY})


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller. `subject` is the token's, subjects/{id}, and `partner` a partner's own.

    Of a peer service they are those for whom it asks: whose trade or membership it is, and which subject asks by a
    token of its own; both are empty where it asks for itself. `sent_by` is the partner that a user's token names: it
    brings the user, and gives no right to anything else.
    """

    party: Party
    subject: str = ""
    partner: str = ""
    sent_by: str = ""

    @property
    def is_tenant(self) -> bool:
        """Whether a partner asks, itself or through a peer service: for it there are no owners that others brought."""
        return self.party is Party.PARTNER or (self.partner != "" and not self.subject and self.party in PEERS)

    @property
    def asks_for_subject(self) -> bool:
        """Whether a service asks for a subject."""
        return self.subject != "" and (self.party is Party.ESCROW or self.party is Party.CREDIT)

    @property
    def is_confined(self) -> bool:
        """Whether only what is the own subject's exists for the caller."""
        return self.party in _CONFINED

    def owns(self, owner: str) -> bool:
        """Whether the caller may act for this owner."""
        return self.party not in _CONFINED or (self.subject != "" and owner == self.subject)

    def owns_one_of(self, *owners: str) -> bool:
        """Whether what lies between these owners exists for the caller."""
        return self.party not in _CONFINED or (self.subject != "" and self.subject in owners)


OURSELVES = Caller(Party.OURSELVES)
