"""How requests about rights become commands, and how consents, appeals and exports look on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from danbao.credit.v1 import rights_pb2
from danbao_credit.application.appeals import DecideAppeal, FileAppeal, WithdrawAppeal
from danbao_credit.application.consents import GrantConsent, RevokeConsent
from danbao_credit.application.export import Record
from danbao_credit.domain.appeal import APPEALS, Appeal, AppealState, EventKey, Evidence, Target, TargetKind
from danbao_credit.domain.asker import Asker
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.consent import CONSENTS, Basis, Consent, ConsentState, Purpose, Purposes
from danbao_credit.domain.erasure import Erasure, ErasureReason
from danbao_kit.errors import FieldInvalid, FieldViolation
from danbao_kit.timestamps import moment_of

_CONSENT_STATES = {state: rights_pb2.Consent.State.Value(f"STATE_{state}") for state in ConsentState}
_APPEAL_STATES = {state: rights_pb2.Appeal.State.Value(f"STATE_{state}") for state in AppealState}
_BASES = {basis: rights_pb2.PurposeBasis.Value(f"PURPOSE_BASIS_{basis.name}") for basis in Basis}
_ERASURE_REASONS = {reason: rights_pb2.ErasureReason.Value(f"ERASURE_REASON_{reason}") for reason in ErasureReason}


def purpose_message(purpose: Purpose) -> rights_pb2.Purpose:
    return rights_pb2.Purpose(name=purpose.name, basis=_BASES[purpose.basis], text=purpose.text)


def consent_message(consent: Consent, now: datetime) -> rights_pb2.Consent:
    """The consent as it stands at `now`."""
    message = rights_pb2.Consent(
        name=consent.name,
        subject=consent.subject,
        purpose=consent.purpose,
        partner=consent.partner,
        state=_CONSENT_STATES[consent.state(now)],
        granted_by=consent.granted_by,
        evidence=consent.evidence,
        revoked_by=consent.revoked_by,
    )
    for name in ("grant_time", "expire_time", "revoke_time"):
        _set_time(message, name, getattr(consent, name))
    return message


def appeal_message(appeal: Appeal, *, names_arbiter: bool) -> rights_pb2.Appeal:
    """The appeal; officers are named to officers only."""
    message = rights_pb2.Appeal(
        name=appeal.name,
        subject=appeal.subject,
        state=_APPEAL_STATES[appeal.state],
        target=target_message(appeal.target),
        statement=appeal.statement,
        evidence=[
            rights_pb2.AppealEvidence(
                uri=item.uri,
                sha256=item.sha256,
                size_bytes=item.size_bytes,
                media_type=item.media_type,
                note=item.note,
            )
            for item in appeal.evidence
        ],
        filed_by=appeal.filed_by,
        decided_by=appeal.decided_by if names_arbiter else "",
        decision=appeal.decision,
        reversed_events=[_event_message(key) for key in appeal.reversed_events],
    )
    for name in ("create_time", "end_time"):
        _set_time(message, name, getattr(appeal, name))
    return message


def notice_message(appeal: Appeal) -> rights_pb2.AppealNotice:
    """What others are told of an appeal."""
    return rights_pb2.AppealNotice(
        appeal=appeal.name,
        subject=appeal.subject,
        state=_APPEAL_STATES[appeal.state],
        target=target_message(appeal.target),
    )


def erasure_message(erasure: Erasure) -> rights_pb2.Erasure:
    message = rights_pb2.Erasure(subject_hash=erasure.subject_hash, reason=_ERASURE_REASONS[erasure.reason])
    _set_time(message, "erase_time", erasure.erase_time)
    return message


def target_message(target: Target) -> rights_pb2.AppealTarget:
    if target.kind is TargetKind.MARK:
        mark = rights_pb2.AppealedMark(kind=target.code, reference=target.reference)
        return rights_pb2.AppealTarget(mark=mark)
    if target.event is not None:
        return rights_pb2.AppealTarget(event=_event_message(target.event))
    return rights_pb2.AppealTarget(reason_code=target.code)


def record_message(record: Record) -> rights_pb2.ExportRecord:
    message = rights_pb2.ExportRecord(section=record.section, text=record.text)
    message.values.update({name: _plain(value) for name, value in record.values.items()})
    return message


def grant_of(request: rights_pb2.GrantConsentRequest, asker: Asker, purposes: Purposes) -> GrantConsent:
    """Raises FieldInvalid."""
    purposes.to_grant(request.purpose)
    expire_time = moment_of(request.expire_time, "expire_time") if request.HasField("expire_time") else None
    return GrantConsent(request.subject, request.purpose, request.partner, expire_time, request.evidence, asker)


def revoke_of(request: rights_pb2.RevokeConsentRequest, asker: Asker) -> RevokeConsent:
    """Raises FieldInvalid."""
    return RevokeConsent(id_of(request.name, CONSENTS), asker)


def file_of(request: rights_pb2.FileAppealRequest, asker: Asker, reasons: Iterable[str]) -> FileAppeal:
    return FileAppeal(
        subject=request.subject,
        target=target_of(request.target),
        statement=request.statement,
        evidence=tuple(
            Evidence(item.uri, item.sha256, item.size_bytes, item.media_type, item.note) for item in request.evidence
        ),
        asker=asker,
        reasons=frozenset(reasons),
    )


def withdraw_of(request: rights_pb2.WithdrawAppealRequest, asker: Asker) -> WithdrawAppeal:
    """Raises FieldInvalid."""
    return WithdrawAppeal(id_of(request.name, APPEALS), asker)


def decide_of(request: rights_pb2.DecideAppealRequest, asker: Asker, catalogue: Catalogue) -> DecideAppeal:
    """Raises FieldInvalid."""
    upheld = request.outcome == rights_pb2.DecideAppealRequest.OUTCOME_UPHELD
    if request.reverse_events and not upheld:
        raise FieldInvalid(FieldViolation("reverse_events", "what is dismissed takes nothing back"))
    events = tuple(_event_key(item) for item in request.reverse_events)
    return DecideAppeal(id_of(request.name, APPEALS), upheld, request.decision, events, asker, catalogue)


def erasure_reason_of(number: int) -> ErasureReason:
    return ErasureReason(rights_pb2.ErasureReason.Name(number).removeprefix("ERASURE_REASON_"))


def target_of(target: rights_pb2.AppealTarget) -> Target:
    which = target.WhichOneof("target")
    if which == "mark":
        return Target(TargetKind.MARK, target.mark.kind, target.mark.reference)
    if which == "event":
        return Target(TargetKind.EVENT, event=_event_key(target.event))
    return Target(TargetKind.REASON, target.reason_code)


def appeal_state_of(number: int) -> AppealState | None:
    """None for unspecified."""
    name = rights_pb2.Appeal.State.Name(number).removeprefix("STATE_")
    return None if name == "UNSPECIFIED" else AppealState(name)


def id_of(name: str, collection: str) -> UUID:
    """The id in {collection}/{uuid}. Raises FieldInvalid for anything that is not a UUID in its usual form."""
    text = name.removeprefix(f"{collection}/")
    try:
        value = UUID(text)
    except ValueError:
        value = None
    if value is None or str(value) != text:
        raise FieldInvalid(FieldViolation("name", f"must be {collection}/{{uuid}}"))
    return value


def _event_key(message: rights_pb2.LoggedEvent) -> EventKey:
    return EventKey(message.source, message.number)


def _event_message(key: EventKey) -> rights_pb2.LoggedEvent:
    return rights_pb2.LoggedEvent(source=key.source, number=key.number)


def _plain(value: Any) -> Any:
    """As JSON has it: times in RFC 3339, the rest as it is."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _set_time(message: Any, name: str, value: datetime | None) -> None:
    if value is not None:
        getattr(message, name).FromDatetime(value)
