"""Escrow without a database: the same decisions over rows kept in memory, one command at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from danbao_escrow.application.decide import decide
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain import case_commands, commands
from danbao_escrow.domain.case_commands import NewEvidence
from danbao_escrow.domain.case_model import Claim, Dispute, Proceeding, RefundCase, RefundCaseState
from danbao_escrow.domain.checkout import Checkout
from danbao_escrow.domain.commands import FireTimer, LinePrice, NewLine, SettleStep, StepDone, StepRefused, Token
from danbao_escrow.domain.events import TradeEvent
from danbao_escrow.domain.fees import AskedFees
from danbao_escrow.domain.model import Actor, Delivery, Role, TimelineEntry, Trade
from danbao_escrow.domain.payment_events import PaymentMovement
from danbao_escrow.domain.step_model import Step
from danbao_escrow.domain.terms import GradeTerms, default_grade_terms, frozen_terms
from danbao_kit.decision import DEFERRED, Answer, Moment, RequestKey
from danbao_kit.money import Money
from danbao_kit.time_ordered_ids import TimeOrderedIds

START = datetime(2026, 1, 1, tzinfo=UTC)
BUYER = "subjects/buyer"
SELLER = "subjects/seller"
SUBJECTS = {Role.BUYER: BUYER, Role.SELLER: SELLER}

EVIDENCE = NewEvidence("https://shop.example/photo.jpg", "0" * 64, 1000, "image/jpeg", "the box")

PLATFORM_TOKEN = Token("subjects/shop", "shop", is_partner=True, is_operator=True, sees_all=True, is_arbiter=True)
"""May act for everybody, so that only the rules of the trade refuse."""


def actor(role: Role) -> Actor:
    return Actor(SUBJECTS.get(role, "subjects/somebody"), role)


def user_token(subject: str) -> Token:
    return Token(subject, "", is_partner=False, is_operator=False, sees_all=False)


def plain_terms(**changes: Any) -> GradeTerms:
    """Terms without delay and reserve, so that a release ends in payable at once."""
    plain = replace(default_grade_terms("CNY"), payout_delay_hours=0, reserve_bps=0, per_trade_limit_minor=10**15)
    return replace(plain, **changes)


def new_trade(
    amounts: Sequence[int] = (3000, 5000),
    *,
    postage_minor: int = 0,
    fee_bps: int | None = 500,
    terms: GradeTerms | None = None,
    token: Token = PLATFORM_TOKEN,
    role: Role = Role.SELLER,
    **changes: Any,
) -> commands.CreateTrade:
    """CreateTrade with lines "1", "2", … of these amounts in CNY."""
    given = plain_terms() if terms is None else terms
    command = commands.CreateTrade(
        actor=actor(role),
        buyer=BUYER,
        seller=SELLER,
        lines=tuple(
            NewLine(str(number), f"thing {number}", Money("CNY", amount_minor), Delivery.EXPRESS)
            for number, amount_minor in enumerate(amounts, start=1)
        ),
        postage=Money("CNY", postage_minor),
        total=Money("CNY", sum(amounts) + postage_minor),
        fee_bps=fee_bps,
        pay_by=None,
        ship_by_time=None,
        reference="order-1",
        token=token,
        terms=frozen_terms(given, AskedFees()),
        blocked="",
    )
    asked = replace(command, **changes)
    return replace(asked, terms=frozen_terms(given, asked.fees))


class World:
    """Trades, steps, timeline and events of one partition."""

    def __init__(self) -> None:
        self.now = START
        self.trades: dict[UUID, Trade] = {}
        self.steps: dict[tuple[UUID, int], Step] = {}
        self.proceedings: dict[str, Proceeding] = {}
        self.checkouts: dict[str, Checkout] = {}
        self.cursors: dict[str, int] = {}
        self.movements: list[PaymentMovement] = []
        self.timeline: list[TimelineEntry] = []
        self.events: list[TradeEvent] = []
        self.answers: list[Answer] = []
        self.taken: list[Step] = []
        self._requests = 0

    def run(self, command: Any, *, own: bool = False) -> Any:
        """Decides one command; a refusal changes nothing. A request of its own unless it is the service's own."""
        working = EscrowSet()
        for trade in self.trades.values():
            working.trades.load(trade.trade_id, trade)
        for key, step in self.steps.items():
            working.steps.load(key, step)
        for name, thing in self.proceedings.items():
            working.proceedings.load(name, thing)
        for name, checkout in self.checkouts.items():
            working.checkouts.load(name, checkout)
        for source, sequence in self.cursors.items():
            working.cursors.load(source, sequence)
        self._requests += 1
        request = None if own else RequestKey("partner:shop", type(command).__name__, str(self._requests))
        moment = Moment(now=self.now, ids=TimeOrderedIds(), last_number=0, request=request)
        reply = decide(command, working, moment)
        working.accept()
        self.trades.update(working.trades.created() + working.trades.updated())
        self.steps.update(working.steps.created() + working.steps.updated())
        self.proceedings.update(working.proceedings.created() + working.proceedings.updated())
        self.checkouts.update(working.checkouts.created() + working.checkouts.updated())
        self.cursors.update(working.cursors.created() + working.cursors.updated())
        self.movements += working.movements.accepted
        self.timeline += working.timeline.accepted
        self.taken += working.taken.accepted
        self.events += moment.events
        self.answers += moment.answers
        self.now += timedelta(microseconds=1)
        return reply

    def give(self, command_type: type, trade: Trade, role: Role, **fields: Any) -> Any:
        """A party's command on a trade. For a money command the trade is returned with its step pending."""
        defaults: dict[type, dict[str, Any]] = {
            commands.PayTrade: {"blocked": ""},
            commands.ShipLines: {"line_ids": (), "carrier": "SF", "tracking": "1"},
            commands.ReportDelivery: {"line_ids": ()},
            commands.ConfirmLines: {"line_ids": ()},
            commands.CancelLines: {"line_ids": (), "reason": "why"},
            commands.CancelTrade: {"reason": "why"},
            commands.ReleaseHeld: {"reason": "why"},
            commands.ExtendConfirmation: {"line_ids": (), "days": 3},
        }
        if command_type is commands.AdjustPrice:
            first, *rest = trade.lines
            total_minor = first.amount_minor + 1 + sum(line.amount_minor for line in rest) + trade.postage_minor
            defaults[commands.AdjustPrice] = {
                "lines": (LinePrice(first.line_id, Money("CNY", first.amount_minor + 1)),),
                "postage": None,
                "total": Money("CNY", total_minor),
                "reason": "why",
            }
        values = {"token": PLATFORM_TOKEN, **defaults[command_type], **fields}
        reply = self.run(command_type(actor=actor(role), name=trade.trade_id, **values))
        return self.trades[trade.trade_id] if reply is DEFERRED else reply

    def open_case(self, trade: Trade, line_id: str = "1", amount_minor: int = 1000, **fields: Any) -> RefundCase:
        """A refund case of the buyer."""
        values: dict[str, Any] = {
            "actor": actor(Role.BUYER),
            "with_return": False,
            "claims_postage": False,
            "reason_code": "OTHER",
            "reason": "why",
            "evidence": (),
            "token": PLATFORM_TOKEN,
            **fields,
        }
        amount = Money("CNY", amount_minor)
        opened: RefundCase = self.run(
            case_commands.OpenRefundCase(trade=trade.trade_id, line_id=line_id, amount=amount, **values)
        )
        return opened

    def open_dispute(self, case: RefundCase) -> Dispute:
        """A dispute over a case; rejects it first."""
        if case.state is RefundCaseState.REQUESTED:
            self.ask(case_commands.RejectRefundCase, case, Role.SELLER)
        opened: Dispute = self.ask(case_commands.OpenDispute, case, Role.BUYER)
        return opened

    def open_claim(self, trade: Trade, amount_minor: int = 1000, **fields: Any) -> Claim:
        """A claim of the buyer."""
        values: dict[str, Any] = {"actor": actor(Role.BUYER), "reason": "why", "evidence": (), "token": PLATFORM_TOKEN}
        amount = Money("CNY", amount_minor)
        opened: Claim = self.run(case_commands.OpenClaim(trade=trade.trade_id, amount=amount, **{**values, **fields}))
        return opened

    def ask(self, command_type: type, thing: Proceeding, role: Role, **fields: Any) -> Any:
        """Somebody's command on a case, dispute or claim, which is returned as it then stands."""
        defaults: dict[type, dict[str, Any]] = {
            case_commands.RejectRefundCase: {"reason": "no"},
            case_commands.SubmitReturn: {"carrier": "SF", "tracking": "1"},
            case_commands.CancelRefundCase: {"reason": "why"},
            case_commands.OpenDispute: {"reason": "why", "evidence": ()},
            case_commands.AddEvidence: {"evidence": (EVIDENCE,)},
            case_commands.MakeOffer: {"reason": "why"},
            case_commands.AcceptOffer: {"etag": ""},
            case_commands.DecideDispute: {"reason": "so be it", "etag": ""},
            case_commands.AppealDispute: {"reason": "no"},
            case_commands.DecideClaim: {"reason": "so be it"},
        }
        thing_id = UUID(thing.name.partition("/")[2])
        key = "refund_case" if command_type is case_commands.OpenDispute else "name"
        values = {"token": PLATFORM_TOKEN, "actor": actor(role), key: thing_id, **defaults.get(command_type, {})}
        reply = self.run(command_type(**{**values, **fields}))
        return self.proceedings[thing.name] if reply is DEFERRED else reply

    def fire_case(self, thing: Proceeding) -> Any:
        """The timer looks at a case or dispute."""
        self.run(case_commands.FireCaseTimer(thing.trade_id, thing.name), own=True)
        return self.proceedings[thing.name]

    def settle(self, trade: Trade, outcome: StepDone | StepRefused | None = None) -> Trade:
        """Ends the pending step; as done when nothing else is said."""
        current = self.trades[trade.trade_id]
        step = self.steps[(trade.trade_id, current.pending_step)]
        default = StepDone(f"transactions/{step.number}" if step.number > 1 else "payments/1")
        self.run(SettleStep(trade.trade_id, step.number, step.generation, outcome or default), own=True)
        return self.trades[trade.trade_id]

    def fire(self, trade: Trade) -> Trade:
        """The timer looks at the trade."""
        self.run(FireTimer(trade.trade_id), own=True)
        return self.trades[trade.trade_id]

    def paid(self, amounts: Sequence[int] = (3000, 5000), **options: Any) -> Trade:
        """A trade whose money is held."""
        trade = self.run(new_trade(amounts, **options))
        self.give(commands.PayTrade, trade, Role.BUYER)
        return self.settle(trade)

    def shipped(self, amounts: Sequence[int] = (3000, 5000), **options: Any) -> Trade:
        """A trade whose lines are all on their way."""
        shipped: Trade = self.give(commands.ShipLines, self.paid(amounts, **options), Role.SELLER)
        return shipped

    def released(self, amounts: Sequence[int] = (3000, 5000), **options: Any) -> Trade:
        """A trade whose money went to the seller."""
        trade = self.shipped(amounts, **options)
        self.give(commands.ConfirmLines, trade, Role.BUYER)
        return self.settle(trade)
