"""The rule of complaints, one course at a time, at its edges, and in the steps in which time moves."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from danbao_local.olist.generator import generate, write
from danbao_local.olist.orders import Item, Order, PaymentRow, Review
from danbao_local.olist.reader import read
from danbao_local.replay.complaints import CASE_ENDS, RULES, SCRIPTS, CaseAction, Complaint, Course
from danbao_local.replay.plan import Action, Plan, make_plan
from danbao_local.replay.schedule import make_steps

HOUR, DAY, SECOND = timedelta(hours=1), timedelta(days=1), timedelta(seconds=1)
PURCHASED = datetime(2017, 6, 1, 12, 0, tzinfo=UTC)
APPROVED = PURCHASED + 2 * HOUR
LIMIT = PURCHASED + 5 * DAY
HANDED = PURCHASED + 2 * DAY
DELIVERED = PURCHASED + 9 * DAY
REPLY = {False: 5 * DAY, True: 48 * HOUR}
"""The seller's time, by whether the line was never shipped."""


def _item(number: int = 1, seller: str = "s1", price: int = 10_001, freight: int = 1_500) -> Item:
    return Item(str(number), seller, LIMIT, price, freight)


def _plan(score: int | None = None, *, written: datetime | None = DELIVERED, **changes: Any) -> Plan:
    """An order of one item, delivered in time, with one review or none."""
    content: dict[str, Any] = {
        "order_id": "o1",
        "line": 2,
        "status": "delivered",
        "customer": "c1",
        "customer_known": True,
        "purchased": PURCHASED,
        "approved": APPROVED,
        "handed_to_carrier": HANDED,
        "delivered": DELIVERED,
        "estimated": PURCHASED + 20 * DAY,
        "items": (_item(),),
        "payments": (PaymentRow(1, "voucher", 11_501),),
        "reviews": () if score is None else (Review(score, written),),
    }
    return make_plan(Order(**{**content, **changes}))


def _complaint(score: int | None = None, **changes: Any) -> Complaint | None:
    found = _plan(score, **changes).complaints
    return found[0] if found else None


def _course(score: int | None = None, **changes: Any) -> Course | None:
    found = _complaint(score, **changes)
    return found.course if found else None


_UNSENT = {"handed_to_carrier": None, "delivered": None}
_LATE = {"estimated": DELIVERED - 5 * DAY}
_THREE = (_item(1), _item(2, price=70_000), _item(3, price=5))


@pytest.mark.parametrize(
    ("course", "score", "changes"),
    [
        (Course.CANCELED_UNSHIPPED, None, {"status": "canceled", **_UNSENT}),
        (Course.CANCELED_RETURNED, 3, {"status": "canceled", "delivered": None}),
        (Course.CANCELED_RETURNED, None, {"status": "canceled", "delivered": None}),
        (Course.CANCELED_RETURN_UNANSWERED, 2, {"status": "canceled", "delivered": None}),
        (Course.CANCELED_KEPT, 1, {"status": "canceled"}),
        (Course.UNSHIPPED_UNANSWERED, 2, {"status": "processing", "written": LIMIT, **_UNSENT}),
        (Course.LOST_UNANSWERED, 1, {"status": "shipped", "delivered": None}),
        (Course.LOST_ACCEPTED, 2, {"status": "shipped", "delivered": None}),
        (Course.LATE_HALF, 2, _LATE),
        (Course.LATE_AGREED, 1, {"estimated": DELIVERED - 4 * DAY + SECOND}),
        (Course.LATE_DECIDED, 1, {"estimated": DELIVERED - 4 * DAY}),
        (Course.LATE_DECIDED, 1, {"estimated": DELIVERED - 14 * DAY + SECOND}),
        (Course.LATE_APPEALED, 1, {"estimated": DELIVERED - 14 * DAY}),
        (Course.POOR_RETURNED, 1, {"items": _THREE}),
        (Course.POOR_REJECTED, 1, {}),
        (Course.POOR_WITHDRAWN, 2, {"items": _THREE}),
    ],
)
def test_each_course_has_its_facts(course: Course, score: int | None, changes: dict[str, Any]) -> None:
    assert _course(score, **changes) is course


@pytest.mark.parametrize(
    ("score", "changes"),
    [
        (None, {}),
        (3, {}),
        (3, _LATE),
        (1, {"written": None}),
        (1, {"written": DELIVERED + DAY + SECOND}),
        (1, {"status": "unavailable"}),
        (1, {"status": "created", "approved": None, **_UNSENT}),
        (1, {"approved": PURCHASED + 15 * DAY, "handed_to_carrier": PURCHASED + 16 * DAY}),
        (1, {"handed_to_carrier": LIMIT + 7 * DAY, "delivered": LIMIT + 8 * DAY}),
        (1, {"status": "processing", "written": LIMIT + 7 * DAY, **_UNSENT}),
        (1, {"status": "shipped", "written": HANDED + 60 * DAY, "delivered": None}),
        (1, {"delivered": None}),
        (None, {"status": "canceled", "approved": LIMIT + 7 * DAY, **_UNSENT}),
    ],
)
def test_nobody_complains(score: int | None, changes: dict[str, Any]) -> None:
    assert _course(score, **changes) is None


def test_the_lowest_review_counts_and_a_day_is_not_too_late() -> None:
    reviews = (Review(5, DELIVERED), Review(2, DELIVERED + DAY), Review(4, DELIVERED))
    assert _course(reviews=reviews) is Course.POOR_WITHDRAWN


@pytest.mark.parametrize(
    ("changes", "score", "opened"),
    [
        ({"written": DELIVERED - 3 * DAY}, 1, DELIVERED),
        ({"written": DELIVERED + 20 * HOUR}, 1, DELIVERED + 20 * HOUR),
        ({"status": "shipped", "delivered": None, "written": PURCHASED}, 1, HANDED),
        ({"status": "processing", "written": PURCHASED, **_UNSENT}, 1, APPROVED),
        ({"status": "canceled", **_UNSENT}, None, LIMIT),
        ({"status": "canceled", "delivered": None}, None, HANDED + DAY),
    ],
)
def test_a_case_is_opened_when_there_is_something_to_complain_of(
    changes: dict[str, Any], score: int | None, opened: datetime
) -> None:
    found = _complaint(score, **changes)
    assert found is not None
    assert found.opened == opened


@pytest.mark.parametrize(
    ("score", "changes", "refunded_minor"),
    [
        (2, _LATE, 5_000),
        (1, {"estimated": DELIVERED - DAY}, 11_501 * 30 // 100),
        (1, _LATE, 5_750),
        (1, {"estimated": DELIVERED - 20 * DAY}, 11_501),
        (1, {}, 0),
        (2, {}, 0),
        (1, {"items": _THREE}, 70_000),
        (1, {"status": "shipped", "delivered": None}, 11_501),
        (1, {"status": "shipped", "delivered": None, "items": _THREE}, 80_006),
        (None, {"status": "canceled", "items": _THREE, **_UNSENT}, 84_506),
        (None, {"status": "canceled", **_UNSENT}, 11_501),
        (None, {"status": "canceled"}, 0),
    ],
)
def test_what_goes_back_follows_from_the_files(score: int | None, changes: dict[str, Any], refunded_minor: int) -> None:
    found = _complaint(score, **changes)
    assert found is not None
    assert found.refunded_minor == refunded_minor


def test_every_trade_of_an_order_is_complained_of_by_itself() -> None:
    items = (_item(1), _item(2, "s2"), _item(3, "s2"))
    assert [found.course for found in _plan(1, items=items).complaints] == [Course.POOR_REJECTED, Course.POOR_RETURNED]


def test_what_is_complained_of_is_reported_delivered_and_nothing_is_cancelled_besides() -> None:
    actions = [event.action for event in _plan(1).events]
    assert actions == [
        Action.PLACE,
        Action.FUND,
        Action.SHIP,
        Action.DELIVER,
        CaseAction.OPEN,
        CaseAction.REJECT,
        Action.LOOK,
    ]
    canceled = _plan(status="canceled", **_UNSENT)
    assert [event.action for event in canceled.events][2:] == [CaseAction.OPEN, CaseAction.ACCEPT]


def test_every_course_has_a_rule_a_script_and_an_end() -> None:
    assert set(RULES) == set(SCRIPTS) == set(CASE_ENDS) == set(Course)


# --- in steps -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("orders")
    write(generate(300, 7), found)
    return found


@pytest.mark.parametrize("hours", [0.5, 12, 24])
def test_however_late_a_step_is_no_reply_misses_its_time(folder: Path, hours: float) -> None:
    plans = [make_plan(order) for order in read(folder).orders]
    steps = make_steps(plans, timedelta(hours=hours))
    clock = {(n, p): step.clock for step in steps for n, positions in step.work.items() for p in positions}
    for number, plan in enumerate(plans):
        for complaint in plan.complaints:
            at = {
                event.action: clock[number, position]
                for position, event in enumerate(plan.events)
                if event.trade == complaint.seller_id and (number, position) in clock
            }
            assert complaint.deadline is None or at[CaseAction.OPEN] < complaint.deadline
            for earlier, later, most in _LIMITS:
                if earlier in at and later in at:
                    allowed = REPLY[plan.shipped is None] if most is None else most
                    assert at[later] - at[earlier] < allowed, (complaint.course, later)


_LIMITS: tuple[tuple[CaseAction, CaseAction, timedelta | None], ...] = (
    (CaseAction.OPEN, CaseAction.ACCEPT, None),
    (CaseAction.OPEN, CaseAction.REJECT, None),
    (CaseAction.OPEN, CaseAction.WITHDRAW, None),
    (CaseAction.ACCEPT, CaseAction.SEND_BACK, 7 * DAY),
    (CaseAction.SEND_BACK, CaseAction.RECEIVE_BACK, 10 * DAY),
    (CaseAction.REJECT, CaseAction.DISPUTE, 7 * DAY),
    (CaseAction.DISPUTE, CaseAction.TAKE_OFFER, 14 * DAY),
    (CaseAction.DECIDE, CaseAction.APPEAL, 7 * DAY),
)


@pytest.mark.parametrize("seed", [7, 11, 2024])
def test_made_up_orders_take_every_course_and_as_often_as_the_files_say(
    tmp_path: Path, seed: int, complaints_by_files: Callable[[Path], Counter[str]]
) -> None:
    write(generate(300, seed), tmp_path)
    found = Counter(
        complaint.course.value for order in read(tmp_path).orders for complaint in make_plan(order).complaints
    )
    assert set(found) == set(Course)
    assert found == complaints_by_files(tmp_path)
