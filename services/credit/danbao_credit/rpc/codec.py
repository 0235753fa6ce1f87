"""How answers and events are written down: the messages of the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from google.protobuf.message import Message

from danbao.credit.v1 import event_pb2, rights_pb2
from danbao_credit.application.appeals import AppealTold
from danbao_credit.domain.appeal import Appeal
from danbao_credit.domain.consent import Consent
from danbao_credit.domain.erasure import Erasure
from danbao_credit.rpc.rights_mapping import appeal_message, consent_message, erasure_message, notice_message

# By the operation: what its recorded answer is.
_REPLIES: Mapping[str, type[Message]] = {
    "GrantConsent": rights_pb2.Consent,
    "RevokeConsent": rights_pb2.Consent,
    "FileAppeal": rights_pb2.Appeal,
    "WithdrawAppeal": rights_pb2.Appeal,
    "DecideAppeal": rights_pb2.Appeal,
    "EraseSubject": rights_pb2.Erasure,
}
# By what a decision gives: its message.
_MESSAGES: Mapping[type, Callable[[Any], Message]] = {
    # Answered in the moment of its change.
    Consent: lambda consent: consent_message(consent, consent.revoke_time or consent.grant_time),
    # Who is answered so is the subject, a partner for it, or the arbiter itself.
    Appeal: lambda appeal: appeal_message(appeal, names_arbiter=True),
    Erasure: erasure_message,
}


class CreditCodec:
    """The group commit's codec. Chunks of events have no answer."""

    def reply(self, command: Any, reply: Any) -> Message:
        return _MESSAGES[type(reply)](reply)

    def parse_reply(self, method: str, data: bytes) -> Message:
        return _REPLIES[method].FromString(data)

    def event(self, event: Any, *, sequence: int, create_time: datetime, traceparent: str) -> tuple[str, bytes]:
        assert isinstance(event, AppealTold), f"{type(event).__name__} is no event of the contract"
        message = event_pb2.Event(sequence=sequence, traceparent=traceparent)
        message.create_time.FromDatetime(create_time)
        getattr(message, event.kind).CopyFrom(notice_message(event.appeal))
        return event.kind, message.SerializeToString()


def blank_event(sequence: int, create_time: datetime) -> bytes:
    """What is left of an event whose subject was erased."""
    message = event_pb2.Event(sequence=sequence, erased=rights_pb2.ErasedNotice())
    message.create_time.FromDatetime(create_time)
    return message.SerializeToString()
