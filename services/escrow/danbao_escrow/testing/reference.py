"""Trades as the contract describes them, reckoned anew: no table, no deadline and no formula of the service is used.

Time is counted down instead of compared, amounts are fractions, each command is written out. What a test asks of the
service it asks of this too; both must refuse for the same reason or come to the same amounts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor

HOUR = 3_600_000_000
DAY = 24 * HOUR

STATE, CASE, STEP, LIMIT = "TRADE_STATE_INVALID", "LINE_UNDER_CASE", "STEP_IN_FLIGHT", "LIMIT_EXCEEDED"
OPEN = ("PAID", "SHIPPED")


class Refused(Exception):
    """The reason with which the service has to refuse too."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def half_up(value: Fraction) -> int:
    """Rounded, halves upwards."""
    return floor(value + Fraction(1, 2))


@dataclass
class Offer:
    """Who proposes which parts."""

    by: str
    buyer: int
    seller: int


@dataclass
class ReferenceCase:
    """A refund case, and the dispute that it led to."""

    line: int
    amount: int
    postage: int
    with_return: bool
    state: str = "REQUESTED"
    # Microseconds until time acts on it.
    left: int | None = None
    over: bool = False
    # Its money is under way.
    paying: bool = False
    dispute: str = ""
    offer: Offer | None = None
    decision: Offer | None = None
    appealed: bool = False

    @property
    def frozen(self) -> int:
        """What it is about, minor units."""
        return self.amount + self.postage


@dataclass
class ReferenceLine:
    """A line: what left it, and how long its clock still has to run."""

    amount: int
    state: str = "UNPAID"
    out: int = 0
    back: int = 0
    postage: int = 0
    shipped: bool = False
    # Until ship-by, or until auto-confirm once it is shipped.
    left: int = 0
    delivered: bool = False
    extended: int = 0
    case: ReferenceCase | None = None

    @property
    def rest(self) -> int:
        """What of it neither party has, minor units."""
        return self.amount + self.postage - self.out - self.back

    @property
    def stands_still(self) -> bool:
        """Whether a case is open on it."""
        return self.case is not None


@dataclass
class Part:
    """What a step takes from a line."""

    line: int
    out: int = 0
    back: int = 0
    postage: int = 0


@dataclass
class Held:
    """Kept back for so long, microseconds."""

    amount: int
    left: int


@dataclass
class Pending:
    """A money step under way."""

    kind: str
    parts: list[Part] = field(default_factory=list)
    case: ReferenceCase | None = None
    held: list[Held] = field(default_factory=list)
    blocked: bool = False


@dataclass(frozen=True)
class Agreed:
    """What a trade is made on."""

    amounts: tuple[int, ...]
    postage: int = 0
    bps: int = 0
    fixed: int = 0
    cap: int = 0
    buyer_bps: int = 0
    reserve_bps: int = 0
    delay_hours: int = 0
    confirm_days: int = 10


class ReferenceTrade:
    """One trade, its cases and its money."""

    def __init__(self, agreed: Agreed) -> None:
        self.agreed = agreed
        self.lines = [ReferenceLine(amount) for amount in agreed.amounts]
        self.postage = agreed.postage
        self.cases: list[ReferenceCase] = []
        self.pay_left = 24 * HOUR
        self.pending: Pending | None = None
        self.funded = self.out = self.back = 0
        self.fee_out = self.fee_back = 0
        self.held: list[Held] = []

    # What follows from what happened.

    @property
    def total(self) -> int:
        return sum(line.amount for line in self.lines) + self.postage

    @property
    def buyers_fee(self) -> int:
        return half_up(Fraction(self.agreed.buyer_bps * self.total, 10_000))

    @property
    def sellers_fees(self) -> int:
        """Taken so far."""
        return self._fee_on(self.out)

    @property
    def released(self) -> int:
        return self.out + self.fee_out

    @property
    def refunded(self) -> int:
        return self.back + self.fee_back

    @property
    def in_escrow(self) -> int:
        return self.funded - self.released - self.refunded

    @property
    def sellers(self) -> int:
        """The seller's, kept back or not."""
        return self.out - self.sellers_fees

    @property
    def fees(self) -> int:
        return self.sellers_fees + self.fee_out

    @property
    def kept_back(self) -> int:
        return sum(part.amount for part in self.held)

    @property
    def state(self) -> str:
        states = [line.state for line in self.lines]
        if "UNPAID" in states:
            return "PENDING_PAYMENT"
        if set(states) == {"CANCELLED"}:
            return "CANCELLED"
        if not any(state in OPEN for state in states):
            return "COMPLETED" if self.out else "CLOSED"
        if "PAID" not in states:
            return "AWAITING_CONFIRMATION"
        return "AWAITING_SHIPMENT" if set(states) <= {"PAID", "REFUNDED"} else "PARTIALLY_SHIPPED"

    # Time.

    def tick(self, microseconds: int) -> None:
        """Every clock runs but those that stand still."""
        self.pay_left -= microseconds
        for line in self.lines:
            if not line.stands_still:
                line.left -= microseconds
        for part in self.held:
            part.left -= microseconds
        for case in self.cases:
            if case.left is not None:
                case.left -= microseconds

    def fire(self) -> None:
        """What time does to the trade: the first thing that is due."""
        if self.pending is not None:
            return
        late = [n for n, line in enumerate(self.lines) if not line.stands_still]
        unshipped = [n for n in late if self.lines[n].state == "PAID" and self.lines[n].left <= -7 * DAY]
        unconfirmed = [n for n in late if self.lines[n].state == "SHIPPED" and self.lines[n].left <= 0]
        due = [part for part in self.held if part.left <= 0]
        if self.state == "PENDING_PAYMENT":
            self._end_unpaid()
        elif unshipped:
            self._begin("REFUND", [Part(n, back=self.lines[n].rest) for n in unshipped])
        elif unconfirmed:
            self._begin("RELEASE", [Part(n, out=self.lines[n].rest) for n in unconfirmed])
        elif due:
            self.pending = Pending("PAYOUT_HELD", held=due)

    def fire_case(self, case: ReferenceCase) -> None:
        """What time does to a case."""
        if self.pending is not None or case.over or case.left is None or case.left > 0:
            return
        if case.dispute:
            case.left = None
            if case.dispute == "DECIDED":
                assert case.decision is not None
                self._divide(case, case.decision)
        elif case.state == "REQUESTED" and case.with_return:
            case.state, case.left = "AWAITING_RETURN", 7 * DAY
        elif case.state in ("REQUESTED", "AWAITING_RECEIPT"):
            self._pay_back(case)
        elif case.state == "AWAITING_RETURN":
            case.state = "WITHDRAWN"
            self._end_case(case)
        else:
            self._end_case(case)

    # What the parties ask.

    def adjust(self, line: int, amount: int, postage: int) -> None:
        self._check_unpaid()
        self.lines[line].amount, self.postage = amount, postage
        self.pay_left = 24 * HOUR

    def pay(self) -> None:
        self._check_unpaid()
        self.pending = Pending("PAY")

    def cancel(self) -> None:
        self._check_unpaid()
        self._cancelled()

    def ship(self, lines: Sequence[int]) -> None:
        for number in self._chosen(lines, lambda line, state: state == "PAID" and line.left > -7 * DAY, by_case=True):
            line = self.lines[number]
            line.state, line.shipped, line.left = "SHIPPED", True, 20 * DAY

    def deliver(self, lines: Sequence[int]) -> None:
        for number in self._chosen(lines, lambda line, state: state == "SHIPPED" and line.left > 0):
            line = self.lines[number]
            if not line.delivered:
                line.delivered, line.left = True, (self.agreed.confirm_days + line.extended) * DAY

    def extend(self, lines: Sequence[int], days: int) -> None:
        chosen = self._chosen(lines, lambda line, state: state == "SHIPPED" and line.left > 0)
        if any(self.lines[number].extended + days > 10 for number in chosen):
            raise Refused("EXTENSION_LIMIT_REACHED")
        for number in chosen:
            self.lines[number].extended += days
            self.lines[number].left += days * DAY

    def confirm(self, lines: Sequence[int]) -> None:
        self._check_no_step()
        chosen = self._chosen(lines, lambda line, state: state == "SHIPPED", by_case=True)
        self._begin("RELEASE", [Part(number, out=self.lines[number].rest) for number in chosen])

    def cancel_lines(self, lines: Sequence[int], *, by_buyer: bool) -> None:
        self._check_no_step()
        chosen = self._chosen(
            lines, lambda line, state: state == "PAID" and (not by_buyer or line.left <= 0), by_case=True
        )
        self._begin("REFUND", [Part(number, back=self.lines[number].rest) for number in chosen])

    def release_held(self) -> None:
        self._check_no_step()
        if not self.held:
            raise Refused(STATE)
        self.pending = Pending("PAYOUT_HELD", held=list(self.held))

    def open_case(self, number: int, amount: int, *, with_return: bool, claims_postage: bool) -> ReferenceCase:
        line = self.lines[number]
        if line.case is not None:
            raise Refused(CASE)
        state = self._bound_states()[number]
        in_time = line.left > -7 * DAY if state == "PAID" else line.left > 0
        is_last = self._is_last_open(number)
        if state not in OPEN or not in_time or (claims_postage and not is_last):
            raise Refused(STATE)
        if amount > line.rest:
            raise Refused(LIMIT)
        postage = self._postage_left() if claims_postage else 0
        case = ReferenceCase(number, amount, postage, with_return, left=(2 if state == "PAID" else 5) * DAY)
        line.case = case
        self.cases.append(case)
        return case

    def accept(self, case: ReferenceCase) -> None:
        self._check_case(case, "REQUESTED")
        if case.with_return:
            case.state, case.left = "AWAITING_RETURN", 7 * DAY
        else:
            self._check_no_step()
            self._pay_back(case)

    def reject(self, case: ReferenceCase) -> None:
        self._check_case(case, "REQUESTED", "AWAITING_RECEIPT", in_time=True)
        case.state, case.left = "REJECTED", 7 * DAY

    def submit_return(self, case: ReferenceCase) -> None:
        self._check_case(case, "AWAITING_RETURN", in_time=True)
        case.state, case.left = "AWAITING_RECEIPT", 10 * DAY

    def confirm_return(self, case: ReferenceCase) -> None:
        self._check_case(case, "AWAITING_RECEIPT")
        self._check_no_step()
        self._pay_back(case)

    def withdraw(self, case: ReferenceCase) -> None:
        states = ("REQUESTED", "AWAITING_RETURN", "AWAITING_RECEIPT", "REJECTED")
        self._check_case(case, *states, in_time=case.state != "AWAITING_RETURN")
        case.state = "WITHDRAWN"
        self._end_case(case)

    def open_dispute(self, case: ReferenceCase) -> None:
        if case.state == "REJECTED" and not case.paying and (case.over or self._late(case)):
            raise Refused("DISPUTE_WINDOW_CLOSED")
        self._check_case(case, "REJECTED")
        case.state, case.dispute, case.left = "DISPUTED", "OPEN", 14 * DAY

    def offer(self, case: ReferenceCase, by: str, buyer: int, seller: int) -> None:
        self._check_dispute(case, "OPEN", "OFFERED")
        self._check_whole(case, buyer, seller)
        case.dispute, case.offer = "OFFERED", Offer(by, buyer, seller)

    def accept_offer(self, case: ReferenceCase, by: str) -> None:
        self._check_dispute(case, "OFFERED")
        assert case.offer is not None
        if case.offer.by == by:
            raise Refused(STATE)
        self._check_no_step()
        case.dispute = "SETTLED"
        self._divide(case, case.offer)

    def decide(self, case: ReferenceCase, buyer: int, seller: int) -> None:
        self._check_dispute(case, "OPEN", "OFFERED", "APPEALED")
        self._check_whole(case, buyer, seller)
        decision = Offer("ARBITER", buyer, seller)
        if case.appealed:
            self._check_no_step()
            self._divide(case, decision)
        else:
            case.left = 7 * DAY
        case.dispute, case.decision = "DECIDED", decision

    def appeal(self, case: ReferenceCase) -> None:
        if case.dispute == "DECIDED" and not case.paying and self._late(case):
            raise Refused("DISPUTE_WINDOW_CLOSED")
        self._check_dispute(case, "DECIDED")
        if case.appealed:
            raise Refused(STATE)
        case.dispute, case.appealed, case.left = "APPEALED", True, None

    # What payments says.

    def settle(self) -> None:
        """The step's money has moved."""
        pending = self.pending
        assert pending is not None
        self.pending = None
        if pending.kind == "PAY":
            self.funded = self.total + self.buyers_fee
            for line in self.lines:
                line.state, line.left = "PAID", 3 * DAY
        for kept in pending.held:
            self.held.remove(kept)
        self._count(pending.parts)
        for part in pending.parts:
            line = self.lines[part.line]
            line.out, line.back, line.postage = line.out + part.out, line.back + part.back, line.postage + part.postage
            line.case = None
            if line.rest == 0:
                line.state = "RELEASED" if line.back < line.amount else "REFUNDED"
        if pending.case is not None:
            case = pending.case
            case.paying, case.over, case.left = False, True, None
            if case.dispute:
                case.dispute = "CLOSED"
            else:
                case.state = "SUCCEEDED"

    def refuse(self) -> None:
        """Payments refuses the step for now."""
        assert self.pending is not None
        if self.pending.kind == "PAY":
            self.pending = None
        else:
            self.pending.blocked = True

    # The rest is how.

    def _fee_on(self, out: int) -> int:
        if self.agreed.fixed:
            return half_up(Fraction(self.agreed.fixed * out, self.total))
        fee = half_up(Fraction(self.agreed.bps * out, 10_000))
        return min(fee, self.agreed.cap) if self.agreed.cap else fee

    def _count(self, parts: list[Part]) -> None:
        out, back = sum(part.out for part in parts), sum(part.back for part in parts)
        if not out and not back:
            return
        settled = self.out + self.back
        moved = [half_up(Fraction(self.buyers_fee * (settled + more), self.total)) for more in (0, back, back + out)]
        self.fee_back += moved[1] - moved[0]
        self.fee_out += moved[2] - moved[1]
        seller = out - (self._fee_on(self.out + out) - self._fee_on(self.out))
        kept = [half_up(Fraction(self.agreed.reserve_bps * amount, 10_000)) for amount in (self.out, self.out + out)]
        reserve = min(kept[1] - kept[0], seller)
        self.out, self.back = self.out + out, self.back + back
        if self.agreed.delay_hours and seller > reserve:
            self.held.append(Held(seller - reserve, self.agreed.delay_hours * HOUR))
        if reserve:
            self.held.append(Held(reserve, 90 * DAY))

    def _begin(self, kind: str, parts: list[Part], case: ReferenceCase | None = None) -> None:
        taken = {part.line: part.out + part.back - part.postage for part in parts}
        stays = any(line.state in OPEN and taken.get(n, 0) < line.rest for n, line in enumerate(self.lines))
        postage = self._postage_left() - sum(part.postage for part in parts)
        if postage and not stays:
            last = parts[-1]
            last.postage += postage
            if any(line.shipped for line in self.lines):
                last.out += postage
            else:
                last.back += postage
        self.pending = Pending(kind, parts, case)

    def _pay_back(self, case: ReferenceCase) -> None:
        case.paying, case.left = True, None
        self._begin("REFUND", [Part(case.line, back=case.frozen, postage=case.postage)], case)

    def _divide(self, case: ReferenceCase, parts: Offer) -> None:
        case.paying, case.left = True, None
        self._begin("SETTLE", [Part(case.line, parts.seller, parts.buyer, case.postage)], case)

    def _end_case(self, case: ReferenceCase) -> None:
        case.over, case.left = True, None
        self.lines[case.line].case = None

    def _postage_left(self) -> int:
        return self.postage - sum(line.postage for line in self.lines)

    def _is_last_open(self, number: int) -> bool:
        states = self._bound_states()
        return states[number] in OPEN and not any(
            state in OPEN for other, state in enumerate(states) if other != number
        )

    def _bound_states(self) -> list[str]:
        """With what is under way gone already."""
        states = [line.state for line in self.lines]
        for part in self.pending.parts if self.pending is not None else ():
            line = self.lines[part.line]
            if part.out + part.back - part.postage == line.rest:
                states[part.line] = "GONE"
        return states

    def _chosen(self, lines: Sequence[int], legal: object, *, by_case: bool = False) -> list[int]:
        """Lines that are meant: those named, or all for which it is legal."""
        assert callable(legal)
        states = self._bound_states()
        fits = [n for n, line in enumerate(self.lines) if legal(line, states[n])]
        free = [n for n in fits if not (by_case and self.lines[n].stands_still)]
        for number in sorted(lines):
            if number not in free:
                raise Refused(CASE if number in fits else STATE)
        if not lines and not free:
            raise Refused(CASE if fits else STATE)
        return sorted(lines) if lines else free

    def _check_no_step(self) -> None:
        if self.pending is not None:
            raise Refused(STEP)

    def _check_unpaid(self) -> None:
        self._check_no_step()
        if self._end_unpaid() or self.state != "PENDING_PAYMENT":
            raise Refused(STATE)

    def _end_unpaid(self) -> bool:
        is_over = self.state == "PENDING_PAYMENT" and self.pay_left <= 0
        if is_over:
            self._cancelled()
        return is_over

    def _cancelled(self) -> None:
        for line in self.lines:
            line.state = "CANCELLED"

    @staticmethod
    def _late(case: ReferenceCase) -> bool:
        return case.left is not None and case.left <= 0

    def _check_case(self, case: ReferenceCase, *states: str, in_time: bool = False) -> None:
        if case.paying and not case.dispute:
            raise Refused(STEP)
        if case.over or case.state not in states or (in_time and self._late(case)):
            raise Refused(STATE)

    def _check_dispute(self, case: ReferenceCase, *states: str) -> None:
        if case.paying:
            raise Refused(STEP)
        if case.over or case.dispute not in states:
            raise Refused(STATE)

    @staticmethod
    def _check_whole(case: ReferenceCase, buyer: int, seller: int) -> None:
        if buyer + seller != case.frozen:
            raise Refused("DECISION_NOT_EQUAL_FROZEN")
