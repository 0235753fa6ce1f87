"""How answers about rights, and credit's events about them, are written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from google.protobuf.message import Message

from danbao.credit.v1 import event_pb2, rights_pb2
from danbao_credit.application.appeals import AppealDecided, AppealFiled, AppealTold, AppealWithdrawn
from danbao_credit.domain.appeal import Appeal
from danbao_credit.domain.consent import Consent
from danbao_credit.domain.erasure import Erasure
from danbao_credit.rpc.rights_mapping import appeal_message, consent_message, erasure_message, notice_message

RIGHTS_REPLIES: Mapping[str, type[Message]] = MappingProxyType(
    {
        "GrantConsent": rights_pb2.Consent,
        "RevokeConsent": rights_pb2.Consent,
        "FileAppeal": rights_pb2.Appeal,
        "WithdrawAppeal": rights_pb2.Appeal,
        "DecideAppeal": rights_pb2.Appeal,
        "EraseSubject": rights_pb2.Erasure,
    }
)
"""By the operation: what its recorded answer is."""

RIGHTS_MESSAGES: Mapping[type, Callable[[Any], Message]] = MappingProxyType(
    {
        # Answered in the moment of its change.
        Consent: lambda consent: consent_message(consent, consent.revoke_time or consent.grant_time),
        # Who is answered so is the subject, a partner for it, or the arbiter who decided it.
        Appeal: lambda appeal: appeal_message(appeal, names_arbiter=True),
        Erasure: erasure_message,
    }
)
"""By what a decision gives: its message."""


def _notice(kind: str) -> tuple[str, Callable[[event_pb2.Event, Any], None]]:
    def put(message: event_pb2.Event, told: AppealTold) -> None:
        getattr(message, kind).CopyFrom(notice_message(told.appeal))

    return kind, put


RIGHTS_EVENTS: Mapping[type, tuple[str, Callable[[event_pb2.Event, Any], None]]] = MappingProxyType(
    {
        AppealFiled: _notice("appeal_filed"),
        AppealDecided: _notice("appeal_decided"),
        AppealWithdrawn: _notice("appeal_withdrawn"),
    }
)
"""By what a decision emits: the field of the event's payload, and how it is put there."""


def blank_event(sequence: int, create_time: datetime) -> bytes:
    """What is left of an event whose subject was erased."""
    message = event_pb2.Event(sequence=sequence, erased=rights_pb2.ErasedNotice())
    message.create_time.FromDatetime(create_time)
    return message.SerializeToString()
