"""Which rules of memberships refuse.

MembershipNotFound       NOT_FOUND            none of that name, or not the caller's
MembershipExists         FAILED_PRECONDITION  the subject has one
NotEligible              FAILED_PRECONDITION  conditions of joining are not met, each named with its figure
RoleNotAllowed           PERMISSION_DENIED    the caller's role may not do this
MembershipStateInvalid   FAILED_PRECONDITION  not legal in this state
OpenClaims               FAILED_PRECONDITION  buyers' claims are open
StepInFlight             ABORTED              money of it is under way
PaymentRefused           FAILED_PRECONDITION  payments said no, and why
DepositTooLow            FAILED_PRECONDITION  the deposit is not whole
CurrencyMismatch         FAILED_PRECONDITION  not one of the membership's currencies
StatementUnknown         UNAVAILABLE          payments does not say what is on a deposit
"""

from __future__ import annotations

from collections.abc import Iterable

from danbao_kit.errors import Code, DanbaoError


class MembershipNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "MEMBERSHIP_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no {name}", name=name)


class MembershipExists(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "MEMBERSHIP_EXISTS"

    def __init__(self, subject: str, state: str) -> None:
        super().__init__(f"{subject} has a membership: it is {state}", subject=subject, state=state)


class NotEligible(DanbaoError):
    """`unmet` are sentences with a figure each, such as "57 of 100 completed trades"."""

    code, reason = Code.FAILED_PRECONDITION, "NOT_ELIGIBLE"

    def __init__(self, subject: str, unmet: Iterable[str]) -> None:
        listed = "; ".join(unmet)
        super().__init__(f"{subject} does not meet every condition: {listed}", subject=subject, unmet=listed)


class RoleNotAllowed(DanbaoError):
    code, reason = Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"

    def __init__(self, role: str, command: str, allowed: Iterable[str]) -> None:
        names = ", ".join(sorted(allowed))
        super().__init__(f"{command} is for {names}, not for {role}", role=role, command=command, allowed=names)


class MembershipStateInvalid(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "MEMBERSHIP_STATE_INVALID"

    def __init__(self, name: str, command: str, state: str, legal: Iterable[str]) -> None:
        super().__init__(
            f"{command} is not legal now: {name} is {state}",
            name=name,
            command=command,
            state=state,
            legal_commands=",".join(legal),
        )


class OpenClaims(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "OPEN_CLAIMS"

    def __init__(self, name: str, open_claims: int) -> None:
        super().__init__(f"{name}: {open_claims} claims of buyers are open", name=name, open_claims=open_claims)


class StepInFlight(DanbaoError):
    code, reason = Code.ABORTED, "STEP_IN_FLIGHT"

    def __init__(self, name: str, step: int) -> None:
        super().__init__(f"step {step} of {name} is under way; try again", retry_after_ms=500, name=name, step=step)


class PaymentRefused(DanbaoError):
    """`payment_reason` is payments' own."""

    code, reason = Code.FAILED_PRECONDITION, "PAYMENT_REFUSED"

    def __init__(self, name: str, payment_reason: str, message: str) -> None:
        text = f"payments refused to move the deposit of {name}: {payment_reason}: {message}"
        super().__init__(text, name=name, payment_reason=payment_reason)


class StatementUnknown(DanbaoError):
    code, reason = Code.UNAVAILABLE, "STATEMENT_UNKNOWN"

    def __init__(self, subject: str, currency: str, payment_reason: str) -> None:
        super().__init__(
            f"payments does not say what is on the deposit of {subject} in {currency}: {payment_reason}; try again",
            retry_after_ms=500,
            subject=subject,
            currency=currency,
            payment_reason=payment_reason,
        )


class OwnerUnknown(DanbaoError):
    code, reason = Code.UNAVAILABLE, "STATEMENT_UNKNOWN"

    def __init__(self, subject: str, payment_reason: str) -> None:
        super().__init__(
            f"payments does not say which partner has brought {subject}: {payment_reason}; try again",
            retry_after_ms=500,
            subject=subject,
            payment_reason=payment_reason,
        )


class DepositTooLow(DanbaoError):
    """`missing` says what lacks in each currency."""

    code, reason = Code.FAILED_PRECONDITION, "DEPOSIT_TOO_LOW"

    def __init__(self, name: str, missing: str) -> None:
        super().__init__(f"the deposit of {name} is not whole: {missing}", name=name, missing=missing)


class CurrencyMismatch(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "CURRENCY_MISMATCH"

    def __init__(self, name: str, currency: str, expected: Iterable[str]) -> None:
        names = ", ".join(expected)
        super().__init__(f"{name} has no deposit in {currency}, but in {names}", currency=currency, expected=names)
