"""What can be wrong in credit.

CursorInvalid          INVALID_ARGUMENT     not a cursor that was given out
CallerNotAllowed       PERMISSION_DENIED    only operators see all subjects
CurrencyWithoutTerms   FAILED_PRECONDITION  the terms table has no row for the currency
AsOfNotAllowed         PERMISSION_DENIED    only operators look further back than a day
AsOfTooOld             OUT_OF_RANGE         events of that time are kept as a sum only
ReportNotAllowed       PERMISSION_DENIED    this kind of event is told by operators and arbiters only
ReportNotFound         NOT_FOUND            the caller has told no event with the id to be reversed
AlreadyReversed        FAILED_PRECONDITION  the event was taken back before
ModelVersionExists     ALREADY_EXISTS       a model of this version is there already
ModelVersionNotFound   NOT_FOUND            there is no model of this version
ModelStateInvalid      FAILED_PRECONDITION  the model's state does not allow this step
NoFormerModel          FAILED_PRECONDITION  the champion followed no other
StreamGap              ABORTED              events before these have not been applied; for the reader only
EventMalformed         (never leaves)       an event that cannot be understood is parked with this reason
DefinitionInvalid      (never leaves)       a file that ships with the service contradicts itself; refused at start
TrainingImpossible     (never leaves)       rows from which nothing can be learnt; for the train command only
"""

from __future__ import annotations

from datetime import datetime

from danbao_kit.errors import Code, DanbaoError, FieldInvalid, FieldViolation

__all__ = [
    "AlreadyReversed",
    "AsOfNotAllowed",
    "AsOfTooOld",
    "CallerNotAllowed",
    "CurrencyWithoutTerms",
    "CursorInvalid",
    "DefinitionInvalid",
    "EventMalformed",
    "FieldInvalid",
    "FieldViolation",
    "ReportNotAllowed",
    "ReportNotFound",
    "StreamGap",
]


class CurrencyWithoutTerms(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "CURRENCY_WITHOUT_TERMS"

    def __init__(self, currency: str, field: str, terms_version: str) -> None:
        super().__init__(
            f"the terms table {terms_version} has no row for {currency}",
            fields=(FieldViolation(field, "no terms are offered in this currency"),),
            field=field,
            currency=currency,
            terms_version=terms_version,
        )


class CursorInvalid(DanbaoError):
    code, reason = Code.INVALID_ARGUMENT, "CURSOR_INVALID"

    def __init__(self) -> None:
        super().__init__(
            "the cursor is not one that was given out",
            fields=(FieldViolation("cursor", "not a cursor that was given out"),),
        )


class CallerNotAllowed(DanbaoError):
    code, reason, recorded = Code.PERMISSION_DENIED, "CALLER_NOT_ALLOWED", False

    def __init__(self) -> None:
        super().__init__("all subjects at once are for operators: name those to be watched")


class AsOfNotAllowed(DanbaoError):
    code, reason = Code.PERMISSION_DENIED, "AS_OF_NOT_ALLOWED"

    def __init__(self, oldest: datetime) -> None:
        super().__init__(f"only operators look further back than {oldest.isoformat()}", oldest=oldest.isoformat())


class AsOfTooOld(DanbaoError):
    code, reason = Code.OUT_OF_RANGE, "AS_OF_TOO_OLD"

    def __init__(self, oldest: datetime) -> None:
        super().__init__(f"what happened before {oldest.isoformat()} is kept as a sum only", oldest=oldest.isoformat())


class ReportNotAllowed(DanbaoError):
    code, reason = Code.PERMISSION_DENIED, "REPORT_NOT_ALLOWED"

    def __init__(self, kind: str) -> None:
        super().__init__(f"{kind} is told by operators and arbiters only", kind=kind)


class ReportNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "REPORT_NOT_FOUND"

    def __init__(self, event_id: str) -> None:
        super().__init__(f"the caller has told no event {event_id}", event_id=event_id)


class AlreadyReversed(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "ALREADY_REVERSED"

    def __init__(self, event_id: str) -> None:
        super().__init__(f"event {event_id} was taken back before", event_id=event_id)


class StreamGap(DanbaoError):
    """The events of a chunk do not follow on what was applied: read again from `sequence`."""

    code, reason = Code.ABORTED, "STREAM_GAP"

    def __init__(self, source: str, sequence: int, after_sequence: int) -> None:
        super().__init__(
            f"{source} was read up to {sequence}, these events begin after {after_sequence}",
            source=source,
            sequence=sequence,
            after_sequence=after_sequence,
        )
        self.sequence = sequence


class EventMalformed(Exception):
    """An event breaks its own contract."""


class DefinitionInvalid(Exception):
    """A definition file (catalogue, model, terms, texts) contradicts itself or another one."""


class TrainingImpossible(Exception):
    """The rows do not allow a scorecard to be trained."""


class ModelVersionExists(DanbaoError):
    code, reason = Code.ALREADY_EXISTS, "MODEL_VERSION_EXISTS"

    def __init__(self, name: str, sha256: str) -> None:
        super().__init__(f"{name} exists already: another content needs another version", name=name, sha256=sha256)


class ModelVersionNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "MODEL_VERSION_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no {name}", name=name)


class ModelStateInvalid(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "MODEL_STATE_INVALID"

    def __init__(self, name: str, state: str, step: str) -> None:
        super().__init__(f"{name} is {state}, which does not allow {step}", name=name, state=state, step=step)


class NoFormerModel(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "NO_FORMER_MODEL"

    def __init__(self, champion: str) -> None:
        super().__init__(f"{champion} followed no other champion: there is nothing to go back to", champion=champion)
