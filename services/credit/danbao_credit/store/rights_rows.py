"""How consents, appeals and accesses look as rows."""

from __future__ import annotations

import json
from typing import Any

from danbao_credit.domain.appeal import Appeal, AppealState, EventKey, Evidence, Target, TargetKind
from danbao_credit.domain.consent import Access, Consent
from danbao_credit.domain.log import LogRow

CONSENT_COLUMNS = (
    "consent_id, subject, purpose, partner, grant_time, expire_time, granted_by, evidence, revoke_time, revoked_by"
)
APPEAL_COLUMNS = (
    "appeal_id, subject, state, target_kind, target_code, target_reference, target_source, target_number, statement,"
    " evidence, filed_by, create_time, decided_by, decision, reversed_events, end_time"
)
ACCESS_COLUMNS = "access_id, subject, purpose, method, reader, trace_id, create_time"
LOG_COLUMNS = ", ".join(LogRow._fields)


def consent_of(row: Any) -> Consent:
    return Consent(
        consent_id=row["consent_id"],
        subject=row["subject"],
        purpose=row["purpose"],
        partner=row["partner"],
        grant_time=row["grant_time"],
        expire_time=row["expire_time"],
        granted_by=row["granted_by"],
        evidence=row["evidence"],
        revoke_time=row["revoke_time"],
        revoked_by=row["revoked_by"],
    )


def consent_row(consent: Consent) -> tuple[Any, ...]:
    return (
        consent.consent_id,
        consent.subject,
        consent.purpose,
        consent.partner,
        consent.grant_time,
        consent.expire_time,
        consent.granted_by,
        consent.evidence,
        consent.revoke_time,
        consent.revoked_by,
    )


def appeal_of(row: Any) -> Appeal:
    source = row["target_source"]
    return Appeal(
        appeal_id=row["appeal_id"],
        subject=row["subject"],
        state=AppealState(row["state"]),
        target=Target(
            kind=TargetKind(row["target_kind"]),
            code=row["target_code"],
            reference=row["target_reference"],
            event=None if source is None else EventKey(source, row["target_number"]),
        ),
        statement=row["statement"],
        evidence=tuple(Evidence(**item) for item in json.loads(row["evidence"])),
        filed_by=row["filed_by"],
        create_time=row["create_time"],
        decided_by=row["decided_by"],
        decision=row["decision"],
        reversed_events=tuple(EventKey(source, number) for source, number in json.loads(row["reversed_events"])),
        end_time=row["end_time"],
    )


def appeal_row(appeal: Appeal) -> tuple[Any, ...]:
    target = appeal.target
    evidence = [
        {
            "uri": item.uri,
            "sha256": item.sha256,
            "size_bytes": item.size_bytes,
            "media_type": item.media_type,
            "note": item.note,
        }
        for item in appeal.evidence
    ]
    return (
        appeal.appeal_id,
        appeal.subject,
        appeal.state.value,
        target.kind.value,
        target.code,
        target.reference,
        None if target.event is None else target.event.source,
        None if target.event is None else target.event.number,
        appeal.statement,
        json.dumps(evidence),
        appeal.filed_by,
        appeal.create_time,
        appeal.decided_by,
        appeal.decision,
        reversed_text(appeal),
        appeal.end_time,
    )


def reversed_text(appeal: Appeal) -> str:
    return json.dumps([(key.source, key.number) for key in appeal.reversed_events])


def access_of(row: Any) -> Access:
    return Access(
        access_id=row["access_id"],
        subject=row["subject"],
        purpose=row["purpose"],
        method=row["method"],
        reader=row["reader"],
        trace_id=row["trace_id"],
        create_time=row["create_time"],
    )


def access_row(access: Access) -> tuple[Any, ...]:
    return (
        access.access_id,
        access.subject,
        access.purpose,
        access.method,
        access.reader,
        access.trace_id,
        access.create_time,
    )
