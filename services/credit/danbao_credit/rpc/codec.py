"""How answers and events are written down: the messages of the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from google.protobuf.message import Message

from danbao.credit.v1 import credit_pb2, event_pb2, membership_pb2, model_pb2
from danbao_credit.application.rebuild import Rebuilt
from danbao_credit.domain.membership_model import MembershipEvent, MembershipView
from danbao_credit.domain.models import ModelVersion
from danbao_credit.domain.scores import ScoreChanged
from danbao_credit.rpc.history import rebuilt_message, recorded_message
from danbao_credit.rpc.membership_mapping import membership_message
from danbao_credit.rpc.models import model_message
from danbao_credit.rpc.rights_codec import RIGHTS_EVENTS, RIGHTS_MESSAGES, RIGHTS_REPLIES
from danbao_credit.rpc.scores import changed_message

# By the operation: what its recorded answer is.
_REPLIES: Mapping[str, type[Message]] = {
    "RebuildProfile": credit_pb2.RebuildProfileResponse,
    "ApplyMembership": membership_pb2.Membership,
    "FundDeposit": membership_pb2.Membership,
    "SuspendMembership": membership_pb2.Membership,
    "ReinstateMembership": membership_pb2.Membership,
    "LeaveMembership": membership_pb2.Membership,
    "CreateModelVersion": model_pb2.ModelVersion,
    "ValidateModelVersion": model_pb2.ModelVersion,
    "PromoteModelVersion": model_pb2.ModelVersion,
    "RollbackModel": model_pb2.ModelVersion,
    "SetChallenger": model_pb2.ModelVersion,
    **RIGHTS_REPLIES,
}
# By what a decision gives: its message.
_MESSAGES: Mapping[type, Callable[[Any], Message]] = {
    # What came of reports, one by one.
    tuple: recorded_message,
    Rebuilt: rebuilt_message,
    MembershipView: membership_message,
    ModelVersion: model_message,
    **RIGHTS_MESSAGES,
}


class CreditCodec:
    """The group commit's codec. Chunks of events and recorded scores have no answer."""

    def reply(self, command: Any, reply: Any) -> Message:
        return _MESSAGES[type(reply)](reply)

    def parse_reply(self, method: str, data: bytes) -> Message:
        return _REPLIES[method].FromString(data)

    def event(self, event: Any, *, sequence: int, create_time: datetime, traceparent: str) -> tuple[str, bytes]:
        kind, put = _EVENTS[type(event)] if not isinstance(event, MembershipEvent) else (event.kind, _put_membership)
        message = event_pb2.Event(sequence=sequence, traceparent=traceparent)
        message.create_time.FromDatetime(create_time)
        put(message, event)
        return kind, message.SerializeToString()


def _put_membership(message: event_pb2.Event, event: MembershipEvent) -> None:
    getattr(message, event.kind).CopyFrom(membership_message(event.view))


def _put_score(message: event_pb2.Event, changed: ScoreChanged) -> None:
    # Scores are recorded together; each has its own cause.
    message.traceparent = changed.traceparent
    message.score_changed.CopyFrom(changed_message(changed))


# By what a decision emits: the field of the event's payload, and how it is put there.
_EVENTS: Mapping[type, tuple[str, Callable[[event_pb2.Event, Any], None]]] = {
    ScoreChanged: ("score_changed", _put_score),
    **RIGHTS_EVENTS,
}
