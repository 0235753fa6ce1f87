"""Who only was named in a trade that nobody paid is told nothing of by it: the rule, and what it does to profiles."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from danbao.credit.v1 import credit_pb2
from danbao_credit.application.apply_events import apply_events, command_for
from danbao_credit.application.working_set import CreditSet
from danbao_credit.clients.decoding import EscrowEvent, PaymentsEvent
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.events import OtherEvent, Role, Source, TradeEvent, TradeState
from danbao_credit.domain.facts import telling_of
from danbao_credit.domain.hearsay import PARTNERS_SLOT, Hearsay, hearsay_of, without
from danbao_credit.domain.profile import Change, Profile, peer_hash
from danbao_credit.domain.telling import Telling
from danbao_credit.testing.stories import (
    BUYER,
    OPERATOR,
    SELLER,
    START,
    SYSTEM,
    TradeStory,
    brought,
    good_trade,
    moment,
    numbered,
)
from danbao_kit.testing.service import as_caller

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
VICTIM, OTHER = "subjects/victim", "subjects/other"
OFFICER = as_caller(subject="subjects/ops", roles="operator")

UNPAID = (
    "trade_created", "trade_payment_refused", "trade_payment_pending", "price_adjusted", "trade_reminder",
    "trade_cancelled",
)  # fmt: skip
BUYERS = {"trade_payment_refused", "trade_payment_pending"}


def event(kind: str, **fields: Any) -> TradeEvent:
    made = TradeEvent(
        sequence=1, kind=kind, at_us=2, traceparent="", trade="trades/1", buyer="subjects/buyer",
        seller="subjects/seller", currency="CNY", state=TradeState.OPEN, actor=Role.BUYER, line_ids=(), amount_minor=0,
        lines=(), create_us=1, pay_us=None, ship_by_us=None,
    )  # fmt: skip
    return replace(made, **fields)


def counted(told: TradeEvent, brought_by: str) -> set[str]:
    """Which of the parties count, if this partner has brought both."""
    hearsay = hearsay_of(told)
    if hearsay is None:
        return {role for role, _ in telling_of(told).roles}
    profile = Profile.empty().with_changes([(1, change) for change in _brought(brought_by)])
    left, _ = without([each for each in hearsay.doubted if hearsay.is_of_others(profile)], telling_of(told), ())
    return {role for role, _ in left.roles}


def _brought(partner: str) -> list[Any]:
    return [Change(PARTNERS_SLOT, "peers", peer_hash(partner))] if partner else []


# who made it: (role, by the partner) → who counts in a trade of the partner that has brought both, or nobody has; and
# in one of a partner when another has
ITSELF, BY_PARTNER = False, True
RULE = {
    (Role.BUYER, BY_PARTNER): ({"buyer", "seller"}, set()),
    (Role.SELLER, BY_PARTNER): ({"seller"}, set()),
    # Its own token says which partner it came by; it is there itself.
    (Role.BUYER, ITSELF): ({"buyer", "seller"}, {"buyer"}),
    (Role.SELLER, ITSELF): ({"seller"}, {"seller"}),
    (Role.OPERATOR, ITSELF): ({"buyer", "seller"}, {"buyer", "seller"}),
}


@pytest.mark.parametrize(("kind", "maker"), list(product(UNPAID, RULE)))
def test_who_counts_by_kind_maker_and_partner(kind: str, maker: tuple[Role, bool]) -> None:
    made_by, by_partner = maker
    own, foreign = RULE[maker]
    if kind in BUYERS and made_by is Role.SELLER:
        # To pay, or to try to, is to accept: only the buyer does, or a partner for a buyer that is its own.
        own = own | {"buyer"}
    told = event(kind, partner="shop", made_by=made_by, made_by_partner=by_partner)
    assert counted(told, "shop") == own
    assert counted(told, "") == own
    assert counted(told, "rival") == foreign
    # A trade of no partner counts, whoever has brought whom, but for invoices.
    without_partner = event(kind, made_by=made_by)
    for partner in ("", "shop", "rival"):
        assert counted(without_partner, partner) == own


@pytest.mark.parametrize("role", [Role.BUYER, Role.SELLER])
def test_who_made_a_trade_by_itself_does_not_answer_for_what_a_partner_does_in_its_name(role: Role) -> None:
    for kind in UNPAID[1:]:
        for by_partner, counts in ((False, True), (True, False)):
            told = event(kind, partner="shop", made_by=role, actor=role, by_partner=by_partner)
            party = role.value.lower()
            assert (party in counted(told, "rival")) == counts, kind
            assert party in counted(told, "shop"), "its own partner may"
        # Time speaks for nobody: what it ends is what its maker has let run out.
        assert role.value.lower() in counted(event(kind, partner="shop", made_by=role, actor=Role.SYSTEM), "rival")


def test_most_is_no_question_at_all() -> None:
    assert hearsay_of(event("trade_created")) is None
    assert hearsay_of(event("trade_created", partner="shop", made_by=Role.OPERATOR)) is None


@pytest.mark.parametrize("maker", list(RULE))
def test_what_is_paid_is_no_hearsay(maker: tuple[Role, bool]) -> None:
    made_by, by_partner = maker
    for kind in ("trade_paid", "lines_shipped", "lines_refunded", "lines_released", "trade_reminder"):
        told = event(kind, partner="shop", made_by=made_by, made_by_partner=by_partner, pay_us=1)
        assert hearsay_of(told) is None
        assert counted(told, "rival") == {"buyer", "seller"}
    assert hearsay_of(OtherEvent(1, "unknown", 1, "")) is None


def test_of_whom_nothing_is_known_nothing_is_doubted() -> None:
    hearsay = Hearsay(False, ("subjects/a",), peer_hash("shop"))
    assert not hearsay.is_of_others(None)
    assert not hearsay.is_of_others(Profile.empty())


def test_whoever_two_partners_are_told_to_have_brought_is_of_both() -> None:
    """It does not happen; if it was told, neither is kept from telling."""
    changes = [(1, change) for partner in ("shop", "rival") for change in _brought(partner)]
    profile = Profile.empty().with_changes(changes)
    for partner, of_others in (("shop", False), ("rival", False), ("third", True)):
        assert Hearsay(False, (), peer_hash(partner)).is_of_others(profile) is of_others


def test_what_is_left_out_takes_its_changes_along() -> None:
    telling = Telling("trades/1", "CNY", (("buyer", "subjects/b"), ("seller", "subjects/s")), {"one": 1})
    changes = (("subjects/b", Change(30, "sum", 1)), ("subjects/s", Change(1, "sum", 1)))
    left, moved = without({"subjects/b"}, telling, changes)
    assert (left.roles, moved) == ((("seller", "subjects/s"),), changes[1:])
    assert left.measures == telling.measures


def test_the_catalogue_keeps_who_brought_a_subject(catalogue: Catalogue) -> None:
    [slot] = [slot for slot in catalogue.slots if slot.name == "partners"]
    assert (slot.id, slot.keep) == (PARTNERS_SLOT, "peers")
    profile = applied(catalogue, brought(VICTIM, "shop"))[0][VICTIM]
    assert profile.knows_others(PARTNERS_SLOT, peer_hash("rival"))
    assert not profile.knows_others(PARTNERS_SLOT, peer_hash("shop"))


# --- on profiles ------------------------------------------------------------------------------------------------------


def applied(catalogue: Catalogue, *events: Any) -> tuple[dict[str, Profile], CreditSet]:
    """Profiles after what payments told, and then what escrow told, in this order."""
    working = CreditSet()
    for source, wrap, field in ((Source.PAYMENTS, PaymentsEvent, 0), (Source.ESCROW, EscrowEvent, 1)):
        mine = [each for each in events if (type(each).__module__.split(".")[1] == "escrow") == bool(field)]
        raw = [wrap(each) for each in numbered(mine)]
        apply_events(command_for(source, 0, len(raw), raw, catalogue), working, moment())
    assert not working.parked._draft
    working.accept()
    return dict(working.subjects.created()), working


def unpaid(count: int = 3, **how: Any) -> list[Any]:
    """Every way in which a trade comes to nothing."""
    ends = (
        lambda story: story.cancelled(START + DAY),
        lambda story: story.cancelled(START + DAY, by=BUYER),
        lambda story: story.cancelled(START + DAY, by=SELLER),
    )
    stories = []
    for number in range(count):
        for end, ended in enumerate(ends):
            story = TradeStory(f"{number}-{end}", **how).payment_refused(START).payment_pending(START)
            stories.append(ended(story.adjusted(START).reminded(START + HOUR)))
    return [each for story in stories for each in story.events]


@pytest.mark.parametrize("role", ["buyer", "seller"])
def test_a_partner_s_unpaid_trades_do_nothing_to_another_s_customer(catalogue: Catalogue, role: str) -> None:
    other = "seller" if role == "buyer" else "buyer"
    parties = {role: VICTIM, other: OTHER}
    for maker in (BUYER, SELLER):
        known = [brought(VICTIM, "shop"), brought(OTHER, "rival")]
        before = applied(catalogue, *known)[0]
        events = unpaid(partner="rival", made_by=maker, **parties)
        after, working = applied(catalogue, *known, *events)
        assert after[VICTIM].to_bytes() == before[VICTIM].to_bytes()
        assert working.progress.get(Source.ESCROW).hearsay > 0
        assert not [row for row in working.log_rows.accepted if row.subject == VICTIM and row.source == "escrow"]
        # The same trades of its own partner count.
        own = applied(catalogue, *known, *unpaid(partner="shop", made_by=maker, **parties))[0]
        assert own[VICTIM].to_bytes() != before[VICTIM].to_bytes()


def test_whom_nobody_has_brought_and_whom_one_was_not_told_of_yet_counts(catalogue: Catalogue) -> None:
    events = unpaid(partner="rival", buyer=VICTIM, seller=OTHER)
    nobodys, working = applied(catalogue, *events)
    assert working.progress.get(Source.ESCROW).hearsay == 0
    assert total(catalogue, nobodys[VICTIM], "buyer_trades_unpaid") == 6


def test_who_is_invoiced_by_a_stranger_is_not_told_of_until_it_pays(catalogue: Catalogue) -> None:
    story = TradeStory("1", buyer=VICTIM, seller=OTHER, made_by=SELLER)
    left, working = applied(catalogue, *story.reminded(START + HOUR).cancelled(START + DAY).events)
    assert VICTIM not in left, "not even known"
    assert working.progress.get(Source.ESCROW).hearsay == 3
    assert total(catalogue, left[OTHER], "seller_trades_expired") == 1
    paid, _ = applied(catalogue, *good_trade("2", buyer=VICTIM, seller=OTHER, made_by=SELLER).events)
    ordered, _ = applied(catalogue, *good_trade("2", buyer=VICTIM, seller=OTHER).events)
    counts = [counts_of(catalogue, each[VICTIM]) for each in (paid, ordered)]
    assert counts[0] == counts[1], "an invoice that is paid counts like an order"
    assert total(catalogue, paid[VICTIM], "buyer_trades_created") == 1


def test_an_invoice_whose_payment_was_tried_tells_of_the_refusal(catalogue: Catalogue) -> None:
    story = TradeStory("1", buyer=VICTIM, seller=OTHER, made_by=SELLER).payment_refused(START + HOUR)
    assert total(catalogue, applied(catalogue, *story.events)[0][VICTIM], "buyer_payment_refusals") == 1


def test_an_operator_s_trades_count(catalogue: Catalogue) -> None:
    story = TradeStory("1", buyer=VICTIM, seller=OTHER, made_by=OPERATOR).cancelled(START + DAY, by=SYSTEM)
    profiles, working = applied(catalogue, brought(VICTIM, "shop"), *story.events)
    assert total(catalogue, profiles[VICTIM], "buyer_trades_unpaid") == 1
    assert working.progress.get(Source.ESCROW).hearsay == 0


def test_shares_stay_shares_for_whoever_pays_in_another_s_shop(catalogue: Catalogue, judge: Any) -> None:
    """Its purchases there count from payment on, and never as opened: no share exceeds one, and nothing is below 0."""
    events = [
        each
        for n in range(20)
        for each in good_trade(str(n), START + n * HOUR, buyer=VICTIM, seller=f"subjects/s{n}", partner="rival").events
    ]
    own = unpaid(2, partner="shop", buyer=VICTIM, seller=OTHER)
    profile = applied(catalogue, brought(VICTIM, "shop"), *events, *own)[0][VICTIM]
    assert total(catalogue, profile, "buyer_trades_created") == 6
    assert total(catalogue, profile, "buyer_orders_paid") == 20
    facts = judge.facts(profile, int((START + 5 * DAY).timestamp()))
    values = {indicator.name: indicator.value(facts) for indicator in catalogue.indicators}
    shares = {name: value for name, value in values.items() if catalogue.by_name[name].unit == "ratio"}
    assert shares["self_cancelled_rate_365d"] == 2 / 6
    assert shares["unpaid_trade_rate_365d"] == 4 / 24
    assert {name: value for name, value in shares.items() if value is not None and not 0 <= value <= 1} == {}
    assert min(value for value in values.values() if value is not None) >= 0


def total(catalogue: Catalogue, profile: Profile, name: str) -> int:
    return counts_of(catalogue, profile).get(name, 0)


def counts_of(catalogue: Catalogue, profile: Profile) -> dict[str, int]:
    totals = profile.totals(hop_s=0, tiles=0, as_of_s=0, slots=catalogue.slot_ids)
    return {slot.name: totals[slot.id] for slot in catalogue.slots if totals[slot.id]}


# --- on the real store ------------------------------------------------------------------------------------------------


async def profile_of(credit: Any, subject: str) -> bytes:
    return (await credit.rows("SELECT profile FROM subjects WHERE subject = $1", subject))[0]["profile"]


async def test_attacked_a_profile_stays_as_it_is_and_counted_again_is_the_same(credit: Any) -> None:
    credit.streams.payments.add([brought(VICTIM, "shop"), brought(OTHER, "rival")])
    await credit.caught_up("payments", 2)
    good = [each for n in range(4) for each in good_trade(f"g{n}", buyer=VICTIM, partner="shop").events]
    credit.streams.escrow.add(good)
    await credit.caught_up("escrow", len(good))
    before = await profile_of(credit, VICTIM)
    attack = unpaid(10, partner="rival", buyer=VICTIM, seller=OTHER)
    credit.streams.escrow.add(attack)
    status = await credit.caught_up("escrow", len(good) + len(attack))
    assert (status.applied, status.hearsay, status.parked) == (len(good) + len(attack), len(attack), 0)
    assert await profile_of(credit, VICTIM) == before
    rebuilt = await asyncio.gather(
        *(
            credit.stub().RebuildProfile(
                credit_pb2.RebuildProfileRequest(request_id=f"rebuild-{n}", subject=subject),
                timeout=10,
                metadata=OFFICER,
            )
            for n, subject in enumerate((VICTIM, OTHER))
        )
    )
    assert [each.same for each in rebuilt] == [True, True]
    assert await profile_of(credit, VICTIM) == before
    # Its own partner's count.
    own = unpaid(1, partner="shop", buyer=VICTIM, seller=OTHER)
    credit.streams.escrow.add(own)
    await credit.caught_up("escrow", len(good) + len(attack) + len(own))
    assert await profile_of(credit, VICTIM) != before
