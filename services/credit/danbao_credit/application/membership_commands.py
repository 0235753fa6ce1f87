"""What is asked of memberships, and what their own workers hand in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from danbao_credit.domain.membership import Role
from danbao_credit.domain.membership_model import Movement
from danbao_kit.money import Money


@dataclass(frozen=True, slots=True)
class Token:
    """What the call says about who is calling. `subject` is subjects/{id}, empty for a peer service.

    A user's token may name a partner as well; it is that of the memberships it applies for, and it acts for none."""

    subject: str = ""
    partner: str = ""
    is_operator: bool = False
    sees_all: bool = False
    is_partner: bool = False

    def is_strange_to(self, subject: str) -> bool:
        """Whether a partner asks for this subject, and may be asking for another partner's."""
        return self.is_partner and not self.is_operator and self.subject != subject

    def role_for(self, subject: str, partner: str) -> Role | None:
        """As what the caller may ask something of this subject's membership; None: it does not exist for the caller."""
        if self.is_operator:
            return Role.OPERATOR
        of_partner = self.is_partner and self.partner != "" and self.partner == partner
        if of_partner or (self.subject and self.subject == subject):
            return Role.MEMBER
        return None

    def may_see(self, subject: str, partner: str) -> bool:
        return self.sees_all or self.role_for(subject, partner) is not None


@dataclass(frozen=True, slots=True)
class OpenDeposits:
    """Before an application: from here on what moves these deposits is heard, so that a statement of payments that is
    read afterwards and the events together leave nothing out."""

    subject: str
    currencies: tuple[str, ...]
    token: Token


@dataclass(frozen=True, slots=True)
class ApplyMembership:
    """`statement`: what ever moved in the deposits, as payments has it. `is_foreign`: a partner applies for a subject
    that another has brought, and is told what it would be told of one whom nobody knows."""

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token", "statement", "is_foreign")
    subject: str
    currencies: tuple[str, ...]
    token: Token
    statement: tuple[Movement, ...] = ()
    is_foreign: bool = False


@dataclass(frozen=True, slots=True)
class FundDeposit:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name: UUID
    amount: Money
    source_kind: str
    token: Token


@dataclass(frozen=True, slots=True)
class SuspendMembership:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name: UUID
    reason: str
    token: Token


@dataclass(frozen=True, slots=True)
class ReinstateMembership:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name: UUID
    reason: str
    token: Token


@dataclass(frozen=True, slots=True)
class LeaveMembership:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name: UUID
    token: Token


@dataclass(frozen=True, slots=True)
class LookAtMembership:
    """Its time has come, or something about its merchant has changed."""

    name: UUID


@dataclass(frozen=True, slots=True)
class ClaimDepositStep:
    """Takes over a step that nobody works on any more, unless somebody else was first."""

    name: UUID
    number: int
    generation: int
    claim: int


@dataclass(frozen=True, slots=True)
class StepDone:
    """Payments has moved the money: which transaction, and what of it went into the deposit and out of it."""

    transaction: str
    credited_minor: int
    debited_minor: int


@dataclass(frozen=True, slots=True)
class StepRefused:
    """Payments will move nothing under this id."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class SettleDepositStep:
    """What came of a step. `statement`: what ever moved in its deposit, where payments knows of less than we do."""

    name: UUID
    number: int
    generation: int
    outcome: StepDone | StepRefused
    statement: tuple[Movement, ...] = ()


Named = (
    FundDeposit
    | SuspendMembership
    | ReinstateMembership
    | LeaveMembership
    | LookAtMembership
    | ClaimDepositStep
    | SettleDepositStep
)
"""Commands on a membership that exists."""
