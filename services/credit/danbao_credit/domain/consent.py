"""For which purposes somebody's credit may be read, and whose word allows it.

A purpose rests on the contract of trade or on consent. A consent is for one purpose, to one partner or to all; it
stands from when it is granted until it expires, is revoked, or a newer one for the same purpose and partner takes its
place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from danbao_credit.domain.errors import DefinitionInvalid, FieldInvalid, FieldViolation

CONSENTS = "consents"
# Purposes that the service itself asks consents for.
DATA_PORTABILITY = "data_portability"
REPRESENTATION = "representation"
# What callers are taken to ask for who name no purpose.
OFFICIAL_DEFAULT = "support"
PARTNER_DEFAULT = "checkout"


class Basis(StrEnum):
    """Why a purpose is allowed."""

    CONTRACT = "contract"
    CONSENT = "consent"


class ConsentState(StrEnum):
    """Whether a consent stands."""

    GRANTED = "GRANTED"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True, slots=True)
class Purpose:
    """Why somebody's credit is read, in words."""

    name: str
    basis: Basis
    text: str


@dataclass(frozen=True, slots=True)
class Purposes:
    """Every purpose there is."""

    version: str
    by_name: Mapping[str, Purpose]

    def named(self, name: str, *, is_partner: bool) -> Purpose:
        """The purpose; of an empty name the caller's default. Raises FieldInvalid, naming those there are."""
        purpose = self.by_name.get(name or (PARTNER_DEFAULT if is_partner else OFFICIAL_DEFAULT))
        if purpose is None:
            raise FieldInvalid(FieldViolation("purpose", f"must be one of {', '.join(self.by_name)}"))
        return purpose

    def to_grant(self, name: str) -> Purpose:
        """The purpose that a consent is for. Raises FieldInvalid for one that needs none, or is none."""
        purpose = self.by_name.get(name)
        if purpose is None or purpose.basis is not Basis.CONSENT:
            known = ", ".join(item.name for item in self.by_name.values() if item.basis is Basis.CONSENT)
            raise FieldInvalid(FieldViolation("purpose", f"must be one that needs consent: {known}"))
        return purpose


def purposes_from(definition: Mapping[str, Any]) -> Purposes:
    """Reads the purposes' file. Raises DefinitionInvalid."""
    by_name: dict[str, Purpose] = {}
    for name, line in definition["purposes"].items():
        if line["basis"] not in tuple(Basis) or not line.get("text"):
            raise DefinitionInvalid(f"purpose {name}: it needs a basis, {' or '.join(Basis)}, and a text")
        by_name[str(name)] = Purpose(str(name), Basis(line["basis"]), str(line["text"]))
    for name, basis in (
        (OFFICIAL_DEFAULT, Basis.CONTRACT),
        (PARTNER_DEFAULT, Basis.CONTRACT),
        (DATA_PORTABILITY, Basis.CONSENT),
        (REPRESENTATION, Basis.CONSENT),
    ):
        if name not in by_name or by_name[name].basis is not basis:
            raise DefinitionInvalid(f"there must be a purpose {name} by {basis}")
    return Purposes(str(definition["version"]), by_name)


@dataclass(frozen=True, slots=True)
class Consent:
    """A subject's word. `partner` empty: to all. `granted_by` and `revoked_by` are callers as people read them."""

    consent_id: UUID
    subject: str
    purpose: str
    partner: str
    grant_time: datetime
    expire_time: datetime | None
    granted_by: str
    evidence: str
    revoke_time: datetime | None = None
    revoked_by: str = ""

    @property
    def name(self) -> str:
        return f"{CONSENTS}/{self.consent_id}"

    def state(self, now: datetime) -> ConsentState:
        """Whether it stands at `now`, in business time."""
        if self.revoke_time is not None:
            return ConsentState.REVOKED
        if self.expire_time is not None and self.expire_time <= now:
            return ConsentState.EXPIRED
        return ConsentState.GRANTED

    def allows(self, purpose: str, partner: str, now: datetime) -> bool:
        """Whether this partner may read for this purpose now; without a partner: only what is granted to all."""
        return self.purpose == purpose and self.partner in ("", partner) and self.state(now) is ConsentState.GRANTED


@dataclass(frozen=True, slots=True)
class Access:
    """That somebody's credit was read for a purpose: by whom, and when; what was read is not kept."""

    access_id: UUID
    subject: str
    purpose: str
    method: str
    reader: str
    trace_id: str
    create_time: datetime


def allowed(consents: Iterable[Consent], purpose: str, partner: str, now: datetime) -> bool:
    """Whether one of a subject's consents allows it."""
    return any(consent.allows(purpose, partner, now) for consent in consents)
