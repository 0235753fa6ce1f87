"""What can be wrong in credit.

CurrencyWithoutTerms   FAILED_PRECONDITION  the terms table has no row for the currency
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

from danbao_kit.errors import Code, DanbaoError, FieldInvalid, FieldViolation

__all__ = ["CurrencyWithoutTerms", "DefinitionInvalid", "EventMalformed", "FieldInvalid", "FieldViolation", "StreamGap"]


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
