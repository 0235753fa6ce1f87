"""A call through the running gateway: it arrives, with who called, by when, and in which trace."""

from __future__ import annotations

import json
import re
import secrets
import time
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

REQUEST_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def test_a_grpc_call_reaches_its_service_over_mutual_tls(gateway: Any) -> None:
    response = gateway.call("Echo", token=gateway.tokens.mint(), text="你好", amount_minor=2**53 + 1)
    assert (response.text, response.amount_minor) == ("你好", 2**53 + 1)
    assert response.peer == "gateway.danbao.internal"


def test_a_json_call_is_transcoded_with_amounts_as_strings_and_snake_case(gateway: Any) -> None:
    reply = gateway.json("/v1/echoes", {"text": "hi", "amount_minor": str(2**53 + 1)}, token=gateway.tokens.mint())
    assert reply.http_status == 200
    assert reply.body["text"] == "hi"
    assert reply.body["amount_minor"] == str(2**53 + 1)


def test_a_json_get_takes_the_resource_name_from_the_path(gateway: Any) -> None:
    assert gateway.json("/v1/echoes/7", token=gateway.tokens.mint()).body["text"] == "echoes/7"


@pytest.mark.parametrize("field", ["amount_minor", "amountMinor"])
def test_a_json_get_takes_the_other_fields_from_the_query(gateway: Any, field: str) -> None:
    reply = gateway.json(f"/v1/echoes/7?{field}=5", token=gateway.tokens.mint())
    assert (reply.body["text"], reply.body["amount_minor"]) == ("echoes/7", "5")


def test_camel_case_is_read_too(gateway: Any) -> None:
    reply = gateway.json("/v1/echoes", {"amountMinor": 5}, token=gateway.tokens.mint())
    assert reply.body["amount_minor"] == "5"


def test_an_unknown_json_field_is_dropped_by_envoy(gateway: Any) -> None:
    """Not what we would choose: Envoy has no switch for it. The README says so; this tells when it changes."""
    assert gateway.json("/v1/echoes", {"txet": "hi"}, token=gateway.tokens.mint()).http_status == 200


def test_a_stream_passes_for_those_who_may_read_it(gateway: Any) -> None:
    stub = gateway.channel.unary_stream(
        "/danbao.echo.v1.EchoService/Watch",
        request_serializer=gateway.messages.request.SerializeToString,
        response_deserializer=gateway.messages.response.FromString,
    )
    metadata = (("authorization", f"Bearer {gateway.tokens.mint('operator')}"),)
    responses = list(stub(gateway.messages.request(text="x"), metadata=metadata))
    assert [response.text for response in responses] == ["x"] * 3
    assert responses[0].remaining_seconds > 1e6, "a stream got a time limit that its caller did not ask for"


def test_initial_metadata_of_the_service_reaches_grpc_and_json_callers(gateway: Any) -> None:
    token = gateway.tokens.mint()
    _, headers = gateway.call_with_headers("Echo", token=token)
    assert headers["x-danbao-replayed"] == "true"
    assert gateway.json("/v1/echoes", {}, token=token).headers["x-danbao-replayed"] == "true"


# Who called


def test_identity_comes_from_the_token(gateway: Any) -> None:
    token = gateway.tokens.mint("partner", "user", subject="subjects/shop-9", partner="acme")
    arrived = gateway.call("Echo", token=token).metadata
    assert arrived["x-danbao-subject"] == "subjects/shop-9"
    assert arrived["x-danbao-roles"] == "user,partner"
    assert arrived["x-danbao-partner"] == "acme"


@pytest.mark.parametrize("roles", [["user"], ["operator", "user"], ["rail", "arbiter", "operator", "partner", "user"]])
def test_the_roles_header_lists_known_roles_in_one_order(gateway: Any, roles: list[str]) -> None:
    arrived = gateway.call("Echo", token=gateway.tokens.mint("user", roles=[*roles, "root", "user,rail"])).metadata
    ordered = [role for role in ("user", "partner", "operator", "arbiter", "rail") if role in roles]
    assert arrived["x-danbao-roles"] == ",".join(ordered)


def test_identity_headers_of_the_caller_are_stripped(gateway: Any) -> None:
    spoofed = (
        ("x-danbao-subject", "subjects/victim"),
        ("x-danbao-roles", "operator"),
        ("x-danbao-partner", "victim"),
        ("x-danbao-anything", "1"),
        ("x-danbao-replayed", "true"),
        ("x-danbao-reason", "NONE"),
        ("x-danbao-status", "0"),
        ("x-envoy-max-retries", "9"),
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-attempt-count", "7"),
        ("x-envoy-decorator-operation", "spoofed"),
        ("x-forwarded-client-cert", "URI=escrow.danbao.internal"),
        ("x-envoy-upstream-rq-timeout-ms", "100000"),
        ("x-envoy-original-path", "/v1/other"),
    )
    token = gateway.tokens.mint("user")
    arrived = gateway.call("Echo", token=token, metadata=spoofed).metadata
    assert arrived["x-danbao-subject"] == "subjects/buyer-1"
    assert arrived["x-danbao-roles"] == "user"
    assert {name: arrived[name] for name, _ in spoofed[2:] if name in arrived} == {"x-envoy-attempt-count": "1"}
    arrived = gateway.json("/v1/echoes", {}, token=token, headers=dict(spoofed) | {"X-Danbao-Partner": "v"}).body[
        "metadata"
    ]
    assert arrived["x-danbao-subject"] == "subjects/buyer-1"
    assert arrived["x-danbao-roles"] == "user"
    assert arrived["x-envoy-original-path"] == "/v1/echoes"
    assert "x-danbao-partner" not in arrived


def test_the_caller_s_own_word_why_arrives_and_nothing_that_looks_like_ours(gateway: Any) -> None:
    """It has a name outside the prefix that is the gateway's: no hole in what is stripped, whatever is added there."""
    token = gateway.tokens.mint("operator")
    said = (("danbao-why", "court order 12"), ("x-danbao-why", "the gateway says so"))
    arrived = gateway.call("Echo", token=token, metadata=said).metadata
    assert arrived["danbao-why"] == "court order 12"
    assert "x-danbao-why" not in arrived
    arrived = gateway.json("/v1/echoes", {}, token=token, headers=dict(said)).body["metadata"]
    assert arrived["danbao-why"] == "court order 12"
    assert "x-danbao-why" not in arrived


def test_the_token_itself_stays_at_the_gateway(gateway: Any) -> None:
    assert "authorization" not in gateway.call("Echo", token=gateway.tokens.mint()).metadata


# By when


def test_a_call_without_a_deadline_gets_the_default(gateway: Any) -> None:
    token = gateway.tokens.mint()
    assert 1.5 < gateway.call("Echo", token=token, timeout=None).remaining_seconds <= 2
    assert 1.5 < gateway.json("/v1/echoes", {}, token=token).body["remaining_seconds"] <= 2


def test_the_callers_deadline_arrives(gateway: Any) -> None:
    token = gateway.tokens.mint()
    assert 2 < gateway.call("Echo", token=token, timeout=3).remaining_seconds < 3.1
    reply = gateway.json("/v1/echoes", {}, token=token, headers={"grpc-timeout": "3S"})
    assert 2 < reply.body["remaining_seconds"] <= 3


def test_a_deadline_above_the_maximum_is_cut_to_it(gateway: Any) -> None:
    assert 3 < gateway.call("Echo", token=gateway.tokens.mint(), timeout=100).remaining_seconds <= 4


def test_a_slow_service_is_deadline_exceeded_and_the_call_is_cancelled(gateway: Any) -> None:
    gateway.echo.cancelled.clear()
    with pytest.raises(grpc.RpcError) as refusal:
        gateway.call("Echo", token=gateway.tokens.mint(), timeout=None, delay_seconds=2.5)
    assert refusal.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert gateway.echo.cancelled.wait(5)
    reply = gateway.json(
        "/v1/echoes", {"delay_seconds": 1.5}, token=gateway.tokens.mint(), headers={"grpc-timeout": "500m"}
    )
    assert (reply.http_status, reply.body["code"]) == (504, 4)


# What the service refuses


def test_a_rich_error_of_the_service_arrives_in_both_forms(gateway: Any) -> None:
    token = gateway.tokens.mint()
    with pytest.raises(grpc.RpcError) as refusal:
        gateway.call("Echo", token=token, fail_reason="TRADE_STATE_INVALID")
    status = rpc_status.from_call(refusal.value)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.metadata["state"]) == ("TRADE_STATE_INVALID", "PAID")
    reply = gateway.json("/v1/echoes", {"fail_reason": "TRADE_STATE_INVALID"}, token=token)
    assert reply.http_status == 400
    assert reply.body == {
        "code": 9,
        "message": "the state refuses",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "TRADE_STATE_INVALID",
                "domain": "danbao",
                "metadata": {"state": "PAID"},
            },
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retry_delay": "2s"},
        ],
    }


def test_a_replayed_refusal_of_the_service_arrives_in_both_forms(gateway: Any) -> None:
    """Its header goes ahead of the error, so the status comes in trailers."""
    token = gateway.tokens.mint()
    with pytest.raises(grpc.RpcError) as refusal:
        gateway.call("Echo", token=token, text="replayed", fail_reason="HOLD_EXPIRED")
    assert dict(refusal.value.initial_metadata())["x-danbao-replayed"] == "true"
    assert rpc_status.from_call(refusal.value).code == 9
    reply = gateway.json("/v1/echoes", {"text": "replayed", "fail_reason": "HOLD_EXPIRED"}, token=token)
    assert (reply.http_status, reply.body["code"], reply.body["details"][0]["reason"]) == (400, 9, "HOLD_EXPIRED")
    assert reply.headers["x-danbao-replayed"] == "true"


# Traces, request ids, the access log


def test_the_callers_trace_continues_and_the_span_is_named_after_the_method(gateway: Any) -> None:
    trace_id, parent_id = secrets.token_hex(16), secrets.token_hex(8)
    parent = (("traceparent", f"00-{trace_id}-{parent_id}-01"),)
    arrived = gateway.call("Echo", token=gateway.tokens.mint(), metadata=parent).metadata["traceparent"]
    _, seen_trace, seen_span, flags = arrived.split("-")
    assert (seen_trace, flags) == (trace_id, "01")
    [(service, span)] = gateway.spans.wait_for(trace_id)
    assert (service, span.name) == ("gateway", "danbao.echo.v1.EchoService/Echo")
    assert (span.parent_span_id.hex(), span.span_id.hex()) == (parent_id, seen_span)


def test_a_json_callers_span_is_named_after_the_method_too(gateway: Any) -> None:
    reply = gateway.json("/v1/echoes", {}, token=gateway.tokens.mint())
    trace_id = reply.body["metadata"]["traceparent"].split("-")[1]
    [(_, span)] = gateway.spans.wait_for(trace_id)
    assert span.name == "danbao.echo.v1.EchoService/Echo"


def test_a_trace_its_caller_does_not_sample_is_not_sampled(gateway: Any) -> None:
    trace_id = secrets.token_hex(16)
    parent = (("traceparent", f"00-{trace_id}-{secrets.token_hex(8)}-00"),)
    arrived = gateway.call("Echo", token=gateway.tokens.mint(), metadata=parent).metadata["traceparent"]
    assert arrived.startswith(f"00-{trace_id}-")
    assert arrived.endswith("-00")


def test_the_request_id_is_the_gateways_own_and_is_returned(gateway: Any) -> None:
    response, headers = gateway.call_with_headers(
        "Echo", token=gateway.tokens.mint(), metadata=(("x-request-id", "mine"),)
    )
    assert REQUEST_ID.fullmatch(headers["x-request-id"])
    assert response.metadata["x-request-id"] == headers["x-request-id"]
    assert REQUEST_ID.fullmatch(gateway.json("/v1/nothing").headers["x-request-id"])


def test_the_access_log_says_who_called_what_and_never_a_token_a_query_or_a_body(gateway: Any) -> None:
    token = gateway.tokens.mint("user", partner="acme")
    reply = gateway.json("/v1/echoes", {"text": "body-secret", "fail_reason": "NO"}, token=token)
    gateway.json("/v1/nothing?access_token=query-secret", token=token)
    line = _logged(gateway, reply.headers["x-request-id"])
    assert line["method"] == "/danbao.echo.v1.EchoService/Echo"
    assert (line["subject"], line["roles"], line["partner"]) == ("subjects/buyer-1", "user", "acme")
    assert (line["http_status"], line["service_status"]) == (400, "9")
    assert line["reason"] == "NO"
    assert len(line["trace_id"]) == 32
    assert isinstance(line["duration_ms"], int)
    text = gateway.access_log.read_text()
    for secret in ("body-secret", "query-secret", token, token.split(".")[2], "Bearer"):
        assert secret not in text


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/echoes/4111111111111111", "/danbao.echo.v1.EchoService/GetEcho"),
        ("/v1/echoes/4111111111111111?colour=4111111111111111", "unknown"),
        ("/v1/nothing/4111111111111111", "unknown"),
        ("/danbao.echo.v1.EchoService/4111111111111111", "unknown"),
        ("/danbao.v4111111111111111.Echo/Echo", "unknown"),
    ],
)
def test_what_a_caller_puts_into_a_path_is_not_logged(gateway: Any, path: str, method: str) -> None:
    reply = gateway.json(path, token=gateway.tokens.mint())
    line = _logged(gateway, reply.headers["x-request-id"])
    assert (line["method"], line.get("json_verb", "GET")) == (method, "GET")
    assert "4111111111111111" not in json.dumps(line)


@pytest.mark.parametrize(
    ("fields", "with_token", "reason"),
    [
        ({"fail_reason": "TRADE_STATE_INVALID"}, True, "TRADE_STATE_INVALID"),
        ({"fail_reason": "A" * 100}, True, "A" * 100),
        ({"text": "replayed", "fail_reason": "HOLD_EXPIRED"}, True, "HOLD_EXPIRED"),
        ({}, False, "TOKEN_MISSING"),
    ],
)
def test_the_access_log_and_a_header_name_the_reason_of_services_and_of_the_gateway(
    gateway: Any, fields: dict[str, str], with_token: bool, reason: str
) -> None:
    token = gateway.tokens.mint() if with_token else None
    with pytest.raises(grpc.RpcError) as refusal:
        gateway.call("Echo", token=token, **fields)
    headers = dict(refusal.value.initial_metadata()) | dict(refusal.value.trailing_metadata())
    assert headers["x-danbao-reason"] == reason
    line = _logged(gateway, headers["x-request-id"])
    assert (line["reason"], line.get("attempts", 0)) == (reason, int(with_token))
    reply = gateway.json("/v1/echoes", fields, token=token)
    assert _logged(gateway, reply.headers["x-request-id"])["reason"] == reason


def test_a_call_that_is_answered_has_no_reason(gateway: Any) -> None:
    _, headers = gateway.call_with_headers("Echo", token=gateway.tokens.mint())
    assert "x-danbao-reason" not in headers
    assert not _logged(gateway, headers["x-request-id"]).get("reason")


def _logged(gateway: Any, request_id: str) -> dict[str, Any]:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for line in gateway.access_log.read_text().splitlines():
            if request_id in line:
                content: dict[str, Any] = json.loads(line)
                return content
        time.sleep(0.1)
    raise AssertionError(f"{request_id} was not logged within 10 s")
