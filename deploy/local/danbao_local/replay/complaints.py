"""Which trades end in refund cases and disputes, and how each goes: pure, from the files alone.

The rule is RULES, printed by --help. Everything follows from an order's own dates, its status and its lowest review;
nothing is left to chance. A case's amounts follow too, so the replay knows to the cent what each trade must give back.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from danbao_local.olist.orders import Order, Review
from danbao_local.replay.planned import POST_CONFIRMS_AFTER, PlannedLine, PlannedTrade

LOW_SCORE = 2
_CONFIRMED_AFTER = timedelta(days=1)
"""A buyer who has written nothing bad a day after the delivery has confirmed."""
_LITTLE_LATE, _VERY_LATE = timedelta(days=4), timedelta(days=14)
_OFFER_PERCENT = 30


class Course(StrEnum):
    """How a complaint goes."""

    CANCELED_UNSHIPPED = "CANCELED_UNSHIPPED"
    CANCELED_RETURNED = "CANCELED_RETURNED"
    CANCELED_RETURN_UNANSWERED = "CANCELED_RETURN_UNANSWERED"
    CANCELED_KEPT = "CANCELED_KEPT"
    UNSHIPPED_UNANSWERED = "UNSHIPPED_UNANSWERED"
    LOST_UNANSWERED = "LOST_UNANSWERED"
    LOST_ACCEPTED = "LOST_ACCEPTED"
    LATE_HALF = "LATE_HALF"
    LATE_AGREED = "LATE_AGREED"
    LATE_DECIDED = "LATE_DECIDED"
    LATE_APPEALED = "LATE_APPEALED"
    POOR_RETURNED = "POOR_RETURNED"
    POOR_REJECTED = "POOR_REJECTED"
    POOR_WITHDRAWN = "POOR_WITHDRAWN"


RULES = MappingProxyType(
    {
        Course.CANCELED_UNSHIPPED: "canceled without a carrier date: at the last shipping limit the buyer asks for all "
        "of it back, the seller accepts 12 h later",
        Course.CANCELED_RETURNED: "canceled with a carrier date: a day after shipping the buyer asks for all of it "
        "back, with return; accepted, sent, and the seller confirms the receipt",
        Course.CANCELED_RETURN_UNANSWERED: "the same with a review of 1 or 2: the seller never confirms, time pays "
        "10 d after the return was sent",
        Course.CANCELED_KEPT: "canceled with a carrier date, yet delivered: accepted with return, the buyer keeps the "
        "goods, time takes the case back after 7 d and confirms",
        Course.UNSHIPPED_UNANSWERED: "never shipped, a review of 1 or 2 before the system cancels: the buyer asks for "
        "all of it back, nobody answers, time pays after 48 h",
        Course.LOST_UNANSWERED: "shipped, never delivered, a review of 1 within 60 d of shipping: the buyer asks for "
        "all of it back, nobody answers, time pays after 5 d",
        Course.LOST_ACCEPTED: "the same with a review of 2: the seller accepts a day later",
        Course.LATE_HALF: "delivered later than estimated, a review of 2: the seller gives half of every item back, "
        "the buyer confirms the rest",
        Course.LATE_AGREED: "delivered less than 4 d later than estimated, a review of 1: rejected, disputed; the "
        "seller offers 30 % and the buyer takes it",
        Course.LATE_DECIDED: "4 d to 14 d later, a review of 1: rejected, disputed; an arbiter gives each half, nobody "
        "appeals, paid after 7 d",
        Course.LATE_APPEALED: "14 d or more later, a review of 1: the same, but the buyer appeals and gets all of it",
        Course.POOR_RETURNED: "in time, a review of 1, several items of a seller: the dearest goes back, the rest is "
        "confirmed",
        Course.POOR_REJECTED: "in time, a review of 1, one item: rejected, no dispute within 7 d, time confirms",
        Course.POOR_WITHDRAWN: "in time, a review of 2: the buyer takes the case back after a day and confirms",
    }
)
"""By course: for which trades, and what happens; the first that fits."""

RULE = (
    "A trade's lowest review and its dates say how it goes. A case is opened for every item when the "
    "review was written, but not before delivery where there is one; a review more than a day after the delivery finds "
    "the trade confirmed. With one item all of it includes the postage. Trades that time ended before are left alone."
)


class CaseAction(StrEnum):
    """What is done with the cases of one trade at one moment."""

    OPEN = "OPEN_CASE"
    ACCEPT = "ACCEPT_CASE"
    REJECT = "REJECT_CASE"
    WITHDRAW = "WITHDRAW_CASE"
    SEND_BACK = "SEND_BACK"
    RECEIVE_BACK = "RECEIVE_BACK"
    DISPUTE = "DISPUTE"
    OFFER = "OFFER"
    TAKE_OFFER = "TAKE_OFFER"
    DECIDE = "DECIDE"
    APPEAL = "APPEAL"
    DECIDE_FINALLY = "DECIDE_FINALLY"
    CONFIRM = "CONFIRM"
    """Of lines without a case, or of what a case has left."""
    LOOK = "LOOK_AT_CASE"
    """Nothing is sent: time acts by itself."""


_A = CaseAction
_H, _D = timedelta(hours=1), timedelta(days=1)
_DISPUTED = ((0 * _D, _A.OPEN), (1 * _D, _A.REJECT), (2 * _D, _A.DISPUTE))

SCRIPTS = MappingProxyType(
    {
        Course.CANCELED_UNSHIPPED: ((0 * _D, _A.OPEN), (12 * _H, _A.ACCEPT)),
        Course.CANCELED_RETURNED: (
            (0 * _D, _A.OPEN),
            (1 * _D, _A.ACCEPT),
            (3 * _D, _A.SEND_BACK),
            (6 * _D, _A.RECEIVE_BACK),
        ),
        Course.CANCELED_RETURN_UNANSWERED: (
            (0 * _D, _A.OPEN),
            (1 * _D, _A.ACCEPT),
            (3 * _D, _A.SEND_BACK),
            (13 * _D, _A.LOOK),
        ),
        Course.CANCELED_KEPT: ((0 * _D, _A.OPEN), (1 * _D, _A.ACCEPT), (8 * _D, _A.LOOK)),
        Course.UNSHIPPED_UNANSWERED: ((0 * _D, _A.OPEN), (2 * _D, _A.LOOK)),
        Course.LOST_UNANSWERED: ((0 * _D, _A.OPEN), (5 * _D, _A.LOOK)),
        Course.LOST_ACCEPTED: ((0 * _D, _A.OPEN), (1 * _D, _A.ACCEPT)),
        Course.LATE_HALF: ((0 * _D, _A.OPEN), (1 * _D, _A.ACCEPT), (1 * _D, _A.CONFIRM)),
        Course.LATE_AGREED: (*_DISPUTED, (4 * _D, _A.OFFER), (5 * _D, _A.TAKE_OFFER)),
        Course.LATE_DECIDED: (*_DISPUTED, (10 * _D, _A.DECIDE), (17 * _D, _A.LOOK)),
        Course.LATE_APPEALED: (*_DISPUTED, (7 * _D, _A.DECIDE), (9 * _D, _A.APPEAL), (14 * _D, _A.DECIDE_FINALLY)),
        Course.POOR_RETURNED: (
            (0 * _D, _A.OPEN),
            (0 * _D, _A.CONFIRM),
            (1 * _D, _A.ACCEPT),
            (3 * _D, _A.SEND_BACK),
            (6 * _D, _A.RECEIVE_BACK),
        ),
        Course.POOR_REJECTED: ((0 * _D, _A.OPEN), (1 * _D, _A.REJECT), (8 * _D, _A.LOOK)),
        Course.POOR_WITHDRAWN: ((0 * _D, _A.OPEN), (1 * _D, _A.WITHDRAW), (1 * _D, _A.CONFIRM)),
    }
)
"""How long after the opening what is done: always a day or more before a deadline, for a step may be a day long."""

CASE_ENDS = MappingProxyType(
    dict.fromkeys(Course, "SUCCEEDED")
    | dict.fromkeys((Course.CANCELED_KEPT, Course.POOR_WITHDRAWN), "WITHDRAWN")
    | dict.fromkeys((Course.LATE_AGREED, Course.LATE_DECIDED, Course.LATE_APPEALED), "DISPUTED")
    | {Course.POOR_REJECTED: "REJECTED"}
)
"""The state that every case of a course ends in."""

UNSHIPPED = frozenset({Course.CANCELED_UNSHIPPED, Course.UNSHIPPED_UNANSWERED})
WITH_RETURN = frozenset(
    {Course.CANCELED_RETURNED, Course.CANCELED_RETURN_UNANSWERED, Course.CANCELED_KEPT, Course.POOR_RETURNED}
)
DISPUTED = frozenset({Course.LATE_AGREED, Course.LATE_DECIDED, Course.LATE_APPEALED})
_NOTHING_BACK = frozenset({Course.CANCELED_KEPT, Course.POOR_REJECTED, Course.POOR_WITHDRAWN})


@dataclass(frozen=True, slots=True)
class PlannedCase:
    """One case on one line. What it freezes is its amount and, if it claims it, the trade's postage."""

    line_id: str
    amount_minor: int
    postage_minor: int

    @property
    def frozen_minor(self) -> int:
        """What it is about."""
        return self.amount_minor + self.postage_minor


@dataclass(frozen=True, slots=True)
class Complaint:
    """The cases on one trade; all go the same way."""

    seller_id: str
    course: Course
    opened: datetime
    cases: tuple[PlannedCase, ...]
    deadline: datetime | None
    """The time that must not have come when it is opened; unset: none is near."""
    postage_back_minor: int = 0
    """Postage that no case claims and that goes back all the same."""

    def actions(self) -> Iterator[tuple[datetime, CaseAction]]:
        """What is done when, in order."""
        for after, action in SCRIPTS[self.course]:
            yield self.opened + after, action

    def given_back_minor(self, case: PlannedCase) -> int:
        """What the buyer gets back by this case in the end, by the rule alone."""
        if self.course in _NOTHING_BACK:
            return 0
        if self.course is Course.LATE_AGREED:
            return self.offered_minor(case)
        return self.decided_minor(case, finally_=self.course is not Course.LATE_DECIDED)

    @property
    def refunded_minor(self) -> int:
        """What the buyer gets back of the trade in the end; of one never shipped the postage goes back by itself."""
        return sum(map(self.given_back_minor, self.cases)) + self.postage_back_minor

    def offered_minor(self, case: PlannedCase) -> int:
        """The buyer's part of what the seller offers."""
        return case.frozen_minor * _OFFER_PERCENT // 100

    def decided_minor(self, case: PlannedCase, *, finally_: bool) -> int:
        """The buyer's part of what an arbiter decides."""
        return case.frozen_minor if finally_ else case.frozen_minor // 2


def complaint_about(
    trade: PlannedTrade,
    order: Order,
    *,
    approved: datetime,
    shipped: datetime | None,
    delivered: datetime | None,
) -> Complaint | None:
    """The complaint about a trade that is paid, and shipped in time if at all; None: there is none."""
    review = lowest_review(order)
    found = _course(trade, order, review, approved, shipped, delivered)
    if found is None:
        return None
    course, opened, deadline = found
    cases = tuple(_cases(trade, course))
    return Complaint(
        seller_id=trade.seller_id,
        course=course,
        opened=opened,
        cases=cases,
        deadline=deadline,
        postage_back_minor=trade.postage_minor if course in UNSHIPPED and len(cases) > 1 else 0,
    )


def lowest_review(order: Order) -> Review | None:
    """The first of the worst."""
    return min(order.reviews, key=lambda review: review.score, default=None)


def is_late(order: Order) -> bool:
    """Delivered later than estimated."""
    return order.delivered is not None and order.estimated is not None and order.delivered > order.estimated


def _course(
    trade: PlannedTrade,
    order: Order,
    review: Review | None,
    approved: datetime,
    shipped: datetime | None,
    delivered: datetime | None,
) -> tuple[Course, datetime, datetime | None] | None:
    is_low = review is not None and review.score <= LOW_SCORE
    if order.status == "unavailable":
        return None
    if order.status == "canceled":
        if shipped is None:
            opened = max(approved, trade.ship_by)
            return (Course.CANCELED_UNSHIPPED, opened, trade.system_cancels) if opened < trade.system_cancels else None
        if delivered is not None:
            return Course.CANCELED_KEPT, delivered, None
        course = Course.CANCELED_RETURN_UNANSWERED if is_low else Course.CANCELED_RETURNED
        return course, shipped + _CONFIRMED_AFTER, None
    if review is None or not is_low or review.created is None:
        return None
    if delivered is None and order.status == "delivered":
        return None
    if shipped is None:
        opened = max(review.created, approved)
        return (Course.UNSHIPPED_UNANSWERED, opened, trade.system_cancels) if opened < trade.system_cancels else None
    if delivered is None:
        opened, deadline = max(review.created, shipped), shipped + POST_CONFIRMS_AFTER
        course = Course.LOST_UNANSWERED if review.score == 1 else Course.LOST_ACCEPTED
        return (course, opened, deadline) if opened < deadline else None
    opened = max(review.created, delivered)
    if opened > delivered + _CONFIRMED_AFTER:
        return None
    if is_late(order):
        return _of_late(order, review), opened, None
    if review.score == LOW_SCORE:
        return Course.POOR_WITHDRAWN, opened, None
    return Course.POOR_RETURNED if len(trade.lines) > 1 else Course.POOR_REJECTED, opened, None


def _of_late(order: Order, review: Review) -> Course:
    assert order.delivered is not None, "it is late"
    assert order.estimated is not None, "it is late"
    late = order.delivered - order.estimated
    if review.score == LOW_SCORE:
        return Course.LATE_HALF
    if late < _LITTLE_LATE:
        return Course.LATE_AGREED
    return Course.LATE_DECIDED if late < _VERY_LATE else Course.LATE_APPEALED


def _cases(trade: PlannedTrade, course: Course) -> Iterator[PlannedCase]:
    if course is Course.POOR_RETURNED:
        dearest = max(trade.lines, key=lambda line: line.amount_minor)
        yield PlannedCase(dearest.line_id, dearest.amount_minor, 0)
        return
    alone = len(trade.lines) == 1 and course is not Course.LATE_HALF
    for line in trade.lines:
        yield PlannedCase(line.line_id, _claimed(line, course), trade.postage_minor if alone else 0)


def _claimed(line: PlannedLine, course: Course) -> int:
    return max(1, line.amount_minor // 2) if course is Course.LATE_HALF else line.amount_minor
