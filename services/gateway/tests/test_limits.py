"""Every caller has buckets of its own, one a class of method; who empties one hears when to come back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

BURST = 5
ASKED = 40
"""So many more than the burst that no pause of the machine refills the bucket for all of them."""


@pytest.fixture(scope="module")
def limited(start_gateway: Any) -> Iterator[Any]:
    small, ample = {"per_second": 1, "burst": BURST}, {"per_second": 100_000}
    with start_gateway(
        name="limited",
        rate_limits={
            "classes": {"read": ample, "write": small, "bulk": ample, "stream": small},
            "callers": {"wholesale": {"write": ample}, "subjects/robot": {"write": ample}},
            "methods": {"danbao.echo.v1.EchoService/OperatorEcho": "bulk"},
        },
    ) as started:
        yield started


def _answered(limited: Any, method: str, token: str, calls: int) -> int:
    """How many of so many calls are answered; the others must be refused by their limit."""
    answered = 0
    for _ in range(calls):
        try:
            limited.call(method, token=token, text="echoes/x")
            answered += 1
        except grpc.RpcError as refusal:
            if refusal.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
    return answered


def test_a_caller_is_refused_beyond_its_limit_and_another_is_not(limited: Any) -> None:
    first, second = (limited.tokens.mint("partner", partner=name) for name in ("first", "second"))
    assert BURST <= _answered(limited, "Echo", first, ASKED) < ASKED
    assert _answered(limited, "Echo", second, BURST) == BURST


def test_all_subjects_of_one_partner_share_its_limit(limited: Any) -> None:
    one, other = (limited.tokens.mint(subject=f"subjects/{name}", partner="shared") for name in ("one", "other"))
    _answered(limited, "Echo", one, ASKED)
    assert _answered(limited, "Echo", other, ASKED) < BURST


def test_without_a_partner_the_subject_is_the_caller(limited: Any) -> None:
    one, other = (limited.tokens.mint(subject=f"subjects/{name}") for name in ("alone-1", "alone-2"))
    assert _answered(limited, "Echo", one, ASKED) < ASKED
    assert _answered(limited, "Echo", other, BURST) == BURST


def test_a_used_up_class_leaves_the_others(limited: Any) -> None:
    token = limited.tokens.mint("user", "operator", partner="reader")
    assert _answered(limited, "Echo", token, ASKED) < ASKED
    assert _answered(limited, "WriteEcho", token, ASKED) < BURST, "a class has one bucket for all its methods"
    assert _answered(limited, "OperatorEcho", token, ASKED) == ASKED
    for _ in range(ASKED):
        assert limited.json("/v1/echoes/7", token=token).http_status == 200


@pytest.mark.parametrize("who", [{"partner": "wholesale"}, {"subject": "subjects/robot"}])
def test_a_caller_with_limits_of_its_own_has_those(limited: Any, who: dict[str, str]) -> None:
    assert _answered(limited, "Echo", limited.tokens.mint(**who), ASKED) == ASKED


def test_opened_streams_are_counted(limited: Any) -> None:
    stub = limited.channel.unary_stream(
        "/danbao.echo.v1.EchoService/Watch",
        request_serializer=limited.messages.request.SerializeToString,
        response_deserializer=limited.messages.response.FromString,
    )
    metadata = (("authorization", f"Bearer {limited.tokens.mint('operator', partner='watcher')}"),)
    with pytest.raises(grpc.RpcError) as refusal:  # noqa: PT012 - some are answered first
        for _ in range(ASKED):
            assert len(list(stub(limited.messages.request(text="x"), metadata=metadata))) == 3
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_refusal_says_why_and_when_to_come_back_in_both_forms(limited: Any) -> None:
    token = limited.tokens.mint("user", partner="asking")
    with pytest.raises(grpc.RpcError) as refusal:  # noqa: PT012 - some are answered first
        for _ in range(ASKED):
            limited.call("Echo", token=token)
    status = rpc_status.from_call(refusal.value)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.reason, info.domain, retry.retry_delay.seconds) == ("RATE_LIMITED", "danbao", 1)
    replies = [limited.json("/v1/echoes", {}, token=token) for _ in range(ASKED)]
    reply = next(reply for reply in replies if reply.http_status != 200)
    assert (reply.http_status, reply.body["code"]) == (429, 8)
    assert reply.body["details"][0]["reason"] == "RATE_LIMITED"
    assert reply.body["details"][1]["retry_delay"] == "1s"
    assert (reply.headers["retry-after"], reply.headers["x-danbao-reason"]) == ("1", "RATE_LIMITED")


def test_who_has_no_token_uses_up_nobodys_limit(limited: Any) -> None:
    for _ in range(ASKED):
        with pytest.raises(grpc.RpcError) as refusal:
            limited.call("Echo", metadata=(("x-danbao-partner", "victim"),))
        assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert _answered(limited, "Echo", limited.tokens.mint("partner", partner="victim"), BURST) == BURST
