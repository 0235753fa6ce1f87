"""What is asked of memberships, and what time makes of them: one decision function a command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from danbao_credit.application import deposits
from danbao_credit.application.evaluate import seconds
from danbao_credit.application.membership_commands import (
    ApplyMembership,
    ClaimDepositStep,
    FundDeposit,
    LeaveMembership,
    LookAtMembership,
    OpenDeposits,
    ReinstateMembership,
    SettleDepositStep,
    SuspendMembership,
)
from danbao_credit.application.membership_events import count_statement
from danbao_credit.application.ports import AHEAD_S
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain import membership_errors as errors
from danbao_credit.domain.catalogue import SubjectKind
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.marks import MarkKind, standing
from danbao_credit.domain.membership import (
    Cause,
    CauseCode,
    Command,
    Look,
    Obstacle,
    Role,
    State,
    StepKind,
    Way,
    legal_commands,
    roles_for,
    way_of,
)
from danbao_credit.domain.membership_model import Deposit, Membership, MembershipEvent, MembershipView, deposit_account
from danbao_credit.domain.membership_rules import (
    Figures,
    MembershipRules,
    causes_of,
    figures_of,
    missing_text,
    required_deposit_minor,
    unmet_conditions,
)
from danbao_credit.domain.profile import Profile
from danbao_kit.decision import DEFERRED, Moment

# Windows slide though nothing happens: a membership is looked at once a day at least.
_LOOK_EVERY = timedelta(days=1)
_LOOKS_IN_A_ROW = 4
_KINDS: Mapping[State, str] = {
    State.ACTIVE: "membership_activated",
    State.NOTICE: "membership_notice_given",
    State.SUSPENDED: "membership_suspended",
    State.LEAVING: "membership_leaving",
    State.LEFT: "membership_left",
}


# A subject that there never is: it has no past.
_NOBODY = ""


@dataclass(frozen=True, slots=True)
class Desk:
    """Decides about memberships: by the judge's scores and the rules' numbers."""

    judge: Callable[[], Judge]
    rules: MembershipRules

    def apply(self, command: ApplyMembership, working: CreditSet, moment: Moment) -> MembershipView:
        """→ AWAITING_DEPOSIT. Raises RoleNotAllowed, MembershipExists, NotEligible."""
        token, subject = command.token, command.subject
        figures = self._applicant(command, working, moment.now)
        made = Membership(
            membership_id=moment.new_id(),
            subject=subject,
            partner=token.partner,
            state=State.AWAITING_DEPOSIT,
            currencies=command.currencies,
            required_minor=self._required(command.currencies, figures),
            create_time=moment.now,
            update_time=moment.now,
        )
        _open_deposits(command, working)
        # What an earlier membership left, if anything, counts, whoever knew of it.
        count_statement(command.statement, working)
        return self._looked(made, working, moment, told="membership_applied")

    def open_deposits(self, command: OpenDeposits, working: CreditSet, moment: Moment) -> None:
        """The deposits of who may apply; of who may not, nothing is kept: the application says why."""
        try:
            self._applicant(command, working, moment.now)
        except (errors.RoleNotAllowed, errors.MembershipExists, errors.NotEligible):
            return
        _open_deposits(command, working)

    def fund(self, command: FundDeposit, working: CreditSet, moment: Moment) -> object:
        """Sets the step; the answer comes with its outcome. Raises StepInFlight, MembershipStateInvalid,
        CurrencyMismatch."""
        membership, role = _found(command, Command.FUND, working)
        _check_no_step(membership)
        look = self._look(membership, working, moment.now)
        way = _way(membership, Command.FUND, role, look)
        if command.amount.currency not in membership.currencies:
            raise errors.CurrencyMismatch(membership.name, command.amount.currency, membership.currencies)
        assert way.step is StepKind.FUND
        begun = deposits.begin(
            working,
            moment,
            membership,
            StepKind.FUND,
            currency=command.amount.currency,
            amount_minor=command.amount.minor,
            counter_kind=command.source_kind,
            is_waited_for=True,
            # An operator funds it as such.
            for_partner="" if command.token.is_operator else membership.partner,
            for_subject=membership.subject if command.token.subject == membership.subject else "",
        )
        working.memberships.put(membership.membership_id, begun)
        return DEFERRED

    def suspend(self, command: SuspendMembership, working: CreditSet, moment: Moment) -> MembershipView:
        """→ SUSPENDED, by an operator."""
        membership, role = _found(command, Command.SUSPEND, working)
        way = _way(membership, Command.SUSPEND, role, Look())
        causes = (Cause(CauseCode.OPERATOR, command.reason),)
        return self._gone(replace(membership, causes=causes, notice_end_time=None), way, working, moment)

    def reinstate(self, command: ReinstateMembership, working: CreditSet, moment: Moment) -> MembershipView:
        """→ ACTIVE, by an operator. Raises NotEligible, then DepositTooLow."""
        membership, role = _found(command, Command.REINSTATE, working)
        refreshed = self._refreshed(membership, working, moment.now)
        look = self._look(refreshed, working, moment.now)
        found = way_of(membership.state, Command.REINSTATE, role, look)
        if found is Obstacle.NOT_ELIGIBLE:
            raise errors.NotEligible(membership.subject, look.unmet)
        if found is Obstacle.DEPOSIT_TOO_LOW:
            raise errors.DepositTooLow(membership.name, self._missing(refreshed, working))
        way = _way(membership, Command.REINSTATE, role, look)
        back = replace(refreshed, causes=(), notice_end_time=None)
        return self._gone(back, way, working, moment, kind="membership_reinstated")

    def leave(self, command: LeaveMembership, working: CreditSet, moment: Moment) -> MembershipView:
        """→ LEAVING, or LEFT where nothing was deposited yet. Raises StepInFlight, OpenClaims."""
        membership, role = _found(command, Command.LEAVE, working)
        _check_no_step(membership)
        look = self._look(membership, working, moment.now)
        if way_of(membership.state, Command.LEAVE, role, look) is Obstacle.OPEN_CLAIMS:
            raise errors.OpenClaims(membership.name, look.open_claims)
        way = _way(membership, Command.LEAVE, role, look)
        gone = replace(membership, leave_time=moment.now, causes=(), notice_end_time=None)
        return self._gone(gone, way, working, moment)

    def look(self, command: LookAtMembership, working: CreditSet, moment: Moment) -> None:
        """What time, score, marks, claims and deposit have made of it."""
        membership = working.memberships.get(command.name)
        if membership is not None and membership.state is not State.LEFT:
            self._looked(membership, working, moment)

    def claim_step(self, command: ClaimDepositStep, working: CreditSet, moment: Moment) -> None:
        deposits.claim_step(command, working)

    def settle_step(self, command: SettleDepositStep, working: CreditSet, moment: Moment) -> None:
        deposits.settle_step(command, working, moment, self._moved)

    def view(self, membership: Membership, working: CreditSet) -> MembershipView:
        """As it is answered and told."""
        claims = working.claim_counts.get(membership.subject)
        return MembershipView(
            membership,
            tuple(_deposits(membership, working)),
            0 if claims is None else claims.open,
            return_time(membership, None if claims is None else claims.last_end_time, self.rules),
        )

    def _moved(self, membership: Membership, working: CreditSet, moment: Moment) -> MembershipView:
        return self._looked(membership, working, moment, told="deposit_moved")

    def _looked(self, membership: Membership, working: CreditSet, moment: Moment, *, told: str = "") -> MembershipView:
        """Goes whatever ways are open now. `told`: what is told anyway, before."""
        now = moment.now
        current = self._refreshed(membership, working, now)
        if told:
            current = self._written(current, working, moment, told)
        for _ in range(_LOOKS_IN_A_ROW):
            look = self._look(current, working, now)
            way = way_of(current.state, Command.LOOK, Role.SYSTEM, look)
            # Money on its way into a deposit keeps nobody from being suspended; on its way back it is waited for.
            if not isinstance(way, Way) or (current.pending_step and current.state is State.LEAVING):
                break
            if way.step is StepKind.RETURN:
                deposit = next(each for each in _deposits(current, working) if each.balance_minor > 0)
                current = deposits.begin_return(working, moment, current, deposit)
                current = self._written(current, working, moment, "deposit_returning")
                continue
            changed = replace(current, state=way.to, causes=look.causes if way.to in _CAUSED else ())
            changed = replace(changed, notice_end_time=now + self.rules.notice if way.to is State.NOTICE else None)
            if way.to is State.ACTIVE and changed.join_time is None:
                changed = replace(changed, join_time=now)
            current = self._written(changed, working, moment, _KINDS[way.to])
        look = self._look(current, working, now)
        if current.state is State.NOTICE and current.causes != look.causes:
            current = replace(current, causes=look.causes)
        settled = replace(current, look_time=self._next_look(current, working, now), look_cause="")
        working.memberships.put(settled.membership_id, settled)
        return self.view(settled, working)

    def _gone(
        self, membership: Membership, way: Way, working: CreditSet, moment: Moment, *, kind: str = ""
    ) -> MembershipView:
        changed = replace(membership, state=way.to)
        if way.to is State.ACTIVE and changed.join_time is None:
            changed = replace(changed, join_time=moment.now)
        changed = replace(changed, look_time=self._next_look(changed, working, moment.now), look_cause="")
        written = self._written(changed, working, moment, kind or _KINDS[way.to])
        return self.view(written, working)

    def _written(self, membership: Membership, working: CreditSet, moment: Moment, kind: str) -> Membership:
        is_new = working.memberships.get(membership.membership_id) is None
        revision = membership.revision if is_new else membership.revision + 1
        written = replace(membership, update_time=moment.now, revision=revision)
        working.memberships.put(written.membership_id, written)
        moment.emit(MembershipEvent(kind, self.view(written, working)))
        return written

    def _look(self, membership: Membership, working: CreditSet, now: datetime) -> Look:
        figures = self._figures(membership.subject, working, now)
        balances = {each.currency: each.balance_minor for each in _deposits(membership, working)}
        required = dict(zip(membership.currencies, membership.required_minor, strict=True))
        claims = working.claim_counts.get(membership.subject)
        open_claims = 0 if claims is None else claims.open
        returns = return_time(membership, None if claims is None else claims.last_end_time, self.rules)
        return Look(
            unmet=unmet_conditions(figures, self.rules),
            causes=causes_of(figures, self.rules, balances_minor=balances, required_minor=required),
            deposit_whole=all(balances[currency] >= wanted for currency, wanted in required.items()),
            # Nothing goes back from a deposit of which less than all was told.
            deposit_empty=all(balance <= 0 for balance in balances.values()),
            open_claims=open_claims,
            notice_over=membership.notice_end_time is not None and membership.notice_end_time <= now,
            return_due=returns is not None and returns <= now and open_claims == 0,
        )

    def _applicant(self, command: OpenDeposits | ApplyMembership, working: CreditSet, now: datetime) -> Figures:
        """The figures of who may apply. Raises RoleNotAllowed, MembershipExists, NotEligible."""
        token, subject = command.token, command.subject
        if not token.is_operator and not token.is_partner and token.subject != subject:
            raise errors.RoleNotAllowed("user", "ApplyMembership for somebody else", ("partner", "operator"))
        if isinstance(command, ApplyMembership) and command.is_foreign:
            raise errors.NotEligible(subject, unmet_conditions(self._figures(_NOBODY, working, now), self.rules))
        known = next(
            (each for each in working.memberships.values() if each.subject == subject and _goes_on(each)), None
        )
        if known is not None:
            raise errors.MembershipExists(subject, known.state)
        figures = self._figures(subject, working, now)
        unmet = unmet_conditions(figures, self.rules)
        if unmet:
            raise errors.NotEligible(subject, unmet)
        return figures

    def _figures(self, subject: str, working: CreditSet, now: datetime) -> Figures:
        profile = working.subjects.get(subject) or Profile.empty()
        as_of_s = seconds(now)
        judge = self.judge()
        marks = [mark for mark in working.marks.values() if mark.subject == subject]
        stands = standing(marks, as_of_s, ahead_s=AHEAD_S)
        evaluation = judge.evaluate(profile, kind=SubjectKind.MERCHANT, as_of_s=as_of_s, standing=stands)
        unpaid_s = stands.get(MarkKind.PROMISE_UNPAID)
        return replace(
            figures_of(judge.catalogue, judge.facts(profile, as_of_s), profile, evaluation),
            fraud=MarkKind.FRAUD in stands,
            promise_unpaid=None if unpaid_s is None else timedelta(seconds=unpaid_s),
        )

    def _refreshed(self, membership: Membership, working: CreditSet, now: datetime) -> Membership:
        """With what the deposit should be by today's sales; of who is leaving it is not asked any more."""
        if membership.state in (State.LEAVING, State.LEFT):
            return membership
        figures = self._figures(membership.subject, working, now)
        return replace(membership, required_minor=self._required(membership.currencies, figures))

    def _required(self, currencies: tuple[str, ...], figures: Figures) -> tuple[int, ...]:
        gmv = figures.gmv_30d_minor
        return tuple(required_deposit_minor(currency, gmv.get(currency, 0), self.rules) for currency in currencies)

    def _missing(self, membership: Membership, working: CreditSet) -> str:
        pairs = zip(_deposits(membership, working), membership.required_minor, strict=True)
        return "; ".join(
            missing_text(each.currency, each.balance_minor, required)
            for each, required in pairs
            if each.balance_minor < required
        )

    def _next_look(self, membership: Membership, working: CreditSet, now: datetime) -> datetime | None:
        if membership.state in (State.LEFT, State.SUSPENDED):
            return None
        if membership.state is State.LEAVING:
            claims = working.claim_counts.get(membership.subject)
            if membership.pending_step or (claims is not None and claims.open):
                return None  # the step's end, or the claim's, says when
            return return_time(membership, None if claims is None else claims.last_end_time, self.rules)
        times = [now + _LOOK_EVERY]
        if membership.notice_end_time is not None:
            times.append(membership.notice_end_time)
        promise = self._figures(membership.subject, working, now).promise_unpaid
        if promise is not None and promise <= self.rules.keep_promise:
            times.append(now + self.rules.keep_promise - promise + timedelta(seconds=1))
        return min(times)


_CAUSED = frozenset({State.NOTICE, State.SUSPENDED})


def return_time(membership: Membership, last_claim_end: datetime | None, rules: MembershipRules) -> datetime | None:
    """When the deposit of who is leaving goes back at the earliest; None for who is not. What never stood for a trade
    goes back at once."""
    if membership.leave_time is None or membership.state not in (State.LEAVING, State.LEFT):
        return None
    if membership.join_time is None:
        return membership.leave_time
    since = membership.leave_time if last_claim_end is None else max(membership.leave_time, last_claim_end)
    return since + rules.leaving


def _deposits(membership: Membership, working: CreditSet) -> list[Deposit]:
    """In the order of its currencies."""
    found = []
    for currency in membership.currencies:
        account = deposit_account(membership.subject, currency)
        found.append(working.deposits.get(account) or Deposit(account, membership.subject, currency))
    return found


def _open_deposits(command: OpenDeposits | ApplyMembership, working: CreditSet) -> None:
    for currency in command.currencies:
        account = deposit_account(command.subject, currency)
        if working.deposits.get(account) is None:
            working.deposits.put(account, Deposit(account, command.subject, currency))


def _found(command: Any, name: Command, working: CreditSet) -> tuple[Membership, Role]:
    """The membership, and as what the caller asks. Raises MembershipNotFound, RoleNotAllowed."""
    membership = working.memberships.get(command.name)
    role = None if membership is None else command.token.role_for(membership.subject, membership.partner)
    if membership is None or role is None:
        raise errors.MembershipNotFound(f"memberships/{command.name}")
    allowed = roles_for(name)
    if role not in allowed:
        raise errors.RoleNotAllowed(role, name, allowed)
    return membership, role


def _way(membership: Membership, command: Command, role: Role, look: Look) -> Way:
    way = way_of(membership.state, command, role, look)
    if way is None:
        raise errors.MembershipStateInvalid(
            membership.name, command, membership.state, legal_commands(membership.state)
        )
    assert isinstance(way, Way), "whoever has obstacles looks for them"
    return way


def _check_no_step(membership: Membership) -> None:
    if membership.pending_step:
        raise errors.StepInFlight(membership.name, membership.pending_step)


def _goes_on(membership: Membership) -> bool:
    return membership.state is not State.LEFT
