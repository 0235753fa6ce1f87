"""How an error looks on the wire: the one mapping from DanbaoError to google.rpc.Status."""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from danbao_kit.errors import DanbaoError, RecordedRefusal

DOMAIN = "danbao"
# An error travels in HTTP/2 trailers, which proxies bound: what a caller sent must not make its own refusal unsendable.
_MOST_FIELDS = 16
_LONGEST_FIELD = 128
_LONGEST_TEXT = 256
DETAILS_KEY = "grpc-status-details-bin"


def status_of(error: DanbaoError) -> status_pb2.Status:
    """The error with its reason, its metadata, its fields, and when to try again."""
    if isinstance(error, RecordedRefusal):
        return status_pb2.Status.FromString(error.status)
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code.value), message=_short(error.message))
    metadata = {key: _short(value) for key, value in error.metadata.items()}
    details = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)]
    if error.fields:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(
                field=_short(item.field, _LONGEST_FIELD), description=_short(item.description)
            )
            for item in error.fields[:_MOST_FIELDS]
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if error.retry_after_ms is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(error.retry_after_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _short(text: str, longest: int = _LONGEST_TEXT) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


_CODES = {code.value[0]: code for code in grpc.StatusCode}


def grpc_code(status: status_pb2.Status) -> grpc.StatusCode:
    """The gRPC code of a status."""
    return _CODES[status.code]


def reason_of(status: status_pb2.Status) -> tuple[str, dict[str, str]]:
    """The reason and metadata of a status; empty when it carries none."""
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason, dict(info.metadata)
    return "", {}
