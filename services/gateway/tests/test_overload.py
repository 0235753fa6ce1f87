"""More than there is room for: refused at once, by name, and with a word when to come back."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

AT_ONCE = 24


def test_calls_above_what_a_service_may_have_are_refused_at_once_in_both_forms(start_gateway: Any) -> None:
    with start_gateway(name="full", max_requests=2) as gateway:
        token, begun = gateway.tokens.mint("user"), threading.Barrier(AT_ONCE)

        def by_grpc(_: int) -> str:
            begun.wait(10)
            try:
                gateway.call("Echo", token=token, delay_seconds=1.5)
            except grpc.RpcError as refusal:
                status = rpc_status.from_call(refusal)
                info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
                assert status.details[0].Unpack(info)
                assert status.details[1].Unpack(retry)
                return f"{refusal.code().name} {info.reason} {retry.retry_delay.seconds}"
            return "answered"

        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = Counter(pool.map(by_grpc, range(AT_ONCE)))
        assert set(answers) == {"answered", "RESOURCE_EXHAUSTED OVERLOADED 1"}
        assert answers["answered"] >= 2

        def by_json(_: int) -> tuple[int, str]:
            begun.wait(10)
            reply = gateway.json("/v1/echoes", {"delay_seconds": 1.5}, token=token)
            return reply.http_status, reply.headers.get("x-danbao-reason", "")

        with ThreadPoolExecutor(AT_ONCE) as pool:
            replies = Counter(pool.map(by_json, range(AT_ONCE)))
        assert set(replies) == {(200, ""), (429, "OVERLOADED")}


def test_connections_above_the_limit_are_closed_and_the_others_go_on(start_gateway: Any) -> None:
    with start_gateway(name="crowded", limits={"max_connections": 3}) as gateway:
        token = gateway.tokens.mint("user")
        assert gateway.call("Echo", token=token, text="first").text == "first"
        channels = [
            grpc.insecure_channel(gateway.address, options=[("grpc.use_local_subchannel_pool", 1), ("n", number)])
            for number in range(8)
        ]
        codes: Counter[grpc.StatusCode] = Counter()
        for channel in channels:
            try:
                channel.unary_unary("/danbao.echo.v1.EchoService/Echo")(
                    b"", metadata=(("authorization", f"Bearer {token}"),), timeout=5
                )
                codes[grpc.StatusCode.OK] += 1
            except grpc.RpcError as refusal:
                codes[refusal.code()] += 1
        assert codes[grpc.StatusCode.OK] == 2
        assert codes[grpc.StatusCode.UNAVAILABLE] == 6
        assert gateway.call("Echo", token=token, text="still").text == "still"
        for channel in channels:
            channel.close()
