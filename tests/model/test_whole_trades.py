"""Whole trades with several lines, cases, disputes and timers: escrow's decisions and payments' books, both for real,
against a reference that reckons anew. After every step everything is compared, and the books must balance."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from danbao_escrow.clients.payments import operation_of, request_id_of
from danbao_escrow.domain import case_commands, commands
from danbao_escrow.domain.commands import LinePrice, SettleStep, StepDone, StepRefused
from danbao_escrow.domain.model import Role
from danbao_escrow.domain.reminders import next_look
from danbao_escrow.testing.reference import HOUR, STEP, Agreed, ReferenceTrade, Refused
from danbao_escrow.testing.world import BUYER, SELLER, START, World, new_trade, plain_terms
from danbao_kit.errors import DanbaoError
from danbao_kit.money import Money
from danbao_kit.validation import check
from danbao_payments.domain.account import account_id
from danbao_payments.domain.account_commands import CreateAccounts, FreezeAccount, NewAccount, UnfreezeAccount
from danbao_payments.rpc.mapping import COMMANDS
from danbao_payments.testing.pure import ESCROW, OPERATOR, PureBooks

METHODS = {"create_payment": "CreatePayment", "post_transaction": "PostTransaction"}
WEALTH = 10**12
MICROSECOND = (START - START).resolution


class Books:
    """Payments as escrow asks it: each request id decided once."""

    def __init__(self):
        self.pure = PureBooks()
        self.pure.fund(BUYER, WEALTH)
        accounts = tuple(NewAccount(SELLER, kind, "CNY") for kind in ("seller.payable", "seller.payable_held"))
        self.pure.run(CreateAccounts(accounts, caller=OPERATOR))
        self.answers = {}

    def execute(self, step):
        """What escrow's client would make of the answer."""
        known = self.answers.get(request_id_of(step))
        if known is None:
            known = self.answers[request_id_of(step)] = self._decided(operation_of(step))
        return known

    def _decided(self, operation):
        check(operation)
        kind = operation.WhichOneof("operation")
        try:
            command = COMMANDS[METHODS[kind]](getattr(operation, kind), ESCROW)
            command.check()
            reply = self.pure.run(command)
        except DanbaoError as error:
            return StepRefused(error.reason, str(error))
        name = f"payments/{reply.id}" if kind == "create_payment" else f"transactions/{reply.transaction.id}"
        return StepDone(name)

    def freeze(self, scope):
        for kind in ("seller.payable", "seller.payable_held"):
            self.pure.run(FreezeAccount(account_id(SELLER, kind, "CNY"), scope, OPERATOR))

    def unfreeze(self):
        for kind in ("seller.payable", "seller.payable_held"):
            self.pure.run(UnfreezeAccount(account_id(SELLER, kind, "CNY"), OPERATOR))

    def of(self, owner, kind):
        account = self.pure.account(owner, kind)
        return account.credits_posted - account.debits_posted


PICK = st.integers(0, 11)
# A little more or less than what something may last.
PERIODS = [
    1,
    1,
    1,
    1,
    1,
    1,
    3,
    3,
    3,
    7,
    7,
    7,
    23,
    25,
    25,
    47,
    49,
    73,
    119,
    121,
    167,
    169,
    169,
    239,
    241,
    335,
    337,
    24 * 21,
]
SELDOM = st.sampled_from([False, False, False, False, True])
LINES = st.lists(st.integers(0, 2), max_size=2, unique=True)


class WholeTrades(RuleBasedStateMachine):
    """Up to three trades between one buyer and one seller."""

    def __init__(self):
        super().__init__()
        self.world, self.books = World(), Books()
        self.at = self.world.now
        self.trades, self.cases = [], []
        self.frozen = False

    @initialize(
        amounts=st.lists(st.integers(1, 30_000), min_size=1, max_size=3),
        postage=st.sampled_from([0, 0, 7, 1000]),
        terms=st.sampled_from([(0, 0), (500, 0), (0, 24), (1000, 48)]),
        fee=st.sampled_from([("bps", 0), ("bps", 500), ("bps", 10_000), ("fixed", 1), ("cap", 50)]),
        buyer_bps=st.sampled_from([0, 0, 100, 333]),
    )
    def first_trade(self, **chosen):
        self._make(**chosen)
        self.pay(0)
        self.ship(0, [0])

    @precondition(lambda self: len(self.trades) < 3)
    @rule(
        amounts=st.lists(st.integers(1, 30_000), min_size=1, max_size=3),
        postage=st.sampled_from([0, 7, 1000]),
        terms=st.sampled_from([(0, 0), (500, 24)]),
        fee=st.sampled_from([("bps", 250), ("fixed", 1)]),
        buyer_bps=st.sampled_from([0, 333]),
        paid=st.booleans(),
    )
    def another_trade(self, paid, **chosen):
        self._make(**chosen)
        if paid:
            self.pay(len(self.trades) - 1)

    def _make(self, amounts, postage, terms, fee, buyer_bps):
        self._tick()
        reserve_bps, delay_hours = terms
        kind, amount = fee
        fees = {
            "bps": {"fee_bps": amount},
            "fixed": {"fee_bps": None, "fee_fixed_minor": amount},
            "cap": {"fee_bps": 1000, "fee_cap_minor": amount},
        }[kind]
        given = plain_terms(reserve_bps=reserve_bps, payout_delay_hours=delay_hours)
        trade = self.world.run(
            new_trade(tuple(amounts), postage_minor=postage, terms=given, buyer_fee_bps=buyer_bps, **fees)
        )
        agreed = Agreed(
            tuple(amounts),
            postage,
            bps=fees["fee_bps"] or 0,
            fixed=fees.get("fee_fixed_minor", 0),
            cap=fees.get("fee_cap_minor", 0),
            buyer_bps=buyer_bps,
            reserve_bps=reserve_bps,
            delay_hours=delay_hours,
            confirm_days=given.auto_confirm_days,
        )
        self.trades.append((trade.trade_id, ReferenceTrade(agreed)))

    # What the parties do.

    @rule(pick=PICK, line=PICK, amount=st.integers(1, 30_000), postage=st.sampled_from([0, 5]), any_trade=SELDOM)
    def adjust(self, pick, line, amount, postage, any_trade):
        trade_id, model = self._trade(pick, "PENDING_PAYMENT" if not any_trade else "")
        line %= len(model.lines)
        total = model.total - model.lines[line].amount + amount - model.postage + postage
        price = LinePrice(str(line + 1), Money("CNY", amount))
        fields = {"lines": (price,), "postage": Money("CNY", postage), "total": Money("CNY", total), "reason": ""}
        self._both(
            lambda: model.adjust(line, amount, postage),
            lambda: self._give(commands.AdjustPrice, trade_id, Role.SELLER, **fields),
        )

    @rule(pick=PICK)
    def pay(self, pick):
        trade_id, model = self._trade(pick)
        self._both(model.pay, lambda: self._give(commands.PayTrade, trade_id, Role.BUYER))
        self._execute(trade_id, model)

    @rule(pick=PICK)
    def pay_and_ship(self, pick):
        self.pay(pick)
        self.ship(pick, [])

    @rule(pick=PICK, really=SELDOM)
    def cancel_trade(self, pick, really):
        trade_id, model = self._trade(pick)
        if model.state == "PENDING_PAYMENT" and not really:
            return
        self._both(model.cancel, lambda: self._give(commands.CancelTrade, trade_id, Role.BUYER))

    @rule(pick=PICK, lines=LINES)
    def ship(self, pick, lines):
        self._on_lines(pick, lines, commands.ShipLines, Role.SELLER, lambda model, chosen: model.ship(chosen))

    @rule(pick=PICK, lines=LINES)
    def deliver(self, pick, lines):
        self._on_lines(pick, lines, commands.ReportDelivery, Role.CARRIER, lambda model, chosen: model.deliver(chosen))

    @rule(pick=PICK, lines=LINES, days=st.sampled_from([3, 5, 7, 10]))
    def extend(self, pick, lines, days):
        self._on_lines(
            pick,
            lines,
            commands.ExtendConfirmation,
            Role.BUYER,
            lambda model, chosen: model.extend(chosen, days),
            days=days,
        )

    @rule(pick=PICK, lines=LINES)
    def confirm(self, pick, lines):
        self._on_lines(pick, lines, commands.ConfirmLines, Role.BUYER, lambda model, chosen: model.confirm(chosen))

    @rule(pick=PICK, lines=LINES, by_buyer=st.booleans())
    def cancel_lines(self, pick, lines, by_buyer):
        self._on_lines(
            pick,
            lines,
            commands.CancelLines,
            Role.BUYER if by_buyer else Role.SELLER,
            lambda model, chosen: model.cancel_lines(chosen, by_buyer=by_buyer),
        )

    @rule(pick=PICK)
    def release_held(self, pick):
        trade_id, model = self._trade(pick)
        self._both(model.release_held, lambda: self._give(commands.ReleaseHeld, trade_id, Role.OPERATOR))

    @rule(
        pick=PICK,
        part=st.integers(1, 110) | st.just(100),
        with_return=st.booleans(),
        claims=st.booleans(),
        any_line=SELDOM,
    )
    def open_case(self, pick, part, with_return, claims, any_line):
        lines = [(found, n) for found in self.trades for n, line in enumerate(found[1].lines)]
        held = [(found, n) for found, n in lines if found[1].lines[n].state in ("PAID", "SHIPPED")]
        chosen = lines if any_line or not held else held
        (trade_id, model), line = chosen[pick % len(chosen)]
        amount = max(1, model.lines[line].rest * part // 100)
        opened = []

        def world():
            trade = self.world.trades[trade_id]
            fields = {"with_return": with_return, "claims_postage": claims}
            opened.append(self.world.open_case(trade, str(line + 1), amount, **fields).name)

        made = self._both(lambda: model.open_case(line, amount, with_return=with_return, claims_postage=claims), world)
        if opened:
            self.cases.append((trade_id, model, made, opened[0]))

    @precondition(lambda self: self.cases)
    @rule(pick=PICK, what=st.sampled_from(["accept", "reject", "submit_return", "confirm_return", "withdraw"]))
    def on_case(self, pick, what):
        _, model, case, name = self._case(pick)
        command, role = {
            "accept": (case_commands.AcceptRefundCase, Role.SELLER),
            "reject": (case_commands.RejectRefundCase, Role.SELLER),
            "submit_return": (case_commands.SubmitReturn, Role.BUYER),
            "confirm_return": (case_commands.ConfirmReturn, Role.SELLER),
            "withdraw": (case_commands.CancelRefundCase, Role.BUYER),
        }[what]
        self._both(lambda: getattr(model, what)(case), lambda: self._ask(command, name, role))

    @precondition(lambda self: self.cases)
    @rule(pick=PICK)
    def dispute(self, pick):
        fitting = [found for found in self.cases if not found[2].dispute and not found[2].over] or self.cases
        _, model, case, name = fitting[pick % len(fitting)]
        if case.state == "REQUESTED":
            self._both(lambda: model.reject(case), lambda: self._ask(case_commands.RejectRefundCase, name, Role.SELLER))
        self._both(lambda: model.open_dispute(case), lambda: self._ask(case_commands.OpenDispute, name, Role.BUYER))

    @precondition(lambda self: any(line.rest for _, model in self.trades for line in model.lines))
    @rule(pick=PICK, part=st.just(100) | st.integers(1, 100), claims=st.booleans())
    def open_case_and_dispute(self, pick, part, claims):
        before = len(self.cases)
        self.open_case(pick, part, False, claims, False)
        if len(self.cases) > before:
            self.dispute(0)

    @precondition(lambda self: any(case.dispute for _, _, case, _ in self.cases))
    @rule(
        pick=PICK,
        what=st.sampled_from(["offer", "offer", "accept_offer", "accept_offer", "decide", "decide", "appeal"]),
        role=st.sampled_from([Role.BUYER, Role.SELLER]),
        share=st.integers(0, 100),
        wrong=st.sampled_from([0, 0, 0, 1]),
    )
    def on_dispute(self, pick, what, role, share, wrong):
        disputed = [found for found in self.cases if found[2].dispute]
        disputed = [found for found in disputed if not found[2].over] or disputed
        _, model, case, case_name = disputed[pick % len(disputed)]
        name = self.world.proceedings[case_name].dispute
        buyer = case.frozen * share // 100
        seller = case.frozen - buyer + wrong
        parts = {"buyer_minor": buyer, "seller_minor": seller}
        if what == "offer":
            self._both(
                lambda: model.offer(case, role, buyer, seller),
                lambda: self._ask(case_commands.MakeOffer, name, role, **parts),
            )
        elif what == "accept_offer":
            self._both(lambda: model.accept_offer(case, role), lambda: self._ask(case_commands.AcceptOffer, name, role))
        elif what == "decide":
            self._both(
                lambda: model.decide(case, buyer, seller),
                lambda: self._ask(case_commands.DecideDispute, name, Role.ARBITER, **parts),
            )
        else:
            self._both(lambda: model.appeal(case), lambda: self._ask(case_commands.AppealDispute, name, role))

    @precondition(lambda self: any(case.dispute and not case.over for _, _, case, _ in self.cases))
    @rule(pick=PICK, role=st.sampled_from([Role.BUYER, Role.SELLER]), share=st.integers(0, 100))
    def agree(self, pick, role, share):
        self.on_dispute(pick, "offer", role, share, 0)
        self.on_dispute(pick, "accept_offer", Role.SELLER if role is Role.BUYER else Role.BUYER, share, 0)

    @precondition(lambda self: any(case.dispute and not case.over for _, _, case, _ in self.cases))
    @rule(pick=PICK, role=st.sampled_from([Role.BUYER, Role.SELLER]), share=st.integers(0, 100))
    def decide_and_appeal(self, pick, role, share):
        self.on_dispute(pick, "decide", role, share, 0)
        self.on_dispute(pick, "appeal", role, share, 0)

    @precondition(lambda self: any(case.left for _, _, case, _ in self.cases))
    @rule(pick=PICK, early=st.sampled_from([0, 0, 1]), share=st.integers(0, 100), decides=st.booleans())
    def wait_for_a_case(self, pick, early, share, decides):
        """Until exactly when time acts on it, or a microsecond earlier; decided before, if it can be."""
        if decides and any(case.dispute in ("OPEN", "OFFERED") for _, _, case, _ in self.cases):
            self.on_dispute(pick, "decide", Role.BUYER, share, 0)
        self._tick()
        waiting = [case.left for _, _, case, _ in self.cases if case.left is not None and case.left > early]
        if waiting:
            self.world.now += (min(waiting) - early) * MICROSECOND
        self._drain()

    # What payments does.

    @precondition(lambda self: any(model.pending for _, model in self.trades))
    @rule(pick=PICK, twice=st.booleans())
    def execute(self, pick, twice):
        pending = [(trade_id, model) for trade_id, model in self.trades if model.pending]
        self._execute(*pending[pick % len(pending)], twice=twice)

    @precondition(lambda self: not self.frozen)
    @rule(scope=st.sampled_from(["ALL", "ALL", "DEBITS"]))
    def freeze_the_seller(self, scope):
        self.books.freeze(scope)
        self.frozen = True

    @precondition(lambda self: self.frozen)
    @rule()
    def unfreeze_the_seller(self):
        self.books.unfreeze()
        self.frozen = False

    # Time.

    @rule(hours=st.sampled_from(PERIODS))
    def time_passes(self, hours):
        self.world.now += hours * HOUR * MICROSECOND
        self._drain()

    @rule(hours=st.sampled_from(PERIODS))
    def time_passes_and_no_timer_looks(self, hours):
        self.world.now += hours * HOUR * MICROSECOND

    @rule(pick=PICK, early=st.sampled_from([0, 0, 1]), looks=st.booleans())
    def to_the_moment(self, pick, early, looks):
        """Exactly when the reference says that something has passed, or a microsecond earlier."""
        self._tick()
        waiting = [case.left for _, _, case, _ in self.cases]
        waiting = [left for left in waiting if left is not None and left > early]
        for _, model in self.trades if pick % 2 or not waiting else ():
            waiting += [part.left for part in model.held if part.left > early]
            if model.state == "PENDING_PAYMENT":
                waiting.append(model.pay_left)
            for line in model.lines:
                waiting += [] if line.stands_still else [line.left, line.left + 7 * 24 * HOUR]
        waiting = [left for left in waiting if left > early]
        if waiting:
            self.world.now += (waiting[pick % len(waiting)] - early) * MICROSECOND
        if looks:
            self._drain()

    def _drain(self):
        """As the timers do: until nothing is due. Steps are executed as they come."""
        for _ in range(60):
            before, began = (dict(self.world.trades), dict(self.world.proceedings)), self.world.now
            for trade_id, model in self.trades:
                self._tick()
                model.fire()
                self.world.fire(self.world.trades[trade_id])
                self._execute(trade_id, model)
            for trade_id, model, case, name in self.cases:
                self._tick()
                thing = self.world.proceedings[name]
                model.fire_case(case)
                self.world.fire_case(self.world.proceedings[thing.dispute or name])
                self._execute(trade_id, model)
            self.compare()
            if (self.world.trades, self.world.proceedings) == before:
                break
        else:
            raise AssertionError("time never comes to rest")
        for trade in self.world.trades.values():
            assert next_look(trade) is None or next_look(trade) > began, "nothing stays due"

    # How both are asked.

    def _trade(self, pick, state=""):
        """Rather one in that state."""
        fitting = [found for found in self.trades if found[1].state == state] or self.trades
        return fitting[pick % len(fitting)]

    def _case(self, pick):
        going_on = [found for found in self.cases if not found[2].over] if pick < 9 else []
        fitting = going_on or self.cases
        return fitting[pick % len(fitting)]

    def _tick(self):
        elapsed = (self.world.now - self.at) // MICROSECOND
        for _, model in self.trades:
            model.tick(elapsed)
        self.at = self.world.now

    def _on_lines(self, pick, lines, command, role, on_model, **fields):
        trade_id, model = self._trade(pick)
        chosen = sorted({number % len(model.lines) for number in lines})
        fields["line_ids"] = tuple(str(number + 1) for number in chosen)
        self._both(lambda: on_model(model, chosen), lambda: self._give(command, trade_id, role, **fields))

    def _give(self, command, trade_id, role, **fields):
        self.world.give(command, self.world.trades[trade_id], role, **fields)

    def _ask(self, command, name, role, **fields):
        self.world.ask(command, self.world.proceedings[name], role, **fields)

    def _both(self, on_model, on_world):
        """Asks both; they refuse for the same reason, and then nothing has changed, or both accept."""
        self._tick()
        made = expected = actual = None
        try:
            made = on_model()
        except Refused as refused:
            expected = refused.reason
        answered = len(self.world.answers)
        try:
            on_world()
        except DanbaoError as error:
            actual = error.reason
        else:
            if len(self.world.answers) > answered:  # pay-by was over: the trade ends and the command is refused
                actual = self.world.answers[-1].error.reason
        assert actual == expected, f"escrow says {actual}, the reference {expected}"
        return made

    def _execute(self, trade_id, model, *, twice=False):
        if model.pending is None:
            return
        self._tick()
        trade = self.world.trades[trade_id]
        step = self.world.steps[trade_id, trade.pending_step]
        outcome = self.books.execute(step)
        assert self.books.execute(step) == outcome, "the same id, the same answer"
        self.world.settle(trade, outcome)
        if isinstance(outcome, StepDone):
            model.settle()
        else:
            assert self.frozen, f"payments refuses {outcome.reason} though nothing is frozen"
            model.refuse()
        if twice:
            before = (dict(self.world.trades), dict(self.world.steps), len(self.world.events))
            self.world.run(SettleStep(trade_id, step.number, step.generation, outcome), own=True)
            assert before == (self.world.trades, self.world.steps, len(self.world.events)), "a second answer"

    # What must hold.

    @invariant()
    def compare(self):
        """Escrow, the reference and payments' books tell the same."""
        for trade_id, model in self.trades:
            trade = self.world.trades[trade_id]
            assert trade.state == model.state
            assert (trade.total_minor, trade.buyer_fee_minor) == (model.total, model.buyers_fee)
            assert (trade.funded_minor, trade.released_minor, trade.refunded_minor) == (
                model.funded, model.released, model.refunded,
            )  # fmt: skip
            assert (trade.fees_minor, trade.held_back_minor) == (model.fees, model.kept_back)
            assert trade.is_pending == (model.pending is not None)
            assert trade.step_blocked == bool(model.pending and model.pending.blocked)
            assert self.books.of(trade.name, "escrow.trade") == model.in_escrow >= 0
            if model.state in ("COMPLETED", "CLOSED", "CANCELLED"):
                assert model.in_escrow == 0
            for line, known in zip(trade.lines, model.lines, strict=True):
                assert (line.state, line.amount_minor) == (known.state, known.amount)
                assert (line.released_minor, line.refunded_minor, line.postage_minor) == (
                    known.out, known.back, known.postage,
                )  # fmt: skip
                assert bool(line.open_case) == known.stands_still
                if line.state == "SHIPPED" and not known.stands_still:
                    assert (line.deadline_time - self.at) // MICROSECOND == known.left
            assert trade.open_cases == sum(known.stands_still for known in model.lines)
        for _, _, case, name in self.cases:
            thing = self.world.proceedings[name]
            assert (thing.state, thing.is_over) == (case.state, case.over)
            if case.dispute:
                dispute = self.world.proceedings[thing.dispute]
                assert (dispute.state, dispute.is_over) == (case.dispute, case.over)
                assert dispute.step_pending == case.paying
            else:
                assert thing.step_pending == case.paying
        self._check_books()

    def _check_books(self):
        models = [model for _, model in self.trades]
        paid = sum(model.funded - model.refunded for model in models)
        assert self.books.of(BUYER, "user.available") == WEALTH - paid
        assert self.books.of(SELLER, "seller.payable_held") == sum(model.kept_back for model in models)
        kept = self.books.of(SELLER, "seller.payable") + self.books.of(SELLER, "seller.payable_held")
        assert kept == sum(model.sellers for model in models)
        assert self.books.of("platform", "fee.escrow") == sum(model.fees for model in models)
        self.books.pure.check()

    def teardown(self):
        """Whatever happened, time and an arbiter end every trade, and nothing is left in between."""
        if self.frozen:
            self.unfreeze_the_seller()
        for _ in range(12):
            for trade_id, model in self.trades:
                self._execute(trade_id, model)
            for _, model, case, name in self.cases:
                if case.dispute in ("OPEN", "OFFERED", "APPEALED") and not model.pending:
                    self._tick()
                    dispute = self.world.proceedings[name].dispute
                    parts = {"buyer_minor": case.frozen, "seller_minor": 0}
                    self._both(
                        lambda model=model, case=case: model.decide(case, case.frozen, 0),
                        lambda dispute=dispute, parts=parts: self._ask(
                            case_commands.DecideDispute, dispute, Role.ARBITER, **parts
                        ),
                    )
            self.time_passes(24 * 21)
        for trade_id, model in self.trades:
            trade = self.world.trades[trade_id]
            assert model.state in ("COMPLETED", "CLOSED", "CANCELLED")
            assert (model.in_escrow, model.kept_back, next_look(trade)) == (0, 0, None)
            assert model.fee_out + model.fee_back == (model.buyers_fee if model.funded else 0)


@pytest.mark.timeout(170)
def test_whole_trades_are_what_the_reference_says():
    run_state_machine_as_test(
        WholeTrades,
        settings=settings(
            max_examples=250,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_reference_refuses_what_it_must():
    """It is no mirror: it knows by itself what a pending step forbids."""
    model = ReferenceTrade(Agreed((10,)))
    model.pay()
    with pytest.raises(Refused) as refused:
        model.cancel()
    assert refused.value.reason == STEP
    model.settle()
    assert (model.state, model.in_escrow) == ("AWAITING_SHIPMENT", 10)
