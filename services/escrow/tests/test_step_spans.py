"""What a trace shows of money steps: one span a call, however many steps the call asked for."""

import dataclasses

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from danbao_escrow.domain import commands
from danbao_escrow.domain.commands import StepDone
from danbao_escrow.domain.model import Role
from danbao_escrow.testing.world import World, new_trade
from danbao_escrow.workers.step_runner import StepRunner
from danbao_kit.immutable import replace
from danbao_kit.submission import Outcome


def asked_by(number: int, flags: str = "01") -> str:
    return f"00-{number:032x}-{number:016x}-{flags}"


class Payments:
    """Does what it is asked."""

    async def execute(self, steps):
        return [StepDone("payments/1") for _ in steps]


class Settled:
    """Keeps what is handed in."""

    def __init__(self):
        self.submissions = []

    async def submit_many(self, submissions):
        self.submissions += submissions
        return [Outcome() for _ in submissions]


@pytest.fixture(scope="module")
def spans():
    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


def pending(*traceparents: str):
    """A trade's step for each, asked for by that call."""
    world, steps = World(), []
    for traceparent in traceparents:
        trade = world.run(new_trade((3000,)))
        world.give(commands.PayTrade, trade, Role.BUYER)
        step = world.steps[trade.trade_id, 1]
        steps.append(replace(step, cause=dataclasses.replace(step.cause, traceparent=traceparent)))
    return steps


async def run(steps):
    settled = Settled()
    runner = StepRunner(Payments(), settled)
    await runner._execute([(step, 1e12) for step in steps])
    assert [submission.command.trade_id for submission in settled.submissions] == [step.trade_id for step in steps]
    assert [submission.traceparent for submission in settled.submissions] == [step.cause.traceparent for step in steps]
    return settled.submissions


async def test_each_call_sees_its_steps_once(spans):
    spans.clear()
    steps = pending(asked_by(9, "00"), *[asked_by(1)] * 3, *[asked_by(2)] * 2, "", asked_by(3))
    submissions = await run(steps)
    shown = [span for span in spans.get_finished_spans() if span.name == "steps.execute"]
    assert sorted(span.parent.trace_id for span in shown) == [1, 2, 3]
    whole = next(span for span in shown if span.parent.trace_id == 1)
    assert not whole.links
    assert {span.links[0].context.span_id for span in shown if span is not whole} == {whole.context.span_id}
    assert [submission.span.trace_id for submission in submissions if submission.span is not None] == [1, 2, 3]


async def test_what_nobody_samples_is_not_shown(spans):
    spans.clear()
    submissions = await run(pending(asked_by(9, "00"), ""))
    assert not [span for span in spans.get_finished_spans() if span.name == "steps.execute"]
    assert [submission.span for submission in submissions] == [None, None]
