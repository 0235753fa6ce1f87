"""Two partners apply and pay for merchants: another's subject is one whom nobody knows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from danbao.credit.v1 import membership_pb2
from danbao_kit.testing.service import as_caller

from .test_memberships import OPERATOR, OTHER, PARTNER, SELLER, START, USER, Members, refusal

S = membership_pb2.Membership
UNKNOWN = "subjects/unknown"


@pytest.fixture
async def members(make_credit: Any, catalogue: Any) -> Members:
    """The seller is the rival's."""
    made = Members(await make_credit(clock="test"), catalogue)
    await made.move_to(START)
    await made.seller()
    made.ledger.partners[SELLER] = "rival"
    return made


async def refused(members: Members, subject: str, caller: Any = PARTNER, **fields: Any) -> tuple[Any, ...]:
    answer = await refusal(members.ask("ApplyMembership", caller, subject=subject, currencies=["CNY"], **fields))
    return tuple(repr(part).replace(subject, "SUBJECT") for part in answer)


async def test_another_partner_s_merchant_is_answered_like_one_whom_nobody_knows(members: Members) -> None:
    foreign = await refused(members, SELLER)
    assert "NOT_ELIGIBLE" in foreign[1]
    assert "the identity is not verified" in foreign[3]
    assert foreign == await refused(members, UNKNOWN)
    assert await members.execute("SELECT * FROM memberships") == []
    assert await members.execute("SELECT * FROM deposits") == []
    assert await members.kinds() == []


@pytest.mark.parametrize("caller", [OTHER, USER, OPERATOR], ids=["its partner", "itself", "an operator"])
async def test_its_partner_and_itself_and_operators_apply(members: Members, caller: Any) -> None:
    made = await members.ask("ApplyMembership", caller, subject=SELLER, currencies=["CNY"])
    assert made.state == S.STATE_AWAITING_DEPOSIT
    # That it is a member now makes no difference to the other.
    assert await refused(members, SELLER) == await refused(members, UNKNOWN)


async def test_a_merchant_whom_nobody_has_brought_is_anybody_s(members: Members) -> None:
    del members.ledger.partners[SELLER]
    made = await members.ask("ApplyMembership", subject=SELLER, currencies=["CNY"])
    assert made.state == S.STATE_AWAITING_DEPOSIT
    assert (await refused(members, SELLER, OTHER))[1] == repr("MEMBERSHIP_EXISTS")


async def test_while_payments_does_not_say_whose_a_merchant_is_a_partner_waits_and_others_do_not(
    members: Members,
) -> None:
    members.ledger.whose_is_away = True
    code, reason, _, metadata = await refusal(
        members.ask("ApplyMembership", subject=SELLER, currencies=["CNY"], request_id="once")
    )
    assert (code, reason, metadata["payment_reason"]) == ("UNAVAILABLE", "STATEMENT_UNKNOWN", "UNAVAILABLE")
    members.ledger.whose_is_away = False
    assert "NOT_ELIGIBLE" in (await refused(members, SELLER, request_id="once"))[1]
    members.ledger.partners[SELLER] = "shop"
    # The refusal is final under its id; another id is another application.
    assert "NOT_ELIGIBLE" in (await refused(members, SELLER, request_id="once"))[1]
    asked = {"subject": SELLER, "currencies": ["CNY"], "request_id": "twice"}
    made = await members.ask("ApplyMembership", **asked)
    # What is our own membership needs nobody's word any more.
    members.ledger.whose_is_away = True
    assert await members.ask("ApplyMembership", **asked) == made
    itself = await refusal(members.ask("ApplyMembership", USER, subject=SELLER, currencies=["CNY"]))
    assert itself[1] == "MEMBERSHIP_EXISTS"


async def test_a_user_s_token_that_names_a_partner_acts_for_itself_only(members: Members) -> None:
    """Whatever partner stands in it: it is no partner's token."""
    made = await members.ask("ApplyMembership", OTHER, subject=SELLER, currencies=["CNY"])
    customer = as_caller(subject="customer", roles="user", partner="rival")
    for method, fields in (
        ("GetMembership", {}),
        ("FundDeposit", {"amount": {"currency": "CNY", "amount_minor": 1}}),
        ("LeaveMembership", {}),
    ):
        call = members.ask(method, customer, name=made.name, **fields)
        assert (await refusal(call))[1] == "MEMBERSHIP_NOT_FOUND"
    assert not (await members.ask("ListMemberships", customer)).memberships
    applied = await refusal(members.ask("ApplyMembership", customer, subject=UNKNOWN, currencies=["CNY"]))
    assert applied[1] == "ROLE_NOT_ALLOWED"


@pytest.mark.parametrize(
    ("caller", "acting"),
    [(OTHER, ("rival", "")), (USER, ("rival", SELLER)), (OPERATOR, ("", ""))],
    ids=["its partner", "itself", "an operator"],
)
async def test_payments_is_told_for_whom_a_deposit_is_funded(
    members: Members, caller: Any, acting: tuple[str, str]
) -> None:
    made = await members.ask("ApplyMembership", OTHER, subject=SELLER, currencies=["CNY"])
    members.ledger.balances[SELLER, "user.available", "CNY"] = 100_000
    members.ledger.script = ["lost"]
    await members.fund(made.name, 100_000, caller)
    assert set(members.ledger.acting_for.values()) == {acting}
    # On its way back a deposit is moved by credit itself.
    members.ledger.acting_for.clear()
    left = await members.ask("LeaveMembership", OTHER, name=made.name)
    await members.move_to(left.return_time.ToDatetime(START.tzinfo))
    async with asyncio.timeout(20):
        while (await members.ask("GetMembership", OTHER, name=made.name)).state != S.STATE_LEFT:
            await asyncio.sleep(0.02)
    assert set(members.ledger.acting_for.values()) == {("", "")}
