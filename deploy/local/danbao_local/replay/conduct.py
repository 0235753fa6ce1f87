"""Does what a plan says, call by call, and writes down what came of it.

Request ids are UUIDv5 of order, seller and operation, and every request's content follows from the files and from
answers that are recorded: sent again after any interruption, it gets the answer of the first time.
"""

import asyncio
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from danbao.escrow.v1 import trade_pb2
from danbao.payments.v1 import account_pb2, ledger_pb2, payment_pb2
from danbao_local.replay.calls import Gateway, Refused
from danbao_local.replay.cases import Cases
from danbao_local.replay.complaints import CaseAction
from danbao_local.replay.parties import buyer_of, money, request_id, seller_subject, tracking_of
from danbao_local.replay.plan import PAY_BY_MARGIN, Action, Event, Plan
from danbao_local.replay.planned import PlannedTrade
from danbao_local.replay.record import OrderRecord, TopUpRecord, TradeRecord

_RAIL = "rails/simulated"
_CARRIER = "Correios"
_RAIL_SECONDS = 60.0
_REFUSED_AT_CREATION = frozenset({"LIMIT_EXCEEDED", "SUBJECT_BLOCKED"})
_TOO_LATE = "TRADE_STATE_INVALID"
_TopUp = payment_pb2.TopUp


class Conductor:
    """Plays the events of orders. One order's events must not run at the same time."""

    def __init__(self, gateway: Gateway, placing_clock: dict[int, datetime]) -> None:
        self._gateway = gateway
        self._placing_clock = placing_clock
        self._cases = Cases(gateway)

    async def play(self, number: int, plan: Plan, record: OrderRecord, positions: Iterable[int]) -> None:
        """The events at these positions, in order. Raises GaveUp."""
        for position in positions:
            event = plan.events[position]
            try:
                await self._play(number, plan, record, event)
            except Refused as refused:
                record.unexpected.append(f"{event.action}: {refused}")
            if position == len(plan.events) - 1 or plan.events[position + 1].sends_nothing:
                record.finished = True

    async def _play(self, number: int, plan: Plan, record: OrderRecord, event: Event) -> None:
        match event.action:
            case Action.PLACE:
                for trade in plan.trades:
                    await self._place(plan, record, trade, self._placing_clock[number])
            case Action.FUND:
                await self._fund(plan, record)
            case Action.RETURN:
                await self._return(plan, record)
            case Action.SHIP:
                for trade, made in _made(plan, record):
                    await self._ship(plan, record, trade, made)
            case Action.DELIVER:
                for trade, made in _made(plan, record):
                    await self._deliver(plan, record, trade, made)
            case Action.CANCEL:
                for trade, made in _made(plan, record):
                    if trade.seller_id == event.trade:
                        await self._cancel(plan, record, trade, made, event.time)
            case Action.LOOK:
                pass
            case _:
                await self._complain(plan, record, event)

    async def _complain(self, plan: Plan, record: OrderRecord, event: Event) -> None:
        assert isinstance(event.action, CaseAction), "all others are played above"
        for trade, made in _made(plan, record):
            complaint = plan.complaint_of(trade)
            if trade.seller_id == event.trade and complaint is not None and made.paid:
                await self._cases.play(complaint, event.action, plan.order, trade, made)

    # --- trades -------------------------------------------------------------------------------

    async def _place(self, plan: Plan, record: OrderRecord, trade: PlannedTrade, clock: datetime) -> None:
        buyer = buyer_of(plan.order)
        request = trade_pb2.CreateTradeRequest(
            request_id=request_id(plan.order.order_id, trade.seller_id, "create"),
            actor=trade_pb2.Actor(subject=buyer, role=trade_pb2.ROLE_BUYER),
            buyer=buyer,
            seller=seller_subject(trade.seller_id),
            lines=[
                trade_pb2.NewLine(
                    line_id=line.line_id,
                    title=line.title,
                    amount=money(line.amount_minor),
                    delivery=trade_pb2.DELIVERY_POST,
                )
                for line in trade.lines
            ],
            postage=money(trade.postage_minor),
            total=money(trade.total_minor),
            pay_by=_duration(plan.pay_by - PAY_BY_MARGIN, clock),
            ship_by_time=_timestamp(trade.ship_by),
            reference=f"{plan.order.order_id}/{trade.seller_id}",
        )
        made = record.trades.setdefault(trade.seller_id, TradeRecord())
        try:
            answer = await self._gateway.call(self._gateway.trades.CreateTrade, request, "partner")
        except Refused as refused:
            if refused.reason not in _REFUSED_AT_CREATION:
                raise
            made.refusal = refused.reason
            return
        made.name = answer.name
        made.left_to_operator = answer.terms.auto_confirm_by_operator

    async def _pay(self, plan: Plan, record: OrderRecord, trade: PlannedTrade, made: TradeRecord) -> None:
        request = trade_pb2.PayTradeRequest(**self._command(plan, trade, made, "pay", trade_pb2.ROLE_BUYER))
        made.paid = await self._allowed(
            record, self._gateway.trades.PayTrade, request, too_late=plan.pays_too_late, what="PayTrade"
        )

    async def _ship(self, plan: Plan, record: OrderRecord, trade: PlannedTrade, made: TradeRecord) -> None:
        if not made.paid:
            return
        request = trade_pb2.ShipLinesRequest(
            **self._command(plan, trade, made, "ship", trade_pb2.ROLE_SELLER),
            carrier=_CARRIER,
            tracking=tracking_of(plan.order.order_id, trade.seller_id),
        )
        made.shipped = await self._allowed(
            record, self._gateway.trades.ShipLines, request, too_late=plan.ships_too_late(trade), what="ShipLines"
        )

    async def _deliver(self, plan: Plan, record: OrderRecord, trade: PlannedTrade, made: TradeRecord) -> None:
        complaint = plan.complaint_of(trade)
        if not made.shipped or (complaint is not None and plan.delivers_too_late):
            return
        command = self._command(plan, trade, made, "deliver", trade_pb2.ROLE_SELLER)
        delivered = await self._allowed(
            record,
            self._gateway.trades.ReportDelivery,
            trade_pb2.ReportDeliveryRequest(**command),
            too_late=plan.delivers_too_late and not made.left_to_operator,
            what="ReportDelivery",
        )
        if not delivered or complaint is not None:
            return
        command = self._command(plan, trade, made, "confirm", trade_pb2.ROLE_BUYER)
        await self._gateway.call(self._gateway.trades.ConfirmLines, trade_pb2.ConfirmLinesRequest(**command), "partner")
        made.confirmed = True

    async def _cancel(
        self, plan: Plan, record: OrderRecord, trade: PlannedTrade, made: TradeRecord, at: datetime
    ) -> None:
        if not made.paid:
            return
        request = trade_pb2.CancelLinesRequest(
            **self._command(plan, trade, made, "cancel", trade_pb2.ROLE_SELLER), reason=plan.order.status
        )
        try:
            await self._gateway.call(self._gateway.trades.CancelLines, request, "partner")
        except Refused as refused:
            # Paid after the system's own time: either of the two may be first.
            if refused.reason != _TOO_LATE or at < trade.system_cancels:
                raise
            record.refusals.append(f"CancelLines: {refused.reason}")
            return
        made.cancelled = True

    async def confirm_as_operator(self, plan: Plan, trade: PlannedTrade, made: TradeRecord, subject: str) -> None:
        """Grade E: time has passed, an operator confirms."""
        actor = trade_pb2.Actor(subject=subject, role=trade_pb2.ROLE_OPERATOR)
        request = trade_pb2.ConfirmLinesRequest(
            request_id=request_id(plan.order.order_id, trade.seller_id, "confirm as operator"),
            actor=actor,
            name=made.name,
        )
        await self._gateway.call(self._gateway.trades.ConfirmLines, request, "operator")

    async def release_held(
        self, plan: Plan, trade: PlannedTrade, made: TradeRecord, subject: str, generation: int
    ) -> None:
        """Grade E: an operator pays out."""
        request = trade_pb2.ReleaseHeldRequest(
            request_id=request_id(plan.order.order_id, trade.seller_id, f"release held {generation}"),
            actor=trade_pb2.Actor(subject=subject, role=trade_pb2.ROLE_OPERATOR),
            name=made.name,
            reason="end of the replay",
        )
        await self._gateway.call(self._gateway.trades.ReleaseHeld, request, "operator")

    # --- money --------------------------------------------------------------------------------

    async def _fund(self, plan: Plan, record: OrderRecord) -> None:
        """Top-ups, what lacks, each trade's payment; what is left goes back."""
        await self._top_up(plan, record)
        due_minor = 0 if plan.pays_too_late else sum(trade.total_minor for trade, _ in _made(plan, record))
        lacks_minor = max(0, due_minor - record.topped_up_minor)
        if lacks_minor:
            suspense = account_pb2.AccountKey(owner="platform", kind="suspense")
            await self._post(plan, "UNDERPAID", suspense, _wallet(plan), lacks_minor)
            record.from_suspense_minor = lacks_minor
        paid_minor = 0
        for trade, made in _made(plan, record):
            await self._pay(plan, record, trade, made)
            paid_minor += trade.total_minor if made.paid else 0
        left_minor = record.topped_up_minor + record.from_suspense_minor - paid_minor
        await self._give_back(plan, record, left_minor)

    async def _return(self, plan: Plan, record: OrderRecord) -> None:
        """No trade, or one that was never approved: the money goes straight back."""
        await self._top_up(plan, record)
        await self._give_back(plan, record, record.topped_up_minor)
        if plan.order.status in ("canceled", "unavailable"):
            for trade, made in _made(plan, record):
                command = self._command(plan, trade, made, "cancel unpaid", trade_pb2.ROLE_BUYER)
                request = trade_pb2.CancelTradeRequest(**command, reason=plan.order.status)
                await self._gateway.call(self._gateway.trades.CancelTrade, request, "partner")
                made.cancelled = True

    async def _top_up(self, plan: Plan, record: OrderRecord) -> None:
        rows = [row for row in plan.order.payments if row.amount_minor > 0]
        requests = [
            payment_pb2.CreateTopUpRequest(
                request_id=request_id(plan.order.order_id, "", f"top-up {row.number}"),
                owner=buyer_of(plan.order),
                amount=money(row.amount_minor),
                rail=_RAIL,
                metadata={"order": plan.order.order_id, "payment_type": row.payment_type[:256]},
            )
            for row in rows
        ]
        create = self._gateway.payments.CreateTopUp
        answers = await asyncio.gather(*(self._gateway.call(create, request, "partner") for request in requests))
        record.top_ups = []
        for answer in answers:
            settled = await self._settled(answer)
            if settled.state == _TopUp.STATE_SUCCEEDED:
                record.top_ups.append(TopUpRecord(settled.name, settled.amount.amount_minor))
            else:
                record.unexpected.append(f"CreateTopUp: {settled.name} ended in state {settled.state}")

    async def _settled(self, top_up: Any) -> Any:
        """The top-up once its rail has answered."""
        deadline = time.monotonic() + _RAIL_SECONDS
        while top_up.state in (_TopUp.STATE_PENDING, _TopUp.STATE_UNKNOWN) and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
            request = payment_pb2.GetTopUpRequest(name=top_up.name)
            top_up = await self._gateway.call(self._gateway.payments.GetTopUp, request, "partner")
        return top_up

    async def _give_back(self, plan: Plan, record: OrderRecord, amount_minor: int) -> None:
        """Over the rails, the last top-up first; what no top-up brought goes back to suspense."""
        left_minor = amount_minor
        for position, top_up in reversed(list(enumerate(record.top_ups))):
            part_minor = min(left_minor, top_up.amount_minor)
            if part_minor == 0:
                break
            request = payment_pb2.RefundTopUpRequest(
                request_id=request_id(plan.order.order_id, "", f"return {position}"),
                name=top_up.name,
                amount=money(part_minor),
            )
            await self._gateway.call(self._gateway.payments.RefundTopUp, request, "partner")
            top_up.returned_minor = part_minor
            left_minor -= part_minor
        if left_minor:
            suspense = account_pb2.AccountKey(owner="platform", kind="suspense")
            await self._post(plan, "UNDERPAID, not needed", _wallet(plan), suspense, left_minor)
            record.to_suspense_minor = left_minor

    async def _post(
        self,
        plan: Plan,
        description: str,
        debit: account_pb2.AccountKey,
        credit: account_pb2.AccountKey,
        amount_minor: int,
    ) -> None:
        request = ledger_pb2.PostTransactionRequest(
            request_id=request_id(plan.order.order_id, "", description),
            legs=[ledger_pb2.Leg(debit=debit, credit=credit, amount=money(amount_minor))],
            description=description,
            metadata={"order": plan.order.order_id},
        )
        await self._gateway.call(self._gateway.ledger.PostTransaction, request, "operator")

    # --- calls --------------------------------------------------------------------------------

    async def _allowed(self, record: OrderRecord, method: Any, request: Any, *, too_late: bool, what: str) -> bool:
        """Whether it was done. Refused exactly when the plan says that time was first; anything else is unexpected."""
        try:
            await self._gateway.call(method, request, "partner")
        except Refused as refused:
            if not too_late or refused.reason != _TOO_LATE:
                record.unexpected.append(str(refused))
                return False
            record.refusals.append(f"{what}: {refused.reason}")
            return False
        if too_late:
            record.unexpected.append(f"{what} was done although its time had passed")
        return True

    def _command(
        self, plan: Plan, trade: PlannedTrade, made: TradeRecord, operation: str, role: trade_pb2.Role
    ) -> dict[str, Any]:
        party = buyer_of(plan.order) if role == trade_pb2.ROLE_BUYER else seller_subject(trade.seller_id)
        return {
            "request_id": request_id(plan.order.order_id, trade.seller_id, operation),
            "actor": trade_pb2.Actor(subject=party, role=role),
            "name": made.name,
        }


def _made(plan: Plan, record: OrderRecord) -> list[tuple[PlannedTrade, TradeRecord]]:
    """The trades that were made."""
    found = [(trade, record.trades.get(trade.seller_id)) for trade in plan.trades]
    return [(trade, made) for trade, made in found if made is not None and made.name]


def _wallet(plan: Plan) -> account_pb2.AccountKey:
    return account_pb2.AccountKey(owner=buyer_of(plan.order), kind="user.available")


def _timestamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def _duration(until: datetime, since: datetime) -> Duration:
    duration = Duration()
    duration.FromTimedelta(until - since)
    return duration
