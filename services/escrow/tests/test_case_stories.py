"""Whole stories of cases and disputes, at random: whatever is asked in whatever order, no unit is lost or made."""

from dataclasses import fields
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from danbao_escrow.domain import case_commands as c
from danbao_escrow.domain import commands, refund_case
from danbao_escrow.domain import dispute as dispute_machine
from danbao_escrow.domain.case_model import Claim, Dispute, RefundCase
from danbao_escrow.domain.commands import StepRefused
from danbao_escrow.domain.model import END_STATES, OPEN_LINE_STATES, Role
from danbao_escrow.domain.step_model import StepState
from danbao_escrow.testing.world import BUYER, SELLER, World, plain_terms
from danbao_kit.errors import DanbaoError

ESCROW, WALLET, FEE = "escrow.trade", "user.available", "fee.escrow"
PAYABLE, HELD = "seller.payable", "seller.payable_held"
LINE_MOVES = {"ship": commands.ShipLines, "confirm": commands.ConfirmLines, "cancel": commands.CancelLines}
ON_CASES = {
    "accept": (c.AcceptRefundCase, Role.SELLER),
    "reject": (c.RejectRefundCase, Role.SELLER),
    "send": (c.SubmitReturn, Role.BUYER),
    "receive": (c.ConfirmReturn, Role.SELLER),
    "withdraw": (c.CancelRefundCase, Role.BUYER),
    "dispute": (c.OpenDispute, Role.BUYER),
}
ON_DISPUTES = {
    "offer": (c.MakeOffer, Role.SELLER),
    "counter": (c.MakeOffer, Role.BUYER),
    "take": (c.AcceptOffer, Role.BUYER),
    "agree": (c.AcceptOffer, Role.SELLER),
    "decide": (c.DecideDispute, Role.ARBITER),
    "appeal": (c.AppealDispute, Role.BUYER),
}
TABLES = {RefundCase: refund_case.TABLE, Dispute: dispute_machine.TABLE}
REFUSALS = {
    "TRADE_STATE_INVALID", "LINE_UNDER_CASE", "LINE_NOT_FOUND", "LIMIT_EXCEEDED", "STEP_IN_FLIGHT",
    "DISPUTE_WINDOW_CLOSED",
}  # fmt: skip
MOVES = st.tuples(
    st.sampled_from(
        [
            *LINE_MOVES,
            *["case", "claimed postage", "next", "next", "next"] * 3,
            *ON_CASES,
            *ON_DISPUTES,
            "hours",
            "days",
            "weeks",
        ]
    ),
    st.integers(0, 2),
    st.integers(1, 1000),
)


class Story:
    """A trade with its lines and all that is asked about it."""

    def __init__(self, amounts, **options):
        self.world = World()
        terms = plain_terms(reserve_bps=300, payout_delay_hours=24, member=True, compensation_limit_minor=10**15)
        self.trade_id = self.world.paid(tuple(amounts), terms=terms, **options).trade_id
        self.told = {}
        self.refusals = []

    @property
    def trade(self):
        return self.world.trades[self.trade_id]

    def latest(self, kind):
        """The case, dispute or claim opened last."""
        found = [thing for thing in self.world.proceedings.values() if isinstance(thing, kind)]
        return found[-1] if found else None

    def move(self, name, line, share):
        before = self.snapshot()
        try:
            self.attempt(name, str(line + 1), share)
        except DanbaoError as refused:
            self.refusals.append(refused.reason)
            assert self.snapshot() == before, "a refusal changes nothing"
        self.check()
        self.settle(refused=share % 5 == 0)

    def attempt(self, name, line_id, share):
        world, trade = self.world, self.trade
        if name in LINE_MOVES:
            role = Role.BUYER if name == "confirm" else Role.SELLER
            world.give(LINE_MOVES[name], trade, role, line_ids=(line_id,))
        elif name in ("case", "claimed postage"):
            line = trade.line(line_id)
            amount = max(1, (0 if line is None else line.unsettled_minor) * share // 1000)
            world.open_case(
                trade, line_id, amount, with_return=share % 3 == 0, claims_postage=name == "claimed postage"
            )
        elif name == "next":
            self.go_on(share)
        elif name in ON_CASES and (case := self.latest(RefundCase)):
            command, role = ON_CASES[name]
            world.ask(command, case, role)
        elif name in ON_DISPUTES and (dispute := self.latest(Dispute)):
            command, role = ON_DISPUTES[name]
            buyer = dispute.frozen_minor * (share - 1) // 999
            self.on_dispute(command, dispute, role, buyer)
        elif name in ("hours", "days", "weeks"):
            self.pass_time(timedelta(**{name: 1 + share % 3}))

    def go_on(self, share):
        """Something that some case or dispute allows somebody now."""
        options = [
            (thing, command, role)
            for thing in self.world.proceedings.values()
            for (state, command, role), _ in TABLES[type(thing)].table.items()
            if state is thing.state and role is not Role.SYSTEM and not thing.is_over
        ]
        if options:
            thing, command, role = options[share % len(options)]
            if isinstance(thing, Dispute):
                self.on_dispute(getattr(c, command), thing, role, thing.frozen_minor * (share - 1) // 999)
            else:
                self.world.ask(getattr(c, command), thing, role)

    def on_dispute(self, command, dispute, role, buyer_minor):
        parts = {"buyer_minor": buyer_minor, "seller_minor": dispute.frozen_minor - buyer_minor}
        takes_parts = any(field.name == "buyer_minor" for field in fields(command))
        self.world.ask(command, dispute, role, **(parts if takes_parts else {}))

    def pass_time(self, delta):
        self.world.now += delta
        for _ in range(30):
            before = self.snapshot()
            self.world.fire(self.trade)
            self.settle()
            for thing in list(self.world.proceedings.values()):
                if not isinstance(thing, Claim):
                    self.world.fire_case(thing)
                    self.settle()
            if self.snapshot() == before:
                return
            self.check()
        raise AssertionError("something stays due for ever")

    def settle(self, *, refused=False):
        if self.trade.is_pending:
            if refused:
                blocked = self.world.settle(self.trade, StepRefused("ACCOUNT_FROZEN", "frozen"))
                assert blocked.step_blocked
                self.check()
            step = self.world.steps[(self.trade_id, self.trade.pending_step)]
            self.world.settle(self.trade)
            again = self.snapshot()
            done = commands.StepDone("transactions/again")
            self.world.run(commands.SettleStep(self.trade_id, step.number, step.generation, done), own=True)
            assert self.snapshot() == again, "an answer that comes twice counts once"
            self.check()

    def snapshot(self):
        world = self.world
        return dict(world.trades), dict(world.steps), dict(world.proceedings), len(world.timeline), len(world.events)

    def books(self):
        balances = {}
        for step in self.world.steps.values():
            if step.state is StepState.DONE:
                for leg in step.movement.legs:
                    for key, minor in (
                        ((leg.debit_owner, leg.debit_kind), -leg.amount_minor),
                        ((leg.credit_owner, leg.credit_kind), leg.amount_minor),
                    ):
                        balances[key] = balances.get(key, 0) + minor
        return balances

    def check(self):
        trade, books, world = self.trade, self.books(), self.world
        held = books.get((trade.name, ESCROW), 0)
        assert held == trade.funded_minor - trade.released_minor - trade.refunded_minor >= 0
        assert books[BUYER, WALLET] == trade.refunded_minor - trade.funded_minor
        assert books.get(("platform", FEE), 0) == trade.fees_minor
        earned = books.get((SELLER, PAYABLE), 0) + books.get((SELLER, HELD), 0)
        assert earned == trade.released_minor - trade.fees_minor
        if trade.state in END_STATES:
            assert held == 0
        cases = [thing for thing in world.proceedings.values() if isinstance(thing, RefundCase)]
        disputes = [thing for thing in world.proceedings.values() if isinstance(thing, Dispute)]
        open_on = {case.line_id: case.dispute or case.name for case in cases if not case.is_over}
        assert {line.line_id: line.open_case for line in trade.lines if line.open_case} == open_on
        assert trade.open_cases == len(open_on)
        for case in cases:
            if not case.is_over:
                line = trade.line(case.line_id)
                assert line.state in OPEN_LINE_STATES
                assert line.unsettled_minor >= case.amount_minor, "what is claimed is still there"
        assert {dispute.case_id for dispute in disputes} == {case.case_id for case in cases if case.dispute}
        for dispute in disputes:
            case = world.proceedings[dispute.refund_case]
            assert dispute.is_over == case.is_over
        for thing in (*cases, *disputes):
            assert not thing.is_over or (thing.deadline_at is None and not thing.step_pending)
        assert [entry.position for entry in world.timeline] == list(range(1, trade.timeline_length + 1))
        for event in world.events:
            if event.about is not None:
                self.told[event.about.name] = event.about.state
        # That a case is disputed is told by its dispute.
        told = {
            thing.name: "REJECTED" if thing.state == "DISPUTED" else thing.state for thing in world.proceedings.values()
        }
        assert self.told == told, "every change is told"


@settings(max_examples=250, deadline=None)
@given(
    amounts=st.lists(st.integers(1, 10**6), min_size=1, max_size=3),
    postage_minor=st.integers(0, 5000),
    fee_bps=st.integers(0, 10_000),
    buyer_fee_bps=st.integers(0, 2000),
    moves=st.lists(MOVES, min_size=5, max_size=40),
)
def test_whatever_is_asked_the_books_close(amounts, postage_minor, fee_bps, buyer_fee_bps, moves):
    story = Story(amounts, postage_minor=postage_minor, fee_bps=fee_bps, buyer_fee_bps=buyer_fee_bps)
    for name, line, share in [("ship", 0, 1), *moves]:
        story.move(name, line, share)
    assert set(story.refusals) <= REFUSALS
    for _ in range(4):  # arbiters come in the end, and time ends the rest
        while (dispute := story.latest(Dispute)) is not None and not dispute.is_over:
            parts = {"buyer_minor": 0, "seller_minor": dispute.frozen_minor}
            if dispute.state in ("OPEN", "OFFERED", "APPEALED"):
                story.world.ask(c.DecideDispute, dispute, Role.ARBITER, **parts)
                story.settle()
            story.pass_time(timedelta(days=8))
        _end_older(story)
        story.pass_time(timedelta(days=100))
    assert story.trade.state in END_STATES
    assert story.trade.open_cases == 0
    assert story.trade.held == ()
    total = story.trade.released_minor + story.trade.refunded_minor
    assert total == story.trade.funded_minor == story.trade.total_minor + story.trade.buyer_fee_minor


def _end_older(story):
    """Disputes on other lines than the last one's."""
    for thing in list(story.world.proceedings.values()):
        if isinstance(thing, Dispute) and thing.state in ("OPEN", "OFFERED", "APPEALED"):
            parts = {"buyer_minor": thing.frozen_minor, "seller_minor": 0}
            story.world.ask(c.DecideDispute, thing, Role.ARBITER, **parts)
            story.settle()
