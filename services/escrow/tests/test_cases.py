"""Refund cases, disputes and claims as callers meet them: through the RPCs, on the real PostgreSQL."""

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC
from uuid import UUID

import pytest

from danbao.escrow.v1 import claim_pb2, dispute_pb2, event_pb2, refund_pb2, trade_pb2
from danbao_escrow.domain.model import Actor
from danbao_escrow.rpc.requests import actor_of
from danbao_kit.fingerprint import fingerprint
from danbao_kit.testing.service import as_caller

T, L = trade_pb2.Trade.State, trade_pb2.Line.State
C, D, K = refund_pb2.RefundCase.State, dispute_pb2.Dispute.State, claim_pb2.Claim.State
BUYER, SELLER = "subjects/buyer", "subjects/seller"
WALLET, PAYABLE, FEE = "user.available", "seller.payable", "fee.escrow"
DEPOSIT, FUND = "guarantee.deposit", "guarantee.fund"


@dataclass(frozen=True, slots=True)
class DecideClaimBefore:
    """The business of a decision as it was before there were findings."""

    actor: Actor
    name: UUID
    compensation_minor: int
    reason: str


async def reason_of(refusal, call):
    with pytest.raises(refusal) as refused:
        await call
    return refused.value


def books(stack, trade):
    """Buyer's spendings, seller, fees, and what is held; minor units."""
    of = stack.payments.balances
    return (10**9 - of[BUYER, WALLET], of[SELLER, PAYABLE], of["platform", FEE], of[trade.name, "escrow.trade"])


async def kinds(stack):
    return [event.WhichOneof("payload") for event in await stack.events()]


async def test_a_case_without_return_gives_the_money_back(stack, client):
    trade = await client.shipped(3000, 5000, fee_bps=500)
    case = await client.ask(
        "OpenRefundCase", trade, "BUYER", line_id="2", amount={"currency": "CNY", "amount_minor": 2000}, reason="broken"
    )
    assert (case.state, case.amount_minor, case.line_id, case.reason) == (C.STATE_REQUESTED, 2000, "2", "broken")
    assert case.name.startswith("refundCases/")
    under = await client.trade(trade.name)
    assert [line.open_case for line in under.lines] == ["", case.name]
    accepted = await client.ask("AcceptRefundCase", case, "SELLER")
    assert (accepted.state, accepted.refunded_minor, accepted.step_pending) == (C.STATE_SUCCEEDED, 2000, False)
    assert accepted.HasField("end_time")
    assert books(stack, trade) == (6000, 0, 0, 6000)
    after = await client.trade(trade.name)
    assert (after.refunded_minor, after.lines[1].refunded_minor, after.lines[1].state) == (2000, 2000, L.STATE_SHIPPED)
    assert after.lines[1].open_case == ""
    done = await client.give("ConfirmLines", trade, "BUYER")
    assert (done.state, done.released_minor, done.lines[1].state) == (T.STATE_COMPLETED, 6000, L.STATE_RELEASED)
    assert books(stack, trade) == (6000, 5700, 300, 0)
    assert await client.seen(case) == accepted
    timeline = await client.timeline(trade)
    assert [(entry.command, entry.subject) for entry in timeline[3:]] == [
        ("OpenRefundCase", case.name),
        ("AcceptRefundCase", case.name),
        ("ConfirmLines", ""),
    ]
    refund = timeline[4]
    assert (refund.actor.role, refund.token_subject) == (trade_pb2.ROLE_SELLER, "subjects/shop-backend")
    assert (refund.amount.amount_minor, list(refund.line_ids)) == (2000, ["2"])
    assert refund.ledger_reference.startswith("transactions/")
    assert (await kinds(stack))[3:] == [
        "refund_case_opened",
        "lines_refunded",
        "refund_case_succeeded",
        "lines_released",
    ]


async def test_a_case_with_return_goes_through_every_state(stack, client):
    trade = await client.shipped(5000)
    case = await client.ask("OpenRefundCase", trade, "BUYER", with_return=True)
    states = [case.state]
    for method, role in (("AcceptRefundCase", "SELLER"), ("SubmitReturn", "BUYER"), ("ConfirmReturn", "SELLER")):
        case = await client.ask(method, case, role)
        states.append(case.state)
    assert states == [C.STATE_REQUESTED, C.STATE_AWAITING_RETURN, C.STATE_AWAITING_RECEIPT, C.STATE_SUCCEEDED]
    assert (case.return_carrier, case.return_tracking, case.refunded_minor) == ("SF", "R1", 1000)
    assert stack.payments.escrow_of(trade.name) == 4000
    assert (await kinds(stack))[3:] == [
        "refund_case_opened",
        "refund_case_accepted",
        "return_submitted",
        "lines_refunded",
        "refund_case_succeeded",
    ]


async def test_the_whole_of_the_last_line_with_its_postage(stack, client, refusal):
    trade = await client.shipped(3000, 5000, postage=1000, fee_bps=500)
    early = await reason_of(refusal, client.ask("OpenRefundCase", trade, "BUYER", claims_postage=True))
    assert early.reason == "TRADE_STATE_INVALID", "another line is open"
    await client.give("ConfirmLines", trade, "BUYER", line_ids=["2"])
    case = await client.ask(
        "OpenRefundCase", trade, "BUYER", claims_postage=True, amount={"currency": "CNY", "amount_minor": 3000}
    )
    assert (case.amount_minor, case.postage_minor) == (3000, 1000)
    case = await client.ask("AcceptRefundCase", case, "SELLER")
    after = await client.trade(trade.name)
    assert (case.refunded_minor, after.state, after.refunded_minor) == (4000, T.STATE_COMPLETED, 4000)
    assert books(stack, trade) == (5000, 4750, 250, 0)
    assert after.lines[0].state == L.STATE_REFUNDED


async def test_without_a_claim_the_postage_of_what_was_shipped_goes_to_the_seller(stack, client):
    trade = await client.shipped(3000, postage=1000, fee_bps=0)
    case = await client.ask("OpenRefundCase", trade, "BUYER", amount={"currency": "CNY", "amount_minor": 3000})
    await client.ask("AcceptRefundCase", case, "SELLER")
    assert books(stack, trade) == (1000, 1000, 0, 0)
    unshipped = await client.paid(3000, postage=1000, fee_bps=0)
    case = await client.ask("OpenRefundCase", unshipped, "BUYER", amount={"currency": "CNY", "amount_minor": 3000})
    await client.ask("AcceptRefundCase", case, "SELLER")
    assert (await client.trade(unshipped.name)).state == T.STATE_CLOSED
    assert books(stack, unshipped) == (1000, 1000, 0, 0), "nothing of the second"


async def test_half_goes_back_with_half_of_the_buyers_fee(stack, client):
    """The design's number: 20000 with a buyer's fee of 1 %, half refunded, the rest released at 3 %."""
    trade = await client.shipped(20_000, fee_bps=300, buyer_fee_bps=100)
    assert trade.funded_minor == 20_200
    case = await client.ask("OpenRefundCase", trade, "BUYER", amount={"currency": "CNY", "amount_minor": 10_000})
    case = await client.ask("AcceptRefundCase", case, "SELLER")
    assert case.refunded_minor == 10_100
    assert books(stack, trade) == (10_100, 0, 0, 10_100)
    done = await client.give("ConfirmLines", trade, "BUYER")
    assert books(stack, trade) == (10_100, 9700, 400, 0)
    assert (done.fees_minor, done.buyer_fee_released_minor, done.buyer_fee_refunded_minor) == (400, 100, 100)


async def test_a_dispute_that_an_arbiter_decides(stack, client, refusal):
    """The design's number: 10000 decided 3500 and 6500 with a seller's fee of 6 %."""
    trade = await client.shipped(10_000, fee_bps=600)
    dispute = await client.disputed(trade, amount={"currency": "CNY", "amount_minor": 10_000})
    assert (dispute.state, dispute.frozen_minor) == (D.STATE_OPEN, 10_000)
    wrong = await reason_of(
        refusal, client.ask("DecideDispute", dispute, "ARBITER", buyer_minor=3500, seller_minor=6499)
    )
    assert (wrong.reason, wrong.metadata["frozen_minor"]) == ("DECISION_NOT_EQUAL_FROZEN", "10000")
    decided = await client.ask("DecideDispute", dispute, "ARBITER", buyer_minor=3500, seller_minor=6500)
    assert (decided.state, decided.decision.final) == (D.STATE_DECIDED, False)
    assert decided.decision.made_by.role == trade_pb2.ROLE_ARBITER
    assert books(stack, trade) == (10_000, 0, 0, 10_000), "not before the time for an appeal has passed"
    await stack.advance(days=7)
    closed = await client.seen(dispute)
    assert closed.state == D.STATE_CLOSED
    assert books(stack, trade) == (6500, 6110, 390, 0)
    after = await client.trade(trade.name)
    assert (after.state, after.released_minor, after.refunded_minor) == (T.STATE_COMPLETED, 6500, 3500)
    case = await client.call("GetRefundCase", refund_pb2.GetRefundCaseRequest(name=dispute.refund_case))
    assert (case.state, case.refunded_minor, case.HasField("end_time")) == (C.STATE_DISPUTED, 3500, True)
    assert case.dispute == dispute.name
    assert (await client.timeline(trade))[-1].command == "AppealWindow"
    (operation,) = [each for each in stack.payments.operations.values() if each.HasField("post_transaction")]
    assert operation.post_transaction.legs[0].purpose == 2, "PURPOSE_DISPUTE"
    assert operation.post_transaction.legs[0].payment == after.payment


async def test_an_appeal_makes_the_second_decision_final(stack, client, refusal):
    trade = await client.shipped(10_000, fee_bps=600)
    dispute = await client.disputed(trade, amount={"currency": "CNY", "amount_minor": 10_000})
    await client.ask("DecideDispute", dispute, "ARBITER", buyer_minor=0, seller_minor=10_000)
    appealed = await client.ask("AppealDispute", dispute, "BUYER", reason="no")
    assert (appealed.state, appealed.appealed_by.subject) == (D.STATE_APPEALED, BUYER)
    twice = await reason_of(refusal, client.ask("AppealDispute", dispute, "SELLER"))
    assert (twice.reason, twice.metadata["state"]) == ("TRADE_STATE_INVALID", "APPEALED")
    closed = await client.ask("DecideDispute", dispute, "ARBITER", buyer_minor=10_000, seller_minor=0)
    assert (closed.state, closed.decision.final) == (D.STATE_CLOSED, True)
    assert books(stack, trade) == (0, 0, 0, 0)
    assert (await client.trade(trade.name)).state == T.STATE_CLOSED
    assert (await kinds(stack))[3:] == [
        "refund_case_opened", "refund_case_rejected", "dispute_opened", "dispute_decided", "dispute_appealed",
        "dispute_decided", "lines_settled", "dispute_closed",
    ]  # fmt: skip


async def test_parties_who_agree(stack, client, refusal, helpers):
    trade = await client.shipped(3000, 5000, fee_bps=0)
    dispute = await client.disputed(trade)
    first = await client.ask("MakeOffer", dispute, "SELLER", buyer_minor=200, seller_minor=800)
    own = await reason_of(refusal, client.ask("AcceptOffer", dispute, "SELLER"))
    assert (own.reason, own.metadata["legal_commands"]) == (
        "TRADE_STATE_INVALID",
        "AcceptOffer,AddEvidence,DecideDispute,MakeOffer",
    )
    second = await client.ask("MakeOffer", dispute, "SELLER", buyer_minor=100, seller_minor=900)
    changed = await reason_of(refusal, client.ask("AcceptOffer", dispute, "BUYER", etag=first.etag))
    assert (changed.code, changed.reason, changed.metadata["etag"]) == ("ABORTED", "ETAG_MISMATCH", second.etag)
    closed = await client.ask("AcceptOffer", dispute, "BUYER", etag=second.etag)
    assert (closed.state, closed.offer.buyer_minor) == (D.STATE_CLOSED, 100)
    assert books(stack, trade) == (7900, 900, 0, 7000)
    after = await client.trade(trade.name)
    assert (after.lines[0].state, after.lines[0].released_minor) == (L.STATE_SHIPPED, 900)
    assert (await kinds(stack))[-4:] == ["offer_made", "dispute_settled", "lines_settled", "dispute_closed"]


async def test_evidence_is_kept_by_reference_and_bounded(client, refusal, helpers):
    dispute = await client.disputed(await client.shipped(5000), evidence=[helpers.evidence(note="a")])
    dispute = await client.ask("AddEvidence", dispute, "SELLER", evidence=[helpers.evidence(note="b")])
    dispute = await client.ask("AddEvidence", dispute, "ARBITER", evidence=[helpers.evidence(note="c")])
    assert [(item.note, item.given_by.role) for item in dispute.evidence] == [("a", 1), ("b", 2), ("c", 4)]
    assert dispute.evidence[0].sha256 == "0" * 64
    for _ in range(4):
        dispute = await client.ask("AddEvidence", dispute, "BUYER", evidence=[helpers.evidence()] * 20)
    full = await reason_of(refusal, client.ask("AddEvidence", dispute, "BUYER", evidence=[helpers.evidence()] * 18))
    assert (full.reason, full.metadata["limit"]) == ("LIMIT_EXCEEDED", "100")
    assert await client.seen(dispute) == dispute


async def test_time_passes_for_a_case(stack, client, times):
    unshipped, shipped = await client.paid(5000), await client.shipped(5000)
    quick = await client.ask("OpenRefundCase", unshipped, "BUYER")
    slow = await client.ask("OpenRefundCase", shipped, "BUYER", with_return=True)
    for case, hours in ((quick, 48), (slow, 120)):
        assert (times(case.deadline_time) - times(case.create_time)).total_seconds() == hours * 3600
    await stack.advance(hours=36)
    assert (await kinds(stack)).count("refund_case_reminder") == 1, "a quarter of two days before their end"
    await stack.advance(hours=12)
    assert (await client.seen(quick)).state == C.STATE_SUCCEEDED
    await stack.advance(days=2)
    assert (await kinds(stack)).count("refund_case_reminder") == 2, "a day before the end of five"
    await stack.advance(days=1)
    waiting = await client.seen(slow)
    assert waiting.state == C.STATE_AWAITING_RETURN
    assert (times(waiting.deadline_time) - times(waiting.update_time)).total_seconds() == 7 * 86_400
    await stack.advance(days=7)
    assert (await client.seen(slow)).state == C.STATE_WITHDRAWN
    returned = await client.ask("OpenRefundCase", shipped, "BUYER", with_return=True)
    await client.ask("AcceptRefundCase", returned, "SELLER")
    await client.ask("SubmitReturn", returned, "BUYER")
    await stack.advance(days=10)
    assert (await client.seen(returned)).state == C.STATE_SUCCEEDED
    assert stack.payments.escrow_of(shipped.name) == 4000


async def test_a_lines_time_stands_still_while_a_case_is_open(stack, client, times, refusal):
    trade = await client.shipped(3000, 5000)
    due = times(trade.lines[0].deadline_time)
    case = await client.ask("OpenRefundCase", trade, "BUYER")
    await stack.advance(days=4)
    await client.ask("CancelRefundCase", case, "BUYER")
    moved = times((await client.trade(trade.name)).lines[0].deadline_time) - due
    assert 4 * 86_400 <= moved.total_seconds() < 4 * 86_400 + 60
    await stack.advance(days=16)
    after = await client.trade(trade.name)
    assert [line.state for line in after.lines] == [L.STATE_SHIPPED, L.STATE_RELEASED], "the other line went on"
    await stack.advance(days=4)
    assert (await client.trade(trade.name)).state == T.STATE_COMPLETED


async def test_unshipped_lines_are_not_cancelled_while_a_case_is_open(stack, client):
    trade = await client.paid(3000, 5000)
    case = await client.ask("OpenRefundCase", trade, "BUYER")
    await client.ask("RejectRefundCase", case, "SELLER")
    dispute = await client.ask("OpenDispute", case, "BUYER")
    await stack.advance(days=30)
    after = await client.trade(trade.name)
    assert [line.state for line in after.lines] == [L.STATE_PAID, L.STATE_REFUNDED]
    assert after.lines[0].open_case == dispute.name
    overdue = await client.seen(dispute)
    assert (overdue.state, overdue.arbiter_needed) == (D.STATE_OPEN, True)
    assert (await kinds(stack)).count("dispute_overdue") == 1
    await client.ask("DecideDispute", dispute, "ARBITER", buyer_minor=0, seller_minor=1000)
    await stack.advance(days=7)
    after = await client.trade(trade.name)
    assert (after.lines[0].released_minor, after.lines[0].state) == (1000, L.STATE_PAID)
    await stack.advance(days=11)
    assert (await client.trade(trade.name)).state == T.STATE_COMPLETED


async def test_a_line_under_a_case_is_neither_shipped_nor_moved(client, refusal, stack):
    paid = await client.paid(3000, 5000)
    await client.ask("OpenRefundCase", paid, "BUYER")
    shipped = await client.shipped(3000, 5000)
    case = await client.ask("OpenRefundCase", shipped, "BUYER")
    for method, trade, role in (
        ("ShipLines", paid, "SELLER"),
        ("CancelLines", paid, "SELLER"),
        ("ConfirmLines", shipped, "BUYER"),
    ):
        refused = await reason_of(refusal, client.give(method, trade, role, line_ids=["1"]))
        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "LINE_UNDER_CASE"), method
    assert refused.metadata["case"] == case.name
    done = await client.give("ConfirmLines", shipped, "BUYER")
    assert [line.state for line in done.lines] == [L.STATE_SHIPPED, L.STATE_RELEASED], "the other line goes on"
    twice = await reason_of(refusal, client.ask("OpenRefundCase", shipped, "BUYER"))
    assert twice.reason == "LINE_UNDER_CASE"
    delivered = await client.give("ReportDelivery", shipped, "CARRIER", line_ids=["1"])
    assert delivered.lines[0].HasField("deliver_time"), "a delivery is a fact"


async def test_what_cannot_be_claimed(stack, client, refusal):
    trade = await client.shipped(3000, 5000)
    over = {"amount": {"currency": "CNY", "amount_minor": 3001}}
    refused = await reason_of(refusal, client.ask("OpenRefundCase", trade, "BUYER", **over))
    assert (refused.code, refused.reason, refused.metadata["limit"]) == (
        "FAILED_PRECONDITION",
        "LIMIT_EXCEEDED",
        "3000",
    )
    foreign = {"amount": {"currency": "EUR", "amount_minor": 1}}
    refused = await reason_of(refusal, client.ask("OpenRefundCase", trade, "BUYER", **foreign))
    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "AMOUNT_MISMATCH")
    unpaid = await client.created(3000)
    refused = await reason_of(refusal, client.ask("OpenRefundCase", unpaid, "BUYER"))
    assert (refused.reason, refused.metadata["state"]) == ("TRADE_STATE_INVALID", "PENDING_PAYMENT")
    done = await client.give("ConfirmLines", trade, "BUYER", line_ids=["1"])
    refused = await reason_of(refusal, client.ask("OpenRefundCase", done, "BUYER"))
    assert (refused.reason, refused.metadata["line_state"]) == ("TRADE_STATE_INVALID", "RELEASED")
    part = await client.ask(
        "OpenRefundCase", trade, "BUYER", line_id="2", amount={"currency": "CNY", "amount_minor": 4000}
    )
    await client.ask("AcceptRefundCase", part, "SELLER")
    refused = await reason_of(
        refusal,
        client.ask("OpenRefundCase", trade, "BUYER", line_id="2", amount={"currency": "CNY", "amount_minor": 1001}),
    )
    assert (refused.reason, refused.metadata["limit"]) == ("LIMIT_EXCEEDED", "1000")


async def test_windows_close(stack, client, refusal):
    trade = await client.shipped(5000)
    case = await client.ask("OpenRefundCase", trade, "BUYER")
    await client.ask("RejectRefundCase", case, "SELLER")
    await stack.advance(days=7)
    closed = await client.seen(case)
    assert (closed.state, closed.HasField("end_time")) == (C.STATE_REJECTED, True)
    refused = await reason_of(refusal, client.ask("OpenDispute", case, "BUYER"))
    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "DISPUTE_WINDOW_CLOSED")
    assert (await kinds(stack))[-1] == "refund_case_closed"
    assert (await client.trade(trade.name)).lines[0].open_case == ""
    dispute = await client.disputed(trade)
    await client.ask("DecideDispute", dispute, "ARBITER", buyer_minor=0, seller_minor=1000)
    await stack.advance(days=7)
    refused = await reason_of(refusal, client.ask("AppealDispute", dispute, "SELLER"))
    assert refused.reason == "TRADE_STATE_INVALID", "it is closed"


async def claimable(stack, client, amount=100_000, *, limit=10**7, fee_bps=200):
    stack.credit.terms |= {"member": True, "compensation_limit_minor": limit}
    trade = await client.shipped(amount, fee_bps=fee_bps)
    return await client.give("ConfirmLines", trade, "BUYER")


async def test_deposit_and_fund_compensate_a_buyer(stack, client, refusal):
    """The design's number, as far as escrow goes: deposit 60000, fund 1000000, 100000 awarded."""
    trade = await claimable(stack, client)
    assert (trade.terms.member, trade.terms.compensation_limit_minor) == (True, 10**7)
    stack.payments.balances[SELLER, DEPOSIT] += 60_000
    stack.payments.balances["platform", FUND] += 1_000_000
    claim = await client.ask("OpenClaim", trade, "BUYER", amount={"currency": "CNY", "amount_minor": 100_000})
    assert (claim.state, claim.amount_minor) == (K.STATE_OPEN, 100_000)
    assert (await client.trade(trade.name)).open_claim == claim.name
    again = await reason_of(refusal, client.ask("OpenClaim", trade, "BUYER"))
    assert (again.reason, again.metadata["claim"]) == ("TRADE_STATE_INVALID", claim.name)
    request = client.case_request("DecideClaim", claim, "ARBITER", compensation_minor=100_000)
    judge = client.as_(subject="judge", roles="arbiter")
    paid = await judge.call("DecideClaim", request)
    assert (paid.state, paid.compensated_minor) == (K.STATE_COMPENSATED, 100_000)
    assert paid.ledger_reference.startswith("transactions/")
    balances = stack.payments.balances
    assert (balances[SELLER, DEPOSIT], balances["platform", FUND], balances[BUYER, WALLET]) == (0, 960_000, 10**9)
    calls = stack.payments.calls
    assert await judge.call("DecideClaim", request) == paid
    assert judge.replayed
    assert stack.payments.calls == calls, "the same claim again moves nothing"
    after = await client.trade(trade.name)
    assert (after.compensated_minor, after.open_claim, after.released_minor) == (100_000, "", 100_000)
    (operation,) = [
        each.post_transaction
        for each in stack.payments.operations.values()
        if each.HasField("post_transaction") and each.post_transaction.legs[0].sources
    ]
    (leg,) = operation.legs
    assert [(source.account.owner, source.account.kind) for source in leg.sources] == [
        (SELLER, DEPOSIT),
        ("platform", FUND),
    ]
    assert (leg.purpose, leg.payment) == (3, after.payment), "PURPOSE_COMPENSATION"
    more = await reason_of(
        refusal, client.ask("OpenClaim", trade, "BUYER", amount={"currency": "CNY", "amount_minor": 1})
    )
    assert (more.reason, more.metadata["limit"]) == ("LIMIT_EXCEEDED", "100000"), "not above what was paid"
    assert (await kinds(stack))[-2:] == ["claim_opened", "claim_compensated"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (claim_pb2.FINDING_UNSPECIFIED, claim_pb2.FINDING_FRAUD),
        (claim_pb2.FINDING_FRAUD, claim_pb2.FINDING_FRAUD),
        (claim_pb2.FINDING_NOT_FRAUD, claim_pb2.FINDING_NOT_FRAUD),
    ],
)
async def test_a_claim_and_its_event_say_what_was_found(stack, client, given, found):
    trade = await claimable(stack, client)
    stack.payments.balances["platform", FUND] += 1000
    claim = await client.ask("OpenClaim", trade, "BUYER", amount={"currency": "CNY", "amount_minor": 1000})
    assert claim.finding == claim_pb2.FINDING_UNSPECIFIED
    paid = await client.ask("DecideClaim", claim, "ARBITER", compensation_minor=1000, finding=given)
    assert (paid.state, paid.finding) == (K.STATE_COMPENSATED, found)
    assert (await client.seen(claim)).finding == found
    (told,) = await stack.rows("SELECT payload FROM events WHERE kind = 'claim_compensated'")
    assert event_pb2.Event.FromString(told["payload"]).claim_compensated.finding == found


@pytest.mark.parametrize("finding", [claim_pb2.FINDING_UNSPECIFIED, claim_pb2.FINDING_NOT_FRAUD])
async def test_a_rejected_claim_brands_nobody(stack, client, finding):
    trade = await claimable(stack, client)
    claim = await client.ask("OpenClaim", trade, "BUYER", amount={"currency": "CNY", "amount_minor": 1000})
    rejected = await client.ask("DecideClaim", claim, "ARBITER", compensation_minor=0, finding=finding)
    assert (rejected.state, rejected.finding) == (K.STATE_REJECTED, finding)


async def test_a_finding_whose_award_could_not_be_paid_is_open_again(stack, client, refusal):
    trade = await claimable(stack, client)
    claim = await client.ask("OpenClaim", trade, "BUYER", amount={"currency": "CNY", "amount_minor": 1000})
    await reason_of(refusal, client.ask("DecideClaim", claim, "ARBITER", compensation_minor=1000, finding=1))
    assert (await client.seen(claim)).finding == claim_pb2.FINDING_UNSPECIFIED
    stack.payments.balances["platform", FUND] += 500
    paid = await client.ask("DecideClaim", claim, "ARBITER", compensation_minor=500, finding=2)
    assert paid.finding == claim_pb2.FINDING_NOT_FRAUD


async def test_a_request_that_was_recorded_before_there_were_findings_is_the_same_request(stack, client, refusal):
    trade = await claimable(stack, client)
    stack.payments.balances["platform", FUND] += 1000
    claim = await client.ask("OpenClaim", trade, "BUYER", amount={"currency": "CNY", "amount_minor": 1000})
    judge = client.as_(subject="judge", roles="arbiter")
    request = client.case_request("DecideClaim", claim, "ARBITER", compensation_minor=1000)
    paid = await judge.call("DecideClaim", request)
    (recorded,) = await stack.rows("SELECT fingerprint FROM request_records WHERE method = 'DecideClaim'")
    known = DecideClaimBefore(actor_of(request.actor), UUID(claim.name.partition("/")[2]), 1000, "so be it")
    assert recorded["fingerprint"] == fingerprint(known), "as the version before would have recorded it"
    assert await judge.call("DecideClaim", request) == paid
    request.finding = claim_pb2.FINDING_NOT_FRAUD
    reused = await reason_of(refusal, judge.call("DecideClaim", request))
    assert (reused.reason, reused.metadata["field"]) == ("REQUEST_ID_REUSED", "finding")


async def test_guarantees_that_do_not_suffice_give_nothing(stack, client, refusal):
    trade = await claimable(stack, client)
    stack.payments.balances[SELLER, DEPOSIT] += 60_000
    stack.payments.balances["platform", FUND] += 39_999
    claim = await client.ask("OpenClaim", trade, "BUYER", amount={"currency": "CNY", "amount_minor": 100_000})
    refused = await reason_of(refusal, client.ask("DecideClaim", claim, "ARBITER", compensation_minor=100_000))
    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "GUARANTEE_EXHAUSTED")
    assert stack.payments.balances[SELLER, DEPOSIT] == 60_000
    still = await client.seen(claim)
    assert (still.state, still.step_pending, still.step_refusal) == (K.STATE_OPEN, False, "INSUFFICIENT_FUNDS")
    stack.payments.balances["platform", FUND] += 1
    paid = await client.ask("DecideClaim", claim, "ARBITER", compensation_minor=100_000)
    assert paid.state == K.STATE_COMPENSATED
    assert stack.payments.balances[SELLER, DEPOSIT] == stack.payments.balances["platform", FUND] == 0
    assert (await kinds(stack))[-2:] == ["claim_payment_refused", "claim_compensated"]


async def test_who_may_not_claim(stack, client, refusal):
    trade = await client.shipped(5000)
    done = await client.give("ConfirmLines", trade, "BUYER")
    refused = await reason_of(refusal, client.ask("OpenClaim", done, "BUYER"))
    assert (refused.reason, refused.metadata["seller"]) == ("NOT_A_MEMBER", SELLER)
    open_trade = await client.shipped(5000)
    refused = await reason_of(refusal, client.ask("OpenClaim", open_trade, "BUYER"))
    assert (refused.reason, refused.metadata["state"]) == ("TRADE_STATE_INVALID", "AWAITING_CONFIRMATION")
    member = await claimable(stack, client, 5000, limit=800)
    refused = await reason_of(refusal, client.ask("OpenClaim", member, "BUYER"))
    assert (refused.reason, refused.metadata["limit"]) == ("LIMIT_EXCEEDED", "800")
    claim = await client.ask("OpenClaim", member, "BUYER", amount={"currency": "CNY", "amount_minor": 700})
    refused = await reason_of(refusal, client.ask("DecideClaim", claim, "ARBITER", compensation_minor=701))
    assert (refused.reason, refused.metadata["limit"]) == ("LIMIT_EXCEEDED", "700")
    rejected = await client.ask("DecideClaim", claim, "ARBITER", compensation_minor=0)
    assert (rejected.state, rejected.decision_reason) == (K.STATE_REJECTED, "so be it")
    await stack.advance(days=15)
    refused = await reason_of(
        refusal, client.ask("OpenClaim", member, "BUYER", amount={"currency": "CNY", "amount_minor": 1})
    )
    assert refused.reason == "CLAIM_WINDOW_CLOSED"


async def test_compensation_and_refunds_stay_below_what_was_paid(stack, client, refusal):
    stack.credit.terms |= {"member": True, "compensation_limit_minor": 10**7}
    trade = await client.shipped(5000, fee_bps=0)
    case = await client.ask("OpenRefundCase", trade, "BUYER", amount={"currency": "CNY", "amount_minor": 2000})
    await client.ask("AcceptRefundCase", case, "SELLER")
    await client.give("ConfirmLines", trade, "BUYER")
    refused = await reason_of(
        refusal, client.ask("OpenClaim", trade, "BUYER", amount={"currency": "CNY", "amount_minor": 3001})
    )
    assert (refused.reason, refused.metadata["limit"], refused.metadata["given"]) == ("LIMIT_EXCEEDED", "5000", "5001")
    claim = await client.ask("OpenClaim", trade, "BUYER", amount={"currency": "CNY", "amount_minor": 3000})
    stack.payments.balances["platform", FUND] += 3000
    paid = await client.ask("DecideClaim", claim, "ARBITER", compensation_minor=3000)
    assert paid.state == K.STATE_COMPENSATED
    assert stack.payments.balances[BUYER, WALLET] == 10**9


async def test_nobody_judges_their_own_case_and_the_token_says_who_judged(client, refusal):
    trade = await client.shipped(5000)
    case = await client.ask("OpenRefundCase", trade, "BUYER")
    await client.ask("RejectRefundCase", case, "SELLER")
    dispute = await client.ask("OpenDispute", case, "BUYER")
    parts = {"buyer_minor": dispute.frozen_minor, "seller_minor": 0}
    party = client.as_(subject="buyer", roles="user,arbiter")
    request = client.case_request("DecideDispute", dispute, "ARBITER", **parts)
    refused = await reason_of(refusal, party.call("DecideDispute", request))
    assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "ROLE_NOT_ALLOWED")
    decided = await client.ask("DecideDispute", dispute, "ARBITER", **parts)
    assert decided.decision.made_by.subject == "subjects/judge"


async def test_roles_and_parties(client, refusal):
    trade = await client.shipped(5000)
    refused = await reason_of(refusal, client.ask("OpenRefundCase", trade, "SELLER"))
    assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "ROLE_NOT_ALLOWED")
    buyer, seller = client.as_(subject="buyer", roles="user"), client.as_(subject="seller", roles="user")
    stranger = client.as_(subject="stranger", roles="user")
    refused = await reason_of(refusal, seller.ask("OpenRefundCase", trade, "BUYER"))
    assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "NOT_A_PARTY"), "another's token"
    refused = await reason_of(refusal, stranger.ask("OpenRefundCase", trade, "BUYER"))
    assert refused.reason == "TRADE_NOT_FOUND"
    case = await buyer.ask("OpenRefundCase", trade, "BUYER")
    refused = await reason_of(refusal, stranger.ask("AcceptRefundCase", case, "SELLER"))
    assert (refused.code, refused.reason) == ("NOT_FOUND", "CASE_NOT_FOUND"), "as if it did not exist"
    refused = await reason_of(refusal, stranger.seen(case))
    assert refused.reason == "CASE_NOT_FOUND"
    refused = await reason_of(refusal, buyer.ask("AcceptRefundCase", case, "SELLER"))
    assert refused.reason == "NOT_A_PARTY"
    await seller.ask("RejectRefundCase", case, "SELLER")
    dispute = await buyer.ask("OpenDispute", case, "BUYER")
    parts = {"buyer_minor": 0, "seller_minor": 1000}
    request = client.case_request("DecideDispute", dispute, "ARBITER", **parts)
    for roles in ("partner", "operator", "user"):
        pretender = client.as_(subject="seller", roles=roles, **({"partner": "shop"} if roles == "partner" else {}))
        refused = await reason_of(refusal, pretender.call("DecideDispute", request))
        assert refused.reason == "ROLE_NOT_ALLOWED", "an arbiter is who the token says"
    refused = await reason_of(refusal, client.ask("MakeOffer", dispute, "OPERATOR", **parts))
    assert refused.reason == "ROLE_NOT_ALLOWED"
    decided = await client.ask("DecideDispute", dispute, "ARBITER", **parts)
    assert decided.state == D.STATE_DECIDED


async def test_lists_page_and_show_the_callers_own(client, stack):
    trades = [await client.shipped(3000, 5000) for _ in range(3)]
    cases = [await client.ask("OpenRefundCase", trade, "BUYER", line_id=line) for trade in trades for line in "12"]
    await client.ask("CancelRefundCase", cases[0], "BUYER")

    async def listed(of, **fields):
        found, token = [], ""
        while True:
            request = refund_pb2.ListRefundCasesRequest(page_token=token, **fields)
            page = await of.call("ListRefundCases", request)
            found += [case.name for case in page.refund_cases]
            token = page.next_page_token
            if not token:
                return found

    names = [case.name for case in cases]
    assert await listed(client) == names
    for size in (1, 2, 4, 6, 7):
        assert await listed(client, page_size=size) == names
    assert await listed(client, open_only=True) == names[1:]
    assert await listed(client, state=C.STATE_WITHDRAWN) == names[:1]
    assert await listed(client, trade=trades[1].name) == names[2:4]
    for subject, expected in (("buyer", names), ("seller", names), ("stranger", [])):
        assert await listed(client.as_(subject=subject, roles="user")) == expected
    assert await listed(client.as_(subject="x", roles="partner", partner="other")) == []
    assert await listed(client.as_(subject="x", roles="arbiter")) == names
    assert await listed(client, party=SELLER) == names
    assert await listed(client, party="subjects/stranger") == []
    dispute = await client.disputed(await client.shipped(5000))
    found = await client.call("ListDisputes", dispute_pb2.ListDisputesRequest(open_only=True))
    assert [each.name for each in found.disputes] == [dispute.name]
    trade = await claimable(stack, client, 5000)
    claim = await client.ask("OpenClaim", trade, "BUYER")
    found = await client.call("ListClaims", claim_pb2.ListClaimsRequest(state=K.STATE_OPEN))
    assert [each.name for each in found.claims] == [claim.name]
    trades = await client.call("ListTrades", trade_pb2.ListTradesRequest(has_open_case=True))
    assert len(trades.trades) == 4


async def test_the_same_request_again_is_the_same_answer(client, refusal):
    trade = await client.shipped(5000)
    request = client.case_request("OpenRefundCase", trade, "BUYER")
    case = await client.call("OpenRefundCase", request)
    assert await client.call("OpenRefundCase", request) == case
    assert client.replayed
    request.amount.amount_minor = 999
    refused = await reason_of(refusal, client.call("OpenRefundCase", request))
    assert (refused.reason, refused.metadata["field"]) == ("REQUEST_ID_REUSED", "amount")
    accept = client.case_request("AcceptRefundCase", case, "SELLER")
    accepted = await client.call("AcceptRefundCase", accept)
    assert await client.call("AcceptRefundCase", accept) == accepted
    assert client.replayed


async def test_two_arbiters_at_once_and_one_decides(bare_stack, refusal):
    stack = await bare_stack.start(replicas=2)
    one, two = [stack.client_of(replica) for replica in stack.replicas]
    trade = await one.shipped(5000)
    dispute = await one.disputed(trade)

    async def decide(client, buyer_minor):
        with contextlib.suppress(refusal):
            return await client.ask(
                "DecideDispute", dispute, "ARBITER", buyer_minor=buyer_minor, seller_minor=1000 - buyer_minor
            )

    decided = [found for found in await asyncio.gather(decide(one, 100), decide(two, 900)) if found is not None]
    assert len(decided) == 1
    assert (await two.seen(dispute)).decision == decided[0].decision


async def test_accept_against_cancel(bare_stack, refusal):
    stack = await bare_stack.start(replicas=2)
    one, two = [stack.client_of(replica) for replica in stack.replicas]
    trades = [await one.shipped(5000) for _ in range(12)]
    cases = [await one.ask("OpenRefundCase", trade, "BUYER") for trade in trades]

    async def outcome(call):
        try:
            return await call
        except refusal as error:
            return error

    for trade, case in zip(trades, cases, strict=True):
        accepted, cancelled = await asyncio.gather(
            outcome(one.ask("AcceptRefundCase", case, "SELLER", 10)),
            outcome(two.ask("CancelRefundCase", case, "BUYER", 10)),
        )
        after = await one.seen(case)
        won, lost = (accepted, cancelled) if after.state == C.STATE_SUCCEEDED else (cancelled, accepted)
        assert won == after
        assert lost.reason == "TRADE_STATE_INVALID"
        assert stack.payments.escrow_of(trade.name) == (4000 if won is accepted else 5000)
        assert (await one.trade(trade.name)).lines[0].open_case == ""
    stack.assert_each_step_moved_once()


async def test_a_timer_against_the_seller(bare_stack, refusal):
    stack = await bare_stack.start(replicas=2)
    client = stack.client_of(stack.replicas[1])
    trades = [await client.shipped(5000) for _ in range(10)]
    cases = [await client.ask("OpenRefundCase", trade, "BUYER") for trade in trades]

    async def reject(case):
        try:
            return await client.ask("RejectRefundCase", case, "SELLER", 20)
        except refusal as error:
            return error

    _, *answers = await asyncio.gather(stack.advance(days=5), *[reject(case) for case in cases])
    for case, answer in zip(cases, answers, strict=True):
        after = await client.seen(case)
        if getattr(answer, "state", None) == C.STATE_REJECTED:
            assert after.state == C.STATE_REJECTED
        else:
            assert (after.state, answer.reason) == (C.STATE_SUCCEEDED, "TRADE_STATE_INVALID")
    stack.assert_each_step_moved_once()


async def test_a_release_in_flight_and_a_case_on_its_line(stack, client, refusal):
    trade = await client.shipped(3000, 5000, fee_bps=0)
    stack.payments.delay_s = 0.6
    confirming = asyncio.create_task(client.give("ConfirmLines", trade, "BUYER", line_ids=["1"]))
    await asyncio.sleep(0.2)
    taken = await reason_of(refusal, client.ask("OpenRefundCase", trade, "BUYER", line_id="1"))
    assert (taken.reason, taken.metadata["line_state"]) == ("TRADE_STATE_INVALID", "RELEASED"), "its money is gone"
    case = await client.ask("OpenRefundCase", trade, "BUYER", line_id="2")
    accepted = await client.ask("AcceptRefundCase", case, "SELLER")
    assert (await confirming).lines[0].state == L.STATE_RELEASED
    assert (accepted.state, accepted.refunded_minor) == (C.STATE_SUCCEEDED, 1000)
    assert books(stack, trade) == (7000, 3000, 0, 4000)
    stack.assert_each_step_moved_once()


async def test_release_against_refund(bare_stack, refusal):
    stack = await bare_stack.start(replicas=2)
    one, two = [stack.client_of(replica) for replica in stack.replicas]
    for _ in range(10):
        trade = await one.shipped(5000, fee_bps=0)
        confirm, case = await asyncio.gather(
            one.give("ConfirmLines", trade, "BUYER", 10),
            two.ask("OpenRefundCase", trade, "BUYER", 10),
            return_exceptions=True,
        )
        after = await one.trade(trade.name)
        if isinstance(case, Exception):
            assert case.reason == "TRADE_STATE_INVALID"
            assert (confirm.state, after.state) == (T.STATE_COMPLETED, T.STATE_COMPLETED)
        else:
            assert confirm.reason == "LINE_UNDER_CASE"
            assert after.lines[0].open_case == case.name
    stack.assert_each_step_moved_once()


async def test_a_case_can_be_seen_only_by_its_own_partner(client, refusal):
    case = await client.ask("OpenRefundCase", await client.shipped(5000), "BUYER")
    other = client.as_(subject="x", roles="partner", partner="other")
    refused = await reason_of(refusal, other.seen(case))
    assert refused.reason == "CASE_NOT_FOUND"
    refused = await reason_of(refusal, other.ask("CancelRefundCase", case, "BUYER"))
    assert refused.reason == "CASE_NOT_FOUND"
    assert as_caller(subject="x", roles="operator")
    assert (await client.as_(subject="x", roles="operator").seen(case)).name == case.name
    assert case.create_time.ToDatetime(UTC)
