"""How HTTP requests at the gateway are made wrong: JSON, its paths and queries, gRPC-Web's frames, and headers."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

from danbao_local.contracts import HttpRule
from danbao_local.fuzz import values
from danbao_local.fuzz.attempt import NOBODY
from danbao_local.fuzz.methods import FuzzedMethod
from danbao_local.fuzz.values import Known

_WRONG_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    1e308,
    10**30,
    "",
    "abc",
    "9" * 30,
    [],
    {},
    [[]],
    {"a": {"b": {}}},
    ["x"] * 50,
    float("nan"),
    float("-inf"),
    "NaN",
    "1.0e3",
    "2026-13-01T00:00:00Z",
    "0000-00-00T00:00:00Z",
    "9999-12-31T23:59:60Z",
    "-3.000000001s",
    "1e9s",
    "STATE_UNSPECIFIED",
    "NO_SUCH_NAME",
)
_BROKEN_BODIES = (
    b"",
    b"{",
    b"}",
    b"null",
    b"[]",
    b'"text"',
    b"0",
    b"{,}",
    b'{"a":}',
    b'{"requestId":"a","requestId":"b"}',
    b"{'requestId':'a'}",
    b'{"requestId":"\xff\xfe"}',
    b'{"requestId":"\\ud800"}',
    b'{"requestId":"\\u0000"}',
    b'{"no_such_field":1}',
    b"\xef\xbb\xbf{}",
    b"{}{}",
    b"{} trailing",
    b"[" * 10_000,
    b'{"a":' * 5_000,
    b'{"amount":' + b"[" * 200 + b"]" * 200 + b"}",
    b'{"requestId":' + b"9" * 4_000 + b"}",
    b'{"requestId":"' + b"x" * 900_000 + b'"}',
    b'{"@type":"type.googleapis.com/google.rpc.Status"}',
    b"--boundary\r\nContent-Disposition: form-data\r\n\r\n",
    b"a=b&c=d",
    b"<xml/>",
)
_CONTENT_TYPES = (
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json; charset=utf-16",
    "application/JSON",
    "application/json5",
    "application/grpc",
    "application/grpc+json",
    "application/grpc-web",
    "application/grpc-web+thrift",
    "application/grpc-web-text",
    "application/x-protobuf",
    "*/*",
    "",
    "a" * 2_000,
)
_VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "A" * 300)
_PATHS = (
    "/",
    "//",
    "/v1",
    "/v1/",
    "/v1/../v1/payments",
    "/v1/%2e%2e/admin",
    "/v1/payments%00",
    "/v1/payments%2F..%2F",
    "/v1/payments/%F0%9F%98%80",
    "/v1/payments/%FF",
    "/v1/payments/" + "a" * 8_000,
    "/v1/payments/" + "a/" * 500,
    "/v1/payments:noSuchVerb",
    "/v1/payments/x:capture:capture",
    "/v1/payments?pageSize=abc",
    "/v1/payments?pageSize=99999999999",
    "/v1/payments?noSuch=1",
    "/v1/payments?payer.x.y=1",
    "/v1/payments?payer=a&payer=b",
    "/v1/payments?" + "a=b&" * 1_500,
    "/v1/payments?%",
    "/v1/payments?payer=%FF%FE",
    "/v1/payments?create_time_from.seconds=1",
    "/v1/payments?createTimeFrom=yesterday",
    "/v1/trades?orderBy=%27%3B--",
    "/danbao.payments.v1.PaymentService/NoSuch",
    "/danbao.payments.v1.NoSuch/GetPayment",
    "/danbao.payments.v1.PaymentService/CreatePayment/",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/grpc.health.v1.Health/Check",
    "/docs/../../etc/passwd",
    "/docs/%2e%2e/x",
    "*",
    "http://example.com/v1/payments",
)
ODD_HEADERS: tuple[tuple[str, str], ...] = (
    ("grpc-timeout", "abc"),
    ("grpc-timeout", "-1S"),
    ("grpc-timeout", "99999999H"),
    ("grpc-timeout", "999999999999S"),
    ("grpc-timeout", "1n"),
    ("grpc-timeout", "0S"),
    ("grpc-timeout", ""),
    ("traceparent", "00-zz-zz-01"),
    ("traceparent", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"),
    ("traceparent", "ff-" + "a" * 32 + "-" + "b" * 16 + "-ff"),
    ("traceparent", "00-" + "a" * 5_000),
    ("traceparent", "é" * 20),
    ("tracestate", "a=b," * 500),
    ("baggage", "k=%ff"),
    ("grpc-encoding", "gzip"),
    ("grpc-encoding", "no-such"),
    ("grpc-accept-encoding", "no-such,,,"),
    ("content-encoding", "gzip"),
    ("accept-encoding", "br;q=nan"),
    ("x-danbao-subject", "demo-operator"),
    ("x-danbao-roles", "operator"),
    ("x-danbao-partner", "demo-shop"),
    ("x-envoy-original-path", "/v1/payments"),
    ("x-envoy-upstream-rq-timeout-ms", "1"),
    ("x-envoy-retry-on", "5xx"),
    ("x-grpc-web", "1"),
    ("x-request-id", "x" * 3_000),
    ("x-forwarded-for", "1.1.1.1, nonsense"),
    ("x-http-method-override", "DELETE"),
    ("te", "nonsense"),
    ("expect", "100-continue"),
    ("grpc-tags-bin", "%%%"),
    ("grpc-trace-bin", "AAAA"),
    ("custom-bin", "not base64!"),
    ("user-agent", "(" * 1_000),
    ("cookie", "a=b; " * 300),
    ("range", "bytes=0-0"),
    ("x" * 300, "y"),
    ("x-huge", "y" * 30_000),
    ("x_underscore", "y"),
    ("", "y"),
    ("authorization", "Bearer twice"),
    ("host", ""),
    ("host", "a b"),
    ("content-length", "5"),
    ("content-length", "-1"),
    ("transfer-encoding", "chunked"),
    ("transfer-encoding", "identity, nonsense"),
    ("connection", "upgrade"),
    ("upgrade", "h2c"),
)


_SHORT = (("grpc-timeout", "1S"),)
"""A request whose frame never ends is answered when its time is up, and streams end then."""


def spoil_json(body: Any, rng: Random, known: Known) -> Any:
    """A copy of the body with a value of another kind somewhere, a field more or a field less."""
    copied = json.loads(json.dumps(body))
    found = list(places(copied))
    if not found or rng.random() < 0.1:
        return rng.choice((_WRONG_VALUES[rng.randrange(len(_WRONG_VALUES))], [copied], {"body": copied}))
    holder, key = rng.choice(found)
    kind = rng.random()
    if kind < 0.55:
        holder[key] = rng.choice(_WRONG_VALUES)
    elif kind < 0.75:
        holder[key] = values.text(str(key), rng, known)
    elif kind < 0.85:
        del holder[key]
    elif isinstance(holder, dict):
        holder[rng.choice(("noSuchField", "", "@type", "request_id", "__proto__", "名", "a.b"))] = rng.choice(
            _WRONG_VALUES
        )
    else:
        holder.extend([holder[key]] * rng.choice((1, 100, 2_000)))
    return copied


def places(body: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder in a JSON value with each of its keys or positions."""
    items = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, value in items:
        yield body, key
        yield from places(value)


def json_request(method: FuzzedMethod, body: Mapping[str, Any], role: str, rng: Random, known: Known) -> bytes:
    """A JSON call with something wrong in its body, its path, its query or its headers."""
    rule = HttpRule(rpc=method.rpc, method=method.verb, template=method.template)
    path, verb, headers = rule.path(body), method.verb, [("content-type", "application/json")]
    content = b"" if verb == "GET" else json.dumps(body).encode()
    kind = rng.random()
    if kind < 0.5:
        wrong = spoil_json(body, rng, known)
        if verb == "GET":
            path = _with_query(path, wrong)
        else:
            content = json.dumps(wrong, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    elif kind < 0.62:
        content = rng.choice(_BROKEN_BODIES)
    elif kind < 0.7:
        headers = [("content-type", rng.choice(_CONTENT_TYPES))]
    elif kind < 0.77:
        verb = rng.choice(_VERBS)
    elif kind < 0.9:
        path = rng.choice(_PATHS) if rng.random() < 0.6 else _spoiled_path(path, rng, known)
    else:
        headers.append(rng.choice(ODD_HEADERS))
    return http_request(verb, path, headers, content, role)


def _with_query(path: str, body: Any) -> str:
    query = {str(key): value for key, value in body.items()} if isinstance(body, dict) else {"body": body}
    return f"{path.partition('?')[0]}?{urlencode(query, doseq=True, errors='surrogatepass')}"


def _spoiled_path(path: str, rng: Random, known: Known) -> str:
    parts = path.split("/")
    at = rng.randrange(1, len(parts))
    parts[at] = quote(values.text("name", rng, known)[:3_000], safe=rng.choice(("", "/:?&=")))
    return "/".join(parts)


def web_request(method: FuzzedMethod, message: bytes, role: str, rng: Random) -> bytes:
    """A gRPC-Web call whose frames, encoding or headers are wrong, or only its message."""
    frame = b"\0" + struct.pack(">I", len(message)) + message
    headers = [("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1"), *_SHORT]
    kind = rng.random()
    if kind < 0.3:
        flags, length = rng.choice((0, 1, 0x80, 0xFF)), rng.choice((0, 1, len(message) + 5, 2**31, 2**32 - 1))
        frame = bytes([flags]) + struct.pack(">I", length) + message
    elif kind < 0.45:
        frame = rng.choice(
            (b"", frame[:3], frame[:-1] if message else b"\0", frame + frame, frame + b"\x80\0\0\0\0", b"\0" * 7)
        )
    elif kind < 0.65:
        text = base64.b64encode(frame)
        headers[0] = ("content-type", "application/grpc-web-text+proto")
        frame = rng.choice(
            (text, text[:-1], text + b"!", b"====", text[:5] + b"\n" + text[5:], base64.b64encode(message))
        )
    elif kind < 0.75:
        headers[0] = (
            "content-type",
            rng.choice((*_CONTENT_TYPES, "application/grpc-web+thrift", "application/grpc-web-text")),
        )
    else:
        odd = rng.sample(ODD_HEADERS, rng.choice((1, 1, 2)))
        named = {key for key, _ in odd}
        headers = [header for header in headers if header[0] not in named] + odd
    return http_request("POST", f"/{method.rpc}", headers, frame, role)


def http_request(verb: str, path: str, headers: list[tuple[str, str]], content: bytes, role: str) -> bytes:
    """HTTP/1.1, the connection closed after it; what the headers say of their own stands beside what is right."""
    named = {key.lower() for key, _ in headers}
    lines = [f"{verb} {path} HTTP/1.1"]
    if "host" not in named:
        lines.append("host: danbao")
    if role != NOBODY:
        lines.append("authorization: Bearer {token}")
    if "transfer-encoding" not in named and "content-length" not in named:
        lines.append(f"content-length: {len(content)}")
    if "connection" not in named:
        lines.append("connection: close")
    lines += [f"{key}: {value}" for key, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogatepass") + content
