"""What the gateway sends again by itself: only what a second execution cannot change, and only so much of it."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from danbao_gateway.contracts import Contracts
from danbao_gateway.limits import class_of, may_be_retried
from danbao_gateway.rates import MethodClass, shipped_limits


def _code(gateway: Any, method: str, **fields: Any) -> grpc.StatusCode:
    try:
        gateway.call(method, token=gateway.tokens.mint("user"), **fields)
    except grpc.RpcError as refusal:
        code: grpc.StatusCode = refusal.code()
        return code
    return grpc.StatusCode.OK


@pytest.mark.parametrize(("method", "times"), [("GetEcho", 1), ("GetEcho", 2), ("WriteEcho", 1), ("WriteEcho", 2)])
def test_a_read_and_a_write_with_a_request_id_are_sent_again(gateway: Any, method: str, times: int) -> None:
    text = f"echoes/{method}-{times}"
    assert _code(gateway, method, text=text, fail_times=times) is grpc.StatusCode.OK
    assert gateway.echo.attempts[text] == times + 1


def test_nobody_is_asked_more_than_three_times(gateway: Any) -> None:
    assert _code(gateway, "WriteEcho", text="hopeless", fail_times=99) is grpc.StatusCode.UNAVAILABLE
    assert gateway.echo.attempts["hopeless"] == 3


def test_a_write_without_a_request_id_is_never_sent_again(gateway: Any) -> None:
    assert _code(gateway, "Echo", text="unsafe", fail_times=1) is grpc.StatusCode.UNAVAILABLE
    assert gateway.echo.attempts["unsafe"] == 1


def test_a_stream_is_never_opened_again(gateway: Any) -> None:
    stub = gateway.channel.unary_stream(
        "/danbao.echo.v1.EchoService/Watch",
        request_serializer=gateway.messages.request.SerializeToString,
        response_deserializer=gateway.messages.response.FromString,
    )
    metadata = (("authorization", f"Bearer {gateway.tokens.mint('operator')}"),)
    with pytest.raises(grpc.RpcError):
        list(stub(gateway.messages.request(text="stream", fail_times=1), metadata=metadata))
    assert gateway.echo.attempts["stream"] == 1


def test_a_refusal_is_an_answer_and_is_not_asked_for_again(gateway: Any) -> None:
    code = _code(gateway, "WriteEcho", text="refused", fail_reason="TRADE_STATE_INVALID")
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert gateway.echo.attempts["refused"] == 1


def test_json_callers_are_helped_too(gateway: Any) -> None:
    body = {"request_id": "1", "echo": {"text": "json", "fail_times": 1}}
    assert gateway.json("/v1/echoes:write", body, token=gateway.tokens.mint()).http_status == 200
    assert gateway.echo.attempts["json"] == 2


def test_a_storm_grows_by_a_tenth_at_most(gateway: Any) -> None:
    """A service that answers UNAVAILABLE to everybody, slowly: the worst case for a budget."""
    calls, before = 600, gateway.echo.attempts["storm"]

    def ask(_: int) -> grpc.StatusCode:
        return _code(gateway, "WriteEcho", text="storm", fail_times=10**6)

    with ThreadPoolExecutor(60) as pool:
        codes = Counter(pool.map(ask, range(calls)))
    assert set(codes) == {grpc.StatusCode.UNAVAILABLE}
    attempts = gateway.echo.attempts["storm"] - before
    assert calls < attempts <= calls * 1.1, f"{attempts} attempts of {calls} calls"


def test_of_the_real_methods_only_those_with_a_request_id_and_reads_are_sent_again() -> None:
    named = shipped_limits().methods
    for method in Contracts.installed().methods():
        method_class = class_of(method, named)
        safe = method.has_request_id or method.verb == "get" or method_class is MethodClass.READ
        assert may_be_retried(method, method_class) == (safe and not method.streaming), method.full_name
    retried = {
        method.name for method in Contracts.installed().methods() if may_be_retried(method, class_of(method, named))
    }
    assert {"CreatePayment", "PayTrade", "GetTrade", "Evaluate"} <= retried
    assert not {"BatchExecute", "WatchEvents", "ImportStatement"} & retried


# A replica that says it is well and fails


def test_a_replica_that_goes_without_a_word_costs_no_call_that_may_be_sent_again(start_gateway: Any) -> None:
    with start_gateway(name="leaving", replicas=2) as gateway:
        codes = Counter(_code(gateway, "WriteEcho", text=f"before-{number}") for number in range(20))
        assert all(echo.attempts for _, echo in gateway.replicas), "both must be in use"
        gateway.replicas[0][0].stop(None)
        codes.update(_code(gateway, "WriteEcho", text=f"after-{number}") for number in range(40))
        assert codes == {grpc.StatusCode.OK: 60}


def test_a_replica_that_only_fails_is_left_alone_while_the_other_answers(start_gateway: Any) -> None:
    """Health checks find it well; what it answers does not. Calls that are not retried show it."""
    with start_gateway(name="failing", replicas=2) as gateway:
        gateway.replicas[0][1].is_failing = True
        in_a_row, failed = 0, 0
        while in_a_row < 30:
            is_answered = _code(gateway, "Echo", text="x") is grpc.StatusCode.OK
            in_a_row = in_a_row + 1 if is_answered else 0
            failed += not is_answered
            assert failed < 500, "it is still asked"
        assert failed >= 10, "it was left alone before it had shown itself"


def test_the_only_replica_is_never_left_alone(start_gateway: Any) -> None:
    with start_gateway(name="single") as gateway:
        gateway.echo.is_failing = True
        assert {_code(gateway, "Echo", text="x") for _ in range(40)} == {grpc.StatusCode.UNAVAILABLE}
        gateway.echo.is_failing = False
        assert _code(gateway, "Echo", text="x") is grpc.StatusCode.OK
