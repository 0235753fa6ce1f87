"""Money steps of deposits: how one is set, taken over, and ended by what payments said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from danbao_credit.application.membership_commands import ClaimDepositStep, SettleDepositStep, StepDone, StepRefused
from danbao_credit.application.membership_events import count_posting, count_statement
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.membership import StepKind
from danbao_credit.domain.membership_errors import PaymentRefused
from danbao_credit.domain.membership_model import SALES, Deposit, DepositStep, Membership, Posting, StepState
from danbao_kit.decision import Moment

LEASE_MS = 8_000
"""How long, in real time, a step belongs to the process that took it; longer than its call to payments may last."""
FIRST_BACKOFF_MS = 1_000
LAST_BACKOFF_MS = 60_000

# Looks at the membership after its money has moved; gives what is answered.
After = Callable[[Membership, CreditSet, Moment], object]


def begin(
    working: CreditSet,
    moment: Moment,
    membership: Membership,
    kind: StepKind,
    *,
    currency: str,
    amount_minor: int,
    counter_kind: str,
    is_waited_for: bool,
    for_partner: str = "",
    for_subject: str = "",
) -> Membership:
    """Sets the pending step: the intent, committed before any money moves. The membership with it."""
    assert not membership.pending_step, "one step at a time"
    number = membership.last_step + 1
    step = DepositStep(
        membership_id=membership.membership_id,
        number=number,
        kind=kind,
        subject=membership.subject,
        currency=currency,
        amount_minor=amount_minor,
        counter_kind=counter_kind,
        create_time=moment.now,
        request=moment.request if is_waited_for else None,
        traceparent=moment.traceparent,
        attempt_in_ms=LEASE_MS,
        for_partner=for_partner,
        for_subject=for_subject,
    )
    working.deposit_steps.put((membership.membership_id, number), step)
    working.taken.append(step)
    return replace(membership, last_step=number, pending_step=number)


def begin_return(working: CreditSet, moment: Moment, membership: Membership, deposit: Deposit) -> Membership:
    """All that is there goes back to where sales go, and where debts to the platform are paid first."""
    return begin(
        working,
        moment,
        membership,
        StepKind.RETURN,
        currency=deposit.currency,
        amount_minor=deposit.balance_minor,
        counter_kind=SALES,
        is_waited_for=False,
    )


def claim_step(command: ClaimDepositStep, working: CreditSet) -> None:
    """Takes over a step whose lease has passed, unless somebody else was first."""
    step = working.deposit_steps.get((command.name, command.number))
    if step is None or step.state is not StepState.PENDING:
        return
    if (step.generation, step.claim) != (command.generation, command.claim):
        return
    claimed = replace(step, claim=step.claim + 1, attempt_in_ms=LEASE_MS)
    working.deposit_steps.put((command.name, command.number), claimed)
    working.taken.append(claimed)


def settle_step(command: SettleDepositStep, working: CreditSet, moment: Moment, after: After) -> None:
    """Writes a step's outcome, once: a late or second one, or one of another generation, changes nothing."""
    membership = working.memberships.get(command.name)
    step = working.deposit_steps.get((command.name, command.number))
    if membership is None or step is None or membership.pending_step != command.number:
        return
    if step.state is not StepState.PENDING or step.generation != command.generation:
        return
    if isinstance(command.outcome, StepDone):
        _finish(membership, step, command.outcome, working, moment, after)
    elif step.kind is StepKind.FUND:
        _refuse(membership, step, command.outcome, working, moment)
    else:
        count_statement(command.statement, working)
        _try_again_later(membership, step, command.outcome, working, moment, after)


def _finish(
    membership: Membership, step: DepositStep, done: StepDone, working: CreditSet, moment: Moment, after: After
) -> None:
    deposit = working.deposits.get(step.account)
    assert deposit is not None, "a step's deposit is loaded with it"
    # Only what went into and out of this account: the other side is not ours to count.
    elsewhere = step.membership_id
    transfers = ((elsewhere, step.account, done.credited_minor), (step.account, elsewhere, done.debited_minor))
    posting = Posting(UUID(done.transaction.partition("/")[2]), transfers)
    count_posting(deposit, posting, working)
    ended = replace(step, state=StepState.DONE, transaction=done.transaction, refusal="", settle_time=moment.now)
    working.deposit_steps.put((step.membership_id, step.number), ended)
    answer = after(replace(membership, pending_step=0, step_refusal=""), working, moment)
    if step.request is not None:
        moment.answer(step.request, answer)


def _refuse(
    membership: Membership, step: DepositStep, refused: StepRefused, working: CreditSet, moment: Moment
) -> None:
    """Nothing moved: the deposit is as it was, and the caller may ask again under a new request id."""
    ended = replace(step, state=StepState.REFUSED, refusal=refused.reason, settle_time=moment.now)
    working.deposit_steps.put((step.membership_id, step.number), ended)
    after = replace(
        membership,
        pending_step=0,
        step_refusal=refused.reason,
        update_time=moment.now,
        revision=membership.revision + 1,
    )
    working.memberships.put(membership.membership_id, after)
    if step.request is not None:
        moment.refuse(step.request, PaymentRefused(membership.name, refused.reason, refused.message))


def _try_again_later(
    membership: Membership,
    step: DepositStep,
    refused: StepRefused,
    working: CreditSet,
    moment: Moment,
    after: After,
) -> None:
    """A deposit that could not go back will: under the next generation, with what is there by then."""
    deposit = working.deposits.get(step.account)
    left_minor = 0 if deposit is None else deposit.balance_minor
    if left_minor <= 0:
        # Compensations took all of it, whether told by an event or by payments' statement.
        ended = replace(step, state=StepState.REFUSED, refusal=refused.reason, settle_time=moment.now)
        working.deposit_steps.put((step.membership_id, step.number), ended)
        after(replace(membership, pending_step=0, step_refusal=refused.reason), working, moment)
        return
    again = replace(
        step,
        generation=step.generation + 1,
        claim=0,
        amount_minor=left_minor,
        refusals=step.refusals + 1,
        refusal=refused.reason,
        attempt_in_ms=min(FIRST_BACKOFF_MS << min(step.refusals, 10), LAST_BACKOFF_MS),
    )
    working.deposit_steps.put((step.membership_id, step.number), again)
    if membership.step_refusal != refused.reason:
        told = replace(
            membership, step_refusal=refused.reason, update_time=moment.now, revision=membership.revision + 1
        )
        working.memberships.put(membership.membership_id, told)
