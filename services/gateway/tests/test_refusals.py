"""What the gateway refuses by itself, and that gRPC and JSON callers hear the same reason."""

from __future__ import annotations

import time
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from danbao_gateway.forged_tokens import FORGED
from danbao_gateway.roles import Role

ECHO = "danbao.echo.v1.EchoService"


def refused(gateway: Any, method: str, **arguments: Any) -> tuple[grpc.StatusCode, str]:
    """The code and reason of a gRPC call that must fail."""
    with pytest.raises(grpc.RpcError) as refusal:
        gateway.call(method, **arguments)
    status = rpc_status.from_call(refusal.value)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "danbao"
    return refusal.value.code(), info.reason


def refused_json(gateway: Any, path: str, *arguments: Any, **named: Any) -> tuple[int, int, str]:
    """HTTP status, code and reason of a JSON call that must fail."""
    reply = gateway.json(path, *arguments, **named)
    assert set(reply.body) == {"code", "message", "details"}
    return reply.http_status, reply.body["code"], reply.body["details"][0]["reason"]


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_token_is_unauthenticated(gateway: Any, kind: str) -> None:
    make, reason = FORGED[kind]
    token = make(gateway.tokens)
    assert refused(gateway, "Echo", token=token) == (grpc.StatusCode.UNAUTHENTICATED, reason)
    assert refused_json(gateway, "/v1/echoes", {}, token=token) == (401, 16, reason)


def test_a_token_that_nobody_has_forged_is_taken(gateway: Any) -> None:
    """What the forged ones are made from."""
    token = gateway.tokens.mint(*(role.value for role in Role), subject="s" * 255)
    assert gateway.call("Echo", token=token).metadata["x-danbao-subject"] == "s" * 255


@pytest.mark.parametrize(("partner", "arrives"), [("", None), (None, None), ("~acme/1!", "~acme/1!"), ("p" * 255,) * 2])
def test_a_token_s_partner_may_be_missing_or_any_word(gateway: Any, partner: str | None, arrives: str | None) -> None:
    metadata = dict(gateway.call("Echo", token=gateway.tokens.mint(partner=partner)).metadata)
    assert (metadata.get("x-danbao-partner") or None) == arrives


def test_two_tokens_are_no_token(gateway: Any) -> None:
    good = ("authorization", f"Bearer {gateway.tokens.mint()}")
    for two in ((good, good), (good, ("authorization", "Bearer x")), (("authorization", "Bearer x"), good)):
        assert refused(gateway, "Echo", metadata=two) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


@pytest.mark.parametrize("scheme", ["Basic", "Token", ""])
def test_a_token_under_another_scheme_is_none(gateway: Any, scheme: str) -> None:
    said = (("authorization", f"{scheme} {gateway.tokens.mint()}".strip()),)
    assert refused(gateway, "Echo", metadata=said) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")


def test_a_token_in_the_query_does_not_count(gateway: Any) -> None:
    path = f"/v1/echoes/1?access_token={gateway.tokens.mint()}"
    assert gateway.json(path).http_status in {400, 401}


@pytest.mark.parametrize(
    "claim", [["user"], ["partner", "rail"], [], "operator", ["user,operator"], ["OPERATOR"], None, {"operator": True}]
)
def test_a_token_without_the_methods_role_is_denied(gateway: Any, claim: Any) -> None:
    token = gateway.tokens.mint("user", roles=claim)
    assert refused(gateway, "OperatorEcho", token=token) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED")
    assert refused_json(gateway, "/v1/echoes:operator", {}, token=token) == (403, 7, "ROLE_NOT_ALLOWED")


def test_any_one_role_of_several_is_enough(gateway: Any) -> None:
    assert gateway.call("OperatorEcho", token=gateway.tokens.mint("user", "operator"), text="x").text == "x"


@pytest.mark.parametrize(
    "method",
    [
        f"{ECHO}/Nothing",
        f"{ECHO}/echo",
        f"{ECHO}/Forgotten",
        f"{ECHO}/PeersOnly",
        "danbao.nobody.v1.NobodyService/Get",
        "grpc.health.v1.Health/Check",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ],
)
@pytest.mark.parametrize("with_token", [True, False])
def test_a_method_that_is_not_offered_is_unimplemented(gateway: Any, method: str, with_token: bool) -> None:
    token = gateway.tokens.mint("operator") if with_token else None
    assert refused(gateway, method, token=token) == (grpc.StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN")


@pytest.mark.parametrize("path", ["/", "/v1/nothing", "/v1/echoes/1/2", f"/{ECHO}/Echo", "/stats", "/ready"])
def test_a_path_that_is_not_offered_is_404(gateway: Any, path: str) -> None:
    assert refused_json(gateway, path, token=gateway.tokens.mint()) == (404, 12, "METHOD_UNKNOWN")


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b'{"amount_minor": "x"}', b'{"amount_minor": 1.5}', b"\xff\xfe"])
def test_json_that_cannot_be_read_is_malformed(gateway: Any, body: bytes) -> None:
    reply = refused_json(gateway, "/v1/echoes", raw=body, token=gateway.tokens.mint())
    assert reply == (400, 3, "MESSAGE_MALFORMED")


def test_an_unknown_query_parameter_is_malformed(gateway: Any) -> None:
    assert refused_json(gateway, "/v1/echoes/1?colour=red", token=gateway.tokens.mint()) == (
        400,
        3,
        "MESSAGE_MALFORMED",
    )


def test_a_request_above_the_limit_is_too_large(gateway: Any) -> None:
    token, text = gateway.tokens.mint(), "x" * 70_000
    assert refused(gateway, "Echo", token=token, text=text) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
    assert refused_json(gateway, "/v1/echoes", {"text": text}, token=token) == (413, 8, "MESSAGE_TOO_LARGE")
    assert gateway.call("Echo", token=token, text=text[:60_000]).text == text[:60_000]


def test_a_service_that_is_down_is_unavailable_at_once(gateway: Any) -> None:
    token, start = gateway.tokens.mint(), time.monotonic()
    refusal = refused(gateway, "danbao.down.v1.DownService/Echo", token=token)
    assert refusal == (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")
    assert refused_json(gateway, "/v1/downs", {}, token=token) == (503, 14, "SERVICE_UNAVAILABLE")
    assert time.monotonic() - start < 1.5
    details = gateway.json("/v1/downs", {}, token=token).body["details"]
    assert details[1] == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retry_delay": "1s"}


def test_a_token_that_may_not_call_learns_nothing_of_a_service_that_is_down(gateway: Any) -> None:
    refusal = refused(gateway, "danbao.down.v1.DownService/Echo", token=gateway.tokens.mint("rail"))
    assert refusal == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED")
