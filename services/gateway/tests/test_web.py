"""Browsers and careless clients: gRPC-Web, other origins, content types, pages, and requests made to confuse."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import struct
import time
import urllib.error
import urllib.request
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

ECHO = "/danbao.echo.v1.EchoService/Echo"


def _ask(gateway: Any, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(gateway.address, timeout=10)
    try:
        connection.request(method, path, body or None, {key.replace("_", "-"): value for key, value in headers.items()})
        reply = connection.getresponse()
        return reply.status, {key.lower(): value for key, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def _frames(content: bytes) -> tuple[list[bytes], dict[str, str]]:
    """The messages of a gRPC-Web answer and its trailers."""
    messages: list[bytes] = []
    trailers: dict[str, str] = {}
    while content:
        flags, length = struct.unpack(">BI", content[:5])
        frame, content = content[5 : 5 + length], content[5 + length :]
        if flags & 0x80:
            trailers |= dict(line.split(":", 1) for line in frame.decode().strip().split("\r\n"))
        else:
            messages.append(frame)
    return messages, trailers


def _grpc_web(gateway: Any, token: str | None, *, text: bool = False, **fields: Any) -> Any:
    content = gateway.messages.request(**fields).SerializeToString()
    body = struct.pack(">BI", 0, len(content)) + content
    headers = {"content_type": "application/grpc-web+proto", "x_grpc_web": "1"}
    if text:
        body = base64.b64encode(body)
        headers["content_type"] = headers["accept"] = "application/grpc-web-text+proto"
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    status, replied, content = _ask(gateway, "POST", ECHO, body, **headers)
    assert status == 200
    if text:  # each part with a padding of its own
        content = b"".join(base64.b64decode(part) for part in re.findall(rb"[^=]+=*", content))
    messages, trailers = _frames(content)
    return messages, {key: value for key, value in (replied | trailers).items() if key.startswith(("grpc-", "x-"))}


@pytest.mark.parametrize("text", [False, True])
def test_a_grpc_web_call_is_answered_as_grpc_web(gateway: Any, text: bool) -> None:
    messages, trailers = _grpc_web(gateway, gateway.tokens.mint("partner", partner="acme"), text=text, amount_minor=7)
    answer = gateway.messages.response.FromString(messages[0])
    assert (answer.amount_minor, answer.metadata["x-danbao-partner"]) == (7, "acme")
    assert trailers["grpc-status"] == "0"


@pytest.mark.parametrize(
    ("token", "fields", "code", "reason"),
    [(False, {}, "16", "TOKEN_MISSING"), (True, {"fail_reason": "TRADE_STATE_INVALID"}, "9", "TRADE_STATE_INVALID")],
)
def test_refusals_reach_grpc_web_callers_with_their_details(
    gateway: Any, token: bool, fields: dict[str, str], code: str, reason: str
) -> None:
    messages, headers = _grpc_web(gateway, gateway.tokens.mint() if token else None, **fields)
    assert (messages, headers["grpc-status"], headers["x-danbao-reason"]) == ([], code, reason)
    details = headers["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4)))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == reason


@pytest.mark.parametrize("path", ["/v1/echoes", ECHO])
def test_a_page_of_an_allowed_origin_may_call(gateway: Any, path: str) -> None:
    origin = "https://shop.example"
    asked = {"origin": origin, "access_control_request_method": "POST"}
    status, headers, _ = _ask(gateway, "OPTIONS", path, **asked, access_control_request_headers="authorization")
    assert (status, headers["access-control-allow-origin"]) == (200, origin)
    assert "authorization" in headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in headers
    token = f"Bearer {gateway.tokens.mint()}"
    status, headers, _ = _ask(
        gateway, "POST", "/v1/echoes", b"{}", origin=origin, content_type="application/json", authorization=token
    )
    assert (status, headers["access-control-allow-origin"]) == (200, origin)
    assert "grpc-status" in headers["access-control-expose-headers"]


@pytest.mark.parametrize("origin", ["https://evil.example", "https://shop.example.evil", "http://shop.example", "null"])
def test_a_page_of_another_origin_may_not(gateway: Any, origin: str) -> None:
    _, headers, _ = _ask(gateway, "OPTIONS", "/v1/echoes", origin=origin, access_control_request_method="POST")
    assert "access-control-allow-origin" not in headers


def test_an_unknown_path_is_unknown_to_a_page_too(gateway: Any) -> None:
    status, headers, _ = _ask(gateway, "GET", "/v1/nothing", origin="https://shop.example")
    assert (status, headers["x-danbao-reason"]) == (404, "METHOD_UNKNOWN")


@pytest.mark.parametrize(
    "content_type", ["application/xml", "text/plain", "multipart/form-data; boundary=x", "application/grpc-foo", "json"]
)
@pytest.mark.parametrize("path", ["/v1/echoes", ECHO])
def test_a_body_of_another_type_is_refused_by_name(gateway: Any, content_type: str, path: str) -> None:
    token = f"Bearer {gateway.tokens.mint()}"
    status, headers, content = _ask(gateway, "POST", path, b"<a/>", content_type=content_type, authorization=token)
    if content_type.startswith("application/grpc"):
        assert headers["grpc-status"] == "3"
    else:
        assert (status, headers["content-type"]) == (415, "application/json")
        assert json.loads(content)["details"][0]["reason"] == "CONTENT_TYPE_UNSUPPORTED"
    assert headers["x-danbao-reason"] == "CONTENT_TYPE_UNSUPPORTED"


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/x-www-form-urlencoded",
    ],
)
def test_json_is_read_under_its_names_and_under_curls(gateway: Any, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content_type": content_type}
    token = f"Bearer {gateway.tokens.mint()}"
    status, _, content = _ask(gateway, "POST", "/v1/echoes", b'{"text": "x"}', authorization=token, **headers)
    assert (status, json.loads(content)["text"]) == (200, "x")


# Streams


def test_a_stream_of_requests_may_be_longer_than_any_one_message(gateway: Any) -> None:
    stub = gateway.channel.stream_unary(
        "/danbao.echo.v1.EchoService/Collect",
        request_serializer=gateway.messages.request.SerializeToString,
        response_deserializer=gateway.messages.response.FromString,
    )
    metadata = (("authorization", f"Bearer {gateway.tokens.mint('operator')}"),)
    most = gateway.settings.limits.max_request_bytes
    requests = (gateway.messages.request(text="x" * (most // 4)) for _ in range(40))
    assert stub(requests, metadata=metadata).text == str(40 * (most // 4))


def test_a_conversation_is_answered_message_by_message_beyond_the_maximum_of_a_unary_call(gateway: Any) -> None:
    stub = gateway.channel.stream_stream(
        "/danbao.echo.v1.EchoService/Chat",
        request_serializer=gateway.messages.request.SerializeToString,
        response_deserializer=gateway.messages.response.FromString,
    )
    metadata = (("authorization", f"Bearer {gateway.tokens.mint('operator')}"),)
    heard: list[str] = []
    pause = gateway.settings.deadlines.maximum_seconds / 2 + 0.3

    def say() -> Any:
        for number in range(3):
            assert len(heard) >= number - 1, "an answer waits for the next question"
            yield gateway.messages.request(text=str(number))
            time.sleep(pause)

    for answer in stub(say(), metadata=metadata):
        heard.append(answer.text)
        assert answer.remaining_seconds > 1e6
    assert heard == ["0", "1", "2"]


# What is made to confuse


def _raw(gateway: Any, request: bytes) -> bytes:
    host, _, port = gateway.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(request)
        connection.settimeout(3)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except TimeoutError:
            pass
        return answer


@pytest.mark.parametrize(
    "lines",
    [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: -1",
        "Content-Length: 4, 4",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "x_danbao_subject: subjects/victim",
        "Na me: x",
        "Name : x",
    ],
)
def test_a_request_that_two_parsers_could_read_apart_is_refused(gateway: Any, lines: str) -> None:
    smuggled = "GET /v1/echoes/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    token = gateway.tokens.mint()
    head = f"POST /v1/echoes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    answer = _raw(gateway, f"{head}{lines}\r\n\r\n0\r\n\r\n{smuggled}".encode())
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501")), answer[:300]
    assert answer.count(b"HTTP/1.1 ") == 1, "what came behind it was read as a request of its own"


def test_http_1_0_is_not_spoken(gateway: Any) -> None:
    assert b" 426 " in _raw(gateway, b"GET /v1/echoes/1 HTTP/1.0\r\n\r\n").splitlines()[0]


@pytest.mark.parametrize("path", ["/v1/x/../echoes/7", "/v1//echoes/7", "/v1/./echoes/7"])
def test_a_path_is_made_plain_before_anything_looks_at_it(gateway: Any, path: str) -> None:
    status, _, content = _ask(gateway, "GET", path, authorization=f"Bearer {gateway.tokens.mint()}")
    assert (status, json.loads(content)["text"]) == (200, "echoes/7")


@pytest.mark.parametrize("path", ["/v1/echoes%2f7", "/v1%5cechoes/7", "/v1/%2e%2e%2fechoes/7"])
def test_a_path_with_hidden_slashes_is_refused(gateway: Any, path: str) -> None:
    status, headers, content = _ask(gateway, "GET", path, authorization=f"Bearer {gateway.tokens.mint()}")
    assert (status, headers["content-type"]) == (400, "application/json")
    assert json.loads(content)["details"][0]["reason"] == "MESSAGE_MALFORMED"


def test_headers_above_the_limit_are_refused(gateway: Any) -> None:
    most = gateway.settings.limits.max_header_kib * 1024
    status, headers, _ = _ask(gateway, "GET", "/v1/echoes/7", x_padding="x" * most)
    assert (status, headers["x-danbao-reason"]) == (431, "HEADERS_TOO_LARGE")
    many = {f"x_{number}": "x" for number in range(gateway.settings.limits.max_headers + 1)}
    assert _ask(gateway, "GET", "/v1/echoes/7", **many)[0] == 431
    assert _ask(gateway, "GET", "/v1/echoes/7", x_padding="x" * 10 * most)[0] == 431


@pytest.mark.parametrize("many", [False, True])
def test_headers_above_the_limit_are_refused_by_a_reason_over_grpc_too(gateway: Any, many: bool) -> None:
    """Envoy itself would reset the stream, which gRPC's libraries call INTERNAL."""
    limits = gateway.settings.limits
    headers = [(f"x-{number}", "x") for number in range(limits.max_headers if many else 1)]
    padding = "" if many else "x" * limits.max_header_kib * 1024
    with pytest.raises(grpc.RpcError) as refusal:
        gateway.call("Echo", token=gateway.tokens.mint(), text="x", metadata=(*headers, ("x-padding", padding)))
    assert refusal.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(refusal.value.initial_metadata() or refusal.value.trailing_metadata())["x-danbao-reason"] == (
        "HEADERS_TOO_LARGE"
    )


def test_a_connection_that_opens_and_resets_streams_in_haste_is_closed(gateway: Any) -> None:
    """CVE-2023-44487: a reset costs the caller nothing, and us a request."""
    host, _, port = gateway.address.partition(":")
    # HPACK's static table: 3 is :method POST, 6 :scheme http, 4 :path /, 1 :authority with a value of its own.
    block = bytes([0x83, 0x86, 0x84, 0x41, 1]) + b"x"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _h2_frame(4, 0, 0, b""))
        with pytest.raises(ConnectionError):  # noqa: PT012 - the close may show in any of them
            for stream in range(1, 100_001, 2):
                connection.sendall(_h2_frame(1, 4, stream, block) + _h2_frame(3, 0, stream, bytes(4)))
    assert gateway.call("Echo", token=gateway.tokens.mint(), text="others").text == "others"


def _h2_frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


# The page


def test_the_page_and_its_parts_are_served_to_everybody_and_ask_nobody_else(gateway: Any) -> None:
    opened = urllib.request.urlopen(f"http://{gateway.address}/docs", timeout=10)
    assert opened.url.endswith("/docs/")
    page = opened.read().decode()
    assert "default-src 'none'" in opened.headers["content-security-policy"]
    for name, kind in [
        ("swagger-ui.css", "text/css"),
        ("swagger-ui-bundle.js", "text/javascript"),
        ("start.js", "text/"),
    ]:
        assert name in page
        with urllib.request.urlopen(f"http://{gateway.address}/docs/{name}", timeout=10) as part:
            assert part.headers["content-type"].startswith(kind)
            assert part.read()
    assert "://" not in page
    with urllib.request.urlopen(f"http://{gateway.address}/openapi.json", timeout=10) as document:
        assert json.load(document)["openapi"].startswith("3.")


def test_nothing_is_written_to_the_page(gateway: Any) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(f"http://{gateway.address}/openapi.json", data=b"{}", timeout=10)
    assert refusal.value.code == 404


# What the services' gRPC library could not read


@pytest.mark.parametrize(
    "headers",
    [
        {"grpc-timeout": "abc"},
        {"grpc-timeout": "-1S"},
        {"grpc-timeout": "999999999S"},
        {"grpc-timeout": ""},
        {"grpc-encoding": "no-such"},
    ],
    ids=str,
)
def test_a_header_that_grpc_cannot_read_is_refused_and_spoils_nobody_elses_call(
    gateway: Any, headers: dict[str, str]
) -> None:
    """gRPC keeps the headers of a connection in a table: what is bad in it would fail whoever comes by it next."""
    token = gateway.tokens.mint()
    for _ in range(3):
        reply = gateway.json("/v1/echoes", {"text": "x"}, token=token, headers=headers)
        assert reply.http_status == 400
        assert reply.body["details"][0]["reason"] == "HEADER_UNREADABLE"
    for timeout in (1.0, 2.5, 7.0, 10.0, 30.0):
        assert gateway.call("Echo", token=token, text="others", timeout=timeout).text == "others"


def test_binary_headers_go_no_further_than_the_gateway(gateway: Any) -> None:
    token = gateway.tokens.mint()
    reply = gateway.json("/v1/echoes", {"text": "x"}, token=token, headers={"custom-bin": "no base64!"})
    assert reply.http_status == 200
    assert not [name for name in reply.body["metadata"] if name.endswith("-bin")]


def test_grpc_without_trailers_is_refused_by_name(gateway: Any) -> None:
    status, headers, _ = _ask(
        gateway,
        "POST",
        "/danbao.echo.v1.EchoService/Echo",
        b"\0\0\0\0\0",
        authorization=f"Bearer {gateway.tokens.mint()}",
        **{"content-type": "application/grpc"},
    )
    assert (status, headers["grpc-status"], headers["x-danbao-reason"]) == (200, "3", "HEADER_UNREADABLE")


@pytest.mark.parametrize(
    ("frame", "code", "reason"),
    [
        (b"\x01" + struct.pack(">I", 2) + b"\x0a\x00", "3", "MESSAGE_MALFORMED"),
        (b"\x00" + struct.pack(">I", 2**32 - 1) + b"\x0a\x00", "8", "MESSAGE_TOO_LARGE"),
    ],
    ids=["compressed by nothing", "a length of 4 GiB"],
)
def test_what_the_services_library_refuses_by_itself_has_a_reason_all_the_same(
    gateway: Any, frame: bytes, code: str, reason: str
) -> None:
    _, headers, _ = _ask(
        gateway,
        "POST",
        "/danbao.echo.v1.EchoService/Echo",
        frame,
        authorization=f"Bearer {gateway.tokens.mint()}",
        **{"content-type": "application/grpc-web+proto", "x-grpc-web": "1"},
    )
    assert (headers["grpc-status"], headers["x-danbao-reason"]) == (code, reason)
    assert headers["grpc-status-details-bin"]


@pytest.mark.parametrize("path", [ECHO, "/v1/echoes"])
@pytest.mark.parametrize(
    ("content_type", "http_status"),
    [
        ("application/grpc-web;charset=x", 403),
        ("application/grpc-web+proto; charset=utf-8", 403),
        ("application/grpc-web+json", 403),
        ("Application/grpc-web", 415),
    ],
)
def test_grpc_web_under_a_name_that_its_filter_does_not_know_is_refused_by_name(
    gateway: Any, content_type: str, http_status: int, path: str
) -> None:
    token = f"Bearer {gateway.tokens.mint()}"
    status, headers, _ = _ask(gateway, "POST", path, b"\0\0\0\0\0", content_type=content_type, authorization=token)
    assert (status, headers["x-danbao-reason"]) == (http_status, "CONTENT_TYPE_UNSUPPORTED")


def test_grpc_is_not_spoken_to_the_paths_of_json(gateway: Any) -> None:
    _, headers, _ = _ask(
        gateway,
        "POST",
        "/v1/echoes",
        b'{"text": "x"}',
        authorization=f"Bearer {gateway.tokens.mint()}",
        **{"content-type": "application/grpc-web-text"},
    )
    assert (headers["grpc-status"], headers["x-danbao-reason"]) == ("3", "CONTENT_TYPE_UNSUPPORTED")
