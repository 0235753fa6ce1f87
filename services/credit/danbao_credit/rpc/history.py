"""How reports, rebuilds, profiles and moments look on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from danbao.credit.v1 import credit_pb2
from danbao_credit.application.as_of import AsOf, from_microseconds
from danbao_credit.application.get_profile import CountedProfile, CountedSlot
from danbao_credit.application.rebuild import RebuildProfile, Rebuilt
from danbao_credit.application.record_events import NewEvent, Recorded, RecordEvents, RecordState
from danbao_credit.domain.catalogue import Catalogue
from danbao_kit.call import Call
from danbao_kit.rpc_status import status_of
from danbao_kit.timestamps import moment_of

_OPERATOR, _ARBITER = "operator", "arbiter"
_STATES = {
    RecordState.APPLIED: credit_pb2.RecordedEvent.STATE_APPLIED,
    RecordState.DUPLICATE: credit_pb2.RecordedEvent.STATE_DUPLICATE,
    RecordState.PARKED: credit_pb2.RecordedEvent.STATE_PARKED,
    RecordState.REFUSED: credit_pb2.RecordedEvent.STATE_REFUSED,
    RecordState.ERASED: credit_pb2.RecordedEvent.STATE_ERASED,
}


def is_operator(call: Call) -> bool:
    """Whether an operator calls, by token or by the command line's certificate."""
    return _OPERATOR in call.roles or call.peer == _OPERATOR


def as_of(request: Any, call: Call) -> AsOf:
    """The moment that a request asks for. Raises FieldInvalid for one that is none."""
    moment = moment_of(request.as_of, "as_of") if request.HasField("as_of") else None
    return AsOf(moment, by_operator=is_operator(call))


def record_command(request: credit_pb2.RecordEventsRequest, call: Call, catalogue: Catalogue) -> RecordEvents:
    """The command of a call."""
    return RecordEvents(
        caller=call.request_caller,
        by_operator=is_operator(call) or _ARBITER in call.roles,
        events=tuple(_new_event(event) for event in request.events),
        catalogue=catalogue,
        traceparent=call.traceparent,
    )


def rebuild_command(request: credit_pb2.RebuildProfileRequest, catalogue: Catalogue) -> RebuildProfile:
    """The command of a call."""
    return RebuildProfile(request.subject, catalogue, request.validate_only)


def recorded_message(results: Sequence[Recorded]) -> credit_pb2.RecordEventsResponse:
    return credit_pb2.RecordEventsResponse(results=[_recorded(result) for result in results])


def rebuilt_message(rebuilt: Rebuilt) -> credit_pb2.RebuildProfileResponse:
    message = credit_pb2.RebuildProfileResponse(
        subject=rebuilt.subject,
        same=rebuilt.same,
        entries_differing=rebuilt.entries_differing,
        entries=rebuilt.entries,
        replayed_events=rebuilt.replayed_events,
        catalogue_version=rebuilt.catalogue_version,
    )
    if rebuilt.checkpoint_us is not None:
        message.checkpoint_time.FromDatetime(from_microseconds(rebuilt.checkpoint_us))
    return message


def profile_message(counted: CountedProfile, catalogue: Catalogue) -> credit_pb2.Profile:
    message = credit_pb2.Profile(
        subject=counted.subject,
        slots=[_slot_message(slot) for slot in counted.slots],
        entries=len(counted.profile.keys),
        kept_events=counted.kept_events,
        catalogue_version=catalogue.version,
    )
    message.as_of.FromDatetime(counted.moment)
    newest_s = counted.profile.newest_s()
    if newest_s:
        message.newest_event_time.FromSeconds(newest_s)
    if counted.checkpoint is not None:
        message.checkpoint_time.FromDatetime(counted.checkpoint)
    return message


def _slot_message(counted: CountedSlot) -> credit_pb2.Slot:
    slot = counted.slot
    message = credit_pb2.Slot(id=slot.id, name=slot.name, currency=slot.currency, totals=counted.totals)
    if counted.mark_s is not None:
        message.mark_time.FromSeconds(counted.mark_s)
    return message


def _new_event(event: credit_pb2.NewEvent) -> NewEvent:
    return NewEvent(
        event_id=event.event_id,
        kind=event.kind,
        subject=event.subject,
        peer=event.peer,
        about=event.about,
        currency=event.currency,
        at_us=_us(event.occur_time) if event.HasField("occur_time") else None,
        measures=tuple(sorted(event.measures.items())),
        reverses=event.reverses,
    )


def _recorded(result: Recorded) -> credit_pb2.RecordedEvent:
    message = credit_pb2.RecordedEvent(
        event_id=result.event_id, state=_STATES[result.state], park_reason=result.park_reason
    )
    if result.error is not None:
        message.error.CopyFrom(status_of(result.error))
    return message


def _us(time: Timestamp) -> int:
    return time.seconds * 1_000_000 + time.nanos // 1_000
