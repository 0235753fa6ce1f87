"""Refund cases, disputes and claims through the gateway, with the real books: the design's numbers to the last unit."""

import uuid

import pytest

from danbao_local import demo, membership_calls
from danbao_local.client import CallFailed

TRADES = "danbao.escrow.v1.TradeService"
REFUNDS = "danbao.escrow.v1.RefundService"
DISPUTES = "danbao.escrow.v1.DisputeService"
CLAIMS = "danbao.escrow.v1.CompensationService"
ACCOUNTS = "danbao.payments.v1.AccountService"
LEDGER = "danbao.payments.v1.LedgerService"

pytestmark = pytest.mark.usefixtures("books_balance")


class Deal:
    """A shipped trade between a buyer and a seller of its own, and what is asked about it."""

    def __init__(self, client, amount, *, seller=None, **fields):
        tail = uuid.uuid4().hex[:8]
        self.client = client
        self.parties = {
            "BUYER": f"subjects/b-{tail}",
            "SELLER": seller or f"subjects/s-{tail}",
            "ARBITER": "subjects/j",
        }
        top_up = demo.top_up_body(10 * amount) | {"owner": self.parties["BUYER"]}
        client.call("danbao.payments.v1.PaymentService/CreateTopUp", top_up, role="partner")
        self.topped_up = 10 * amount
        line = {"lineId": "1", "title": "thing", "amount": demo.money(amount)}
        body = {"buyer": self.parties["BUYER"], "seller": self.parties["SELLER"], "lines": [line]}
        body |= {"total": demo.money(amount), **fields}
        self.name = self.ask(f"{TRADES}/CreateTrade", "BUYER", **body).name
        for method, role, extra in (
            ("PayTrade", "BUYER", {}),
            ("ShipLines", "SELLER", {"carrier": "S", "tracking": "1"}),
        ):
            self.trade = self.ask(f"{TRADES}/{method}", role, name=self.name, **extra)

    def ask(self, rpc, role, **fields):
        actor = {"subject": self.parties[role], "role": f"ROLE_{role}"}
        body = {"requestId": demo.new_id(), "actor": actor, **fields}
        return self.client.call(rpc, body, role="arbiter" if role == "ARBITER" else "partner")

    def case(self, amount, **fields):
        return self.ask(
            f"{REFUNDS}/OpenRefundCase",
            "BUYER",
            trade=self.name,
            lineId="1",
            amount=demo.money(amount),
            reasonCode="REFUND_REASON_DAMAGED",
            **fields,
        )

    def confirm(self):
        return self.ask(f"{TRADES}/ConfirmLines", "BUYER", name=self.name)

    def dispute(self, amount):
        case = self.case(amount)
        self.ask(f"{REFUNDS}/RejectRefundCase", "SELLER", name=case.name, reason="no")
        return self.ask(f"{DISPUTES}/OpenDispute", "BUYER", refundCase=case.name)

    def balance(self, owner, kind):
        accounts = self.client.call(f"{ACCOUNTS}/ListAccounts", {"owner": owner}, role="operator").accounts
        found = [account for account in accounts if account.kind == kind]
        if not found:
            return 0
        grown = found[0].credits_posted_minor - found[0].debits_posted_minor
        return -grown if kind.startswith("receivable.") else grown

    def spent(self):
        return self.topped_up - self.balance(self.parties["BUYER"], "user.available")

    def earned(self):
        """All that is the seller's, whether it is kept back or not."""
        seller = self.parties["SELLER"]
        return self.balance(seller, "seller.payable") + self.balance(seller, "seller.payable_held")

    def held(self):
        return self.balance(self.name, "escrow.trade")


def test_half_refunded_and_the_rest_released_with_both_fees(client):
    fees = client.call(f"{ACCOUNTS}/ListAccounts", {"owner": "platform"}, role="operator").accounts
    before = sum(each.credits_posted_minor for each in fees if each.kind == "fee.escrow")
    deal = Deal(client, 20_000, feeBps=300, buyerFeeBps=100)
    assert deal.spent() == deal.held() == 20_200
    case = deal.ask(f"{REFUNDS}/AcceptRefundCase", "SELLER", name=deal.case(10_000).name)
    assert (demo.state_name(case), case.refunded_minor) == ("SUCCEEDED", 10_100)
    assert deal.spent() == 10_100
    assert demo.state_name(deal.confirm()) == "COMPLETED"
    assert (deal.earned(), deal.held()) == (9700, 0)
    fees = client.call(f"{ACCOUNTS}/ListAccounts", {"owner": "platform"}, role="operator").accounts
    assert sum(each.credits_posted_minor for each in fees if each.kind == "fee.escrow") - before == 400


def test_a_dispute_decided_twice_divides_what_was_frozen(client):
    deal = Deal(client, 10_000, feeBps=600)
    dispute = deal.dispute(10_000)
    first = deal.ask(
        f"{DISPUTES}/DecideDispute", "ARBITER", name=dispute.name, buyerMinor=0, sellerMinor=10_000, reason="no proof"
    )
    assert demo.state_name(first) == "DECIDED"
    deal.ask(f"{DISPUTES}/AppealDispute", "BUYER", name=dispute.name, reason="here it is")
    last = deal.ask(
        f"{DISPUTES}/DecideDispute", "ARBITER", name=dispute.name, buyerMinor=3500, sellerMinor=6500, reason="so be it"
    )
    assert (demo.state_name(last), last.decision.final) == ("CLOSED", True)
    assert (deal.spent(), deal.earned(), deal.held()) == (6500, 6110, 0)
    trade = client.call(f"{TRADES}/GetTrade", {"name": deal.name}, role="partner")
    assert (demo.state_name(trade), trade.fees_minor, trade.refunded_minor) == ("COMPLETED", 390, 3500)
    timeline = client.call(f"{TRADES}/ListTradeTimeline", {"trade": deal.name}, role="arbiter").entries
    paid = timeline[-1]
    assert (paid.command, paid.token_subject, paid.subject) == ("DecideDispute", "subjects/demo-arbiter", dispute.name)
    transaction = client.call(f"{LEDGER}/GetTransaction", {"name": paid.ledger_reference}, role="operator")
    assert [each.amount.amount_minor for each in transaction.transfers] == [
        3500,
        390,
        *[each.amount.amount_minor for each in transaction.transfers[2:]],
    ]
    assert paid.trace_id


def test_an_agreement_pays_both_and_the_rest_of_the_line_goes_on(client):
    deal = Deal(client, 10_000, feeBps=0)
    dispute = deal.dispute(4000)
    deal.ask(f"{DISPUTES}/MakeOffer", "SELLER", name=dispute.name, buyerMinor=1000, sellerMinor=3000)
    closed = deal.ask(f"{DISPUTES}/AcceptOffer", "BUYER", name=dispute.name)
    assert demo.state_name(closed) == "CLOSED"
    assert (deal.spent(), deal.earned(), deal.held()) == (9000, 3000, 6000)
    assert demo.state_name(deal.confirm()) == "COMPLETED"
    assert (deal.spent(), deal.earned(), deal.held()) == (9000, 9000, 0)


def test_deposit_and_fund_compensate_and_the_fund_gets_it_back(client):
    seller, _ = membership_calls.joined(client)
    # Both with the terms of before: what is found of one must not change the other's.
    deal, earlier = Deal(client, 100_000, seller=seller, feeBps=200), Deal(client, 40_000, seller=seller, feeBps=0)
    deal.confirm()
    earlier.confirm()
    _as_operator(client, [_leg(("platform", "opening"), ("platform", "guarantee.fund"), 1_000_000)])
    fund_before = deal.balance("platform", "guarantee.fund") - 1_000_000
    small = earlier.ask(f"{CLAIMS}/OpenClaim", "BUYER", trade=earlier.name, amount=demo.money(40_000), reason="lost")
    goodwill = {"name": small.name, "compensationMinor": 40_000, "reason": "lost", "finding": "FINDING_NOT_FRAUD"}
    earlier.ask(f"{CLAIMS}/DecideClaim", "ARBITER", **goodwill)
    assert deal.balance(seller, "guarantee.deposit") == 60_000
    claim = deal.ask(
        f"{CLAIMS}/OpenClaim", "BUYER", trade=deal.name, amount=demo.money(100_000), reason="it was a forgery"
    )
    owed_before = deal.balance(seller, "receivable.guarantee")
    body = {
        "requestId": demo.new_id(),
        "actor": {"subject": "subjects/j", "role": "ROLE_ARBITER"},
        "name": claim.name,
        "compensationMinor": 100_000,
        "finding": "FINDING_NOT_FRAUD",
        "reason": "made whole; nobody cheated",
    }
    paid = client.call(f"{CLAIMS}/DecideClaim", body, role="arbiter")
    assert (demo.state_name(paid), paid.compensated_minor) == ("COMPENSATED", 100_000)
    assert deal.spent() == 0
    assert deal.balance(seller, "guarantee.deposit") == 0
    assert deal.balance("platform", "guarantee.fund") == fund_before + 960_000
    assert deal.balance(seller, "receivable.guarantee") == owed_before + 40_000
    assert client.call(f"{CLAIMS}/DecideClaim", body, role="arbiter") == paid
    assert deal.balance("platform", "guarantee.fund") == fund_before + 960_000, "once"
    _as_operator(client, [_leg(("platform", "goodwill"), (seller, "seller.payable"), 25_000)])
    assert deal.balance("platform", "guarantee.fund") == fund_before + 985_000
    assert deal.balance(seller, "receivable.guarantee") == owed_before + 15_000


def test_too_little_guarantee_moves_nothing(client):
    seller, _ = membership_calls.joined(client)
    deal = Deal(client, 1_900_000, seller=seller, feeBps=0)
    deal.confirm()
    fund = deal.balance("platform", "guarantee.fund")
    claim = deal.ask(f"{CLAIMS}/OpenClaim", "BUYER", trade=deal.name, amount=demo.money(200_000), reason="forged")
    if fund > 100:
        _as_operator(client, [_leg(("platform", "guarantee.fund"), ("platform", "opening"), fund - 100)])
    with pytest.raises(CallFailed) as refused:
        deal.ask(f"{CLAIMS}/DecideClaim", "ARBITER", name=claim.name, compensationMinor=200_000, reason="it was")
    assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "GUARANTEE_EXHAUSTED")
    assert deal.spent() == 1_900_000
    still = client.call(f"{CLAIMS}/GetClaim", {"name": claim.name}, role="arbiter")
    assert demo.state_name(still) == "OPEN"


def _leg(debit, credit, amount):
    keys = [{"owner": owner, "kind": kind} for owner, kind in (debit, credit)]
    return {"debit": keys[0], "credit": keys[1], "amount": demo.money(amount)}


def _as_operator(client, legs):
    return client.call(f"{LEDGER}/PostTransaction", {"requestId": demo.new_id(), "legs": legs}, role="operator")
