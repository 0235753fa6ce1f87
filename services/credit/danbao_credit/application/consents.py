"""What subjects allow: granting and revoking, and what every read for a purpose that needs consent goes through."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.asker import Asker
from danbao_credit.domain.consent import Access, Consent, allowed
from danbao_credit.domain.errors import FieldInvalid, FieldViolation
from danbao_credit.domain.rights_errors import (
    ConsentEnded,
    ConsentMissing,
    ConsentNotFound,
    RoleNotAllowed,
    SubjectNotFound,
)
from danbao_kit.decision import Moment, Need

REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class GrantConsent:
    """`partner` empty: to all, or by a partner to itself."""

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("asker",)
    subject: str
    purpose: str
    partner: str
    expire_time: datetime | None
    evidence: str
    asker: Asker


@dataclass(frozen=True, slots=True)
class RevokeConsent:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("asker",)
    consent_id: UUID
    asker: Asker


@dataclass(frozen=True, slots=True)
class ReadForPurpose:
    """Somebody is about to read these subjects' credit for a purpose that needs consent."""

    subjects: tuple[str, ...]
    purpose: str
    method: str
    asker: Asker


@dataclass(frozen=True, slots=True)
class OfficialRead:
    """An officer is about to read all that is kept of a subject, by the platform's own right."""

    subject: str
    asker: Asker


def grant_consent(command: GrantConsent, working: CreditSet, moment: Moment) -> Consent:
    """A consent that stands from now on; one that stood for the same ends.

    Raises SubjectNotFound, RoleNotAllowed, FieldInvalid.
    """
    asker = command.asker
    partner = _grantee(command)
    if command.expire_time is not None and command.expire_time <= moment.now:
        raise FieldInvalid(FieldViolation("expire_time", "must be ahead of business time"))
    for known in consents_of(command.subject, working):
        if known.purpose == command.purpose and known.partner == partner and known.revoke_time is None:
            working.consents.put(known.consent_id, replace(known, revoke_time=moment.now, revoked_by=REPLACED))
    granted = Consent(
        consent_id=moment.new_id(),
        subject=command.subject,
        purpose=command.purpose,
        partner=partner,
        grant_time=moment.now,
        expire_time=command.expire_time,
        granted_by=asker.words(command.subject),
        evidence=command.evidence,
    )
    working.consents.put(granted.consent_id, granted)
    return granted


def revoke_consent(command: RevokeConsent, working: CreditSet, moment: Moment) -> Consent:
    """The consent, ended. Raises ConsentNotFound, ConsentEnded."""
    consent = working.consents.get(command.consent_id)
    if consent is None or not may_revoke(command.asker, consent):
        raise ConsentNotFound(f"consents/{command.consent_id}")
    if consent.revoke_time is not None:
        raise ConsentEnded(consent.name, consent.state(moment.now))
    revoked = replace(consent, revoke_time=moment.now, revoked_by=command.asker.words(consent.subject))
    working.consents.put(consent.consent_id, revoked)
    return revoked


def read_for_purpose(command: ReadForPurpose, working: CreditSet, moment: Moment) -> None:
    """Records the accesses. Raises ConsentMissing for the first subject that has not allowed it; then none is read."""
    asker = command.asker
    partner = asker.partner if asker.is_partner and not asker.sees_all else ""
    for subject in command.subjects:
        if not allowed(consents_of(subject, working), command.purpose, partner, moment.now):
            raise ConsentMissing(subject, command.purpose, partner)
    for subject in dict.fromkeys(command.subjects):
        working.accesses.append(
            Access(
                access_id=moment.new_id(),
                subject=subject,
                purpose=command.purpose,
                method=command.method,
                reader=asker.words(subject),
                trace_id=moment.trace_id,
                create_time=moment.now,
            )
        )


def official_read(command: OfficialRead, working: CreditSet, moment: Moment) -> None:
    """Changes nothing: that it is told in the log of privileged actions is the whole of it."""
    assert command.asker.is_operator, "whoever else reads was refused, or asked for a consent"


def consents_of(subject: str, working: CreditSet) -> list[Consent]:
    """A subject's consents. Raises Need where they were not loaded."""
    if subject not in working.consents_loaded:
        raise Need(consents_of={subject})
    return [consent for consent in working.consents.values() if consent.subject == subject]


def may_revoke(asker: Asker, consent: Consent) -> bool:
    """The subject, the partner it was granted to, an operator."""
    if asker.is_operator or asker.is_subject(consent.subject):
        return True
    return asker.is_partner and asker.partner != "" and asker.partner == consent.partner


def _grantee(command: GrantConsent) -> str:
    """To which partner. Raises SubjectNotFound, RoleNotAllowed, FieldInvalid."""
    asker = command.asker
    if asker.is_subject(command.subject):
        return command.partner
    if asker.is_official:
        raise RoleNotAllowed("GrantConsent", "the subject, and partners for themselves")
    if not asker.is_partner:
        raise SubjectNotFound(command.subject)
    if command.partner not in ("", asker.partner):
        raise RoleNotAllowed("GrantConsent", "the subject, and partners for themselves")
    if not command.evidence:
        raise FieldInvalid(FieldViolation("evidence", "a partner says where it has the subject's word on record"))
    return asker.partner
