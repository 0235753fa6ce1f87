"""Sends the planned orders step by step, lets time run out, and waits until nothing is under way any more."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from danbao.credit.v1 import credit_pb2
from danbao.escrow.v1 import event_pb2 as escrow_event_pb2
from danbao.escrow.v1 import trade_pb2
from danbao.payments.v1 import event_pb2 as payments_event_pb2
from danbao.payments.v1 import ledger_pb2
from danbao_local.errors import StackFailed
from danbao_local.replay.bar import Bar
from danbao_local.replay.calls import Gateway, in_turns
from danbao_local.replay.clocks import Clocks
from danbao_local.replay.conduct import Conductor
from danbao_local.replay.facts import Fact
from danbao_local.replay.journal import Journal, Progress
from danbao_local.replay.merchants import rank
from danbao_local.replay.plan import Plan
from danbao_local.replay.planned import PlannedTrade
from danbao_local.replay.record import OrderRecord, TradeRecord
from danbao_local.replay.schedule import Step, clock_of_placing
from danbao_local.replay.telling import Teller
from danbao_local.replay.troubles import read_cases, read_disputes
from danbao_local.tokens import HOLDERS

ENDED = frozenset({trade_pb2.Trade.STATE_COMPLETED, trade_pb2.Trade.STATE_CLOSED, trade_pb2.Trade.STATE_CANCELLED})
_LEAP = timedelta(days=5)
_RESERVES = timedelta(days=95)
"""What the terms keep back is kept for 90 days."""
_ROUNDS = 4
_CREDIT_SECONDS = 600.0
_RAIL_SECONDS = 60.0
_OPERATOR = f"subjects/{HOLDERS['operator'].subject}"


class NotDone(StackFailed):
    """Something that must end does not."""


@dataclass(slots=True)
class Replay:
    """One replay: its orders' records, and the trades as they stand at the end, by trade name."""

    plans: Sequence[Plan]
    steps: Sequence[Step]
    records: dict[int, OrderRecord] = field(default_factory=dict)
    trades: dict[str, Any] = field(default_factory=dict)
    cases: dict[str, Any] = field(default_factory=dict)
    """Refund cases as they stand at the end, by name."""
    disputes: dict[str, Any] = field(default_factory=dict)
    ranking: list[dict[str, Any]] = field(default_factory=list)
    """The merchants' credit when the last order was done, best first."""
    ends_at: datetime | None = None
    facts: Sequence[Fact] = ()
    """What credit is told besides."""
    told: list[dict[str, Any]] = field(default_factory=list)
    """What it was told of them, by this run or an earlier one."""
    told_seconds: float = 0.0
    wrongly_told: list[str] = field(default_factory=list)
    """What this run told and credit did not take."""

    def made(self) -> list[tuple[int, PlannedTrade, TradeRecord]]:
        """Every trade that was made, with its order's number."""
        found = []
        for number, record in self.records.items():
            for trade in self.plans[number].trades:
                made = record.trades.get(trade.seller_id)
                if made is not None and made.name:
                    found.append((number, trade, made))
        return found


class Runner:
    """Drives one replay on a running stack."""

    def __init__(self, replay: Replay, gateway: Gateway, clocks: Clocks, journal: Journal, bar: Bar) -> None:
        self._replay = replay
        self._gateway = gateway
        self._clocks = clocks
        self._journal = journal
        self._bar = bar
        self._conductor = Conductor(gateway, clock_of_placing(replay.steps, replay.plans))
        self._teller = Teller(replay.facts, replay.records, gateway)

    async def run(self, progress: Progress) -> None:
        """From where the journal ends to the very end. Raises GaveUp, NotDone."""
        replay = self._replay
        began = time.monotonic() - progress.seconds
        replay.records = {number: OrderRecord() for number in range(len(replay.plans))} | progress.records
        done = sum(record.finished for record in replay.records.values())
        self._bar.begin(done)
        teller = self._teller = Teller(replay.facts, replay.records, self._gateway)
        if progress.steps > 1:
            # The last step that is done told what came before its own time.
            teller.skip_until(replay.steps[progress.steps - 2].clock)
        for position in range(progress.steps, len(replay.steps)):
            step = replay.steps[position]
            await self._clocks.advance(step.clock)
            async with asyncio.TaskGroup() as tasks:
                if position:
                    tasks.create_task(teller.tell_until(replay.steps[position - 1].clock))
                tasks.create_task(self._do(step))
            done += sum(replay.records[number].finished for number in step.work)
            changed = {number: replay.records[number] for number in step.work}
            self._journal.add(steps=position + 1, seconds=time.monotonic() - began, changed=changed)
            self._bar.show(done, f"business time {step.clock:%Y-%m-%d}")
        if replay.steps:
            await teller.tell_until(replay.steps[-1].clock)
        await self._rank(progress)
        await self._finish()
        replay.told, replay.wrongly_told = teller.all_told(), teller.wrong
        replay.told_seconds = teller.seconds

    async def _do(self, step: Step) -> None:
        replay = self._replay
        async with asyncio.TaskGroup() as tasks:
            for number, positions in step.work.items():
                plan, record = replay.plans[number], replay.records[number]
                tasks.create_task(self._conductor.play(number, plan, record, positions))

    async def _rank(self, progress: Progress) -> None:
        """Before time runs out: credit looks back over days, and soon there would be nothing to see."""
        if progress.ranking is None:
            await self._until(self._credit_has_read_all, _CREDIT_SECONDS, "Credit does not read all events")
            progress.ranking = await rank(self._gateway, (trade.seller_id for _, trade, _ in self._replay.made()))
            self._journal.add_ranking(progress.ranking)
        self._replay.ranking = progress.ranking

    # --- after the last order -------------------------------------------------------------------

    async def _finish(self) -> None:
        """Time goes on until every trade has ended and nothing is kept back."""
        replay = self._replay
        now = replay.steps[-1].clock if replay.steps else None
        open_trades = replay.made()
        for number in range(_ROUNDS):
            if now is None or not open_trades:
                break
            now = await self._wait_out(now, _RESERVES)
            await self._look(made.name for _, _, made in open_trades)
            open_trades = [found for found in open_trades if not is_over(replay.trades[found[2].name])]
            await self._ask_operator(open_trades, number)
        replay.ends_at = now
        replay.cases, replay.disputes = await read_cases(self._gateway), await read_disputes(self._gateway)
        self._bar.show(len(replay.plans), "waiting for the rails and for credit")
        await self._until(self._rails_are_quiet, _RAIL_SECONDS, "The simulated rail does not pay refunds back")
        await self._until(self._credit_has_read_all, _CREDIT_SECONDS, "Credit does not read all events")

    async def _wait_out(self, now: datetime, span: timedelta) -> datetime:
        end = now + span
        while now < end:
            now = min(now + _LEAP, end)
            await self._clocks.advance(now)
            await self._teller.tell_until(now)
            self._bar.show(len(self._replay.plans), f"letting time run out {now:%Y-%m-%d}")
        return now

    async def _look(self, names: Iterable[str]) -> None:
        """Every trade as it stands now."""

        async def read(name: str) -> None:
            request = trade_pb2.GetTradeRequest(name=name)
            self._replay.trades[name] = await self._gateway.call(self._gateway.trades.GetTrade, request, "partner")

        await in_turns(list(names), read)

    async def _ask_operator(self, trades: Iterable[tuple[int, PlannedTrade, TradeRecord]], generation: int) -> None:
        """Grade E: an operator confirms what its terms do not confirm by time, and pays out."""
        replay = self._replay
        for number, trade, made in trades:
            found, plan = replay.trades[made.name], replay.plans[number]
            if found.state not in ENDED and found.terms.auto_confirm_by_operator:
                await self._conductor.confirm_as_operator(plan, trade, made, _OPERATOR)
            elif found.held_back_minor and found.terms.payout_by_operator:
                await self._conductor.release_held(plan, trade, made, _OPERATOR, generation)

    async def _rails_are_quiet(self) -> bool:
        gateway = self._gateway
        balance = await gateway.call(gateway.ledger.GetTrialBalance, ledger_pb2.GetTrialBalanceRequest(), "operator")
        return all(
            row.debits_posted_minor == row.credits_posted_minor
            for row in balance.rows
            if row.kind.startswith("clearing.")
        )

    async def _credit_has_read_all(self) -> bool:
        gateway = self._gateway
        heads = await stream_heads(gateway)
        ingest = await gateway.call(gateway.credit.GetIngestStatus, credit_pb2.GetIngestStatusRequest(), "operator")
        read = {stream.source: stream.sequence for stream in ingest.streams}
        return all(read.get(source, 0) >= sequence for source, sequence in heads.items())

    async def _until(self, is_so: Callable[[], Awaitable[bool]], seconds: float, otherwise: str) -> None:
        deadline = time.monotonic() + seconds
        while not await is_so():
            if time.monotonic() > deadline:
                raise NotDone(f"{otherwise} within {seconds:.0f} s.")
            await asyncio.sleep(0.2)


def is_over(trade: trade_pb2.Trade) -> bool:
    """Whether nothing will happen to a trade any more."""
    return trade.state in ENDED and not trade.held_back_minor and not trade.step_pending


async def stream_heads(gateway: Gateway) -> dict[str, int]:
    """The last event of payments' and escrow's streams."""
    requests: dict[str, Any] = {
        "payments": payments_event_pb2.GetStreamHeadRequest(),
        "escrow": escrow_event_pb2.GetStreamHeadRequest(),
    }
    heads = {}
    for source, request in requests.items():
        head = await gateway.call(gateway.events[source].GetStreamHead, request, "operator")
        heads[source] = int(head.cursor.sequence)
    return heads
