"""One stack a test session: real PostgreSQL, the three services, Envoy, the span receiver."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from danbao_local import calls, demo
from danbao_local.card import Card
from danbao_local.client import GatewayClient
from danbao_local.stack import LocalStack


@dataclass(frozen=True, slots=True)
class RunningStack:
    """The stack, its card with a body for every RPC, and the trade that was played on it first."""

    stack: LocalStack
    demo: demo.DemoResult
    state_dir: Path

    @property
    def card(self) -> Card:
        return self.stack.card


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    yield from _started(tmp_path_factory.mktemp("stack"))


@pytest.fixture(scope="module")
def own_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """For a module whose answers depend on the grade of the demo's seller, which whatever others do to it moves."""
    yield from _started(tmp_path_factory.mktemp("own"))


def _started(state_dir: Path) -> Iterator[RunningStack]:
    stack = LocalStack(state_dir)
    stack.start(publish=False)
    try:
        played = demo.play(stack.card)
        stack.publish(calls.prepare(stack.card, played))
        yield RunningStack(stack, played, state_dir)
    finally:
        stack.stop()


@pytest.fixture
def client(running: RunningStack) -> Iterator[GatewayClient]:
    with GatewayClient(running.card) as made:
        yield made


@pytest.fixture(autouse=True)
def books_balance(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does to the stack, debits and credits stay equal, and nothing is left in between."""
    running = request.getfixturevalue("running") if "running" in request.fixturenames else None
    yield
    if running is None:
        return
    with GatewayClient(running.card) as client:
        balance = client.call("danbao.payments.v1.LedgerService/GetTrialBalance", {}, role="operator")
    for total in balance.totals:
        assert total.debits_posted_minor == total.credits_posted_minor, total.currency
    for row in balance.rows:
        if row.kind == "clearing.capture":
            assert row.debits_posted_minor == row.credits_posted_minor, row
