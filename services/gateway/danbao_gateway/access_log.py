"""What is written of every call: one JSON line of ids, states and sizes."""

from __future__ import annotations

from danbao_gateway import identity
from danbao_gateway.replies import REASON_HEADER
from danbao_gateway.routes import STATUS_HEADER
from danbao_gateway.shapes import Config, typed

_METHOD = "^/[a-z]+([.][a-z]+)*([.]v[0-9])?[.][A-Za-z]+/[A-Za-z]+$"
"""Every method's path; a JSON call has one by then, and of what is no method the path is the caller's own text."""
_UNKNOWN = "unknown"

FIELDS = {
    "time": "%START_TIME%",
    "event": "call",
    "trace_id": "%TRACE_ID%",
    "request_id": "%REQ(x-request-id)%",
    "subject": f"%REQ({identity.SUBJECT_HEADER})%",
    "partner": f"%REQ({identity.PARTNER_HEADER})%",
    "roles": f"%REQ({identity.ROLES_HEADER})%",
    "method": f"%CEL(request.url_path.matches('{_METHOD}') ? request.url_path : '{_UNKNOWN}')%",
    "json_verb": "%REQ(x-envoy-original-method)%",
    "grpc_status": "%GRPC_STATUS(CAMEL_STRING)%",
    "service_status": f"%RESP({STATUS_HEADER})%",
    # In the headers, or in the trailers when a header of the service went ahead of its refusal; never in both.
    "reason": f"%RESP({REASON_HEADER})%%TRAILER({REASON_HEADER})%",
    "http_status": "%RESPONSE_CODE%",
    "duration_ms": "%DURATION%",
    "request_bytes": "%BYTES_RECEIVED%",
    "response_bytes": "%BYTES_SENT%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "upstream": "%UPSTREAM_CLUSTER%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
}
"""Never a token, a body, or what a caller put into the path or the query of a JSON call."""


def access_log(path: str) -> Config:
    """A JSON line for each call, appended to a file."""
    expressions = {"name": "envoy.formatter.cel", "typed_config": typed("envoy.extensions.formatter.cel.v3.Cel")}
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": typed(
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=path,
            log_format={"json_format": FIELDS, "omit_empty_values": True, "formatters": [expressions]},
        ),
    }
