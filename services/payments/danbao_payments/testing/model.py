"""A model of the ledger in dicts and ints: what it says of a request, the service must say too.

It follows the contract's comments, and shares no code with the service, the arithmetic of splits included. A request
is a caller, a method, a request id and a body of plain values; what is named (a payment, a transaction) is named by
its number here. Refusals are told as their reason. Time is in whole seconds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

Key = tuple[str, str, str]  # owner, kind, currency
Body = dict[str, Any]

CURRENCIES = {"CNY", "EUR"}
CLEARING = ("platform", "clearing.capture")
WALLET = "user.available"
PAYABLE = "seller.payable"
TRADE = "escrow.trade"
PAYING = {"escrow", "operator", "partner", "user"}
WEEK_S = 7 * 86_400

# Kind: its normal side, whether it may pass below zero, who may debit and who may credit it in PostTransaction.
KINDS: dict[str, tuple[str, bool, set[str], set[str]]] = {
    WALLET: ("C", False, {"operator"}, {"escrow", "operator"}),
    PAYABLE: ("C", False, {"operator"}, {"escrow", "operator"}),
    TRADE: ("C", False, {"escrow"}, {"escrow"}),
    "clearing.capture": ("C", False, set(), set()),
    "fee.payment": ("C", False, {"operator"}, {"escrow", "operator"}),
    "tax.payable": ("C", False, {"operator"}, {"escrow", "operator"}),
    "goodwill": ("D", False, {"operator"}, {"operator"}),
    "suspense": ("D", True, {"operator"}, {"operator"}),
    "rail.in_transit": ("D", True, {"operator"}, {"operator"}),
    "rail.settled": ("D", True, {"operator"}, {"operator"}),
    "clearing.payout": ("C", False, set(), set()),
    "guarantee.deposit": ("C", False, {"escrow"}, {"escrow"}),
    "guarantee.fund": ("C", False, {"escrow", "operator"}, {"escrow", "operator"}),
    "fund.recoverable": ("C", False, {"operator"}, {"operator"}),
    "loss.bad_debt": ("D", False, {"operator"}, {"operator"}),
    "loss.chargeback": ("D", False, {"operator"}, {"operator"}),
    "receivable.guarantee": ("D", False, {"operator"}, {"operator"}),
    "receivable.chargeback": ("D", False, {"operator"}, {"operator"}),
    "receivable.user": ("D", False, {"operator"}, {"operator"}),
}
RAIL, SUSPENSE = "rails/simulated", ("platform", "suspense")
FUND, RECOVERABLE = ("platform", "guarantee.fund"), ("platform", "fund.recoverable")
# What an owner owes, paid out of what this wallet of theirs receives, in this order.
DEBTS = {PAYABLE: ["receivable.guarantee", "receivable.chargeback"], WALLET: ["receivable.user"]}
WRITTEN_OFF_FROM = {
    "receivable.guarantee": "loss.bad_debt",
    "receivable.chargeback": "loss.chargeback",
    "receivable.user": "loss.bad_debt",
}
HOLDING = {"AUTHORIZED", "PARTIALLY_CAPTURED"}
PAID = {"CAPTURED", "PARTIALLY_CAPTURED"}
ENDED = {
    "CAPTURED": "HOLD_ALREADY_CAPTURED",
    "VOIDED": "HOLD_ALREADY_VOIDED",
    "EXPIRED": "HOLD_EXPIRED",
    "PENDING": "PAYMENT_STATE_INVALID",
    "DECLINED": "PAYMENT_STATE_INVALID",
}
NOT_RECORDED = {"FIELD_INVALID", "AMOUNT_NOT_POSITIVE", "CURRENCY_UNKNOWN", "LEGS_INVALID", "SPLIT_NOT_WHOLE"}


class Refused(Exception):
    """Why a request is refused; of a reused id also the field that differs."""

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(reason, field)
        self.reason = reason
        self.field = field


def divide(minor: int, wishes: list[tuple[str, int, int | None]], whole: int, policy: str) -> list[int]:
    """Shares an amount out to the last unit. A wish is "fixed" units, a "share" of so many out of `whole`, or the
    "rest", the latter two up to a cap. Raises Refused."""
    fine = []  # in units / whole
    for how, number, cap in wishes:
        most = minor * whole if cap is None else cap * whole
        fine.append({"fixed": number * whole, "share": min(minor * number, most), "rest": 0}[how])
    left = minor * whole - sum(fine)
    for place, (how, _, cap) in enumerate(wishes):
        if how == "rest" and left > 0:
            fine[place] = left if cap is None else min(left, cap * whole)
            left -= fine[place]
    if left != 0:
        raise Refused("SPLIT_NOT_WHOLE")
    units = [value // whole for value in fine]
    if policy == "FIRST":
        turn = [
            place
            for place, (how, _, cap) in enumerate(wishes)
            if how != "fixed" and fine[place] and (cap is None or units[place] < cap)
        ]
    else:
        turn = sorted((place for place, value in enumerate(fine) if value % whole), key=lambda p: -(fine[p] % whole))
    for place in turn[: minor - sum(units)]:
        units[place] += 1
    return units


def towards(minor: int, due: list[int], done: list[int], room: list[int]) -> list[int]:
    """How `minor` is dealt out so that everybody comes to what is due, but nobody backwards or beyond the room."""
    dealt = [max(0, min(want - had, most)) for want, had, most in zip(due, done, room, strict=True)]
    for place, most in enumerate(room):
        wrong = minor - sum(dealt)
        dealt[place] = min(most, max(0, dealt[place] + wrong))
    return dealt


class Draft:
    """A transaction being made: its movements, and the accounts as they would be after them."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.accounts: dict[Key, dict[str, Any]] = {}
        self.transfers: list[dict[str, Any]] = []

    def account(self, key: Key) -> dict[str, Any]:
        """An account as it would be now."""
        return self.accounts.get(key) or self.model.account(key)

    def touch(self, key: Key) -> dict[str, Any]:
        """The same, to be changed."""
        return self.accounts.setdefault(key, dict(self.model.account(key)))

    def move(self, kind: str, debit: Key, credit: Key, minor: int, *, held: int = 0, **facts: Any) -> None:
        """One transfer. `held` is what the hold had that it ends. Raises Refused."""
        gives, takes = self.touch(debit), self.touch(credit)
        if kind == "PENDING":
            gives["dp"] += minor
            takes["cp"] += minor
        else:
            gives["dp"] -= held
            takes["cp"] -= held
        if kind in ("POSTED", "POST"):
            gives["dd"] += minor
            takes["cc"] += minor
        for key in (debit, credit):
            if available(key, self.accounts[key]) < 0 and not KINDS[key[1]][1]:
                raise Refused("INSUFFICIENT_FUNDS")
        fields = {"payment": None, "purpose": "", **facts}
        self.transfers.append({"kind": kind, "debit": debit, "credit": credit, "minor": minor, **fields})

    def record(self, effective_s: int | None = None, reverses: int | None = None) -> int:
        """The number of the transaction, which has happened now, debts paid. Raises Refused."""
        self._pay_debts()
        model = self.model
        for key, account in self.accounts.items():
            empty = account["dd"] == account["cc"] and not account["dp"] and not account["cp"]
            if key[1] == TRADE and empty:
                account["state"] = "CLOSED"  # its last money has left it
            model.accounts[key] = account
        at = model.now if effective_s is None else effective_s
        made = {"transfers": self.transfers, "at": at, "recorded": model.now, "reverses": reverses, "reversed": False}
        model.transactions.append(made)
        return len(model.transactions) - 1

    def _pay_debts(self) -> None:
        received: dict[Key, int] = {}
        for transfer in self.transfers:
            if transfer["kind"] == "POSTED" and transfer["credit"][1] in DEBTS:
                received[transfer["credit"]] = received.get(transfer["credit"], 0) + transfer["minor"]
        for wallet, minor in received.items():
            left = max(0, min(minor, available(wallet, self.account(wallet))))
            for kind in DEBTS[wallet[1]]:
                debt = (wallet[0], kind, wallet[2])
                paid = min(left, available(debt, self.account(debt)))
                if paid:
                    self.move("POSTED", wallet, debt, paid)
                    left -= paid
        # What the fund is owed is the sum of what is owed to it.
        for currency in dict.fromkeys(key[2] for key in self.accounts if key[1] == "receivable.guarantee"):
            owed = sum(self._grown(key) for key in self.accounts if key[1:] == ("receivable.guarantee", currency))
            fund, recoverable = (*FUND, currency), (*RECOVERABLE, currency)
            missing = owed - self._grown(recoverable)
            if missing > 0:
                self.move("POSTED", fund, recoverable, missing)
            elif missing < 0:
                self.move("POSTED", recoverable, fund, -missing)

    def _grown(self, key: Key) -> int:
        return available(key, self.account(key)) - available(key, self.model.account(key))


def available(key: Key, account: dict[str, Any]) -> int:
    """What may be taken."""
    if KINDS[key[1]][0] == "D":
        return int(account["dd"] - account["cc"] - account["cp"])
    return int(account["cc"] - account["dd"] - account["dp"])


class Model:
    """The books, and every answer that was ever given."""

    def __init__(self, now_s: int = 0) -> None:
        self.now = now_s
        self.accounts: dict[Key, dict[str, Any]] = {}
        self.payments: list[dict[str, Any]] = []
        self.transactions: list[dict[str, Any]] = []
        self.top_ups: list[dict[str, Any]] = []
        self.withdrawals: list[dict[str, Any]] = []
        self.limits: dict[tuple[str, str], dict[str, int | None]] = {}
        self.usage: dict[tuple[str, str], list[tuple[int, int]]] = {}
        self.requests: dict[tuple[str, str, str], tuple[Body, Any]] = {}

    # --- asking ---------------------------------------------------------------------------------------------------

    def ask(self, who: str, method: str, request_id: str, body: Body) -> Any:
        """The answer. Raises Refused."""
        party = who.partition(":")[0]
        self._check_message(method, body)
        known = self.requests.get((who, method, request_id))
        if known is not None:
            for field in body:
                if known[0][field] != body[field]:
                    raise Refused("REQUEST_ID_REUSED", field)
            if isinstance(known[1], Refused):
                raise known[1]
            return known[1]
        decide: Callable[[str, str, Body], Any] = getattr(self, f"_{method}")
        try:
            answer = decide(party, who.partition(":")[2], body)
        except Refused as refused:
            if refused.reason not in NOT_RECORDED:
                self.requests[who, method, request_id] = (copy.deepcopy(body), refused)
            raise
        self.requests[who, method, request_id] = (copy.deepcopy(body), answer)
        return answer

    def try_out(self, who: str, method: str, body: Body) -> Any:
        """The answer that it would get, which changes nothing. Raises Refused."""
        other = Model(self.now)
        kept = (self.accounts, self.payments, self.transactions)
        other.accounts, other.payments, other.transactions = copy.deepcopy(kept)
        return other.ask(who, method, "", body)

    def pass_time(self, seconds: int) -> None:
        """Ends what runs out, and takes what time is to take."""
        self.now += seconds
        for number, payment in enumerate(self.payments):
            if payment["state"] not in HOLDING or payment["ends"] > self.now:
                continue
            closed = any(self.account(key)["state"] == "CLOSED" for key in self._receivers(payment))
            if payment["on_expiry"] == "CAPTURE" and not closed:
                self._take(number, held_of(payment), last=True)
            else:
                self._let_go(number, "EXPIRE", "EXPIRED")

    def account(self, key: Key) -> dict[str, Any]:
        """An account; all zero before its first posting."""
        return self.accounts.get(key) or {"state": "OPEN", "dp": 0, "dd": 0, "cp": 0, "cc": 0}

    def balance(self, key: Key, *, until_s: int, by: str) -> int:
        """The posted balance, on the credit side, of what is "at" or "recorded" until then."""
        total = 0
        for transaction in self.transactions:
            for transfer in transaction["transfers"] if transaction[by] <= until_s else ():
                if transfer["kind"] in ("POSTED", "POST"):
                    total += transfer["minor"] * ((transfer["credit"] == key) - (transfer["debit"] == key))
        return total

    def shown(self, number: int) -> dict[str, Any]:
        """A payment as its readers see it."""
        payment = self.payments[number]
        back, taken = payment["refunded"], payment["captured"]
        return {
            "number": number,
            "state": payment["state"],
            "authorized": payment["amount"],
            "captured": taken,
            "released": payment["released"],
            "refunded": back,
            "refund_state": "NONE" if not back else "FULL" if back == taken else "PARTIAL",
            "parts": [(part["captured"], part["refunded"]) for part in payment["parts"]],
            "transaction": payment["transaction"],
        }

    # --- what is wrong with a message alone -----------------------------------------------------------------------

    def _check_message(self, method: str, body: Body) -> None:
        if method == "CreatePayment":
            _check_payment_message(body)
        elif method == "PostTransaction":
            _check_legs(body["legs"])
        elif method == "SetLimits" and body["currency"] not in CURRENCIES:
            raise Refused("CURRENCY_UNKNOWN")
        elif body.get("amount") is not None:
            _check_money(body["amount"])

    # --- payments -------------------------------------------------------------------------------------------------

    def _CreatePayment(self, party: str, subject: str, body: Body) -> Any:
        currency, minor = body["amount"]
        payer: Key = (body["payer"], WALLET, currency)
        payee = (*body["payee"], currency)
        if party not in PAYING or (party == "user" and subject != body["payer"]):
            raise Refused("KIND_NOT_ALLOWED")
        for owner, kind in (body["payee"], *[term[0] for term in body["splits"]]):
            if kind == TRADE and party != "escrow":
                raise Refused("KIND_NOT_ALLOWED")
            assert owner == "platform" or kind in (WALLET, PAYABLE, TRADE), "the model is asked for no other"
        receivers = [(*term[0], currency) for term in body["splits"]] or [payee]
        self._check_movable([payer], receivers)
        self._count(body["payer"], body["limit_class"], currency, minor)
        number = len(self.payments)
        payment = {
            "payer": payer,
            "payee": body["payee"],
            "beneficiary": body["beneficiary"],
            "receivers": receivers,
            "policy": body["remainder_policy"],
            "amount": minor,
            "captured": 0,
            "released": 0,
            "refunded": 0,
            "state": "AUTHORIZED",
            "on_expiry": body["on_expiry"],
            "ends": self.now + (body["hold_lifetime"] or WEEK_S),
            "parts": [{"terms": term[1:], "captured": 0, "refunded": 0} for term in body["splits"]],
        }
        draft = Draft(self)
        if body["capture_mode"] == "MANUAL":
            draft.move("PENDING", payer, (*CLEARING, currency), minor, payment=number)
        else:
            self._deal_out(draft, payment, payer, minor, number)
            payment["state"], payment["captured"] = "CAPTURED", minor
        self._use(body["payer"], body["limit_class"], currency, minor)
        payment["transaction"] = draft.record()
        self.payments.append(payment)
        return self.shown(number)

    def _CapturePayment(self, party: str, subject: str, body: Body) -> Any:
        payment = self._find_payment(party, subject, body["name"])
        self._check_may_move(party, subject, payment, giving=False)
        self._check_currency(payment, body["amount"])
        self._check_movable([payment["payer"]], self._receivers(payment))
        if payment["state"] not in HOLDING:
            raise Refused(ENDED[payment["state"]])
        held = held_of(payment)
        minor = held if body["amount"] is None else body["amount"][1]
        if minor > held:
            raise Refused("CAPTURE_AMOUNT_EXCEEDED")
        self._take(body["name"], minor, last=body["final"] or minor == held)
        return self.shown(body["name"])

    def _VoidPayment(self, party: str, subject: str, body: Body) -> Any:
        payment = self._find_payment(party, subject, body["name"])
        self._check_may_move(party, subject, payment, giving=False)
        if payment["state"] not in HOLDING:
            raise Refused(ENDED[payment["state"]])
        self._let_go(body["name"], "VOID", "VOIDED")
        return self.shown(body["name"])

    def _RefundPayment(self, party: str, subject: str, body: Body) -> Any:
        payment = self._find_payment(party, subject, body["name"])
        self._check_may_move(party, subject, payment, giving=True)
        self._check_currency(payment, body["amount"])
        receivers, parts = self._receivers(payment), payment["parts"]
        keeps = [body["fee_refund"] == "NONE" and bool(parts) and key[0] == "platform" for key in receivers]
        giving = [key for key, kept in zip(receivers, keeps, strict=True) if not kept]
        self._check_movable(giving, [payment["payer"]])
        if payment["state"] not in PAID:
            raise Refused("PAYMENT_STATE_INVALID")
        left = payment["captured"] - payment["refunded"]
        if parts:
            rooms = [
                0 if kept else part["captured"] - part["refunded"] for part, kept in zip(parts, keeps, strict=True)
            ]
            left = min(left, sum(rooms))
        minor = left if body["amount"] is None else body["amount"][1]
        if minor > left or minor == 0:
            raise Refused("REFUND_AMOUNT_EXCEEDED")
        gifts = [minor]
        if parts:
            had = [0 if kept else part["captured"] for part, kept in zip(parts, keeps, strict=True)]
            gone = [0 if kept else part["refunded"] for part, kept in zip(parts, keeps, strict=True)]
            due = divide(sum(gone) + minor, [("share", each, None) for each in had], sum(had), "LARGEST_REMAINDER")
            gifts = towards(minor, due, gone, rooms)
        draft = Draft(self)
        for key, gift in zip(receivers, gifts, strict=True):
            if gift:
                facts = {"payment": body["name"], "purpose": body["purpose"] or "REFUND"}
                draft.move("POSTED", key, payment["payer"], gift, **facts)
        payment["transaction"] = draft.record()
        self._give_back(payment, dict(zip(receivers, gifts, strict=True)))
        return self.shown(body["name"])

    # --- the ledger -----------------------------------------------------------------------------------------------

    def _PostTransaction(self, party: str, subject: str, body: Body) -> Any:
        return self._post(party, subject, body["legs"], body["effective_time"], None)

    def _ReverseTransaction(self, party: str, subject: str, body: Body) -> Any:
        number = body["name"]
        if not 0 <= number < len(self.transactions):
            raise Refused("TRANSACTION_NOT_FOUND")
        legs = []
        for transfer in reversed(self.transactions[number]["transfers"]):
            if transfer["purpose"] or transfer["kind"] != "POSTED":
                raise Refused("KIND_NOT_ALLOWED")
            payment = transfer["payment"]
            paid = payment is not None and transfer["debit"] == self.payments[payment]["payer"]
            legs.append(
                {
                    "sources": [(transfer["credit"][:2], None)],
                    "destinations": [(transfer["debit"][:2], "rest", 0, None)],
                    "amount": (transfer["debit"][2], transfer["minor"]),
                    "payment": payment,
                    "purpose": "REFUND" if paid else "",
                    "policy": "FIRST",
                    "plain": True,
                }
            )
        return self._post(party, subject, legs, None, number)

    def _post(
        self, party: str, subject: str, legs: list[Body], effective_s: int | None, reverses: int | None
    ) -> dict[str, Any]:
        for leg in legs:
            if leg["payment"] is not None:
                self._find_payment(party, subject, leg["payment"])
        for leg in legs:
            kinds = [(KINDS[key[1]][2], key) for key, _ in leg["sources"]]
            kinds += [(KINDS[to[0][1]][3], to[0]) for to in leg["destinations"] if to[0] is not None]
            if any(party not in allowed for allowed, _ in kinds):
                raise Refused("KIND_NOT_ALLOWED")
            if reverses is None:
                _check_debts(leg)
        for leg in legs:
            if leg["payment"] is not None and self.payments[leg["payment"]]["payer"][2] != leg["amount"][0]:
                raise Refused("CURRENCY_MISMATCH")
        self._check_movable(
            [(*key, leg["amount"][0]) for leg in legs for key, _ in leg["sources"]],
            [(*to[0], leg["amount"][0]) for leg in legs for to in leg["destinations"] if to[0] is not None],
        )
        draft = Draft(self)
        short: Refused | None = None
        try:
            moved = [self._spread(draft, leg) for leg in legs]
            for leg, from_fund in zip(legs, moved, strict=True):
                self._charge_debtor(draft, legs, leg, from_fund)
        except Refused as refused:
            short = refused
        # What goes back is told before whether the money is there.
        given = self._given_back(legs)
        for payment_number in given:
            if self.payments[payment_number]["state"] not in PAID:
                raise Refused("PAYMENT_STATE_INVALID")
        if reverses is not None and self.transactions[reverses]["reversed"]:
            raise Refused("ALREADY_REVERSED")
        for payment_number, gifts in given.items():
            payment = self.payments[payment_number]
            if sum(gifts.values()) > payment["captured"] - payment["refunded"]:
                raise Refused("REFUND_AMOUNT_EXCEEDED")
            for key, part in zip(payment["receivers"], payment["parts"], strict=False):
                if gifts.get(key, 0) > part["captured"] - part["refunded"]:
                    raise Refused("REFUND_AMOUNT_EXCEEDED")
        if short is not None:
            raise short
        number = draft.record(effective_s, reverses)
        if reverses is not None:
            self.transactions[reverses]["reversed"] = True
        for payment_number, gifts in given.items():
            payment = self.payments[payment_number]
            payment["transaction"] = number
            self._give_back(payment, gifts)
        return {"transaction": number, "transfers": self.transactions[number]["transfers"], "reverses": reverses}

    def _spread(self, draft: Draft, leg: Body) -> list[int]:
        """Moves a leg's money, and tells what of it the guarantee fund gave."""
        currency = leg["amount"][0]
        moves = self._plan(draft, leg)
        for debit, credit, minor in moves:
            facts = {"payment": leg["payment"], "purpose": leg["purpose"]}
            draft.move("POSTED", (*debit, currency), (*credit, currency), minor, **facts)
        return [minor for debit, _, minor in moves if debit == FUND]

    def _charge_debtor(self, draft: Draft, legs: list[Body], leg: Body, from_fund: list[int]) -> None:
        """What the fund gave as a compensation is owed by whose deposit stands for it, else by who was paid."""
        if leg["purpose"] != "COMPENSATION":
            return
        payment = self.payments[leg["payment"]]
        fellows = [each for each in (leg, *legs) if each["payment"] == leg["payment"]]
        deposits = [key for each in fellows for key, _ in each["sources"] if key[1] == "guarantee.deposit"]
        debtor = deposits[0][0] if deposits else payment["beneficiary"] or payment["payee"][0]
        if debtor.startswith("subjects/"):
            for minor in from_fund:
                currency = leg["amount"][0]
                draft.move("POSTED", (debtor, "receivable.guarantee", currency), (*RECOVERABLE, currency), minor)

    def _plan(self, draft: Draft, leg: Body, *, lacking: bool = False) -> list[tuple[Any, Any, int]]:
        """Whose money goes to whom. Raises Refused where the sources have too little, unless told to go on."""
        currency, minor = leg["amount"]
        if leg["plain"]:
            return [(leg["sources"][0][0], leg["destinations"][0][0], minor)]
        wishes = [(how, number, cap) for _, how, number, cap in leg["destinations"]]
        parts = divide(minor, wishes, 10_000, leg["policy"])
        wanted = [(to[0], part) for to, part in zip(leg["destinations"], parts, strict=True) if to[0] and part]
        need = sum(part for _, part in wanted)
        gives = []
        for source, cap in leg["sources"]:
            side, unbound, _, _ = KINDS[source[1]]
            has = need if unbound or side == "D" else available((*source, currency), draft.account((*source, currency)))
            gift = max(0, min(need, has, has if cap is None else cap))
            gives.append([source, gift])
            need -= gift
        if need and not lacking:
            raise Refused("INSUFFICIENT_FUNDS")
        moves = []
        for to, part in wanted:
            for give in gives:
                minor = min(part, give[1])
                if minor:
                    moves.append((give[0], to, minor))
                    give[1] -= minor
                    part -= minor
        return moves

    def _given_back(self, legs: list[Body]) -> dict[int, dict[Key, int]]:
        """Per payment, what each account gives back of it."""
        found: dict[int, dict[Key, int]] = {}
        draft = Draft(self)
        for leg in legs:
            currency, number = leg["amount"][0], leg["payment"]
            for debit, credit, minor in self._plan(draft, leg, lacking=True):
                gives, takes = (*debit, currency), (*credit, currency)
                draft.touch(gives)["dd"] += minor
                draft.touch(takes)["cc"] += minor
                if number is not None and (leg["purpose"] or takes == self.payments[number]["payer"]):
                    gifts = found.setdefault(number, {})
                    gifts[gives] = gifts.get(gives, 0) + minor
        return found

    # --- rails ----------------------------------------------------------------------------------------------------

    def _CreateTopUp(self, party: str, subject: str, body: Body) -> Any:
        """The rail answers at once, and well unless its instrument says "decline"."""
        currency, minor = body["amount"]
        wallet = (body["owner"], WALLET, currency)
        if body["rail"] != RAIL:
            raise Refused("RAIL_UNKNOWN")
        if party not in PAYING or (party == "user" and subject != body["owner"]):
            raise Refused("KIND_NOT_ALLOWED")
        self._check_movable([], [wallet])
        accepted = body["instrument"] != "decline"
        made = {"wallet": wallet, "minor": minor, "state": "SUCCEEDED" if accepted else "FAILED"}
        if accepted:
            self._post_at_once([((RAIL, "rail.in_transit", currency), wallet, minor)])
        self.top_ups.append(made)
        return {"number": len(self.top_ups) - 1, "state": made["state"]}

    def _CreateWithdrawal(self, party: str, subject: str, body: Body) -> Any:
        currency, minor = body["amount"]
        source, waiting = (body["owner"], body["kind"], currency), ("platform", "clearing.payout", currency)
        if body["rail"] != RAIL:
            raise Refused("RAIL_UNKNOWN")
        mine = party in PAYING and (party != "user" or subject == body["owner"])
        if body["kind"] not in (WALLET, PAYABLE) or not mine:
            raise Refused("KIND_NOT_ALLOWED")
        self._check_movable([source], [])
        self._count(body["owner"], body["limit_class"], currency, minor)
        self._post_at_once([(source, waiting, minor)])
        self._use(body["owner"], body["limit_class"], currency, minor)
        accepted = body["instrument"] != "decline"
        self._post_at_once([(waiting, (RAIL, "rail.settled", currency) if accepted else source, minor)])
        self.withdrawals.append({"state": "SUCCEEDED" if accepted else "FAILED"})
        return {"number": len(self.withdrawals) - 1, "state": self.withdrawals[-1]["state"]}

    def _ReportRailResult(self, party: str, subject: str, body: Body) -> Any:
        """RETURNED, of a top-up: what its wallet no longer has is owed."""
        if not 0 <= body["movement"] < len(self.top_ups):
            raise Refused("MOVEMENT_NOT_FOUND")
        if party != "operator":
            raise Refused("KIND_NOT_ALLOWED")
        made = self.top_ups[body["movement"]]
        if made["state"] == "FAILED":
            raise Refused("RAIL_RESULT_CONFLICTS")
        changed = made["state"] == "SUCCEEDED"
        if changed:
            owner, _, currency = made["wallet"]
            closed = self.account(made["wallet"])["state"] == "CLOSED"
            giver = (*SUSPENSE, currency) if closed else made["wallet"]
            there = made["minor"] if closed else min(made["minor"], available(giver, self.account(giver)))
            debt = (owner, "receivable.user", currency)
            rail = (RAIL, "rail.in_transit", currency)
            self._post_at_once([(giver, rail, there), (debt, rail, made["minor"] - there)])
            made["state"] = "RETURNED"
        return {"number": body["movement"], "state": made["state"], "changed": changed}

    def _post_at_once(self, legs: list[tuple[Key, Key, int]]) -> None:
        draft = Draft(self)
        for debit, credit, minor in legs:
            if minor:
                draft.move("POSTED", debit, credit, minor)
        draft.record()

    # --- accounts and limits --------------------------------------------------------------------------------------

    def _FreezeAccount(self, party: str, subject: str, body: Body) -> Any:
        account = self._find_account(party, body["name"])
        account["state"] = f"FROZEN_{body['scope']}"
        return self._change(body["name"], account)

    def _UnfreezeAccount(self, party: str, subject: str, body: Body) -> Any:
        account = self._find_account(party, body["name"])
        account["state"] = "OPEN"
        return self._change(body["name"], account)

    def _CloseAccount(self, party: str, subject: str, body: Body) -> Any:
        account = self._find_account(party, body["name"], closing=True)
        if account["state"] != "OPEN":
            raise Refused("ACCOUNT_FROZEN")
        owner, _, currency = body["name"]
        for each in (account, *[self.account((owner, kind, currency)) for kind in WRITTEN_OFF_FROM]):
            if each["dd"] != each["cc"] or each["dp"] or each["cp"]:
                raise Refused("ACCOUNT_NOT_EMPTY")
        account["state"] = "CLOSED"
        return self._change(body["name"], account)

    def _SetLimits(self, party: str, subject: str, body: Body) -> Any:
        if party != "operator":
            raise Refused("KIND_NOT_ALLOWED")
        self.limits[body["scope"], body["currency"]] = {
            period: body[f"per_{period}_minor"] for period in ("transaction", "day", "month")
        }
        return {"limits": dict(self.limits[body["scope"], body["currency"]])}

    # --- what several of them do ----------------------------------------------------------------------------------

    def _find_account(self, party: str, key: Key, *, closing: bool = False) -> dict[str, Any]:
        if key not in self.accounts or (party == "partner" and not key[0].startswith("subjects/")):
            raise Refused("ACCOUNT_NOT_FOUND")
        if party != "operator" or not KINDS[key[1]][2] or (closing and never_closed(key)):
            raise Refused("KIND_NOT_ALLOWED")
        if self.accounts[key]["state"] == "CLOSED":
            raise Refused("ACCOUNT_CLOSED")
        return dict(self.accounts[key])

    def _change(self, key: Key, account: dict[str, Any]) -> Any:
        self.accounts[key] = account
        return {"account": key, **account}

    def _find_payment(self, party: str, subject: str, number: int) -> dict[str, Any]:
        if 0 <= number < len(self.payments):
            payment = self.payments[number]
            seen_by = {payment["payer"][0], payment["payee"][0], payment["beneficiary"]}
            if party != "user" or subject in seen_by:
                return payment
        raise Refused("PAYMENT_NOT_FOUND")

    def _check_may_move(self, party: str, subject: str, payment: dict[str, Any], *, giving: bool) -> None:
        for owner, kind in (payment["payee"], *[key[:2] for key in payment["receivers"]]):
            concerned = owner == payment["payee"][0] or (giving and owner != "platform")
            stranger = party == "user" and concerned and owner != subject
            if party not in PAYING or stranger or (kind == TRADE and party != "escrow"):
                raise Refused("KIND_NOT_ALLOWED")

    def _check_currency(self, payment: dict[str, Any], amount: tuple[str, int] | None) -> None:
        if amount is not None and amount[0] != payment["payer"][2]:
            raise Refused("CURRENCY_MISMATCH")

    def _check_movable(self, debits: Iterable[Key], credits: Iterable[Key]) -> None:
        giving = [self.account(key)["state"] for key in debits]
        taking = [self.account(key)["state"] for key in credits]
        if "CLOSED" in giving + taking:
            raise Refused("ACCOUNT_CLOSED")
        if set(giving) - {"OPEN"} or "FROZEN_ALL" in taking:
            raise Refused("ACCOUNT_FROZEN")

    def _applying(self, payer: str, limit_class: str, currency: str) -> list[dict[str, int | None]]:
        scopes = [payer, *([f"limitClasses/{limit_class}"] if limit_class else [])]
        return [self.limits[scope, currency] for scope in scopes if (scope, currency) in self.limits]

    def _count(self, payer: str, limit_class: str, currency: str, minor: int) -> None:
        today = self.now // 86_400
        paid = self.usage.get((payer, currency), [])
        used = {
            "transaction": 0,
            "day": sum(each for day, each in paid if day == today),
            "month": sum(each for day, each in paid if _month(day) == _month(today)),
        }
        for limits in self._applying(payer, limit_class, currency):
            for period, most in limits.items():
                if most is not None and used[period] + minor > most:
                    raise Refused("LIMIT_EXCEEDED")

    def _use(self, payer: str, limit_class: str, currency: str, minor: int) -> None:
        if self._applying(payer, limit_class, currency):
            self.usage.setdefault((payer, currency), []).append((self.now // 86_400, minor))

    def _receivers(self, payment: dict[str, Any]) -> list[Key]:
        return list(payment["receivers"])

    def _take(self, number: int, minor: int, *, last: bool) -> None:
        """Takes so much of a hold; unless it is the last time, what is left is held anew."""
        payment = self.payments[number]
        held, payer = held_of(payment), payment["payer"]
        clearing = (*CLEARING, payer[2])
        draft = Draft(self)
        draft.move("POST", payer, clearing, minor, held=held, payment=number)
        self._deal_out(draft, payment, clearing, minor, number)
        payment["captured"] += minor
        if last:
            payment["state"] = "CAPTURED"
            payment["released"] += held - minor
        else:
            payment["state"] = "PARTIALLY_CAPTURED"
            draft.move("PENDING", payer, clearing, held - minor, payment=number)
        payment["transaction"] = draft.record()

    def _deal_out(self, draft: Draft, payment: dict[str, Any], source: Key, minor: int, number: int) -> None:
        shares = [minor]
        if payment["parts"]:
            done = [part["captured"] for part in payment["parts"]]
            # Fixed parts take, before the rest does, what shares leave, up to what was fixed.
            order = sorted(range(len(done)), key=lambda place: payment["parts"][place]["terms"][0] != "fixed")
            wishes = []
            for place in order:
                how, value, cap = payment["parts"][place]["terms"]
                wishes.append(("rest", 0, value) if how == "fixed" else (how, value, cap))
            found = divide(sum(done) + minor, wishes, 10_000, payment["policy"])
            due = [found[order.index(place)] for place in range(len(done))]
            shares = towards(minor, due, done, [minor] * len(done))
        for key, share in zip(payment["receivers"], shares, strict=True):
            if share:
                draft.move("POSTED", source, key, share, payment=number)
        for part, share in zip(payment["parts"], shares, strict=False):
            part["captured"] += share

    def _let_go(self, number: int, kind: str, state: str) -> None:
        payment = self.payments[number]
        held = held_of(payment)
        draft = Draft(self)
        draft.move(kind, payment["payer"], (*CLEARING, payment["payer"][2]), held, held=held, payment=number)
        payment["released"] += held
        payment["state"] = "CAPTURED" if payment["captured"] else state
        payment["transaction"] = draft.record()

    def _give_back(self, payment: dict[str, Any], gifts: dict[Key, int]) -> None:
        payment["refunded"] += sum(gifts.values())
        for key, part in zip(payment["receivers"], payment["parts"], strict=False):
            part["refunded"] += gifts.get(key, 0)


def never_closed(key: Key) -> bool:
    """The platform's accounts, and those that keep debts."""
    return key[0] == "platform" or key[1] in WRITTEN_OFF_FROM


def held_of(payment: dict[str, Any]) -> int:
    """What is held for a payment that holds."""
    return int(payment["amount"] - payment["captured"] - payment["released"])


def _month(day: int) -> tuple[int, int]:
    date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
    return date.year, date.month


def _check_money(amount: tuple[str, int]) -> None:
    if amount[1] <= 0:
        raise Refused("AMOUNT_NOT_POSITIVE")
    if amount[0] not in CURRENCIES:
        raise Refused("CURRENCY_UNKNOWN")


def _check_payment_message(body: Body) -> None:
    wallet = (body["payer"], WALLET)
    destinations = [term[0] for term in body["splits"]]
    wrong = [
        body["payee"] == wallet,
        body["capture_mode"] != "MANUAL" and (body["hold_lifetime"] is not None or body["on_expiry"] != "CANCEL"),
        len(set(destinations)) < len(destinations) or wallet in destinations,
        any(how == "fixed" and cap is not None for _, how, _, cap in body["splits"]),
        bool(destinations) and body["payee"] not in destinations,
        bool(destinations) != bool(body["remainder_policy"]),
    ]
    if any(wrong):
        raise Refused("FIELD_INVALID")
    _check_money(body["amount"])
    if destinations:
        if sum(value for _, how, value, _ in body["splits"] if how == "share") > 10_000:
            raise Refused("SPLIT_NOT_WHOLE")
        divide(body["amount"][1], [term[1:] for term in body["splits"]], 10_000, body["remainder_policy"])


def _check_debts(leg: Body) -> None:
    """Debts are paid by rule, or written off from their own loss account."""
    debits = [key for key, _ in leg["sources"]]
    credits = [to[0] for to in leg["destinations"] if to[0] is not None]
    for key in debits + credits:
        if key == RECOVERABLE:
            raise Refused("KIND_NOT_ALLOWED")
    for key in credits:
        loss = WRITTEN_OFF_FROM.get(key[1])
        if loss is not None and set(debits) != {("platform", loss)}:
            raise Refused("KIND_NOT_ALLOWED")


def _check_legs(legs: list[Body]) -> None:
    if any(leg["purpose"] and leg["payment"] is None for leg in legs):
        raise Refused("FIELD_INVALID")
    if any(leg["amount"][1] <= 0 for leg in legs):
        raise Refused("AMOUNT_NOT_POSITIVE")
    if any(leg["amount"][0] not in CURRENCIES for leg in legs):
        raise Refused("CURRENCY_UNKNOWN")
    for leg in legs:
        sources = [source for source, _ in leg["sources"]]
        if len(set(sources)) < len(sources) or set(sources) & {to[0] for to in leg["destinations"]}:
            raise Refused("LEGS_INVALID")
    for leg in legs:
        parts = divide(leg["amount"][1], [to[1:] for to in leg["destinations"]], 10_000, leg["policy"])
        if not any(part for to, part in zip(leg["destinations"], parts, strict=True) if to[0] is not None):
            raise Refused("SPLIT_NOT_WHOLE")
