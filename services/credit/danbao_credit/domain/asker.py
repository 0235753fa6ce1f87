"""Who asks something of or about a subject, and as whom the subject is told of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Asker:
    """One caller. `subject` is the token's, subjects/{id}; empty for a service of ours, which has no token.

    Who has several roles asks as the strongest: operator, arbiter, partner, user.
    """

    subject: str = ""
    partner: str = ""
    is_partner: bool = False
    is_user: bool = False
    is_operator: bool = False
    is_arbiter: bool = False
    # A service of ours by its certificate.
    peer: str = ""

    @property
    def sees_all(self) -> bool:
        return self.is_operator or self.is_arbiter

    @property
    def is_official(self) -> bool:
        """Of the platform: an operator, an arbiter, or a service of ours."""
        return self.sees_all or bool(self.peer)

    def is_subject(self, subject: str) -> bool:
        """Whether it is the subject itself: a user's token, and no partner's."""
        return not self.is_partner and self.subject != "" and self.subject == subject

    def may_know_of(self, subject: str) -> bool:
        """Whether more than the terms of trade is shown of a subject: of themselves only to users."""
        return not self.is_user or self.is_partner or self.is_official or self.is_subject(subject)

    def words(self, subject: str = "") -> str:
        """Who it was, for the subject to read. Officers are not named: the trace id finds them."""
        if subject and self.is_subject(subject):
            return "subject"
        if self.is_operator:
            return "operator"
        if self.is_arbiter:
            return "arbiter"
        if self.is_partner:
            return f"partner:{self.partner}"
        return f"service:{self.peer}" if self.peer else "user"
