"""The load client, a process of its own: reads orders from standard input, runs them, prints what came of each.

A line in is an order; the lines out are {"window": "begins"}, {"window": "ends"} and {"report": {…}}.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import uvloop

from danbao_local.bench.loads import LOADS, Caller, Load, Tally, WrongAnswer
from danbao_local.bench.orders import LoadReport, Order, Target

_PAUSE_AFTER_FAILURE_S = 0.01


def main() -> None:
    """Orders until standard input ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            report = runner.run(run(Order.from_json(line)))
            _say({"report": json.loads(report.to_json())})


async def run(order: Order) -> LoadReport:
    """Run one order."""
    tally = Tally()
    channels = [open_channel(order.target, number) for number in range(order.channels)]
    try:
        caller = Caller(channels, order.target.metadata, tally)
        clock = _Window(order)
        load = LOADS[order.load](order, caller, tally)
        workers = [asyncio.create_task(_work(load, number, clock, tally)) for number in range(order.in_flight)]
        await asyncio.sleep(order.warm_up_seconds)
        clock.begin()
        _say({"window": "begins"})
        await asyncio.wait(workers, timeout=order.seconds)
        clock.end()
        _say({"window": "ends"})
        await asyncio.gather(*workers)
    finally:
        for channel in channels:
            await channel.close()
    return LoadReport(
        seconds=clock.seconds,
        items=clock.items,
        replies=dict(tally.replies),
        replayed=tally.replayed,
        failures=dict(tally.failures),
        remarks=dict(tally.remarks),
        p50_ms=clock.percentile_ms(0.50),
        p99_ms=clock.percentile_ms(0.99),
    )


def open_channel(target: Target, number: int) -> grpc.aio.Channel:
    """A connection of its own for each number, as callers on different machines have."""
    options: list[tuple[str, Any]] = [
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", 64 * 1024 * 1024),
        ("danbao.bench.channel", number),
    ]
    if target.tls is None:
        return grpc.aio.insecure_channel(target.address, options=options)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=Path(target.tls.ca).read_bytes(),
        private_key=Path(target.tls.key).read_bytes(),
        certificate_chain=Path(target.tls.cert).read_bytes(),
    )
    options.append(("grpc.ssl_target_name_override", target.tls.server_name))
    return grpc.aio.secure_channel(target.address, credentials, options=options)


class _Window:
    """The measured time, and what was answered within it."""

    def __init__(self, order: Order) -> None:
        self.items = 0.0
        self.seconds = 0.0
        self.is_over = False
        self._most = order.most_items
        self._taken = 0.0
        self._began = 0.0
        self._latencies: list[float] = []

    def begin(self) -> None:
        self._began = time.perf_counter()

    def end(self) -> None:
        self.seconds = time.perf_counter() - self._began
        self.is_over = True

    def answered(self, items: float, started: float) -> None:
        self._taken += items
        if self._most is not None and self._taken >= self._most:
            self.is_over = True
        if self._began and not self.seconds:
            self.items += items
            self._latencies.append(time.perf_counter() - started)

    def percentile_ms(self, share: float) -> float:
        if not self._latencies:
            return 0.0
        self._latencies.sort()
        return round(self._latencies[min(int(share * len(self._latencies)), len(self._latencies) - 1)] * 1000, 3)


async def _work(load: Load, worker: int, window: _Window, tally: Tally) -> None:
    while not window.is_over or not load.is_between(worker):
        started = time.perf_counter()
        try:
            items = await load.next(worker)
        except grpc.aio.AioRpcError as error:
            tally.failures[f"{error.code().name}: {(error.details() or '')[:80]}"] += 1
            await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)
        except WrongAnswer as error:
            tally.failures[str(error)] += 1
        else:
            window.answered(items, started)


def _say(content: Any) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        main()
