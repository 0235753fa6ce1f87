"""A seller whose accounts are frozen for everything: the money stays in escrow, visibly, and is released once later."""

import time
import uuid

import pytest

from danbao_local import demo
from danbao_local.client import CallFailed

TRADES = "danbao.escrow.v1.TradeService"
ACCOUNTS = "danbao.payments.v1.AccountService"
LEDGER = "danbao.payments.v1.LedgerService"
KINDS = ("seller.payable", "seller.payable_held")

pytestmark = pytest.mark.usefixtures("books_balance")


class Frozen:
    """Two shipped trades of one seller, whose accounts are frozen for ALL."""

    def __init__(self, client):
        self.client = client
        tail = uuid.uuid4().hex[:8]
        self.parties = {"BUYER": f"subjects/fb-{tail}", "SELLER": f"subjects/fs-{tail}"}
        opened = [{"owner": self.parties["SELLER"], "kind": kind, "currency": demo.CURRENCY} for kind in KINDS]
        body = {"requestId": demo.new_id(), "accounts": opened}
        made = client.call(f"{ACCOUNTS}/BatchCreateAccounts", body, role="operator").accounts
        self.accounts = [account.name for account in made]
        top_up = demo.top_up_body(100_000) | {"owner": self.parties["BUYER"]}
        client.call("danbao.payments.v1.PaymentService/CreateTopUp", top_up, role="partner")
        self.one, self.other = self.shipped(), self.shipped()
        for name in self.accounts:
            body = {"requestId": demo.new_id(), "name": name, "scope": "FREEZE_SCOPE_ALL"}
            client.call(f"{ACCOUNTS}/FreezeAccount", body, role="operator")

    def ask(self, method, role, **fields):
        actor = {"subject": self.parties[role], "role": f"ROLE_{role}"}
        body = {"requestId": demo.new_id(), "actor": actor, **fields}
        return self.client.call(f"{TRADES}/{method}", body, role="partner")

    def shipped(self):
        lines = [{"lineId": "1", "title": "thing", "amount": demo.money(10_000)}]
        new = {"lines": lines, "total": demo.money(10_000), "feeBps": 500}
        new |= {"buyer": self.parties["BUYER"], "seller": self.parties["SELLER"]}
        name = self.ask("CreateTrade", "BUYER", **new).name
        self.ask("PayTrade", "BUYER", name=name)
        self.ask("ShipLines", "SELLER", name=name, carrier="S", tracking="1")
        return name

    def unfreeze(self):
        for name in self.accounts:
            body = {"requestId": demo.new_id(), "name": name}
            self.client.call(f"{ACCOUNTS}/UnfreezeAccount", body, role="operator")

    def trade(self, name):
        return self.client.call(f"{TRADES}/GetTrade", {"name": name}, role="partner")

    def balance(self, owner, kind):
        accounts = self.client.call(f"{ACCOUNTS}/ListAccounts", {"owner": owner}, role="operator").accounts
        return sum(each.credits_posted_minor - each.debits_posted_minor for each in accounts if each.kind == kind)

    def movements(self, name):
        """Of a trade's account."""
        accounts = self.client.call(f"{ACCOUNTS}/ListAccounts", {"owner": name}, role="operator").accounts
        body = {"account": accounts[0].name}
        return len(self.client.call(f"{ACCOUNTS}/ListEntries", body, role="operator").entries)


def test_a_release_waits_until_the_seller_is_unfrozen_and_then_happens_once(client):
    frozen = Frozen(client)
    blocked = frozen.ask("ConfirmLines", "BUYER", name=frozen.one)
    assert (blocked.step_pending, blocked.step_blocked, blocked.step_refusal) == (True, True, "ACCOUNT_FROZEN")
    assert demo.state_name(blocked) == "AWAITING_CONFIRMATION"
    assert frozen.balance(frozen.one, "escrow.trade") == 10_000, "the money stays"
    with pytest.raises(CallFailed) as refused:
        frozen.ask("ConfirmLines", "BUYER", name=frozen.one)
    assert refused.value.reason == "STEP_IN_FLIGHT", "it is being released: nobody asks for that twice"
    timeline = client.call(f"{TRADES}/ListTradeTimeline", {"trade": frozen.one}, role="partner").entries
    assert (timeline[-1].command, timeline[-1].reason) == ("ConfirmLines", "ACCOUNT_FROZEN")
    frozen.unfreeze()
    deadline = time.monotonic() + 75
    while demo.state_name(frozen.trade(frozen.one)) != "COMPLETED":
        assert time.monotonic() < deadline, "it was not released"
        time.sleep(0.2)
    done = frozen.trade(frozen.one)
    assert (done.released_minor, done.step_blocked, done.step_refusal) == (10_000, False, "")
    assert frozen.balance(frozen.one, "escrow.trade") == 0
    assert sum(frozen.balance(frozen.parties["SELLER"], kind) for kind in KINDS) == 9500, "once"
    funded_and_out = 1 + len({"fee", "seller", "reserve"})
    assert frozen.movements(frozen.one) <= funded_and_out
    again = frozen.ask("ConfirmLines", "BUYER", name=frozen.other)
    assert demo.state_name(again) == "COMPLETED"


def test_a_frozen_seller_keeps_no_money_from_going_back(client):
    frozen = Frozen(client)
    actor = {"subject": frozen.parties["BUYER"], "role": "ROLE_BUYER"}
    case = {"requestId": demo.new_id(), "actor": actor, "trade": frozen.one, "lineId": "1"}
    case |= {"amount": demo.money(10_000), "reasonCode": "REFUND_REASON_DAMAGED"}
    opened = client.call("danbao.escrow.v1.RefundService/OpenRefundCase", case, role="partner")
    accept = {"requestId": demo.new_id(), "name": opened.name}
    accept["actor"] = {"subject": frozen.parties["SELLER"], "role": "ROLE_SELLER"}
    done = client.call("danbao.escrow.v1.RefundService/AcceptRefundCase", accept, role="partner")
    assert (demo.state_name(done), done.refunded_minor) == ("SUCCEEDED", 10_000)
    assert demo.state_name(frozen.trade(frozen.one)) == "CLOSED"
    frozen.unfreeze()
