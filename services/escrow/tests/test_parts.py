"""Lines that settle in parts: every number of the design, whoever pays the fee, and no unit lost whatever the order."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danbao_escrow.application import steps
from danbao_escrow.application.create import check_new_trade
from danbao_escrow.domain import money_legs
from danbao_escrow.domain.commands import StepDone
from danbao_escrow.domain.deadlines import auto_confirm_time, paused, resumed, ship_by_time
from danbao_escrow.domain.errors import AmountMismatch, FeeNotAllowed
from danbao_escrow.domain.fees import AskedFees, Fee, Settled, fees_of, split_buyer_fee
from danbao_escrow.domain.model import Actor, FeePayer, LineState, Role
from danbao_escrow.domain.step_model import Cause, Movement, Step, StepKind, StepState
from danbao_escrow.domain.trade import derived_state
from danbao_escrow.testing.world import BUYER, SELLER, World, new_trade, user_token
from danbao_kit.decision import Moment
from danbao_kit.errors import FieldInvalid
from danbao_kit.time_ordered_ids import TimeOrderedIds

ESCROW, WALLET, FEE, PAYABLE = "escrow.trade", "user.available", "fee.escrow", "seller.payable"
CAUSE = Cause("DecideDispute", Actor("subjects/arbiter", Role.ARBITER), "subjects/arbiter", "", "", "")


class Books:
    """A trade, and the accounts as its movements leave them."""

    def __init__(self, amounts, *, shipped=True, **options):
        self.world = World()
        make = self.world.shipped if shipped else self.world.paid
        self.trade = make(tuple(amounts), **options)
        self.balances = {(self.trade.name, ESCROW): self.trade.funded_minor, (BUYER, WALLET): -self.trade.funded_minor}

    def move(self, movement, kind=StepKind.SETTLE):
        """Executes a movement as a step would."""
        for leg in movement.legs:
            debit, credit = (leg.debit_owner, leg.debit_kind), (leg.credit_owner, leg.credit_kind)
            self.balances[debit] = self.balances.get(debit, 0) - leg.amount_minor
            self.balances[credit] = self.balances.get(credit, 0) + leg.amount_minor
        line_ids = tuple(part.line_id for part in movement.parts)
        step = Step(self.trade.trade_id, 2, 0, kind, StepState.PENDING, line_ids, movement, CAUSE, None)
        moment = Moment(now=self.world.now, ids=TimeOrderedIds(), last_number=0)
        self.trade = steps.applied(self.trade, step, StepDone("transactions/1"), moment)
        self.check()
        return self

    def refund(self, line_id, amount, *, claims_postage=False):
        line = self.trade.line(line_id)
        return self.move(money_legs.refund_part(self.trade, line, amount, claims_postage=claims_postage))

    def divide(self, line_id, buyer, seller, *, claims_postage=False):
        line = self.trade.line(line_id)
        legs = money_legs.settlement(
            self.trade, line, buyer_minor=buyer, seller_minor=seller, claims_postage=claims_postage
        )
        return self.move(legs)

    def release(self, *line_ids):
        lines = [line for line in self.trade.lines if line.line_id in line_ids]
        return self.move(money_legs.release(self.trade, lines), StepKind.RELEASE)

    def cancel(self, *line_ids):
        lines = [line for line in self.trade.lines if line.line_id in line_ids]
        return self.move(money_legs.refund(self.trade, lines), StepKind.REFUND)

    @property
    def buyer(self):
        """What came back, minor units."""
        return self.balances[BUYER, WALLET] + self.trade.funded_minor

    @property
    def seller(self):
        return self.balances.get((SELLER, PAYABLE), 0)

    @property
    def fees(self):
        return self.balances.get(("platform", FEE), 0)

    @property
    def escrow(self):
        return self.balances[self.trade.name, ESCROW]

    def check(self):
        """What holds after every movement."""
        trade = self.trade
        assert all(amount >= 0 for (owner, _), amount in self.balances.items() if owner != BUYER)
        assert self.escrow == trade.funded_minor - trade.released_minor - trade.refunded_minor
        assert (self.buyer, self.fees) == (trade.refunded_minor, trade.fees_minor)
        assert self.seller == trade.released_minor - trade.fees_minor
        assert sum(line.released_minor for line in trade.lines) == trade.released_of_total_minor
        assert sum(line.refunded_minor for line in trade.lines) == trade.refunded_of_total_minor
        for line in trade.lines:
            is_open = line.state in (LineState.PAID, LineState.SHIPPED)
            assert (line.unsettled_minor > 0) == is_open
            assert (line.settle_time is None) == is_open
            if not is_open:
                went_back = line.refunded_minor >= line.amount_minor
                assert line.state is (LineState.REFUNDED if went_back else LineState.RELEASED)
        if derived_state(trade.lines) in ("COMPLETED", "CLOSED"):
            assert self.escrow == 0
            assert trade.buyer_fee_released_minor + trade.buyer_fee_refunded_minor == trade.buyer_fee_minor
            assert trade.postage_left_minor == 0


def test_twenty_with_a_fixed_fee_of_four():
    books = Books([2000], fee_bps=None, fee_fixed_minor=400).release("1")
    assert (books.seller, books.fees, books.escrow) == (1600, 400, 0)


def test_two_lines_and_postage_at_five_percent():
    books = Books([3000, 5000], postage_minor=1000, fee_bps=500).release("1")
    assert (books.seller, books.fees, books.escrow) == (2850, 150, 6000)
    books.release("2")
    assert (books.seller, books.fees, books.escrow) == (8550, 450, 0)


def test_a_dispute_over_ten_thousand_decided_3500_to_6500():
    books = Books([10_000], fee_bps=600).divide("1", 3500, 6500)
    assert (books.buyer, books.seller, books.fees, books.escrow) == (3500, 6110, 390, 0)
    assert books.trade.lines[0].state is LineState.RELEASED


def test_a_buyers_fee_goes_with_its_part_either_way():
    books = Books([20_000], fee_bps=300, buyer_fee_bps=100)
    assert books.trade.funded_minor == 20_200
    books.refund("1", 10_000)
    assert (books.buyer, books.escrow) == (10_100, 10_100)
    books.release("1")
    assert (books.seller, books.fees, books.escrow) == (9700, 400, 0)
    assert (books.trade.seller_fees_minor, books.trade.buyer_fee_released_minor) == (300, 100)


def test_a_cap_bounds_all_releases_together():
    books = Books([6000, 6000], fee_bps=500, fee_cap_minor=400).release("1")
    assert books.fees == 300
    books.release("2")
    assert (books.fees, books.seller) == (400, 11_600)


def test_a_fixed_fee_is_taken_for_what_is_released_only():
    books = Books([5000, 5000], fee_bps=None, fee_fixed_minor=333).refund("1", 5000).release("2")
    assert (books.fees, books.seller, books.buyer) == (167, 4833, 5000)


@pytest.mark.parametrize(
    ("asked", "buyer_pays", "fees", "seller"),
    [
        ({"fee_bps": 500}, 0, 500, 9500),
        ({"fee_bps": 500, "fee_payer": FeePayer.SELLER}, 0, 500, 9500),
        ({"fee_bps": 500, "fee_payer": FeePayer.BUYER}, 500, 500, 10_000),
        ({"fee_bps": 501, "fee_payer": FeePayer.SPLIT}, 250, 501, 9749),
        ({"fee_bps": 500, "fee_cap_minor": 101, "fee_payer": FeePayer.SPLIT}, 50, 101, 9949),
        ({"fee_bps": 500, "fee_cap_minor": 1, "fee_payer": FeePayer.SPLIT}, 0, 1, 9999),
        ({"fee_bps": 500, "fee_cap_minor": 101, "fee_payer": FeePayer.BUYER}, 101, 101, 10_000),
        ({"fee_bps": None, "fee_fixed_minor": 7, "fee_payer": FeePayer.SPLIT}, 3, 7, 9996),
        ({"fee_bps": None, "fee_fixed_minor": 7, "fee_payer": FeePayer.BUYER}, 7, 7, 10_000),
        ({"fee_bps": None, "fee_fixed_minor": 0}, 0, 0, 10_000),
        ({"fee_bps": None, "fee_payer": FeePayer.BUYER}, 100, 100, 10_000),
        ({"fee_bps": None}, 0, 100, 9900),
        ({"fee_bps": 500, "buyer_fee_fixed_minor": 30}, 30, 530, 9500),
        ({"fee_bps": 0, "buyer_fee_bps": 200}, 200, 200, 10_000),
    ],
)
def test_who_pays_the_fee(asked, buyer_pays, fees, seller):
    books = Books([10_000], **asked)
    assert books.trade.buyer_fee_minor == buyer_pays
    assert books.trade.funded_minor == 10_000 + buyer_pays
    books.release("1")
    assert (books.fees, books.seller, books.escrow) == (fees, seller, 0)
    back = Books([10_000], **asked).cancel("1")
    assert (back.buyer, back.fees, back.escrow) == (10_000 + buyer_pays, 0, 0), "all of it comes back"


@pytest.mark.parametrize(
    ("fields", "invalid"),
    [
        ({"fee_bps": 100, "fee_fixed_minor": 1}, ["fee_fixed_minor"]),
        ({"fee_bps": None, "fee_fixed_minor": 1, "fee_cap_minor": 1}, ["fee_cap_minor"]),
        ({"buyer_fee_bps": 1, "buyer_fee_fixed_minor": 1}, ["buyer_fee_fixed_minor"]),
        ({"buyer_fee_bps": 1, "fee_payer": FeePayer.BUYER}, ["buyer_fee_bps"]),
        ({"buyer_fee_fixed_minor": 1, "fee_payer": FeePayer.SPLIT}, ["buyer_fee_fixed_minor"]),
        ({"fee_bps": None, "fee_fixed_minor": 8001}, ["fee_fixed_minor"]),
        ({"buyer_fee_fixed_minor": 8001}, ["buyer_fee_fixed_minor"]),
    ],
)
def test_contradictory_fees_are_refused(fields, invalid):
    with pytest.raises(FieldInvalid) as refused:
        check_new_trade(new_trade(**fields))
    assert [violation.field for violation in refused.value.fields] == invalid


def test_the_buyers_fee_must_fit_beside_the_total():
    half = 2**62
    check_new_trade(new_trade((half,)))
    with pytest.raises(AmountMismatch):
        check_new_trade(new_trade((half,), buyer_fee_bps=1))


@pytest.mark.parametrize(
    "field", ["fee_bps", "fee_fixed_minor", "fee_cap_minor", "fee_payer", "buyer_fee_bps", "buyer_fee_fixed_minor"]
)
def test_the_parties_do_not_choose_fees(field):
    world = World()
    value = FeePayer.BUYER if field == "fee_payer" else 0
    with pytest.raises(FeeNotAllowed) as refused:
        world.run(new_trade(token=user_token(SELLER), **{"fee_bps": None, field: value}))
    assert refused.value.metadata["field"] == field


def test_postage_goes_with_the_last_open_line_even_in_parts():
    books = Books([3000, 5000], postage_minor=1000, fee_bps=0)
    books.refund("1", 1000).refund("2", 5000)
    assert (books.buyer, books.seller) == (6000, 0), "line 1 is still open, so the postage stays"
    books.refund("1", 1999)
    assert books.escrow == 1001
    books.refund("1", 1)
    assert (books.buyer, books.seller, books.escrow) == (8000, 1000, 0), "something was shipped: it is the seller's"
    assert [line.state for line in books.trade.lines] == [LineState.REFUNDED, LineState.REFUNDED]
    assert derived_state(books.trade.lines) == "COMPLETED"


def test_postage_of_what_was_never_shipped_goes_back_with_the_last_part():
    books = Books([3000], shipped=False, postage_minor=1000, fee_bps=0, buyer_fee_bps=100)
    books.refund("1", 1000).cancel("1")
    assert (books.buyer, books.escrow) == (4040, 0)
    assert derived_state(books.trade.lines) == "CLOSED"


def test_a_case_on_the_last_open_line_may_claim_the_postage():
    books = Books([3000, 5000], postage_minor=1000, fee_bps=0)
    books.refund("1", 1000, claims_postage=True)
    assert books.buyer == 1000, "line 2 is open too: there is nothing to claim"
    books.release("1").refund("2", 100, claims_postage=True)
    assert (books.buyer, books.seller, books.escrow) == (2100, 2000, 4900)
    books.release("2")
    assert (books.seller, books.escrow) == (6900, 0)
    divided = Books([5000], postage_minor=1000, fee_bps=1000).divide("1", 5500, 500, claims_postage=True)
    assert (divided.buyer, divided.seller, divided.fees, divided.escrow) == (5500, 450, 50, 0)


def test_a_decision_gives_the_buyers_part_first():
    """Half a unit of the buyer's fee: rounded up to the buyer, so that none is left for the platform."""
    split = split_buyer_fee(1, Settled(2, 0, 0), refunded_minor=1, released_minor=1)
    assert (split.refunded_minor, split.released_minor) == (1, 0)
    books = Books([2], fee_bps=0, buyer_fee_fixed_minor=1).divide("1", 1, 1)
    assert (books.buyer, books.seller, books.fees) == (2, 1, 0)


def test_a_part_settles_and_the_rest_of_the_line_goes_on():
    books = Books([3000, 5000], fee_bps=0)
    deadline = books.trade.lines[0].deadline_time
    books.divide("1", 700, 300)
    line = books.trade.lines[0]
    assert (line.state, line.unsettled_minor, line.deadline_time) == (LineState.SHIPPED, 2000, deadline)
    books.release("1")
    assert (books.buyer, books.seller) == (700, 2300)


@pytest.mark.parametrize(
    "wrong",
    [
        {"buyer_minor": 3001, "seller_minor": 0},
        {"buyer_minor": 1500, "seller_minor": 1501},
        {"buyer_minor": -1, "seller_minor": 2},
        {"buyer_minor": 0, "seller_minor": 0},
    ],
)
def test_no_line_gives_more_than_it_has(wrong):
    books = Books([3000, 5000])
    with pytest.raises(AssertionError):
        money_legs.settlement(books.trade, books.trade.lines[0], **wrong)


def test_a_step_set_before_lines_settled_in_parts_still_ends():
    for shipped, kind, postage in ((True, StepKind.RELEASE, 1000), (False, StepKind.REFUND, 1000)):
        books = Books([3000, 5000], shipped=shipped, postage_minor=postage, fee_bps=0)
        new = (money_legs.release if shipped else money_legs.refund)(books.trade, books.trade.lines)
        old = Movement(new.legs, new.released_minor, new.fee_minor, refunded_minor=new.refunded_minor)
        step = Step(books.trade.trade_id, 2, 0, kind, StepState.PENDING, ("1", "2"), old, CAUSE, None)
        assert money_legs.parts_of(books.trade, step) == new.parts


def test_time_stands_still_for_a_line_under_a_case():
    world = World()
    trade = world.shipped((3000,))
    line = trade.lines[0]
    held = paused(line, "refundCases/1", world.now + timedelta(days=3))
    going_on = resumed(held, trade.terms, world.now + timedelta(days=8))
    assert going_on.deadline_time == line.deadline_time + timedelta(days=5)
    again = resumed(paused(going_on, "refundCases/2", world.now), trade.terms, world.now + timedelta(hours=1))
    assert again.deadline_time == line.deadline_time + timedelta(days=5, hours=1)
    assert auto_confirm_time(again, trade.terms) == again.deadline_time
    unshipped = world.paid((3000,))
    waiting = resumed(
        paused(unshipped.lines[0], "refundCases/3", world.now), trade.terms, world.now + timedelta(days=2)
    )
    assert ship_by_time(unshipped, waiting) == unshipped.ship_by_time + timedelta(days=2)


@settings(max_examples=300, deadline=None)
@given(
    amounts=st.lists(st.integers(1, 10**6), min_size=1, max_size=4),
    postage=st.integers(0, 10**4),
    asked=st.fixed_dictionaries(
        {},
        optional={
            "bps": st.integers(0, 10_000),
            "cap_minor": st.integers(1, 10**5),
            "payer": st.sampled_from(FeePayer),
        },
    ),
    fixed=st.none() | st.integers(0, 100),
    buyers=st.none() | st.tuples(st.sampled_from(["buyer_fee_bps", "buyer_fee_fixed_minor"]), st.integers(0, 100)),
    shipped=st.booleans(),
    moves=st.lists(
        st.tuples(
            st.sampled_from(["release", "cancel", "refund", "divide"]),
            st.integers(0, 3),
            st.integers(0, 100),
            st.integers(0, 100),
            st.booleans(),
        ),
        max_size=12,
    ),
)
def test_whatever_is_settled_in_whatever_parts_the_books_end_at_the_formulas(
    amounts, postage, asked, fixed, buyers, shipped, moves
):
    total = sum(amounts) + postage
    options = {"fee_bps": asked.get("bps"), "fee_cap_minor": asked.get("cap_minor"), "fee_payer": asked.get("payer")}
    if fixed is not None:
        options |= {"fee_bps": None, "fee_cap_minor": None, "fee_fixed_minor": min(fixed, total)}
    if buyers is not None and asked.get("payer") in (None, FeePayer.SELLER):
        options[buyers[0]] = min(buyers[1], total)
    books = Books(amounts, shipped=shipped, postage_minor=postage, **options)
    for kind, index, cut, part, claims in moves:
        line = books.trade.lines[index % len(amounts)]
        if line.state not in (LineState.PAID, LineState.SHIPPED):
            continue
        if kind in ("release", "cancel"):
            getattr(books, kind)(line.line_id)
            continue
        amount = max(1, line.unsettled_minor * cut // 100)
        frozen = money_legs.frozen_minor(books.trade, line, amount, claims_postage=claims)
        buyer = frozen if kind == "refund" else frozen * part // 100
        books.divide(line.line_id, buyer, frozen - buyer, claims_postage=claims)
    for line in books.trade.lines:
        if line.state in (LineState.PAID, LineState.SHIPPED):
            books.release(line.line_id)
    trade = books.trade
    assert books.escrow == 0
    seller_fee, buyer_fee = fees_of(
        AskedFees(
            options.get("fee_bps"),
            options.get("fee_fixed_minor"),
            options.get("fee_cap_minor"),
            options.get("fee_payer"),
            options.get("buyer_fee_bps"),
            options.get("buyer_fee_fixed_minor"),
        ),
        standard_bps=100,
    )
    assert trade.seller_fees_minor == seller_fee.on(trade.released_of_total_minor, total_minor=total)
    assert trade.buyer_fee_minor == buyer_fee.on(total, total_minor=total)
    assert trade.released_of_total_minor + trade.refunded_of_total_minor == total
    proportional = trade.buyer_fee_minor * trade.released_of_total_minor / total
    assert abs(trade.buyer_fee_released_minor - proportional) <= len(moves) + len(amounts)


def test_fees_are_whole_numbers_of_what_moved():
    assert Fee(bps=250).on(333, total_minor=999) == 8
    assert Fee(fixed_minor=400).on(1, total_minor=2) == 200
    assert Fee(bps=10_000, cap_minor=5).on(4, total_minor=9) == 4
    assert Fee().on(10**15, total_minor=10**15) == 0
