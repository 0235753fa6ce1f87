"""The service beside a model of it: whatever is asked in whatever order, both say the same, refusals included.

The service runs on PostgreSQL and is asked over gRPC; after every step all accounts, all payments and the trial balance
are compared. Who asks what is drawn by Hypothesis from a few seeds; a failure names the seed and prints the steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from danbao.payments.v1 import account_pb2, audit_pb2, ledger_pb2, payment_pb2, rail_pb2
from danbao.testing.v1 import clock_pb2, clock_pb2_grpc
from danbao_kit.rpc_client import RemoteError
from danbao_kit.rpc_status import reason_of
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.embedded_postgres import EmbeddedPostgres
from danbao_kit.testing.service import as_caller
from danbao_payments.domain.account import account_id
from danbao_payments.testing.model import (
    DEBTS,
    FUND,
    KINDS,
    PAYABLE,
    TRADE,
    WALLET,
    WRITTEN_OFF_FROM,
    Body,
    Model,
    Refused,
    available,
)
from danbao_payments.testing.stack import OPERATOR, PARTNER, PaymentsStack, check_books, money, new_id

SEEDS, STEPS = 10, 90
NOBODY = "019a0000-0000-7000-8000-000000000000"

A, B, C, D = (f"subjects/{name}" for name in "abcd")
FEE, TAX = ("platform", "fee.payment"), ("platform", "tax.payable")
SUSPENSE, GOODWILL = ("platform", "suspense"), ("platform", "goodwill")
WALLETS = [(owner, WALLET) for owner in (A, B, C, D)]
TRADES = [("trades/1", TRADE), ("trades/2", TRADE)]
DEPOSIT = (B, "guarantee.deposit")
# Where money is taken from and put by legs: those that have some stand there more often.
GIVING = [*WALLETS[:3] * 3, (B, PAYABLE), (B, PAYABLE), *[SUSPENSE] * 3, GOODWILL, FEE, FUND, TRADES[0]]
TAKING = [*WALLETS * 2, (A, PAYABLE), (B, PAYABLE), TRADES[0], FEE, TAX, SUSPENSE, GOODWILL, FUND]
CALLERS: dict[str, dict[str, Any]] = {
    "partner": {"as_": PARTNER},
    "operator": {"as_": OPERATOR},
    "escrow": {"as_": (), "peer": "escrow"},
    f"user:{A}": {"as_": as_caller(subject="a", roles="user")},
    f"user:{B}": {"as_": as_caller(subject="b", roles="user")},
}
PAYMENT_METHODS = {"CreatePayment", "CapturePayment", "VoidPayment", "RefundPayment"}


def mostly(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any], *, once_in: int = 6) -> st.SearchStrategy[Any]:
    return st.integers(1, once_in).flatmap(lambda n: odd if n == once_in else usual)


owners = st.sampled_from([A, B, C])
minors = st.one_of(st.integers(1, 40), st.integers(1, 400), st.sampled_from([333, 500, 1000]))
currencies = mostly(st.just("CNY"), st.just("EUR"))
amounts = mostly(
    st.tuples(currencies, minors), st.tuples(st.sampled_from(["CNY", "EUR", "XYZ"]), st.integers(-1, 2000)), once_in=12
)
payers = st.sampled_from([*["partner", "operator"] * 4, "escrow", f"user:{A}", f"user:{B}"])
small = st.integers(1, 120)
moods = st.sampled_from(["", "ok", "decline"])
rails = mostly(st.just("rails/simulated"), st.just("rails/none"), once_in=12)
classes = st.sampled_from(["", "", "new"])
operators = mostly(st.just("operator"), st.just("partner"))
policies = st.sampled_from(["FIRST", "LARGEST_REMAINDER"])
purposes = st.sampled_from(["REFUND", "DISPUTE", "CHARGEBACK"])
caps = st.none() | st.integers(1, 200)
parts = st.one_of(
    st.tuples(st.just("fixed"), st.integers(1, 60), st.none()),
    st.tuples(st.just("share"), st.sampled_from([1, 250, 1000, 3333, 5000]), caps),
    st.tuples(st.just("rest"), st.just(0), caps),
)
rest = ("rest", 0, None)


@st.composite
def splits(draw: Any, payer: str, payee: tuple[str, str]) -> tuple[list[Any], str]:
    """No split, or the payee with up to three others; mostly one that comes to any amount."""
    if draw(st.booleans()):
        return [], ""
    others = st.sampled_from([FEE, TAX, *WALLETS, (B, PAYABLE), TRADES[1]]).filter(lambda key: key[0] != payer)
    places = draw(st.lists(others.filter(lambda key: key != payee), unique=True, min_size=1, max_size=3))
    terms = [(place, *draw(parts)) for place in places]
    terms.insert(draw(st.integers(0, len(terms))), (payee, *draw(mostly(st.just(rest), parts))))
    return terms, draw(policies)


@st.composite
def new_payments(draw: Any) -> tuple[str, Body]:
    who = draw(payers)
    payer = who.partition(":")[2] or draw(owners)
    payee = draw(st.sampled_from([*TRADES, *WALLETS] if who == "escrow" else [*WALLETS, (B, PAYABLE)]))
    if payee[0] == payer and draw(st.integers(1, 8)) < 8:
        payee = (D, WALLET)
    terms, policy = draw(splits(payer, payee))
    manual = draw(st.booleans()) or draw(st.booleans())
    return who, {
        "payer": payer,
        "payee": payee,
        "beneficiary": draw(st.sampled_from(["", B])),
        "amount": draw(amounts),
        "capture_mode": "MANUAL" if manual else "AUTOMATIC",
        "hold_lifetime": draw(st.sampled_from([None, 2, 10, 3600])) if manual else None,
        "description": "",
        "on_expiry": draw(st.sampled_from(["CANCEL", "CANCEL", "CAPTURE"])) if manual else "CANCEL",
        "splits": terms,
        "remainder_policy": policy,
        "limit_class": draw(classes),
    }


@st.composite
def legs(draw: Any) -> Body:
    payment = draw(mostly(st.none(), st.integers(-1, 40), once_in=3))
    sources = [(key, draw(st.none() | st.integers(1, 300))) for key in draw(several(GIVING))]
    destinations = [(key, *draw(parts)) for key in draw(several([*TAKING, None]))]
    if draw(st.booleans()):
        sources, destinations = [(sources[0][0], None)], [(destinations[0][0] or FEE, *rest)]
    else:
        destinations[-1] = (destinations[-1][0], *draw(mostly(st.just(rest), parts)))
    return {
        "sources": sources,
        "destinations": destinations,
        "amount": draw(amounts),
        "payment": payment,
        "purpose": draw(purposes) if payment is not None and draw(st.booleans()) else "",
        "policy": draw(policies),
        "plain": is_plain(sources, destinations),
    }


def several(places: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(places), min_size=1, max_size=3)


def is_plain(sources: list[Any], destinations: list[Any]) -> bool:
    """Whether the leg is one of the contract's plain ones: from one account, all of it to one other."""
    return [cap for _, cap in sources] == [None] and [to[1:] for to in destinations] == [rest] and destinations[0][0]


class Beside(RuleBasedStateMachine):
    """Asks both. `stack` and `loop` are set by the test."""

    stack: PaymentsStack
    loop: asyncio.AbstractEventLoop
    asked: dict[str, int]

    def __init__(self) -> None:
        super().__init__()
        self.history: list[str] = []
        self.differs = False
        self.idle = True
        self.sent: list[tuple[str, str, str, Body]] = []
        # What the service calls the model's payments and transactions.
        self.payment_names: dict[int, str] = {}
        self.transaction_names: dict[int, str] = {}
        self.top_up_names: dict[int, str] = {}
        self.withdrawal_names: dict[int, str] = {}

    def wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    # --- steps ----------------------------------------------------------------------------------------------------

    @initialize(alive=st.integers(0, 999), limited=st.sampled_from([None, 90, 150]))
    def begin(self, alive: int, limited: int | None) -> None:
        # Hypothesis begins with the simplest run there is, one step many times; that is over at once.
        self.idle = alive == 0
        if self.idle:
            self.model = Model()
            return
        self.wait(self.stack.forget())
        self.model = Model(self.wait(now_s(self.stack)))
        gifts = [(key, "CNY", 1000) for key in WALLETS[:3]] + [((A, WALLET), "EUR", 300), ((B, PAYABLE), "CNY", 200)]
        gifts.append((FUND, "CNY", 300))
        self.ask("operator", "PostTransaction", post(*[plain(SUSPENSE, *gift) for gift in gifts]))
        fee = ((FEE, "share", 1000, None), ((B, WALLET), *rest))
        for payer, payee, terms, mode in (
            (C, TRADES[0], (), "AUTOMATIC"),
            (A, (B, WALLET), fee, "MANUAL"),
            (A, (B, PAYABLE), (), "MANUAL"),
            (C, (B, WALLET), fee, "AUTOMATIC"),
        ):
            self.ask("escrow", "CreatePayment", simple_payment(payer, payee, 300, terms, mode))
        self.ask("escrow", "PostTransaction", post(plain(TRADES[0], DEPOSIT, "CNY", 100)))
        if limited is not None:
            self.ask("operator", "SetLimits", limits(A, None, limited * 2, None))
            self.ask("operator", "SetLimits", limits("limitClasses/new", limited, limited * 3 // 2, None))

    @rule(asked=new_payments())
    def pay(self, asked: tuple[str, Body]) -> None:
        self.ask(asked[0], "CreatePayment", asked[1])

    @rule(
        payer=st.sampled_from([A, A, B]), minors=st.lists(st.integers(1, 120), min_size=1, max_size=3), limited=classes
    )
    def pay_a_little(self, payer: str, minors: list[int], limited: str) -> None:
        for minor in minors:
            body = simple_payment(payer, (D, WALLET), minor, (), "AUTOMATIC") | {"limit_class": limited}
            self.ask("partner", "CreatePayment", body)

    @rule(who=payers, number=st.integers(0, 99), amount=st.none() | amounts)
    def capture(self, who: str, number: int, amount: Any) -> None:
        self.capture_of(who, number, amount, final=True)

    @rule(who=payers, number=st.integers(0, 99), minor=st.integers(1, 130))
    def capture_part(self, who: str, number: int, minor: int) -> None:
        self.capture_of(who, number, ("CNY", minor), final=False)

    def capture_of(self, who: str, number: int, amount: Any, *, final: bool) -> None:
        name = self.pick(number, "AUTHORIZED", "PARTIALLY_CAPTURED")
        self.ask(self.friend(who, name), "CapturePayment", {"name": name, "amount": amount, "final": final})

    @rule(who=payers, number=st.integers(0, 99))
    def void(self, who: str, number: int) -> None:
        name = self.pick(number, "AUTHORIZED", "PARTIALLY_CAPTURED")
        self.ask(self.friend(who, name), "VoidPayment", {"name": name})

    @rule(
        who=payers,
        number=st.integers(0, 99),
        amount=st.none() | amounts,
        fee_refund=st.sampled_from(["PROPORTIONAL", "NONE"]),
        purpose=purposes,
    )
    def refund(self, who: str, number: int, amount: Any, fee_refund: str, purpose: str) -> None:
        name = self.pick(number, "CAPTURED", "PARTIALLY_CAPTURED")
        body = {"name": name, "amount": amount, "description": "", "fee_refund": fee_refund, "purpose": purpose}
        self.ask(self.friend(who, name), "RefundPayment", body)

    @rule(
        who=mostly(st.just("operator"), st.sampled_from(["escrow", "partner", f"user:{A}"])),
        drawn=st.lists(legs(), min_size=1, max_size=3),
        late=st.sampled_from([None, None, None, 5, 86_400]),
    )
    def post(self, who: str, drawn: list[Body], late: int | None) -> None:
        self.ask(who, "PostTransaction", self.posting(drawn, late))

    @rule(number=st.integers(0, 99), minors=st.lists(st.integers(1, 80), min_size=1, max_size=2), purpose=purposes)
    def give_back_by_legs(self, number: int, minors: list[int], purpose: str) -> None:
        """Legs that name a payment, from who received it to who paid: the same cap as refunds."""
        if not self.model.payments:
            return
        name = self.pick(number, "CAPTURED", "PARTIALLY_CAPTURED")
        payment = self.model.payments[name]
        sources = payment["receivers"]
        drawn = [
            plain(sources[(number + place) % len(sources)][:2], payment["payer"][:2], payment["payer"][2], minor)
            | {"payment": name, "purpose": purpose}
            for place, minor in enumerate(minors)
        ]
        who = "escrow" if any(key[1] == TRADE for key in sources) else "operator"
        self.ask(who, "PostTransaction", post(*drawn))

    @rule(number=st.integers(0, 99), trade=st.sampled_from(TRADES), fee=st.integers(1, 30))
    def release(self, number: int, trade: tuple[str, str], fee: int) -> None:
        """What a trade's account has goes to the seller but for a fee, as escrow does it."""
        has = available((*trade, "CNY"), self.model.account((*trade, "CNY")))
        drawn = [plain(trade, (B, PAYABLE), "CNY", max(1, has - fee)), plain(trade, FEE, "CNY", fee)]
        self.ask("escrow", "PostTransaction", post(*drawn))

    @rule(owner=st.sampled_from([A, B]), kind=st.sampled_from(sorted(WRITTEN_OFF_FROM)), minor=st.integers(1, 60))
    def owe(self, owner: str, kind: str, minor: int) -> None:
        """A debt, to be paid out of what its owner receives next."""
        self.ask("operator", "PostTransaction", post(plain((owner, kind), SUSPENSE, "CNY", minor)))

    @rule(owner=st.sampled_from([A, B]), kind=st.sampled_from(sorted(WRITTEN_OFF_FROM)), minor=st.integers(1, 60))
    def write_off(self, owner: str, kind: str, minor: int) -> None:
        loss = ("platform", WRITTEN_OFF_FROM[kind] if minor % 9 else "goodwill")
        self.ask("operator", "PostTransaction", post(plain(loss, (owner, kind), "CNY", minor)))

    @rule(number=st.integers(0, 99), minor=st.integers(1, 200), named=st.booleans())
    def compensate(self, number: int, minor: int, named: bool) -> None:
        """Out of a deposit and the guarantee fund, to who paid."""
        name = self.pick(number, "CAPTURED", "PARTIALLY_CAPTURED")
        payer = self.model.payments[name]["payer"] if name >= 0 else (A, WALLET, "CNY")
        leg = plain(FUND, payer[:2], payer[2], minor) | {"payment": name, "purpose": "COMPENSATION"}
        if named:
            leg |= {"sources": [(DEPOSIT, None), (FUND, None)], "plain": False}
        self.ask("escrow", "PostTransaction", post(leg))

    @rule(who=payers, owner=owners, amount=amounts, mood=moods, rail=rails)
    def top_up(self, who: str, owner: str, amount: Any, mood: str, rail: str) -> None:
        body = {"owner": who.partition(":")[2] or owner, "amount": amount, "rail": rail, "instrument": mood}
        self.ask(who, "CreateTopUp", body)

    @rule(
        who=payers,
        owner=owners,
        kind=st.sampled_from([WALLET, WALLET, PAYABLE, TRADE]),
        amount=amounts,
        mood=moods,
        rail=rails,
        limited=classes,
    )
    def withdraw(self, who: str, owner: str, kind: str, amount: Any, mood: str, rail: str, limited: str) -> None:
        body = {"owner": who.partition(":")[2] or owner, "kind": kind, "amount": amount, "rail": rail}
        self.ask(who, "CreateWithdrawal", body | {"instrument": mood, "limit_class": limited})

    @rule(who=operators, number=st.integers(0, 99))
    def take_a_top_up_back(self, who: str, number: int) -> None:
        movement = number % len(self.model.top_ups) if self.model.top_ups and number < 95 else -1
        self.ask(who, "ReportRailResult", {"movement": movement})

    @rule(who=operators, drawn=st.lists(legs(), min_size=1, max_size=3))
    def only_validate(self, who: str, drawn: list[Body]) -> None:
        """What would come of a posting; nothing does."""
        if self.idle:
            return
        body = self.posting(drawn, None)
        self.history.append(f"{who} would PostTransaction {body}")
        try:
            expected: Any = self.model.try_out(who, "PostTransaction", body)
        except Refused as refused:
            expected = refused
        request = self.posting_request(new_id(), body)
        request.validate_only = True
        told: Any
        try:
            told = self.wait(self.stack.call("PostTransaction", request, **CALLERS[who]))
        except RemoteError as error:
            told = Refused(error.reason)
        self.agree(as_text(told), as_text(expected))
        if not isinstance(expected, Refused):
            self.compare_transfers(expected, told)
        self.compare_books()

    @rule(number=st.integers(0, 99))
    def reverse(self, number: int) -> None:
        known = sorted(self.transaction_names)
        name = known[number % len(known)] if known and number < 95 else -1
        self.ask("operator", "ReverseTransaction", {"name": name, "description": ""})

    @rule(who=operators, key=st.sampled_from([*WALLETS, TRADES[0], FEE]), scope=st.sampled_from(["DEBITS", "ALL"]))
    def freeze_or_let_go(self, who: str, key: tuple[str, str], scope: str) -> None:
        frozen = sorted(key for key, account in self.model.accounts.items() if account["state"].startswith("FROZEN"))
        if frozen:
            self.ask(who, "UnfreezeAccount", {"name": frozen[0]})
        else:
            self.ask(who, "FreezeAccount", {"name": (*key, "CNY"), "scope": scope})

    @rule(number=st.integers(0, 99), side=st.integers(0, 4), scope=st.sampled_from(["DEBITS", "ALL"]))
    def freeze_one_of_a_payment(self, number: int, side: int, scope: str) -> None:
        """Freezes who pays or receives, asks for the payment's money, and lets the account go again."""
        name = self.pick(number, "AUTHORIZED", "PARTIALLY_CAPTURED")
        if name < 0:
            return
        keys = [self.model.payments[name]["payer"], *self.model.payments[name]["receivers"]]
        key = keys[side % len(keys)]
        who = self.friend("operator", name)
        self.ask("operator", "FreezeAccount", {"name": key, "scope": scope})
        self.ask(who, "CapturePayment", {"name": name, "amount": (key[2], 5), "final": False})
        self.ask(who, "RefundPayment", simple_refund(name, (key[2], 3)))
        self.ask("operator", "UnfreezeAccount", {"name": key})

    @rule(kind=st.sampled_from([WALLET, PAYABLE]), owed=minors, come=minors, gone=minors)
    def owe_and_pass_on(self, kind: str, owed: int, come: int, gone: int) -> None:
        """A debt of somebody who receives money and passes some of it on at once."""
        debt, wallet = (D, DEBTS[kind][-1]), (D, kind)
        self.ask("operator", "PostTransaction", post(plain(debt, SUSPENSE, "CNY", owed)))
        self.ask(
            "operator", "PostTransaction", post(plain(SUSPENSE, wallet, "CNY", come), plain(wallet, FEE, "CNY", gone))
        )

    @rule(key=st.sampled_from([*WALLETS, TRADES[0], (A, PAYABLE), FEE]), currency=st.sampled_from(["CNY", "EUR"]))
    def close(self, key: tuple[str, str], currency: str) -> None:
        self.ask("operator", "CloseAccount", {"name": (*key, currency)})

    @rule(who=operators, scope=st.sampled_from([A, "limitClasses/new"]), each=caps)
    def limit(self, who: str, scope: str, each: int | None) -> None:
        body = limits(scope, None, None, None) if each is None else limits(scope, each * 4, each * 5, each * 8)
        self.ask(who, "SetLimits", body)

    @rule(seconds=st.sampled_from([1, 2, 5, 3600, 86_400, 8 * 86_400]))
    def pass_time(self, seconds: int) -> None:
        if self.idle:
            return
        self.history.append(f"{seconds} s pass")
        self.model.pass_time(seconds)
        self.wait(self.stack.advance(seconds))
        self.compare_books()

    @rule(number=st.integers(0, 999))
    def ask_again(self, number: int) -> None:
        """The same id and body: the same answer, and nothing moves."""
        if self.sent:
            self.ask(*self.sent[number % len(self.sent)][:2], self.sent[number % len(self.sent)][3], number=number)

    @rule(number=st.integers(0, 999), other=st.integers(0, 999))
    def ask_otherwise(self, number: int, other: int) -> None:
        """The same id with some fields of another request."""
        if not self.sent:
            return
        who, method, request_id, body = self.sent[number % len(self.sent)]
        others = [each[3] for each in self.sent if each[1] == method]
        fields = others[other % len(others)]
        kept = list(body)[: other % len(body)]
        self.ask(who, method, {name: (body if name in kept else fields)[name] for name in body}, request_id=request_id)

    @rule(drawn=st.lists(st.tuples(new_payments(), st.lists(legs(), min_size=1, max_size=2)), min_size=1, max_size=4))
    def batch(self, drawn: list[Any]) -> None:
        """Operations of many kinds in one call, some malformed, some sent before."""
        asked: list[tuple[str, str, Body]] = []
        for (_, body), posted in drawn:
            name = self.pick(len(asked), "AUTHORIZED", "PARTIALLY_CAPTURED", "CAPTURED")
            asked += [
                ("CreatePayment", new_id(), body),
                ("PostTransaction", new_id(), self.posting(posted, None)),
                ("CapturePayment", new_id(), {"name": name, "amount": ("CNY", 7), "final": False}),
                ("VoidPayment", new_id(), {"name": name}),
                ("RefundPayment", new_id(), simple_refund(name, ("CNY", 3))),
                ("UnfreezeAccount", new_id(), {"name": (*body["payee"], "CNY")}),
            ]
        asked.append(asked[0])
        self.ask_batch(asked)

    # --- asking both ----------------------------------------------------------------------------------------------

    def ask(
        self, who: str, method: str, body: Body, *, request_id: str | None = None, number: int | None = None
    ) -> None:
        if self.idle:
            return
        if number is not None:
            request_id = self.sent[number % len(self.sent)][2]
        elif request_id is None:
            request_id = f"r{len(self.sent)}"
            self.sent.append((who, method, request_id, body))
        self.history.append(f"{who} {method} {request_id} {body}")
        expected = self.expect(who, method, request_id, body)
        try:
            message = self.wait(self.stack.call(method, self.encode(method, request_id, body), **CALLERS[who]))
            told: Any = message
        except RemoteError as error:
            told = Refused(error.reason, error.metadata.get("field", "") if error.code == "ALREADY_EXISTS" else "")
        self.compare_answer(method, expected, told)
        self.compare_books()

    def ask_batch(self, asked: list[tuple[str, str, Body]]) -> None:
        if self.idle:
            return
        self.history.append(f"operator BatchExecute {asked}")
        expected = [self.expect("operator", *each) for each in asked]
        operations = [
            payment_pb2.Operation(**{operation_of(method): self.encode(method, request_id, body)})
            for method, request_id, body in asked
        ]
        request = payment_pb2.BatchExecuteRequest(operations=operations)
        results = self.wait(self.stack.call("BatchExecute", request, as_=OPERATOR)).results
        assert len(results) == len(asked)
        for (method, _, _), one, result in zip(asked, expected, results, strict=True):
            kind = result.WhichOneof("result")
            if kind == "error":
                reason, metadata = reason_of(result.error)
                told: Any = Refused(reason, metadata["field"] if reason == "REQUEST_ID_REUSED" else "")
            else:
                told = getattr(result, kind)
            self.compare_answer(method, one, told)
        self.compare_books()

    def expect(self, who: str, method: str, request_id: str, body: Body) -> Any:
        try:
            answer = self.model.ask(who, method, request_id, body)
        except Refused as refused:
            answer = refused
        told = answer.reason if isinstance(answer, Refused) else "OK"
        self.asked[f"{method} {told}"] = self.asked.get(f"{method} {told}", 0) + 1
        return answer

    def pick(self, number: int, *states: str) -> int:
        """A payment, mostly one in these states; now and then one that does not exist."""
        wanted = [place for place, each in enumerate(self.model.payments) if each["state"] in states]
        if wanted and number % 4:
            return wanted[number % len(wanted)]
        return number % len(self.model.payments) if self.model.payments and number < 97 else -1

    def friend(self, who: str, name: int) -> str:
        """Mostly somebody who may."""
        if name >= 0 and any(key[1] == TRADE for key in self.model.payments[name]["receivers"]):
            return who if who.startswith("user") else "escrow"
        return who

    def posting(self, drawn: list[Body], late: int | None) -> Body:
        count = len(self.model.payments)
        found = [
            leg | {"payment": None if leg["payment"] is None else leg["payment"] % count if count else -1}
            for leg in drawn
        ]
        return post(*found, effective_time=None if late is None else self.model.now - late)

    # --- comparing ------------------------------------------------------------------------------------------------

    def compare_answer(self, method: str, expected: Any, told: Any) -> None:
        if isinstance(expected, Refused) or isinstance(told, Refused):
            self.agree(as_text(told), as_text(expected))
        elif method in PAYMENT_METHODS:
            self.remember(self.payment_names, expected["number"], told.name)
            self.remember(self.transaction_names, expected["transaction"], told.last_transaction)
            self.agree(shown_payment(told), {key: expected[key] for key in shown_payment(told)})
            request = ledger_pb2.GetTransactionRequest(name=told.last_transaction)
            transaction = self.wait(self.stack.call("GetTransaction", request, as_=OPERATOR))
            self.compare_transfers(self.model.transactions[expected["transaction"]], transaction)
        elif method in ("PostTransaction", "ReverseTransaction"):
            self.remember(self.transaction_names, expected["transaction"], told.name)
            self.compare_transfers(expected, told)
            reverses = expected["reverses"]
            self.agree(told.reverses, ("" if reverses is None else self.transaction_names[reverses]))
        elif method in ("CreateTopUp", "CreateWithdrawal"):
            names = self.top_up_names if method == "CreateTopUp" else self.withdrawal_names
            self.remember(names, expected["number"], told.name)
            self.agree(told.State.Name(told.state), f"STATE_{expected['state']}")
        elif method == "ReportRailResult":
            self.remember(self.top_up_names, expected["number"], told.top_up.name)
            self.agree(told.top_up.State.Name(told.top_up.state), f"STATE_{expected['state']}")
            self.agree(told.changed, expected["changed"])
        elif method == "SetLimits":
            for period, minor in expected["limits"].items():
                field = f"per_{period}_minor"
                self.agree((getattr(told, field) if told.HasField(field) else None), minor)
        else:
            self.agree(shown_account(told), (expected["account"], {k: expected[k] for k in TOTALS}))

    def compare_transfers(self, expected: Any, told: ledger_pb2.Transaction) -> None:
        found = [
            (
                ledger_pb2.Transfer.Kind.Name(each.kind).removeprefix("KIND_"),
                each.debit_account,
                each.credit_account,
                each.amount.amount_minor,
                each.payment,
                ledger_pb2.Purpose.Name(each.purpose).removeprefix("PURPOSE_").replace("UNSPECIFIED", ""),
            )
            for each in told.transfers
        ]
        wanted = [
            (
                each["kind"],
                account_name(each["debit"]),
                account_name(each["credit"]),
                each["minor"],
                "" if each["payment"] is None else self.payment_names[each["payment"]],
                each["purpose"],
            )
            for each in expected["transfers"]
        ]
        self.agree(found, wanted)

    def compare_books(self) -> None:
        accounts, payments, balance = self.wait(self.read_books())
        found = dict(shown_account(each) for each in accounts)
        wanted = {key: {name: account[name] for name in TOTALS} for key, account in self.model.accounts.items()}
        self.agree(found, wanted)
        for each in accounts:
            key = (each.owner, each.kind, each.currency)
            self.agree(each.available_minor, available(key, self.model.accounts[key]))
        numbers = {name: number for number, name in self.payment_names.items()}
        told = {numbers[each.name]: shown_payment(each) for each in payments}
        for number in range(len(self.model.payments)):
            self.agree(told[number], {key: self.model.shown(number)[key] for key in told[number]})
        self.agree(len(told), len(self.model.payments))
        for total in balance.totals:
            self.agree(total.debits_posted_minor, total.credits_posted_minor)

    async def read_books(self) -> tuple[Any, Any, Any]:
        accounts, payments, balance = await asyncio.gather(
            self.stack.call("ListAccounts", account_pb2.ListAccountsRequest(page_size=1000), as_=OPERATOR),
            self.stack.call("ListPayments", payment_pb2.ListPaymentsRequest(page_size=1000), as_=OPERATOR),
            self.stack.call("GetTrialBalance", ledger_pb2.GetTrialBalanceRequest(), as_=OPERATOR),
        )
        return accounts.accounts, payments.payments, balance

    def remember(self, names: dict[int, str], number: int, name: str) -> None:
        self.agree(names.setdefault(number, name), name)
        self.agree(len(set(names.values())), len(names))

    def teardown(self) -> None:
        """The invariants, what the auditor says, the chain, and balances of the past by either time."""
        if self.differs or self.idle:
            return
        self.wait(check_books(self.stack.database))
        audit = self.wait(self.stack.call("GetAudit", audit_pb2.GetAuditRequest(), as_=OPERATOR, timeout=30))
        self.agree(audit.intact, True)
        chain = self.wait(self.stack.call("VerifyChain", ledger_pb2.VerifyChainRequest(), as_=OPERATOR))
        self.agree(chain.intact, True)
        self.agree(chain.verified_sequence, sum(len(each["transfers"]) for each in self.model.transactions))
        times = sorted({each[by] for each in self.model.transactions for by in ("at", "recorded")})
        for key in list(self.model.accounts)[:6]:
            for moment in {times[0], times[len(times) // 2], times[-1]}:
                for by, field in (("at", "effective_time"), ("recorded", "recorded_time")):
                    request = account_pb2.GetBalanceRequest(account=account_name(key))
                    # What is asked within one second is recorded within its first milliseconds.
                    getattr(request, field).FromMilliseconds(moment * 1000 + 900)
                    told = self.wait(self.stack.call("GetBalance", request, as_=OPERATOR)).balance_minor
                    sign = 1 if KINDS[key[1]][0] == "C" else -1
                    self.agree(told, sign * self.model.balance(key, until_s=moment, by=by))

    def agree(self, told: Any, expected: Any) -> None:
        if told != expected:
            self.differs = True
            raise AssertionError("\n".join([*self.history, f"the service: {told}", f"the model:   {expected}"]))

    # --- messages -------------------------------------------------------------------------------------------------

    def encode(self, method: str, request_id: str, body: Body) -> Any:
        if method == "CreatePayment":
            return payment_request(request_id, body)
        if method == "PostTransaction":
            return self.posting_request(request_id, body)
        if method == "SetLimits":
            set_ones = {name: value for name, value in body.items() if value is not None}
            return payment_pb2.SetLimitsRequest(request_id=request_id, **set_ones)
        if method == "ReverseTransaction":
            name = self.transaction_names.get(body["name"], f"transactions/{NOBODY}")
            return ledger_pb2.ReverseTransactionRequest(request_id=request_id, name=name)
        if method == "ReportRailResult":
            movement = self.top_up_names.get(body["movement"], f"topUps/{NOBODY}")
            return rail_pb2.ReportRailResultRequest(
                request_id=request_id, movement=movement, result="RAIL_RESULT_RETURNED"
            )
        if method in ("CreateTopUp", "CreateWithdrawal"):
            made = payment_pb2.CreateTopUpRequest if method == "CreateTopUp" else rail_pb2.CreateWithdrawalRequest
            return made(request_id=request_id, **(body | {"amount": money(*reversed(body["amount"]))}))
        if method.endswith("Account"):
            request = getattr(account_pb2, f"{method}Request")(request_id=request_id, name=account_name(body["name"]))
            if "scope" in body:
                request.scope = account_pb2.FreezeScope.Value(f"FREEZE_SCOPE_{body['scope']}")
            return request
        request = getattr(payment_pb2, f"{method}Request")(request_id=request_id, name=self.name_of(body["name"]))
        if body.get("amount") is not None:
            request.amount.currency, request.amount.amount_minor = body["amount"]
        if "final" in body:
            request.final = body["final"]
        if "purpose" in body:
            request.purpose = ledger_pb2.Purpose.Value(f"PURPOSE_{body['purpose']}")
            request.fee_refund = payment_pb2.FeeRefund.Value(f"FEE_REFUND_{body['fee_refund']}")
        return request

    def posting_request(self, request_id: str, body: Body) -> ledger_pb2.PostTransactionRequest:
        request = ledger_pb2.PostTransactionRequest(request_id=request_id)
        if body["effective_time"] is not None:
            request.effective_time.FromSeconds(body["effective_time"])
        for leg in body["legs"]:
            made = request.legs.add(
                amount={"currency": leg["amount"][0], "amount_minor": leg["amount"][1]},
                payment="" if leg["payment"] is None else self.name_of(leg["payment"]),
                purpose=f"PURPOSE_{leg['purpose'] or 'UNSPECIFIED'}",
                remainder_policy=f"REMAINDER_POLICY_{leg['policy']}",
            )
            if leg["plain"]:
                made.debit.owner, made.debit.kind = leg["sources"][0][0]
                made.credit.owner, made.credit.kind = leg["destinations"][0][0]
                continue
            for key, cap in leg["sources"]:
                made.sources.add(account=key_message(key), cap_minor=cap or 0)
            for key, how, value, cap in leg["destinations"]:
                where = {"kept": True} if key is None else {"account": key_message(key)}
                made.destinations.add(**where, **part_fields(how, value, cap))
        return request

    def name_of(self, number: int) -> str:
        return self.payment_names.get(number, f"payments/{NOBODY}")


async def now_s(stack: PaymentsStack) -> int:
    """The test clock, in whole seconds since 1970."""
    clock = clock_pb2_grpc.ClockServiceStub(stack.channel("operator"))
    return int((await clock.GetClock(clock_pb2.GetClockRequest(), timeout=5)).now.seconds)


TOTALS = ("state", "dp", "dd", "cp", "cc")


def post(*drawn: Body, effective_time: int | None = None) -> Body:
    return {"legs": list(drawn), "description": "", "effective_time": effective_time}


def plain(debit: tuple[str, str], credit: tuple[str, str], currency: str, minor: int) -> Body:
    return {
        "sources": [(debit, None)],
        "destinations": [(credit, *rest)],
        "amount": (currency, minor),
        "payment": None,
        "purpose": "",
        "policy": "FIRST",
        "plain": True,
    }


def simple_refund(name: int, amount: tuple[str, int]) -> Body:
    return {"name": name, "amount": amount, "description": "", "fee_refund": "PROPORTIONAL", "purpose": "REFUND"}


def limits(scope: str, transaction: int | None, day: int | None, month: int | None) -> Body:
    return {
        "scope": scope,
        "currency": "CNY",
        "per_transaction_minor": transaction,
        "per_day_minor": day,
        "per_month_minor": month,
    }


def simple_payment(payer: str, payee: tuple[str, str], minor: int, terms: Any, mode: str) -> Body:
    return {
        "payer": payer,
        "payee": payee,
        "beneficiary": B,
        "amount": ("CNY", minor),
        "capture_mode": mode,
        "hold_lifetime": None,
        "description": "",
        "on_expiry": "CANCEL",
        "splits": list(terms),
        "remainder_policy": "LARGEST_REMAINDER" if terms else "",
        "limit_class": "",
    }


def payment_request(request_id: str, body: Body) -> payment_pb2.CreatePaymentRequest:
    request = payment_pb2.CreatePaymentRequest(
        request_id=request_id,
        payer=body["payer"],
        payee=key_message(body["payee"]),
        beneficiary=body["beneficiary"],
        amount={"currency": body["amount"][0], "amount_minor": body["amount"][1]},
        capture_mode=f"CAPTURE_MODE_{body['capture_mode']}",
        on_expiry=f"ON_EXPIRY_{body['on_expiry']}",
        remainder_policy=f"REMAINDER_POLICY_{body['remainder_policy'] or 'UNSPECIFIED'}",
        limit_class=body["limit_class"],
    )
    if body["hold_lifetime"] is not None:
        request.hold_lifetime.FromSeconds(body["hold_lifetime"])
    for key, how, value, cap in body["splits"]:
        request.splits.add(destination=key_message(key), **part_fields(how, value, cap))
    return request


def part_fields(how: str, value: int, cap: int | None) -> dict[str, Any]:
    field = {"fixed": "fixed_minor", "share": "basis_points", "rest": "remaining"}[how]
    return {field: value or True, "cap_minor": cap or 0}


def key_message(key: tuple[str, str]) -> account_pb2.AccountKey:
    return account_pb2.AccountKey(owner=key[0], kind=key[1])


def account_name(key: tuple[str, str, str]) -> str:
    return f"accounts/{account_id(*key)}"


def operation_of(method: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in method).lstrip("_")


def as_text(answer: Any) -> str:
    if not isinstance(answer, Refused):
        return "OK"
    return f"{answer.reason} {answer.field}" if answer.reason == "REQUEST_ID_REUSED" else answer.reason


def shown_payment(message: payment_pb2.Payment) -> dict[str, Any]:
    return {
        "state": payment_pb2.Payment.State.Name(message.state).removeprefix("STATE_"),
        "authorized": message.authorized_minor,
        "captured": message.captured_minor,
        "released": message.released_minor,
        "refunded": message.refunded_minor,
        "refund_state": payment_pb2.Payment.RefundState.Name(message.refund_state).removeprefix("REFUND_STATE_"),
        "parts": [(part.captured_minor, part.refunded_minor) for part in message.splits],
    }


def shown_account(message: account_pb2.Account) -> tuple[tuple[str, str, str], dict[str, Any]]:
    state = account_pb2.Account.State.Name(message.state).removeprefix("STATE_")
    if state == "FROZEN":
        state = f"FROZEN_{account_pb2.FreezeScope.Name(message.freeze_scope).removeprefix('FREEZE_SCOPE_')}"
    return (message.owner, message.kind, message.currency), {
        "state": state,
        "dp": message.debits_pending_minor,
        "dd": message.debits_posted_minor,
        "cp": message.credits_pending_minor,
        "cc": message.credits_posted_minor,
    }


@pytest.fixture(scope="module")
async def beside(
    postgres: EmbeddedPostgres, migrated: str, authority: CertificateAuthority
) -> AsyncIterator[PaymentsStack]:
    """A service of its own: its clock goes far ahead."""
    database = postgres.create_service_database("payments", database="payments_beside_model", template=migrated)
    made = PaymentsStack(database, authority, {"clock": "test"})
    await made.start()
    yield made
    await made.stop()


@pytest.mark.parametrize("drawn_with", range(SEEDS), ids=lambda number: f"seed {number}")
async def test_the_service_says_what_the_model_says(beside: PaymentsStack, drawn_with: int):
    asked: dict[str, int] = {}
    machine = type("Beside", (Beside,), {"stack": beside, "loop": asyncio.get_running_loop(), "asked": asked})
    chosen = settings(
        # What follows the second only varies it.
        max_examples=2,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # the history is told whole; to make it short would take minutes
    )
    await asyncio.to_thread(run_state_machine_as_test, seed(drawn_with)(machine), settings=chosen)
    print("\n".join(f"{count:5} {what}" for what, count in sorted(asked.items())))
