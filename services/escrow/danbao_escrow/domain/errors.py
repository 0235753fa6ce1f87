"""Which business rules refuse, in the order in which they are checked."""

from __future__ import annotations

from collections.abc import Iterable

from danbao_kit.errors import Code, DanbaoError, FieldViolation


class AmountMismatch(DanbaoError):
    code, reason = Code.INVALID_ARGUMENT, "AMOUNT_MISMATCH"

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}", fields=(FieldViolation(field, description),), field=field)


class PostageNegative(DanbaoError):
    """Postage may be nothing, unlike other amounts."""

    code, reason = Code.INVALID_ARGUMENT, "AMOUNT_NOT_POSITIVE"

    def __init__(self, field: str, amount_minor: int) -> None:
        text = "must not be negative"
        fields = (FieldViolation(field, text),)
        super().__init__(f"{field} {text}", fields=fields, field=field, amount_minor=amount_minor)


class TradeNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "TRADE_NOT_FOUND"

    def __init__(self, trade: str) -> None:
        super().__init__(f"there is no {trade}", trade=trade)


class LineNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "LINE_NOT_FOUND"

    def __init__(self, trade: str, line_id: str) -> None:
        super().__init__(f"{trade} has no line {line_id}", trade=trade, line_id=line_id)


class RoleNotAllowed(DanbaoError):
    code, reason = Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"

    def __init__(self, role: str, command: str, allowed: Iterable[str]) -> None:
        roles = ",".join(sorted(allowed))
        super().__init__(f"{role} may not give {command}", role=role, command=command, allowed_roles=roles)


class FeeNotAllowed(DanbaoError):
    code, reason = Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"

    def __init__(self, field: str, role: str, command: str) -> None:
        text = f"{field} may be given by a partner or an operator only"
        super().__init__(text, field=field, role=role, command=command)


class NotAParty(DanbaoError):
    code, reason = Code.PERMISSION_DENIED, "NOT_A_PARTY"

    def __init__(self, subject: str, role: str) -> None:
        super().__init__(f"{subject} is not the trade's {role}, or the token is not theirs", subject=subject, role=role)


class StepInFlight(DanbaoError):
    code, reason = Code.ABORTED, "STEP_IN_FLIGHT"

    def __init__(self, trade: str, step: int) -> None:
        super().__init__(f"step {step} of {trade} is under way; try again", retry_after_ms=200, trade=trade, step=step)


class TradeStateInvalid(DanbaoError):
    """`line_id` names the line that refuses, where one was meant."""

    code, reason = Code.FAILED_PRECONDITION, "TRADE_STATE_INVALID"

    def __init__(
        self,
        trade: str,
        command: str,
        state: str,
        legal_commands: Iterable[str],
        *,
        line_id: str = "",
        line_state: str = "",
    ) -> None:
        line = f", its line {line_id} {line_state}" if line_id else ""
        super().__init__(
            f"{command} is not legal now: {trade} is {state}{line}",
            trade=trade,
            command=command,
            state=state,
            legal_commands=",".join(sorted(legal_commands)),
        )
        if line_id:
            self.metadata |= {"line_id": line_id, "line_state": line_state}


class LineUnderCase(DanbaoError):
    """`case` is the refund case or dispute that is open on the line."""

    code, reason = Code.FAILED_PRECONDITION, "LINE_UNDER_CASE"

    def __init__(self, trade: str, line_id: str, command: str, case: str) -> None:
        super().__init__(
            f"{command} is not legal now: {case} is open on line {line_id} of {trade}",
            trade=trade,
            line_id=line_id,
            command=command,
            case=case,
        )


class ExtensionLimitReached(DanbaoError):
    """`left_days` may still be asked for."""

    code, reason = Code.FAILED_PRECONDITION, "EXTENSION_LIMIT_REACHED"

    def __init__(self, trade: str, line_id: str, *, asked_days: int, left_days: int) -> None:
        super().__init__(
            f"line {line_id} of {trade} may be confirmed at most {left_days} days later than it already is",
            trade=trade,
            line_id=line_id,
            asked_days=asked_days,
            left_days=left_days,
        )


class SubjectBlocked(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "SUBJECT_BLOCKED"

    def __init__(self, subject: str) -> None:
        super().__init__(f"{subject} may not trade", subject=subject)


class LimitExceeded(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "LIMIT_EXCEEDED"

    def __init__(self, seller: str, currency: str, limit_minor: int, amount_minor: int) -> None:
        super().__init__(
            f"trades of {seller} may have at most {limit_minor} minor units of {currency}",
            seller=seller,
            currency=currency,
            limit_minor=limit_minor,
            amount_minor=amount_minor,
        )


class WithoutTerms(DanbaoError):
    """The seller's limit in this currency is nothing at all."""

    code, reason = Code.FAILED_PRECONDITION, "LIMIT_EXCEEDED"

    def __init__(self, seller: str, currency: str) -> None:
        super().__init__(f"the seller has no terms in {currency}", seller=seller, currency=currency)


class PaymentRefused(DanbaoError):
    """Payments will not fund the trade: nothing moved, and nothing will."""

    code, reason = Code.FAILED_PRECONDITION, "PAYMENT_REFUSED"

    def __init__(self, trade: str, payment_reason: str, message: str) -> None:
        super().__init__(f"payments refused: {message}", trade=trade, payment_reason=payment_reason)
