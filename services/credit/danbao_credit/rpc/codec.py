"""How answers and events are written down: the messages of the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from google.protobuf.message import Message

from danbao.credit.v1 import model_pb2
from danbao_credit.domain.models import ModelVersion
from danbao_credit.rpc.models import model_message

# By the operation: what its recorded answer is.
_REPLIES: Mapping[str, type[Message]] = {
    "CreateModelVersion": model_pb2.ModelVersion,
    "ValidateModelVersion": model_pb2.ModelVersion,
    "PromoteModelVersion": model_pb2.ModelVersion,
    "RollbackModel": model_pb2.ModelVersion,
    "SetChallenger": model_pb2.ModelVersion,
}
# By what a decision gives: its message.
_MESSAGES: Mapping[type, Callable[[Any], Message]] = {ModelVersion: model_message}


class CreditCodec:
    """The group commit's codec. Chunks of events have no answer; nothing is told in events of credit's own yet."""

    def reply(self, command: Any, reply: Any) -> Message:
        return _MESSAGES[type(reply)](reply)

    def parse_reply(self, method: str, data: bytes) -> Message:
        return _REPLIES[method].FromString(data)

    def event(self, event: Any, *, sequence: int, create_time: datetime, traceparent: str) -> tuple[str, bytes]:
        raise AssertionError(f"{type(event).__name__} is no event of the contract")
