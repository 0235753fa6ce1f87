"""Memberships as their callers see them: every RPC over mutual TLS on a real PostgreSQL, with a scripted ledger."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from danbao.credit.v1 import credit_pb2, event_pb2, membership_pb2, membership_pb2_grpc
from danbao.escrow.v1 import claim_pb2, trade_pb2
from danbao.escrow.v1 import event_pb2 as escrow_event_pb2
from danbao.testing.v1 import clock_pb2, clock_pb2_grpc
from danbao_credit.domain.membership_model import deposit_account
from danbao_credit.testing.deposits import merchant
from danbao_kit.testing.service import as_caller

from .test_service import refusal

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SELLER = "subjects/seller"
OPERATOR = as_caller(subject="op", roles="operator")
PARTNER = as_caller(subject="shop", roles="partner", partner="shop")
OTHER = as_caller(subject="rival", roles="partner", partner="rival")
USER = as_caller(subject="seller", roles="user")
STRANGER = as_caller(subject="stranger", roles="user")
S = membership_pb2.Membership


class Members:
    """Calls about memberships, on a credit whose business time is moved."""

    def __init__(self, credit: Any, catalogue: Any) -> None:
        self.credit = credit
        self.catalogue = catalogue
        self.now = START
        self.ledger = credit.streams.ledger

    @property
    def stub(self) -> membership_pb2_grpc.MembershipServiceStub:
        return membership_pb2_grpc.MembershipServiceStub(self.credit.channel)

    async def move_to(self, now: datetime) -> None:
        self.now = now
        request = clock_pb2.AdvanceClockRequest()
        request.to.FromDatetime(now)
        clock = clock_pb2_grpc.ClockServiceStub(self.credit.channel_as("operator"))
        await clock.AdvanceClock(request, timeout=20)

    async def seller(self, subject: str = SELLER, **past: Any) -> None:
        """Gives the subject a past, in place of any other."""
        profile = merchant(self.catalogue, self.now, **past).to_bytes()
        await self.execute(
            "INSERT INTO subjects VALUES ($1, $2) ON CONFLICT (subject) DO UPDATE SET profile = excluded.profile",
            subject,
            profile,
        )

    async def execute(self, statement: str, *values: Any) -> list[Any]:
        connection = await asyncpg.connect(self.credit.database.dsn)
        try:
            return await connection.fetch(statement, *values)
        finally:
            await connection.close()

    async def ask(self, method: str, caller: Any = PARTNER, timeout_s: float = 10, **fields: Any) -> Any:
        request = getattr(membership_pb2, f"{method}Request")(**fields)
        if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:
            request.request_id = str(uuid.uuid4())
        return await getattr(self.stub, method)(request, timeout=timeout_s, metadata=caller)

    async def applied(self, subject: str = SELLER, currencies: tuple[str, ...] = ("CNY",), **past: Any) -> Any:
        await self.seller(subject, **past)
        return await self.ask("ApplyMembership", subject=subject, currencies=currencies)

    async def active(self, minor: int = 100_000, **past: Any) -> Any:
        made = await self.applied(**past)
        self.ledger.balances[SELLER, "user.available", "CNY"] += minor
        return await self.fund(made.name, minor)

    async def fund(self, name: str, minor: int, caller: Any = PARTNER, **fields: Any) -> Any:
        amount = {"currency": fields.pop("currency", "CNY"), "amount_minor": minor}
        return await self.ask("FundDeposit", caller, name=name, amount=amount, **fields)

    async def get(self, name: str) -> Any:
        return await self.ask("GetMembership", name=name)

    async def badge(self) -> Any:
        return await self.ask("GetBadge", STRANGER, subject=SELLER)

    async def terms(self, currency: str = "CNY") -> credit_pb2.TradeTerms:
        request = credit_pb2.GetTermsRequest(subject=SELLER, currency=currency)
        return await self.credit.stub().GetTerms(request, timeout=5)

    async def until(self, name: str, state: int) -> Any:
        async with asyncio.timeout(20):
            while (found := await self.get(name)).state != state:
                await asyncio.sleep(0.02)
            return found

    async def claim(self, kind: str, *, at: datetime | None = None, traceparent: str = "") -> None:
        event = escrow_event_pb2.Event(traceparent=traceparent)
        event.create_time.FromDatetime(at or self.now)
        claim = claim_pb2.Claim(name=f"claims/{uuid.uuid4()}", seller=SELLER, buyer="subjects/b", currency="CNY")
        claim.trade = f"trades/{uuid.uuid4()}"
        claim.create_time.FromDatetime(at or self.now)
        event.actor.role = trade_pb2.ROLE_ARBITER
        getattr(event, kind).CopyFrom(claim)
        script = self.credit.streams.escrow
        script.add([event])
        await self.credit.caught_up("escrow", len(script.events))

    async def take(self, minor: int, traceparent: str = "") -> None:
        """Compensation takes from the deposit, and payments' stream says so."""
        event = self.ledger.event_of(self.ledger.take(SELLER, minor), self.now)
        event.traceparent = traceparent
        await self.told(event)

    async def told(self, *events: Any) -> None:
        script = self.credit.streams.payments
        script.add(events)
        await self.credit.caught_up("payments", len(script.events))

    async def events(self) -> list[event_pb2.Event]:
        rows = await self.execute("SELECT payload FROM events ORDER BY sequence")
        return [event_pb2.Event.FromString(row["payload"]) for row in rows]

    async def kinds(self) -> list[str]:
        return [kind for event in await self.events() if (kind := event.WhichOneof("payload")) != "score_changed"]


@pytest.fixture
async def members(make_credit: Callable[..., Awaitable[Any]], catalogue: Any) -> Members:
    made = Members(await make_credit(clock="test"), catalogue)
    await made.move_to(START)
    return made


async def test_a_merchant_joins_by_deposit_and_is_shown_as_one(members: Members) -> None:
    made = await members.applied(gmv_minor={"CNY": 4_000_000}, currencies=("CNY", "USD"))
    assert (made.state, made.etag) == (S.STATE_AWAITING_DEPOSIT, "1")
    assert [(d.currency, d.balance_minor, d.required_minor) for d in made.deposits] == [
        ("CNY", 0, 200_000),
        ("USD", 0, 100_000),
    ]
    assert not (await members.terms()).member
    assert not (await members.badge()).member
    balances = members.ledger.balances
    balances[SELLER, "user.available", "CNY"] = 250_000
    balances[SELLER, "seller.payable", "USD"] = 100_000
    first = await members.fund(made.name, 200_000)
    assert (first.state, first.deposits[0].balance_minor) == (S.STATE_AWAITING_DEPOSIT, 200_000)
    second = await members.fund(made.name, 100_000, USER, currency="USD", source=membership_pb2.DEPOSIT_SOURCE_SALES)
    assert (second.state, second.step_pending) == (S.STATE_ACTIVE, False)
    assert second.join_time.ToDatetime(UTC) >= START
    assert members.ledger.balance(SELLER, "user.available") == 50_000
    assert members.ledger.balance(SELLER, "guarantee.deposit") == 200_000
    assert members.ledger.balance(SELLER, "seller.payable", "USD") == 0

    terms = await members.terms()
    assert (terms.member, terms.grade, terms.compensation_limit_minor) == (True, "AAA", 5_000_000)
    assert (await members.terms("USD")).member
    assert not (await members.terms("EUR")).member, "no deposit stands for trades in euros"
    badge = await members.badge()
    assert badge.member
    assert [(m.currency, m.amount_minor) for m in badge.compensation_limits] == [("CNY", 5_000_000), ("USD", 700_000)]
    assert badge.max_age.seconds == 60
    assert await members.kinds() == [
        "membership_applied",
        "deposit_moved",
        "deposit_moved",
        "membership_activated",
    ]


async def test_a_refused_application_lists_every_condition_with_its_figure(members: Members) -> None:
    await members.seller(completed=57, days=40, verified=False)
    call = members.ask("ApplyMembership", subject=SELLER, currencies=["CNY"])
    code, reason, _, metadata = await refusal(call)
    assert (code, reason) == ("FAILED_PRECONDITION", "NOT_ELIGIBLE")
    assert metadata["unmet"] == (
        "40 of 90 days since the first sale; 57 of 100 completed trades; the identity is not verified"
    )
    assert await members.execute("SELECT * FROM memberships") == []
    assert await members.kinds() == []


async def test_who_may_apply_see_and_ask(members: Members) -> None:
    await members.seller()
    call = members.ask("ApplyMembership", STRANGER, subject=SELLER, currencies=["CNY"])
    assert (await refusal(call))[:2] == ("PERMISSION_DENIED", "ROLE_NOT_ALLOWED")
    made = await members.ask("ApplyMembership", USER, subject=SELLER, currencies=["CNY"])
    for caller in (OTHER, STRANGER, PARTNER):
        assert (await refusal(members.ask("GetMembership", caller, name=made.name)))[1] == "MEMBERSHIP_NOT_FOUND"
        for method, fields in (
            ("FundDeposit", {"amount": {"currency": "CNY", "amount_minor": 1}}),
            ("LeaveMembership", {}),
            ("SuspendMembership", {"reason": "x"}),
            ("ReinstateMembership", {"reason": "x"}),
        ):
            assert (await refusal(members.ask(method, caller, name=made.name, **fields)))[:2] == (
                "NOT_FOUND",
                "MEMBERSHIP_NOT_FOUND",
            )
        assert not (await members.ask("ListMemberships", caller)).memberships
    missing = await refusal(members.ask("GetMembership", USER, name=f"memberships/{uuid.uuid4()}"))
    assert missing[:2] == ("NOT_FOUND", "MEMBERSHIP_NOT_FOUND"), "a foreign one answers like a missing one"
    for method in ("SuspendMembership", "ReinstateMembership"):
        refused = await refusal(members.ask(method, USER, name=made.name, reason="x"))
        assert refused[:2] == ("PERMISSION_DENIED", "ROLE_NOT_ALLOWED")
    assert (await members.ask("GetMembership", OPERATOR, name=made.name)).name == made.name
    assert (await refusal(members.ask("ApplyMembership", OPERATOR, subject=SELLER, currencies=["CNY"])))[1] == (
        "MEMBERSHIP_EXISTS"
    )


async def test_lists_show_pages_of_what_the_caller_may_see(members: Members) -> None:
    names = []
    for n in range(5):
        names.append((await members.applied(f"subjects/m{n}")).name)
    first = await members.ask("ListMemberships", page_size=2)
    rest = await members.ask("ListMemberships", page_size=3, page_token=first.next_page_token)
    assert [m.name for m in (*first.memberships, *rest.memberships)] == names
    assert rest.next_page_token == ""
    assert len((await members.ask("ListMemberships", OPERATOR, state=S.STATE_AWAITING_DEPOSIT)).memberships) == 5
    assert not (await members.ask("ListMemberships", OPERATOR, state=S.STATE_ACTIVE)).memberships
    one = await members.ask("ListMemberships", OPERATOR, subject="subjects/m3")
    assert [m.name for m in one.memberships] == [names[3]]
    token = first.next_page_token
    assert (await refusal(members.ask("ListMemberships", OPERATOR, page_token=token)))[1] == "PAGE_TOKEN_INVALID"


Fund = {"amount": {"currency": "CNY", "amount_minor": 5}}


NOBODY = f"memberships/{uuid.UUID(int=7)}"


@pytest.mark.parametrize(
    ("method", "fields", "reason", "field"),
    [
        ("ApplyMembership", {"subject": "x", "currencies": ["CNY"]}, "FIELD_INVALID", "subject"),
        ("ApplyMembership", {"subject": SELLER}, "FIELD_INVALID", "currencies"),
        ("ApplyMembership", {"subject": SELLER, "currencies": ["CNY", "CNY"]}, "FIELD_INVALID", "currencies"),
        ("ApplyMembership", {"subject": SELLER, "currencies": ["XXQ"]}, "CURRENCY_UNKNOWN", "currencies[0]"),
        ("ApplyMembership", {"subject": SELLER, "currencies": ["JPY"]}, "CURRENCY_WITHOUT_TERMS", "currencies[0]"),
        ("LeaveMembership", {"name": NOBODY, "request_id": "x" * 65}, "FIELD_INVALID", "request_id"),
        ("FundDeposit", {"name": "memberships/1", **Fund}, "FIELD_INVALID", "name"),
        ("FundDeposit", {"name": f"memberships/{'0' * 36}", **Fund}, "FIELD_INVALID", "name"),
        ("FundDeposit", {"name": NOBODY}, "FIELD_INVALID", "amount"),
        ("FundDeposit", {"name": NOBODY, "amount": {"currency": "CNY"}}, "AMOUNT_NOT_POSITIVE", ""),
        ("FundDeposit", {"name": NOBODY, "amount": {"currency": "Q"}}, "CURRENCY_UNKNOWN", ""),
        ("FundDeposit", {"name": NOBODY, **Fund, "source": 9}, "FIELD_INVALID", "source"),
        ("SuspendMembership", {"name": NOBODY}, "FIELD_INVALID", "reason"),
        ("ReinstateMembership", {"name": "x", "reason": "y"}, "FIELD_INVALID", "name"),
        ("LeaveMembership", {"name": ""}, "FIELD_INVALID", "name"),
        ("GetMembership", {"name": "trades/1"}, "FIELD_INVALID", "name"),
        ("GetBadge", {"subject": "seller"}, "FIELD_INVALID", "subject"),
        ("ListMemberships", {"page_size": 1001}, "FIELD_INVALID", "page_size"),
        ("ListMemberships", {"state": 99}, "FIELD_INVALID", "state"),
        ("ListMemberships", {"page_token": "!!"}, "PAGE_TOKEN_INVALID", "page_token"),
    ],
)  # fmt: skip
async def test_bad_input_is_refused_with_its_reason_and_field(
    shared_credit: Any, catalogue: Any, method: str, fields: dict[str, Any], reason: str, field: str
) -> None:
    refused = await refusal(Members(shared_credit, catalogue).ask(method, OPERATOR, **fields))
    assert refused[0] in ("INVALID_ARGUMENT", "FAILED_PRECONDITION")
    assert refused[1] == reason
    assert not field or any(found.startswith(field) for found in refused[2]), refused


async def test_a_repeated_request_gets_its_answer_and_another_body_is_refused(members: Members) -> None:
    await members.seller()
    ids = {"request_id": "one", "subject": SELLER}
    made = await members.ask("ApplyMembership", **ids, currencies=["CNY"])
    assert await members.ask("ApplyMembership", **ids, currencies=["CNY"]) == made
    assert (await refusal(members.ask("ApplyMembership", **ids, currencies=["USD"])))[1] == "REQUEST_ID_REUSED"
    members.ledger.balances[SELLER, "user.available", "CNY"] = 300_000
    paid = await members.fund(made.name, 100_000, request_id="two")
    assert await members.fund(made.name, 100_000, request_id="two") == paid
    assert members.ledger.balance(SELLER, "guarantee.deposit") == 100_000
    assert (await refusal(members.fund(made.name, 99, request_id="two")))[1] == "REQUEST_ID_REUSED"


async def test_payments_refusal_is_told_and_recorded_and_the_next_request_may_succeed(members: Members) -> None:
    made = await members.applied()
    code, reason, _, metadata = await refusal(members.fund(made.name, 100_000, request_id="poor"))
    assert (code, reason, metadata["payment_reason"]) == (
        "FAILED_PRECONDITION",
        "PAYMENT_REFUSED",
        "INSUFFICIENT_FUNDS",
    )
    found = await members.get(made.name)
    assert (found.state, found.step_pending, found.step_refusal) == (
        S.STATE_AWAITING_DEPOSIT,
        False,
        "INSUFFICIENT_FUNDS",
    )
    members.ledger.balances[SELLER, "user.available", "CNY"] = 100_000
    assert (await refusal(members.fund(made.name, 100_000, request_id="poor")))[1] == "PAYMENT_REFUSED", "is final"
    paid = await members.fund(made.name, 100_000)
    assert (paid.state, paid.step_refusal) == (S.STATE_ACTIVE, "")
    assert len(set(members.ledger.calls)) == 2, "each under an id of its own"


@pytest.mark.parametrize("script", [["lost"], ["away", "away"], ["late"], ["lost", "lost", "away"]])
async def test_an_unknown_outcome_is_asked_again_under_the_same_id_until_it_is_known(
    members: Members, script: list[str]
) -> None:
    made = await members.applied()
    members.ledger.balances[SELLER, "user.available", "CNY"] = 500_000
    members.ledger.script = list(script)
    paid = await members.fund(made.name, 100_000)
    assert paid.state == S.STATE_ACTIVE
    assert members.ledger.balance(SELLER, "guarantee.deposit") == 100_000
    assert len(set(members.ledger.calls)) == 1
    assert len(members.ledger.calls) == 1 + sum(word != "late" for word in script)


async def test_the_event_of_our_own_step_counts_once_whichever_comes_first(members: Members) -> None:
    paid = await members.active(100_000)
    (posted,) = members.ledger.posted.values()
    await members.told(members.ledger.event_of(posted, members.now))
    assert (await members.get(paid.name)).deposits[0].balance_minor == 100_000
    # Another deposit, whose event is here before its answer.
    members.ledger.balances[SELLER, "user.available", "CNY"] = 5_000
    members.ledger.script, members.ledger.late_s = ["lost", "late"], 0.5
    funding = asyncio.create_task(members.fund(paid.name, 5_000))
    async with asyncio.timeout(10):
        while len(members.ledger.posted) < 2:
            await asyncio.sleep(0.01)
    await members.told(members.ledger.event_of(list(members.ledger.posted.values())[1], members.now))
    assert (await funding).deposits[0].balance_minor == 105_000
    assert (await members.get(paid.name)).deposits[0].balance_minor == 105_000


async def test_a_compensation_lowers_the_deposit_and_below_half_a_notice_is_given(members: Members) -> None:
    paid = await members.active(100_000)
    await members.take(50_000)
    found = await members.get(paid.name)
    assert (found.state, found.deposits[0].balance_minor) == (S.STATE_ACTIVE, 50_000)
    await members.take(1)
    found = await members.until(paid.name, S.STATE_NOTICE)
    assert [(c.code, c.text) for c in found.causes] == [("DEPOSIT_TOO_LOW", "deposit of 499.99 of 1000.00 CNY")]
    assert found.notice_end_time.ToDatetime(UTC) - found.update_time.ToDatetime(UTC) == 7 * DAY
    assert (await members.badge()).member, "a notice keeps the badge"
    assert (await members.terms()).member
    # Made good within the notice.
    members.ledger.balances[SELLER, "user.available", "CNY"] = 50_001
    again = await members.fund(paid.name, 50_001)
    assert (again.state, list(again.causes), again.HasField("notice_end_time")) == (S.STATE_ACTIVE, [], False)


async def test_a_notice_ends_in_a_suspension_that_an_operator_lifts_once_all_is_well(members: Members) -> None:
    paid = await members.active(100_000)
    await members.take(60_000)
    noticed = await members.until(paid.name, S.STATE_NOTICE)
    end = noticed.notice_end_time.ToDatetime(UTC)
    await members.move_to(end - timedelta(seconds=1))
    assert (await members.get(paid.name)).state == S.STATE_NOTICE
    await members.move_to(end)
    found = await members.get(paid.name)
    assert (found.state, found.causes[0].code) == (S.STATE_SUSPENDED, "DEPOSIT_TOO_LOW")
    assert not (await members.badge()).member
    assert not (await members.terms()).member
    why = {"name": paid.name, "reason": "made good"}
    code, reason, _, metadata = await refusal(members.ask("ReinstateMembership", OPERATOR, **why))
    assert (code, reason, metadata["missing"]) == ("FAILED_PRECONDITION", "DEPOSIT_TOO_LOW", "400.00 of 1000.00 CNY")
    members.ledger.balances[SELLER, "user.available", "CNY"] = 60_000
    assert (await members.fund(paid.name, 60_000)).state == S.STATE_SUSPENDED, "money alone reinstates nobody"
    await members.seller(completed=57)
    assert (await refusal(members.ask("ReinstateMembership", OPERATOR, **why)))[1] == "NOT_ELIGIBLE"
    await members.seller()
    assert (await members.ask("ReinstateMembership", OPERATOR, **why)).state == S.STATE_ACTIVE
    assert (await members.badge()).member
    assert (await refusal(members.ask("ReinstateMembership", OPERATOR, **why)))[1] == "MEMBERSHIP_STATE_INVALID"


async def test_defects_that_come_with_events_give_a_notice_and_pass_with_time(members: Members) -> None:
    paid = await members.active(100_000)
    await members.seller(completed=400, days=90, defective=30)
    # A new day, and the member is looked at though no event came.
    await members.move_to(START + 2 * DAY)
    found = await members.get(paid.name)
    assert found.state == S.STATE_NOTICE
    assert "DEFECTS" in {cause.code for cause in found.causes}
    await members.seller()
    await members.move_to(START + 4 * DAY)
    assert (await members.get(paid.name)).state == S.STATE_ACTIVE


async def test_an_operators_suspension_says_why_and_ends_the_badge_at_once(members: Members) -> None:
    paid = await members.active()
    found = await members.ask("SuspendMembership", OPERATOR, name=paid.name, reason="papers expired")
    assert (found.state, [(c.code, c.text) for c in found.causes]) == (
        S.STATE_SUSPENDED,
        [("OPERATOR", "papers expired")],
    )
    assert not (await members.badge()).member
    refused = await refusal(members.ask("SuspendMembership", OPERATOR, name=paid.name, reason="again"))
    assert refused[1] == "MEMBERSHIP_STATE_INVALID"
    assert refused[3]["legal_commands"] == "FundDeposit,LeaveMembership,ReinstateMembership"


async def test_a_deposit_goes_back_ninety_days_after_the_last_claim_and_once(members: Members) -> None:
    paid = await members.active(100_000)
    await members.claim("claim_opened")
    refused = await refusal(members.ask("LeaveMembership", name=paid.name))
    assert (refused[1], refused[3]["open_claims"]) == ("OPEN_CLAIMS", "1")
    await members.claim("claim_rejected")
    left = await members.ask("LeaveMembership", name=paid.name)
    assert (left.state, (await members.badge()).member, (await members.terms()).member) == (
        S.STATE_LEAVING,
        False,
        False,
    )
    due = left.return_time.ToDatetime(UTC)
    assert due - left.leave_time.ToDatetime(UTC) == 90 * DAY
    assert (await refusal(members.fund(paid.name, 5)))[1] == "MEMBERSHIP_STATE_INVALID"
    # A buyer of before claims on the 80th day: it counts anew from the claim's end, with what is left.
    await members.move_to(START + 80 * DAY)
    await members.claim("claim_opened")
    await members.move_to(due + DAY)
    found = await members.get(paid.name)
    assert (found.state, found.open_claims, found.step_pending) == (S.STATE_LEAVING, 1, False)
    await members.take(30_000)
    await members.claim("claim_compensated")
    again = (await members.get(paid.name)).return_time.ToDatetime(UTC)
    assert again == due + DAY + 90 * DAY
    await members.move_to(again - timedelta(seconds=1))
    assert (await members.get(paid.name)).state == S.STATE_LEAVING
    await members.move_to(again)
    gone = await members.until(paid.name, S.STATE_LEFT)
    assert gone.deposits[0].balance_minor == 0
    assert members.ledger.balance(SELLER, "seller.payable") == 70_000
    assert members.ledger.balance(SELLER, "guarantee.deposit") == 0
    assert (await refusal(members.ask("LeaveMembership", name=paid.name)))[1] == "MEMBERSHIP_STATE_INVALID"
    # A claim that was compensated as fraud keeps whoever left from coming back.
    await members.seller()
    refused = await refusal(members.ask("ApplyMembership", subject=SELLER, currencies=["CNY"]))
    assert refused[1] == "NOT_ELIGIBLE"
    assert refused[3]["unmet"].endswith("fraud is confirmed")


async def test_a_deposit_that_cannot_go_back_is_tried_again_under_another_id(members: Members) -> None:
    paid = await members.active(100_000)
    await members.ask("LeaveMembership", name=paid.name)
    members.ledger.script = ["ACCOUNT_FROZEN"]
    await members.move_to(START + 91 * DAY)
    found = await members.until(paid.name, S.STATE_LEFT)
    assert found.step_refusal == ""
    assert members.ledger.balance(SELLER, "seller.payable") == 100_000
    returns = members.ledger.calls[1:]
    assert len(returns) == len(set(returns)) == 2


async def test_who_never_became_a_member_gets_the_deposit_back_at_once(members: Members) -> None:
    made = await members.applied()
    members.ledger.balances[SELLER, "user.available", "CNY"] = 40_000
    await members.fund(made.name, 40_000)
    assert (await members.ask("LeaveMembership", name=made.name)).state == S.STATE_LEAVING
    await members.until(made.name, S.STATE_LEFT)
    assert members.ledger.balance(SELLER, "seller.payable") == 40_000
    await members.seller()
    other = await members.ask("ApplyMembership", subject=SELLER, currencies=["CNY"])
    assert (other.state, other.name != made.name) == (S.STATE_AWAITING_DEPOSIT, True), "whoever left may come back"
    assert (await members.ask("LeaveMembership", name=other.name)).state == S.STATE_LEFT, "nothing was deposited"


async def test_a_deposit_below_nothing_keeps_nobody_from_leaving(members: Members) -> None:
    """It is the sum of what was told: less than all may have been."""
    made = await members.applied()
    await members.execute("UPDATE deposits SET balance_minor = -5")
    await members.ask("LeaveMembership", name=made.name)
    await members.until(made.name, S.STATE_LEFT)
    assert members.ledger.calls == []


async def test_the_deposits_account_is_the_one_that_payments_contract_names(members: Members) -> None:
    made = await members.applied()
    assert made.deposits[0].account == f"accounts/{deposit_account(SELLER, 'CNY')}"


async def test_members_by_setting_need_no_membership(make_credit: Any, catalogue: Any) -> None:
    members = Members(await make_credit(clock="test", members="subjects/other, subjects/seller"), catalogue)
    terms = await members.terms()
    assert (terms.member, terms.grade, terms.compensation_limit_minor) == (True, "C", 200_000)
    assert not (await members.badge()).member, "to try claims out; a badge is for who has deposited"
