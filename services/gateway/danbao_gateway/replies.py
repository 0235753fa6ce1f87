"""What the gateway answers by itself: google.rpc.Status as the services do, for gRPC and for JSON callers."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.protobuf import any_pb2, json_format
from google.rpc import code_pb2, error_details_pb2, status_pb2

from danbao_gateway.shapes import Config, typed

DOMAIN = "danbao"
REASON_HEADER = "x-danbao-reason"
"""The reason of a refusal once more, for logs and for those who read no details."""
CONTENT_TYPE_POLICY = "unreadable_content_type"
UNKNOWN_METHOD_POLICY = "unknown_method"
HEADER_POLICY = "unreadable_header"
HEADER_SIZE_POLICY = "large_headers"
PARTNER_POLICY = "unreadable_partner"
"""Names of policies that refuse, as Envoy tells them to the replies below."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One refusal of the gateway's own."""

    http_statuses: tuple[int, ...]
    """Envoy's local replies that this one stands for."""
    code: code_pb2.Code
    reason: str
    message: str
    retry_after: timedelta | None = None
    json_http_status: int | None = None
    """What a JSON caller sees when it is not what Envoy chose."""
    details_contain: str | None = None
    """Only when Envoy's response code details contain this; such a reply stands before the general one."""

    def status(self) -> status_pb2.Status:
        """The whole error."""
        details: list[any_pb2.Any] = [_packed(error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN))]
        if self.retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromTimedelta(self.retry_after)
            details.append(_packed(retry))
        return status_pb2.Status(code=self.code, message=self.message, details=details)


HEADERS_TOO_LARGE = "the headers are larger or more than the gateway accepts"
REPLIES = (
    Reply(
        (403,),
        code_pb2.INVALID_ARGUMENT,
        "CONTENT_TYPE_UNSUPPORTED",
        "send JSON as application/json, or gRPC as application/grpc or application/grpc-web",
        json_http_status=415,
        details_contain=CONTENT_TYPE_POLICY,
    ),
    Reply(
        (403,),
        code_pb2.INVALID_ARGUMENT,
        "HEADER_UNREADABLE",
        "grpc-timeout is up to 8 digits and a unit, grpc-encoding identity, gzip or deflate; gRPC wants te: trailers",
        json_http_status=400,
        details_contain=HEADER_POLICY,
    ),
    Reply(
        (403,),
        code_pb2.RESOURCE_EXHAUSTED,
        "HEADERS_TOO_LARGE",
        HEADERS_TOO_LARGE,
        json_http_status=431,
        details_contain=HEADER_SIZE_POLICY,
    ),
    Reply(
        (401,),
        code_pb2.UNAUTHENTICATED,
        "TOKEN_MISSING",
        "the call carries no bearer token",
        details_contain="Jwt_is_missing",
    ),
    Reply(
        (401,),
        code_pb2.UNAUTHENTICATED,
        "TOKEN_EXPIRED",
        "the token has expired; ask its issuer for a new one",
        details_contain="Jwt_is_expired",
    ),
    Reply((401,), code_pb2.UNAUTHENTICATED, "TOKEN_INVALID", "the token is not one that this gateway accepts"),
    Reply(
        (403,),
        code_pb2.UNAUTHENTICATED,
        "TOKEN_INVALID",
        "the token is meant for somebody else",
        json_http_status=401,
        details_contain="jwt_authn",
    ),
    Reply(
        (403,),
        code_pb2.UNAUTHENTICATED,
        "TOKEN_INVALID",
        "the token's partner is not a text in ASCII without spaces",
        json_http_status=401,
        details_contain=PARTNER_POLICY,
    ),
    Reply(
        (403,),
        code_pb2.UNIMPLEMENTED,
        "METHOD_UNKNOWN",
        "no such method",
        json_http_status=404,
        details_contain=UNKNOWN_METHOD_POLICY,
    ),
    Reply((403,), code_pb2.PERMISSION_DENIED, "ROLE_NOT_ALLOWED", "none of the token's roles may call this method"),
    Reply((404,), code_pb2.UNIMPLEMENTED, "METHOD_UNKNOWN", "no such method"),
    Reply(
        (408, 504), code_pb2.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "the service did not answer within the deadline"
    ),
    Reply(
        (429,),
        code_pb2.RESOURCE_EXHAUSTED,
        "RATE_LIMITED",
        "the caller's limit for methods of this class is used up; nothing was executed",
        retry_after=timedelta(seconds=1),
    ),
    Reply(
        (503,),
        code_pb2.RESOURCE_EXHAUSTED,
        "OVERLOADED",
        "too many calls are under way; nothing was executed",
        retry_after=timedelta(seconds=1),
        json_http_status=429,
        details_contain="overflow",
    ),
    Reply(
        (503,),
        code_pb2.RESOURCE_EXHAUSTED,
        "OVERLOADED",
        "too many calls are under way; nothing was executed",
        retry_after=timedelta(seconds=1),
        json_http_status=429,
        details_contain="overload",
    ),
    Reply((431,), code_pb2.RESOURCE_EXHAUSTED, "HEADERS_TOO_LARGE", HEADERS_TOO_LARGE),
    Reply((413,), code_pb2.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE", "the request is larger than the gateway accepts"),
    Reply(
        (502, 503),
        code_pb2.UNAVAILABLE,
        "SERVICE_UNAVAILABLE",
        "the service cannot be reached; the call may or may not have been executed",
        retry_after=timedelta(seconds=1),
    ),
)
MALFORMED = Reply((400, 415), code_pb2.INVALID_ARGUMENT, "MESSAGE_MALFORMED", "the request cannot be read")


_LIBRARY_ANSWERS = (
    ("4", "Deadline Exceeded", "DEADLINE_EXCEEDED"),
    ("8", "larger than max", "MESSAGE_TOO_LARGE"),
    ("8", "metadata size", "HEADERS_TOO_LARGE"),
    ("13", "Error parsing '", "MESSAGE_MALFORMED"),
    ("13", "Compression bit set", "MESSAGE_MALFORMED"),
)
"""What the services' gRPC library answers before a service sees the call, in its words and codes, without a reason."""


def lua_answers() -> str:
    """For each such answer of the library: its code, what its message contains, and the code, reason and details that
    callers are told instead, as rows of a Lua table."""
    known = {reply.reason: reply for reply in (*REPLIES, MALFORMED)}
    rows = []
    for code, contained, reason in _LIBRARY_ANSWERS:
        reply = known[reason]
        cells = (code, contained, str(int(reply.code)), reason, reply.message, _details(reply))
        rows.append("{" + ", ".join(f'"{cell}"' for cell in cells) + "}")
    return ", ".join(rows)


def local_reply_config() -> Config:
    """Envoy's mappers, the first that fits is taken: for each reply one in gRPC-Web, one in gRPC and one in JSON."""
    replies = (*REPLIES, MALFORMED)
    mappers = [
        mapper for reply in replies for mapper in (_grpc_web_mapper(reply), _grpc_mapper(reply), _json_mapper(reply))
    ]
    return {"mappers": mappers}


def _grpc_web_mapper(reply: Reply) -> Config:
    # Envoy does not count gRPC-Web as gRPC here: without this the browser sees an HTTP status and no reason.
    return {
        "filter": _all(*SPEAKS_GRPC_WEB, *_answered(reply)),
        "status_code": 200,
        "headers_to_add": [*_status_headers(reply), _header("grpc-message", reply.message)],
        "body_format_override": {
            "text_format_source": {"inline_string": ""},
            "content_type": "application/grpc-web+proto",
        },
    }


def _grpc_mapper(reply: Reply) -> Config:
    return {
        "filter": _all(*SPEAKS_GRPC, *_answered(reply)),
        "body": {"inline_string": reply.message},
        "headers_to_add": _status_headers(reply),
    }


def _status_headers(reply: Reply) -> list[Config]:
    return [
        _header("grpc-status", str(int(reply.code))),
        _header("grpc-status-details-bin", _details(reply)),
        _header(REASON_HEADER, reply.reason),
    ]


def _details(reply: Reply) -> str:
    return base64.b64encode(reply.status().SerializeToString()).decode("ascii").rstrip("=")


def _json_mapper(reply: Reply) -> Config:
    body = json_format.MessageToDict(reply.status(), preserving_proto_field_name=True)
    http_status = {} if reply.json_http_status is None else {"status_code": reply.json_http_status}
    headers = [_header(REASON_HEADER, reply.reason)]
    if reply.retry_after is not None:
        headers.append(_header("retry-after", str(round(reply.retry_after.total_seconds()))))
    return {
        "filter": _all(*_answered(reply)),
        "headers_to_add": headers,
        "body_format_override": {"json_format": body, "content_type": "application/json"},
        **http_status,
    }


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _header(key: str, value: str) -> Config:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _all(*filters: Config) -> Config:
    return filters[0] if len(filters) == 1 else {"and_filter": {"filters": list(filters)}}


def _any(*filters: Config) -> Config:
    return filters[0] if len(filters) == 1 else {"or_filter": {"filters": list(filters)}}


def _request_header(name: str, **match: Any) -> Config:
    return {"header_filter": {"header": {"name": name, **match}}}


SPEAKS_GRPC = (
    _request_header("content-type", string_match={"prefix": "application/grpc"}, treat_missing_header_as_empty=True),
    # The transcoder has already made gRPC of a JSON caller's request; it leaves the path it came by.
    _request_header("x-envoy-original-path", present_match=True, invert_match=True),
)

SPEAKS_GRPC_WEB = (_request_header("x-grpc-web", present_match=True), *SPEAKS_GRPC)
"""Its own content type is gone by then: the filter has made gRPC of the request."""


def _answered(reply: Reply) -> list[Config]:
    status = _any(*(_http_status(number) for number in reply.http_statuses))
    return [status] if reply.details_contain is None else [status, _details_contain(reply.details_contain)]


def _http_status(number: int) -> Config:
    value = {"default_value": number, "runtime_key": f"reply_{number}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _details_contain(text: str) -> Config:
    return {
        "extension_filter": {
            "name": "cel",
            "typed_config": typed(
                "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
                expression=f"response.code_details.contains('{text}')",
            ),
        }
    }
