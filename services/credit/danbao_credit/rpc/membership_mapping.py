"""How memberships look on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from danbao.credit.v1 import membership_pb2
from danbao.type.v1 import money_pb2
from danbao_credit.domain.membership_model import MembershipView
from danbao_kit.money import Money


def membership_message(view: MembershipView) -> membership_pb2.Membership:
    membership = view.membership
    message = membership_pb2.Membership(
        name=membership.name,
        state=membership_pb2.Membership.State.Value(f"STATE_{membership.state}"),
        subject=membership.subject,
        deposits=[
            membership_pb2.Deposit(
                currency=deposit.currency,
                balance_minor=deposit.balance_minor,
                required_minor=required,
                account=f"accounts/{deposit.account}",
            )
            for deposit, required in zip(view.deposits, membership.required_minor, strict=True)
        ],
        causes=[membership_pb2.Cause(code=cause.code.value, text=cause.text) for cause in membership.causes],
        open_claims=view.open_claims,
        step_pending=membership.pending_step > 0,
        step_refusal=membership.step_refusal,
        etag=str(membership.revision),
    )
    message.create_time.FromDatetime(membership.create_time)
    message.update_time.FromDatetime(membership.update_time)
    for field, moment in (
        ("notice_end_time", membership.notice_end_time),
        ("join_time", membership.join_time),
        ("leave_time", membership.leave_time),
        ("return_time", view.return_time),
    ):
        if moment is not None:
            getattr(message, field).FromDatetime(moment)
    return message


def badge_message(
    subject: str, view: MembershipView | None, limits: Sequence[Money], *, lasts_s: int
) -> membership_pb2.Badge:
    """The badge of a member; without a view, of who is none."""
    message = membership_pb2.Badge(
        subject=subject,
        member=view is not None,
        compensation_limits=[money_pb2.Money(currency=limit.currency, amount_minor=limit.minor) for limit in limits],
    )
    message.max_age.FromTimedelta(timedelta(seconds=lasts_s))
    if view is not None and view.membership.join_time is not None:
        message.join_time.FromDatetime(view.membership.join_time)
    return message


def state_of(number: int) -> str:
    """The state's name; empty for unspecified."""
    name = membership_pb2.Membership.State.Name(number).removeprefix("STATE_")
    return "" if name == "UNSPECIFIED" else name
