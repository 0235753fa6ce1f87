"""Bodies that work for memberships, with merchants of their own whose identity is verified."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from danbao_local.client import GatewayClient
from danbao_local.demo import CREDIT, CURRENCY, PAYMENTS, money, new_id, top_up_body

_MEMBERSHIPS = f"{CREDIT}.MembershipService"
DEPOSIT_MINOR = 100_000
"""What a newcomer has to deposit."""
_PART_MINOR = 1_000


@dataclass(frozen=True, slots=True)
class MembershipFixtures:
    """Merchants and memberships in the state that the bodies need."""

    to_apply: str
    member: str
    membership: str
    to_fund: str
    to_suspend: str
    to_reinstate: str
    to_leave: str


Example = tuple[str, Callable[[MembershipFixtures], dict[str, Any]]]

EXAMPLES: Mapping[str, Example] = {
    f"{_MEMBERSHIPS}/ApplyMembership": (
        "partner",
        lambda made: {"requestId": new_id(), "subject": made.to_apply, "currencies": [CURRENCY]},
    ),
    f"{_MEMBERSHIPS}/GetMembership": ("partner", lambda made: {"name": made.membership}),
    f"{_MEMBERSHIPS}/GetBadge": ("user", lambda made: {"subject": made.member}),
    f"{_MEMBERSHIPS}/ListMemberships": ("partner", lambda _: {"state": "STATE_ACTIVE", "pageSize": 10}),
    f"{_MEMBERSHIPS}/FundDeposit": ("partner", lambda made: funding(made.to_fund, _PART_MINOR)),
    f"{_MEMBERSHIPS}/SuspendMembership": (
        "operator",
        lambda made: {"requestId": new_id(), "name": made.to_suspend, "reason": "papers have expired"},
    ),
    f"{_MEMBERSHIPS}/ReinstateMembership": (
        "operator",
        lambda made: {"requestId": new_id(), "name": made.to_reinstate, "reason": "new papers"},
    ),
    f"{_MEMBERSHIPS}/LeaveMembership": ("partner", lambda made: {"requestId": new_id(), "name": made.to_leave}),
}
"""By RPC: the role to call it with, and the body."""


def make(client: GatewayClient) -> MembershipFixtures:
    """Merchants of their own. Raises CallFailed."""
    to_apply = verified(client)
    member, membership = joined(client)
    _, to_fund = joined(client)
    _, to_suspend = joined(client)
    _, to_reinstate = joined(client)
    _, to_leave = joined(client)
    client.call(
        f"{_MEMBERSHIPS}/SuspendMembership",
        {"requestId": new_id(), "name": to_reinstate, "reason": "papers have expired"},
        role="operator",
    )
    return MembershipFixtures(to_apply, member, membership, to_fund, to_suspend, to_reinstate, to_leave)


def verified(client: GatewayClient) -> str:
    """A merchant whose identity was verified, with money in the wallet for a deposit and a little more."""
    subject = f"subjects/merchant-{new_id()}"
    event = {
        "eventId": new_id(),
        "kind": "identity_verified",
        "subject": subject,
        "occurTime": "2026-01-05T09:30:00Z",
        "measures": {"level": "2"},
    }
    client.call(f"{CREDIT}.CreditService/RecordEvents", {"events": [event]}, role="partner")
    top_up = top_up_body(2 * DEPOSIT_MINOR) | {"owner": subject}
    client.call(f"{PAYMENTS}.PaymentService/CreateTopUp", top_up, role="partner")
    return subject


def joined(client: GatewayClient, deposit_minor: int = DEPOSIT_MINOR) -> tuple[str, str]:
    """A credible merchant, and the membership."""
    subject = verified(client)
    body = {"requestId": new_id(), "subject": subject, "currencies": [CURRENCY]}
    name = str(client.call(f"{_MEMBERSHIPS}/ApplyMembership", body, role="partner").name)
    client.call(f"{_MEMBERSHIPS}/FundDeposit", funding(name, deposit_minor), role="partner")
    return subject, name


def funding(name: str, minor: int) -> dict[str, Any]:
    """A deposit out of the wallet."""
    return {"requestId": new_id(), "name": name, "amount": money(minor), "source": "DEPOSIT_SOURCE_WALLET"}
