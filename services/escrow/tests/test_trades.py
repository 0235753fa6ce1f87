"""Trades through the real service: what is answered, recorded, told to others and shown on the timeline."""

import asyncio
from datetime import timedelta

import pytest

from danbao.escrow.v1 import audit_pb2_grpc, trade_pb2
from danbao.type.v1 import privileged_action_pb2
from danbao_kit.commands import CommandRunner
from danbao_kit.rpc_status import reason_of

S = trade_pb2.Trade.State
L = trade_pb2.Line.State


async def test_a_whole_trade(stack, client):
    trade = await client.created(3000, 5000, postage=1000, fee_bps=500)
    assert (trade.state, trade.total_minor, trade.terms.grade, trade.terms.fee_bps) == (
        S.STATE_PENDING_PAYMENT,
        9000,
        "A",
        500,
    )
    paid = await client.give("PayTrade", trade, "BUYER")
    assert (paid.state, paid.funded_minor) == (S.STATE_AWAITING_SHIPMENT, 9000)
    assert paid.payment.startswith("payments/")
    assert stack.payments.escrow_of(trade.name) == 9000
    shipped = await client.give("ShipLines", trade, "SELLER", line_ids=["1"])
    assert shipped.state == S.STATE_PARTIALLY_SHIPPED
    shipped = await client.give("ShipLines", trade, "SELLER")
    assert shipped.state == S.STATE_AWAITING_CONFIRMATION
    delivered = await client.give("ReportDelivery", trade, "CARRIER")
    assert delivered.lines[0].deliver_time.seconds
    partly = await client.give("ConfirmLines", trade, "BUYER", line_ids=["1"])
    assert (partly.released_minor, partly.fees_minor) == (3000, 150)
    done = await client.give("ConfirmLines", trade, "BUYER")
    assert (done.state, done.released_minor, done.fees_minor) == (S.STATE_COMPLETED, 9000, 450)
    assert done == await client.trade(trade.name)
    assert stack.payments.balances[client_seller(), "seller.payable"] == 8550
    assert stack.payments.balances["platform", "fee.escrow"] == 450
    assert stack.payments.escrow_of(trade.name) == 0
    stack.assert_each_step_moved_once()
    entries = await client.timeline(trade)
    assert [entry.command for entry in entries] == [
        "CreateTrade", "PayTrade", "ShipLines", "ShipLines", "ReportDelivery", "ConfirmLines", "ConfirmLines",
    ]  # fmt: skip
    assert [entry.position for entry in entries] == list(range(1, 8))
    assert entries[1].ledger_reference == done.payment
    assert entries[5].ledger_reference.startswith("transactions/")
    assert entries[5].amount.amount_minor == 3000
    assert entries[0].token_subject == "subjects/shop-backend"
    events = await stack.events()
    assert [event.WhichOneof("payload") for event in events] == [
        "trade_created", "trade_paid", "lines_shipped", "lines_shipped", "lines_delivered", "lines_released",
        "lines_released",
    ]  # fmt: skip
    assert [event.sequence for event in events] == list(range(1, 8))
    assert events[-1].lines_released == done
    assert events[-1].amount_minor == 6000


def client_seller():
    return "subjects/seller"


async def test_the_same_request_again_gets_the_same_answer_and_moves_nothing(stack, client):
    request = client.create_request((5000,))
    first = await client.call("CreateTrade", request)
    assert not client.replayed
    stack.credit.terms["grade"] = "B"  # credit's later answer does not matter
    assert await client.call("CreateTrade", request) == first
    assert client.replayed
    pay = client.request("PayTrade", first, "BUYER")
    paid = await client.call("PayTrade", pay)
    assert await client.call("PayTrade", pay) == paid
    assert client.replayed
    assert stack.payments.escrow_of(first.name) == 5000
    assert len(stack.payments.executed) == 1


async def test_concurrent_duplicates_join_the_one_under_way(stack, client):
    trade = await client.created(5000)
    stack.payments.delay_s = 0.3
    pay = client.request("PayTrade", trade, "BUYER")
    replies = await asyncio.gather(*[client.call("PayTrade", pay) for _ in range(20)])
    assert all(reply == replies[0] for reply in replies)
    assert replies[0].state == S.STATE_AWAITING_SHIPMENT
    assert list(stack.payments.executed.values()) == [1]


async def test_another_body_under_the_same_id_is_refused(client, refusal):
    request = client.create_request((5000,))
    await client.call("CreateTrade", request)
    request.reference = "another"
    with pytest.raises(refusal) as refused:
        await client.call("CreateTrade", request)
    assert (refused.value.code, refused.value.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    assert refused.value.metadata["field"] == "reference"


async def test_a_refused_payment_leaves_the_trade_unpaid_and_may_be_tried_again(stack, client, refusal):
    stack.payments.balances["subjects/buyer", "user.available"] = 4999
    trade = await client.created(5000)
    pay = client.request("PayTrade", trade, "BUYER")
    for _ in range(2):  # the refusal is the recorded answer
        with pytest.raises(refusal) as refused:
            await client.call("PayTrade", pay)
        assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "PAYMENT_REFUSED")
        assert refused.value.metadata["payment_reason"] == "INSUFFICIENT_FUNDS"
    waiting = await client.trade(trade.name)
    assert (waiting.state, waiting.step_pending, waiting.step_refusal) == (
        S.STATE_PENDING_PAYMENT,
        False,
        "INSUFFICIENT_FUNDS",
    )
    stack.payments.top_up("subjects/buyer", 1)
    paid = await client.give("PayTrade", trade, "BUYER")
    assert (paid.state, paid.step_refusal) == (S.STATE_AWAITING_SHIPMENT, "")
    events = [event.WhichOneof("payload") for event in await stack.events()]
    assert events == ["trade_created", "trade_payment_refused", "trade_paid"]


async def test_terms_come_from_credit_and_are_frozen(stack, client):
    stack.credit.terms |= {
        "fee_percent": 80,
        "reserve_bps": 500,
        "payout_delay_hours": 24,
        "grade": "AAA",
        "score": 810,
    }
    trade = await client.created(10_000)
    terms = trade.terms
    assert (terms.fee_bps, terms.grade, terms.score, terms.model_version, terms.terms_version) == (
        80,
        "AAA",
        810,
        "m1",
        "t1",
    )
    assert not terms.defaulted
    stack.credit.terms |= {"fee_percent": 150, "reserve_bps": 0}
    await client.give("PayTrade", trade, "BUYER")
    await client.give("ShipLines", trade, "SELLER")
    done = await client.give("ConfirmLines", trade, "BUYER")
    assert (done.fees_minor, done.held_back_minor) == (80, 9920)
    await stack.advance(hours=24)
    assert (await client.trade(trade.name)).held_back_minor == 500
    await stack.advance(days=90)
    assert (await client.trade(trade.name)).held_back_minor == 0
    assert stack.payments.balances["subjects/seller", "seller.payable"] == 9920


async def test_a_given_fee_is_taken_as_it_is(stack, client):
    stack.credit.terms["fee_percent"] = 80
    assert (await client.created(5000, fee_bps=0)).terms.fee_bps == 0
    assert (await client.created(5000, fee_bps=600)).terms.fee_bps == 600
    assert (await client.created(5000)).terms.fee_bps == 80


@pytest.mark.parametrize("how", ["down", "slow"])
async def test_without_credit_a_trade_gets_the_default_terms_and_says_so(stack, client, how):
    stack.credit.down, stack.credit.slow_s = how == "down", 2.0 if how == "slow" else 0.0
    trade = await client.created(5000)
    terms = trade.terms
    assert (terms.defaulted, terms.grade, terms.model_version, terms.fee_bps) == (True, "C", "default", 100)
    assert (terms.payout_delay_hours, terms.reserve_bps, terms.auto_confirm_days) == (48, 500, 10)
    paid = await client.give("PayTrade", trade, "BUYER")
    assert paid.state == S.STATE_AWAITING_SHIPMENT


async def test_above_the_sellers_limit_or_without_terms_nothing_is_made(stack, client, refusal):
    stack.credit.terms["per_trade_limit_minor"] = 7999
    with pytest.raises(refusal) as refused:
        await client.created(3000, 5000)
    assert (refused.value.reason, refused.value.metadata["limit_minor"]) == ("LIMIT_EXCEEDED", "7999")
    with pytest.raises(refusal) as refused:
        await client.created(1, currency="JPY")
    assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "LIMIT_EXCEEDED")
    assert refused.value.text == "the seller has no terms in JPY"
    assert refused.value.metadata == {"seller": "subjects/seller", "currency": "JPY"}
    stack.credit.down = True
    with pytest.raises(refusal) as refused:
        await client.created(1, currency="JPY")
    assert refused.value.text == "the seller has no terms in JPY", "nor has the default grade"
    assert await stack.rows("SELECT * FROM trades") == []


@pytest.mark.parametrize("who", ["subjects/buyer", "subjects/seller"])
async def test_a_blocked_party_neither_makes_nor_pays(stack, client, refusal, who):
    trade = await client.created(5000)
    stack.credit.blocked.add(who)
    with pytest.raises(refusal) as refused:
        await client.created(5000)
    assert (refused.value.reason, refused.value.metadata["subject"]) == ("SUBJECT_BLOCKED", who)
    with pytest.raises(refusal) as refused:
        await client.give("PayTrade", trade, "BUYER")
    assert refused.value.reason == "SUBJECT_BLOCKED"
    assert (await client.trade(trade.name)).state == S.STATE_PENDING_PAYMENT


async def test_pay_by_cancels_and_wins_over_a_late_payment(stack, client, refusal):
    early = await client.created(5000)
    await stack.advance(hours=24)
    assert (await client.trade(early.name)).state == S.STATE_CANCELLED
    with pytest.raises(refusal) as refused:
        await client.give("PayTrade", early, "BUYER")
    assert (refused.value.reason, refused.value.metadata["state"]) == ("TRADE_STATE_INVALID", "CANCELLED")
    assert refused.value.metadata["legal_commands"] == ""
    entry = (await client.timeline(early))[-1]
    assert (entry.command, entry.actor.role) == ("PayBy", trade_pb2.ROLE_SYSTEM)


async def test_the_system_cancels_what_is_not_shipped_a_week_after_ship_by(stack, client):
    trade = await client.paid(3000, 5000, postage=500)
    await client.give("ShipLines", trade, "SELLER", line_ids=["1"])
    await stack.advance(days=9, hours=23)
    assert (await client.trade(trade.name)).lines[1].state == L.STATE_PAID
    await stack.advance(hours=2)
    after = await client.trade(trade.name)
    assert [line.state for line in after.lines] == [L.STATE_SHIPPED, L.STATE_REFUNDED]
    assert (after.refunded_minor, stack.payments.escrow_of(trade.name)) == (5000, 3500)
    await stack.advance(days=20)
    after = await client.trade(trade.name)
    assert (after.state, after.released_minor) == (S.STATE_COMPLETED, 3500)
    commands = [entry.command for entry in await client.timeline(trade)]
    assert commands[-2:] == ["ShipBy", "AutoConfirm"]


async def test_auto_confirm_counts_from_the_delivery_report(stack, client, times):
    trade = await client.shipped(5000)
    at = times(trade.lines[0].ship_time)
    assert times(trade.lines[0].deadline_time) == at + timedelta(days=20)
    await stack.advance(days=2)
    delivered = await client.give("ReportDelivery", trade, "SELLER")
    at = times(delivered.lines[0].deliver_time)
    assert times(delivered.lines[0].deadline_time) == at + timedelta(days=7)
    again = await client.give("ReportDelivery", trade, "SELLER")
    assert again == delivered
    await stack.advance(days=7)
    assert (await client.trade(trade.name)).state == S.STATE_COMPLETED


async def test_grade_e_waits_for_an_operator(stack, client, refusal):
    stack.credit.terms |= {
        "grade": "E",
        "auto_confirm_by_operator": True,
        "payout_by_operator": True,
        "reserve_bps": 2000,
    }
    trade = await client.shipped(5000)
    operator = client.as_(subject="ops", roles="operator")
    with pytest.raises(refusal) as refused:
        await operator.give("ConfirmLines", trade, "OPERATOR")
    assert refused.value.reason == "TRADE_STATE_INVALID"
    await stack.advance(days=20)
    assert (await client.trade(trade.name)).state == S.STATE_AWAITING_CONFIRMATION
    assert (await stack.events())[-1].WhichOneof("payload") == "operator_needed"
    done = await operator.give("ConfirmLines", trade, "OPERATOR")
    assert (done.state, done.held_back_minor) == (S.STATE_COMPLETED, 4950)
    with pytest.raises(refusal) as refused:
        await client.give("ReleaseHeld", trade, "OPERATOR")
    assert refused.value.reason == "ROLE_NOT_ALLOWED"
    paid_out = await operator.give("ReleaseHeld", trade, "OPERATOR", reason="checked")
    assert paid_out.held_back_minor == 0
    assert stack.payments.balances["subjects/seller", "seller.payable"] == 4950


async def test_a_partner_that_is_a_party_does_not_act_for_the_other(client, refusal):
    buyer = client.as_(subject="buyer", roles="user")
    shop = client.as_(subject="seller", roles="partner,user", partner="seller-shop")
    trade = await buyer.call("CreateTrade", client.create_request(role="BUYER"))
    for method, role in (("PayTrade", "BUYER"), ("CancelTrade", "BUYER"), ("ReportDelivery", "CARRIER")):
        with pytest.raises(refusal) as refused:
            await shop.give(method, trade, role)
        assert (refused.value.code, refused.value.reason) == ("PERMISSION_DENIED", "NOT_A_PARTY")
    assert (await shop.give("CancelTrade", trade, "SELLER")).state == trade_pb2.Trade.STATE_CANCELLED


async def test_a_partner_s_token_is_no_party_whatever_its_subject_is_called(client, refusal):
    buyer = client.as_(subject="buyer", roles="user")
    shop = client.as_(subject="buyer", roles="partner", partner="other-shop")
    trade = await buyer.call("CreateTrade", client.create_request(role="BUYER"))
    for method in ("PayTrade", "CancelTrade"):
        with pytest.raises(refusal) as refused:
            await shop.give(method, trade, "BUYER")
        assert (refused.value.code, refused.value.reason) == ("NOT_FOUND", "TRADE_NOT_FOUND")
    assert (await buyer.give("CancelTrade", trade, "BUYER")).state == trade_pb2.Trade.STATE_CANCELLED


# who calls, on whose behalf → whose trade it is, on whose behalf it was made, by the partner
_MAKERS = {
    "a partner for a buyer": ({"subject": "backend", "roles": "partner", "partner": "shop"}, "BUYER", "shop", True),
    "a partner for a seller": ({"subject": "backend", "roles": "partner", "partner": "shop"}, "SELLER", "shop", True),
    "a partner without a name": ({"subject": "backend", "roles": "partner"}, "BUYER", "subject:backend", True),
    "a partner called like a party": ({"subject": "buyer", "roles": "partner", "partner": "b"}, "BUYER", "b", True),
    "a buyer": ({"subject": "buyer", "roles": "user"}, "BUYER", "", False),
    "a seller": ({"subject": "seller", "roles": "user"}, "SELLER", "", False),
    "a buyer whose token names a partner": (
        {"subject": "buyer", "roles": "user", "partner": "shop"}, "BUYER", "shop", False
    ),
    "a partner that is the party": (
        {"subject": "seller", "roles": "partner,user", "partner": "shop"}, "SELLER", "shop", False
    ),
    "a partner that is the other party": (
        {"subject": "seller", "roles": "partner,user", "partner": "shop"}, "BUYER", "shop", True
    ),
    "an operator": ({"subject": "ops", "roles": "operator"}, "OPERATOR", "", False),
}  # fmt: skip


@pytest.mark.parametrize("who", list(_MAKERS))
async def test_a_trade_says_who_made_it_and_for_whom_as_long_as_it_lasts(stack, client, who):
    caller, role, partner, by_partner = _MAKERS[who]
    trade = await client.as_(**caller).call("CreateTrade", client.create_request(role=role))
    said = (partner, trade_pb2.Role.Value(f"ROLE_{role}"), by_partner)
    assert (trade.partner, trade.made_by, trade.made_by_partner) == said
    # A later version of it was read back, and is told of.
    await client.as_(subject="seller", roles="user").give("CancelTrade", trade, "SELLER")
    for event in await stack.events():
        told = getattr(event, event.WhichOneof("payload"))
        assert (told.partner, told.made_by, told.made_by_partner) == said


@pytest.mark.parametrize("by_partner", [True, False])
async def test_what_a_partner_does_before_payment_in_a_party_s_name_is_told_as_such(stack, client, refusal, by_partner):
    buyer = client.as_(subject="buyer", roles="user", partner="shop")
    seller = client.as_(subject="seller", roles="user", partner="shop")
    partner = client.as_(subject="backend", roles="partner", partner="shop")
    stack.payments.balances["subjects/buyer", "user.available"] = 0
    trade = await buyer.call("CreateTrade", client.create_request(role="BUYER"))
    await (partner if by_partner else seller).give("AdjustPrice", trade, "SELLER")
    with pytest.raises(refusal):
        await (partner if by_partner else buyer).give("PayTrade", trade, "BUYER")
    await (partner if by_partner else buyer).give("CancelTrade", trade, "BUYER")
    told = {event.WhichOneof("payload"): event.by_partner for event in await stack.events()}
    assert told == {
        "trade_created": False,
        "price_adjusted": by_partner,
        "trade_payment_refused": by_partner,
        "trade_cancelled": by_partner,
    }


async def test_a_user_acts_only_for_itself_and_sees_only_its_own(client, refusal):
    buyer, seller = client.as_(subject="buyer", roles="user"), client.as_(subject="seller", roles="user")
    stranger = client.as_(subject="stranger", roles="user")
    other_shop = client.as_(subject="x", roles="partner", partner="other")
    with pytest.raises(refusal) as refused:
        await seller.call("CreateTrade", client.create_request(role="BUYER"))
    assert refused.value.reason == "NOT_A_PARTY"
    trade = await buyer.call("CreateTrade", client.create_request(role="BUYER"))
    for method, role in (("PayTrade", "BUYER"), ("CancelTrade", "SELLER"), ("ShipLines", "SELLER")):
        for somebody in (stranger, other_shop):
            with pytest.raises(refusal) as refused:
                await somebody.give(method, trade, role)
            assert (refused.value.code, refused.value.reason) == ("NOT_FOUND", "TRADE_NOT_FOUND")
    for somebody in (stranger, other_shop):
        with pytest.raises(refusal) as refused:
            await somebody.trade(trade.name)
        missing = refused.value
        with pytest.raises(refusal) as refused:
            await somebody.trade("trades/00000000-0000-4000-8000-000000000000")
        assert (refused.value.code, refused.value.reason) == (missing.code, missing.reason)
    with pytest.raises(refusal) as refused:
        await seller.give("PayTrade", trade, "BUYER")
    assert refused.value.reason == "NOT_A_PARTY"
    with pytest.raises(refusal) as refused:
        await buyer.give("PayTrade", trade, "OPERATOR")
    assert refused.value.reason == "ROLE_NOT_ALLOWED"
    with pytest.raises(refusal) as refused:
        await buyer.give("CancelTrade", trade, "OPERATOR")
    assert refused.value.reason == "ROLE_NOT_ALLOWED"
    with pytest.raises(refusal) as refused:
        await buyer.give("CancelTrade", trade, "SYSTEM")
    assert refused.value.reason == "ROLE_NOT_ALLOWED"
    assert (await seller.trade(trade.name)).name == trade.name
    paid = await buyer.give("PayTrade", trade, "BUYER")
    with pytest.raises(refusal) as refused:
        await buyer.give("ReportDelivery", paid, "CARRIER")
    assert refused.value.reason == "ROLE_NOT_ALLOWED"
    assert (await client.as_(subject="ops", roles="operator").trade(trade.name)).name == trade.name


async def test_a_users_token_names_no_fee(stack, client, refusal):
    buyer, seller = client.as_(subject="buyer", roles="user"), client.as_(subject="seller", roles="user")
    arbiter = client.as_(subject="seller", roles="arbiter")
    for caller, role, fee_bps in ((seller, "SELLER", 0), (buyer, "BUYER", 10_000), (arbiter, "SELLER", 100)):
        request = client.create_request(role=role, fee_bps=fee_bps)
        with pytest.raises(refusal) as refused:
            await caller.call("CreateTrade", request)
        assert (refused.value.code, refused.value.reason) == ("PERMISSION_DENIED", "ROLE_NOT_ALLOWED")
        assert refused.value.text == "fee_bps may be given by a partner or an operator only"
        assert (refused.value.metadata["field"], refused.value.metadata["role"]) == ("fee_bps", role)
    operation = trade_pb2.Operation(create_trade=client.create_request(role="SELLER", fee_bps=0))
    reply = await seller.call("BatchExecute", trade_pb2.BatchExecuteRequest(operations=[operation]))
    assert reason_of(reply.results[0].error)[0] == "ROLE_NOT_ALLOWED"
    with pytest.raises(refusal) as refused:
        await seller.call("CreateTrade", client.create_request(role="BUYER", fee_bps=0))
    assert refused.value.reason == "ROLE_NOT_ALLOWED", "before it is asked whose party that is"
    assert await stack.rows("SELECT * FROM trades") == []
    operator = client.as_(subject="ops", roles="operator")
    for caller, role in ((client, "SELLER"), (operator, "OPERATOR")):
        made = await caller.call("CreateTrade", client.create_request(role=role, fee_bps=0))
        assert made.terms.fee_bps == 0
    assert (await seller.call("CreateTrade", client.create_request(role="SELLER"))).terms.fee_bps == 100


async def test_an_illegal_command_names_the_state_the_line_and_what_is_legal(client, refusal):
    trade = await client.paid(3000, 5000)
    await client.give("ShipLines", trade, "SELLER", line_ids=["2"])
    with pytest.raises(refusal) as refused:
        await client.give("ConfirmLines", trade, "BUYER", line_ids=["1"])
    error = refused.value
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "TRADE_STATE_INVALID")
    assert error.metadata["state"] == "PARTIALLY_SHIPPED"
    assert (error.metadata["line_id"], error.metadata["line_state"]) == ("1", "PAID")
    assert error.metadata["legal_commands"] == "CancelLines,ConfirmLines,ExtendConfirmation,ReportDelivery,ShipLines"
    with pytest.raises(refusal) as refused:
        await client.give("ShipLines", trade, "SELLER", line_ids=["1", "9"])
    assert (refused.value.reason, refused.value.metadata["line_id"]) == ("LINE_NOT_FOUND", "9")


async def test_a_batch_answers_each_operation_in_its_place(stack, client):
    trade = await client.created(5000)
    operations = [
        trade_pb2.Operation(pay_trade=client.request("PayTrade", trade, "BUYER")),
        trade_pb2.Operation(create_trade=client.create_request((7,))),
        trade_pb2.Operation(),
        trade_pb2.Operation(create_trade=client.create_request((7,), total=client.create_request((8,)).total)),
        trade_pb2.Operation(ship_lines=client.request("ShipLines", trade, "SELLER")),
        trade_pb2.Operation(confirm_lines=client.request("ConfirmLines", trade, "BUYER")),
        trade_pb2.Operation(create_trade=client.create_request((9,), currency="JPY")),
    ]
    request = trade_pb2.BatchExecuteRequest(operations=operations)
    reply = await client.call("BatchExecute", request)
    kinds = [result.WhichOneof("result") for result in reply.results]
    assert kinds == ["trade", "trade", "error", "error", "trade", "trade", "error"]
    assert reply.results[0].trade.state == S.STATE_AWAITING_SHIPMENT
    assert reply.results[5].trade.state == S.STATE_COMPLETED
    assert [reason_of(reply.results[index].error)[0] for index in (2, 3, 6)] == [
        "FIELD_INVALID", "AMOUNT_MISMATCH", "LIMIT_EXCEEDED",
    ]  # fmt: skip
    again = await client.call("BatchExecute", request)
    assert [result.WhichOneof("result") for result in again.results] == kinds
    assert [result.replayed for result in again.results] == [True, True, False, False, True, True, True]
    assert [result.trade for result in again.results] == [result.trade for result in reply.results]
    alone = await client.call("PayTrade", operations[0].pay_trade)
    assert alone == reply.results[0].trade
    assert client.replayed, "the same operation alone is the same request"
    stack.assert_each_step_moved_once()


async def test_operations_on_one_trade_wait_only_for_money(stack, client, monkeypatch):
    rounds = []
    run_many = CommandRunner.run_many

    async def counted(self, operations, asked):
        rounds.append(len(operations))
        return await run_many(self, operations, asked)

    monkeypatch.setattr(CommandRunner, "run_many", counted)
    trade = await client.paid(*[100] * 48)
    ships = [
        trade_pb2.Operation(ship_lines=client.request("ShipLines", trade, "SELLER", line_ids=[str(n)]))
        for n in range(1, 49)
    ]
    confirm = trade_pb2.Operation(confirm_lines=client.request("ConfirmLines", trade, "BUYER"))
    again = trade_pb2.Operation(ship_lines=client.request("ShipLines", trade, "SELLER"))
    request = trade_pb2.BatchExecuteRequest(operations=[*ships, confirm, again])
    reply = await client.call("BatchExecute", request)
    assert rounds == [49, 1], "what ships follows one another within a commit; only what comes after money waits"
    states = [result.trade.state for result in reply.results[:49]]
    assert states == [S.STATE_PARTIALLY_SHIPPED] * 47 + [S.STATE_AWAITING_CONFIRMATION, S.STATE_COMPLETED]
    assert reason_of(reply.results[49].error)[0] == "TRADE_STATE_INVALID", "it was decided after the release"
    replayed = await client.call("BatchExecute", request)
    assert rounds[2:] == [49, 1]
    assert all(result.replayed for result in replayed.results)
    stack.assert_each_step_moved_once()


async def test_too_many_operations_on_one_trade_are_refused_as_a_whole(stack, client, refusal):
    trade, other = await client.created(5000), await client.created(5000)
    pay = [trade_pb2.Operation(pay_trade=client.request("PayTrade", trade, "BUYER")) for _ in range(51)]
    more = [trade_pb2.Operation(pay_trade=client.request("PayTrade", other, "BUYER"))]
    with pytest.raises(refusal) as refused:
        await client.call("BatchExecute", trade_pb2.BatchExecuteRequest(operations=more + pay))
    assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")
    assert refused.value.fields == ["operations"]
    assert refused.value.text == f"operations: must have at most 50 on one trade; there are 51 on {trade.name}"
    assert [row["state"] for row in await stack.rows("SELECT state FROM trades")] == ["PENDING_PAYMENT"] * 2
    reply = await client.call("BatchExecute", trade_pb2.BatchExecuteRequest(operations=more + pay[:50]), timeout=20)
    assert [result.WhichOneof("result") for result in reply.results] == ["trade"] * 2 + ["error"] * 49


async def test_many_trades_share_calls_to_payments(stack, client):
    create = [trade_pb2.Operation(create_trade=client.create_request((100,))) for _ in range(300)]
    made = await client.call("BatchExecute", trade_pb2.BatchExecuteRequest(operations=create), timeout=20)
    trades = [result.trade for result in made.results]
    pay = [trade_pb2.Operation(pay_trade=client.request("PayTrade", trade, "BUYER")) for trade in trades]
    paid = await client.call("BatchExecute", trade_pb2.BatchExecuteRequest(operations=pay), timeout=20)
    assert {result.trade.state for result in paid.results} == {S.STATE_AWAITING_SHIPMENT}
    assert stack.payments.calls < 30
    assert max(stack.payments.batch_sizes) <= 256
    assert stack.credit.calls < 20
    stack.assert_each_step_moved_once()


async def test_a_timeline_is_read_in_pages(client, refusal):
    trade = await client.shipped(5000)
    request = trade_pb2.ListTradeTimelineRequest(trade=trade.name, page_size=2)
    first = await client.call("ListTradeTimeline", request)
    assert [entry.position for entry in first.entries] == [1, 2]
    request.page_token = first.next_page_token
    second = await client.call("ListTradeTimeline", request)
    assert [entry.position for entry in second.entries] == [3]
    assert second.next_page_token == ""
    other = await client.created(5)
    with pytest.raises(refusal) as refused:
        await client.call(
            "ListTradeTimeline",
            trade_pb2.ListTradeTimelineRequest(trade=other.name, page_token=first.next_page_token),
        )
    assert refused.value.reason == "PAGE_TOKEN_INVALID"


async def test_etag_rises_with_every_change(client):
    trade = await client.created(5000)
    paid = await client.give("PayTrade", trade, "BUYER")
    shipped = await client.give("ShipLines", trade, "SELLER")
    assert len({trade.etag, paid.etag, shipped.etag}) == 3
    assert shipped.update_time.ToNanoseconds() > paid.update_time.ToNanoseconds()


async def test_the_log_tells_what_each_operation_of_a_batch_asked_though_another_has_its_id(stack, client):
    trades = [await client.created(number) for number in (10, 20)]
    cancels = [
        client.request("CancelTrade", trade, "OPERATOR", reason=why)
        for trade, why in zip(trades, ("what was done", "what was not"), strict=True)
    ]
    cancels[1].request_id = cancels[0].request_id
    batch = trade_pb2.BatchExecuteRequest(operations=[trade_pb2.Operation(cancel_trade=each) for each in cancels])
    reply = await client.as_(subject="op-1", roles="operator").call("BatchExecute", batch)
    assert reply.results[0].trade.state == S.STATE_CANCELLED
    assert reason_of(reply.results[1].error)[0] == "REQUEST_ID_REUSED"
    audit = audit_pb2_grpc.AuditServiceStub(stack.client_of(stack.replicas[0], peer="operator").channel)
    listed = await audit.ListPrivilegedActions(privileged_action_pb2.ListPrivilegedActionsRequest(), timeout=5)
    [told] = [action for action in listed.actions if action.operation == "CancelTrade"]
    assert (told.object, told.why, told.outcome) == (trades[0].name, "what was done", "OK")
