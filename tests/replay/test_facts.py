"""What credit is told besides the orders: deterministic, of every kind, and nobody of the files branded."""

from collections import Counter, defaultdict
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

import danbao_credit
from danbao_local.olist.generator import generate, write
from danbao_local.olist.reader import read
from danbao_local.replay.complaints import is_late
from danbao_local.replay.facts import INVENTED, OPERATORS, Fact, facts_about
from danbao_local.replay.plan import Plan, make_plan
from danbao_local.replay.schedule import make_steps

_INVENTED = "subjects/made-up-"
_BRANDING = {"fraud_confirmed", "takeover_suspected", "identity_revoked", "promise_broken", "obligation_overdue"}


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> list[Plan]:
    folder = tmp_path_factory.mktemp("orders")
    write(generate(300, 7, days=40), folder)
    return [make_plan(order) for order in read(folder).orders]


@pytest.fixture(scope="module")
def facts(plans: list[Plan]) -> list[Fact]:
    return facts_about(plans, make_steps(plans, timedelta(hours=24))[-1].clock)


def test_the_same_orders_give_the_same_facts_with_ids_of_their_own(plans: list[Plan], facts: list[Fact]) -> None:
    assert facts == facts_about(plans, make_steps(plans, timedelta(hours=24))[-1].clock)
    assert len({fact.event_id for fact in facts}) == len(facts)
    assert [fact.time for fact in facts] == sorted(fact.time for fact in facts)


def test_every_kind_of_the_catalogue_is_told_of_somebody_by_whom_it_allows(facts: list[Fact]) -> None:
    definitions = Path(danbao_credit.__path__[0]) / "definitions"
    kinds = yaml.safe_load((definitions / "catalogue.yaml").read_text())["reports"]
    assert {fact.kind for fact in facts} == set(kinds)
    assert {name for name, kind in kinds.items() if kind.get("by") == "operator"} == OPERATORS
    for fact in facts:
        assert set(fact.measures) == set(kinds[fact.kind].get("measures", {}))
        for measure, (lowest, highest) in kinds[fact.kind].get("measures", {}).items():
            assert lowest <= fact.measures[measure] <= highest


def test_every_review_of_a_seller_is_told_and_bad_ones_after_late_deliveries_are_defects(
    plans: list[Plan], facts: list[Fact]
) -> None:
    told = Counter(fact.kind for fact in facts)
    written = [(plan, review) for plan in plans for review in plan.order.reviews if review.created is not None]
    assert told["review_received"] == told["review_written"] == sum(len(plan.trades) for plan, _ in written) > 0
    late = [plan for plan, review in written if is_late(plan.order) and review.score < 3]
    assert told["delivery_defect"] == sum(len(plan.trades) for plan in late) > 0
    for fact in facts:
        if fact.trade is not None:
            assert fact.time >= plans[fact.trade[0]].order.purchased


def test_what_follows_somebody_around_is_told_of_invented_subjects_only(facts: list[Fact]) -> None:
    branded = {fact.subject for fact in facts if fact.kind in _BRANDING}
    assert branded
    assert all(subject.startswith(_INVENTED) for subject in branded)
    assert len({fact.subject for fact in facts if fact.subject.startswith(_INVENTED)}) == INVENTED


def test_others_keep_their_promises_within_72_hours_and_pay_within_30_days(facts: list[Fact]) -> None:
    """Or credit's rules would bind, and the replay would not tell of their orders any more."""
    begun: dict[tuple[str, str], Fact] = {}
    most = {"promise_kept": timedelta(hours=72), "obligation_settled": timedelta(days=30)}
    ended: dict[tuple[str, str], list[Fact]] = defaultdict(list)
    for fact in facts:
        if fact.subject.startswith(_INVENTED):
            continue
        if fact.kind in ("promise_made", "obligation_due"):
            begun[fact.subject, fact.about] = fact
        elif fact.kind in most:
            ended[fact.subject, fact.about].append(fact)
    assert begun.keys() == ended.keys()
    for key, (end,) in ended.items():
        assert timedelta(0) < end.time - begun[key].time < most[end.kind]
