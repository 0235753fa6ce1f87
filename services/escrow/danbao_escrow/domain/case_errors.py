"""Which rules of refund cases, disputes and claims refuse, besides those of the trade."""

from __future__ import annotations

from collections.abc import Iterable

from danbao_kit.errors import Code, DanbaoError


class CaseNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "CASE_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no {name}", name=name)


class DisputeNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "DISPUTE_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no {name}", name=name)


class ClaimNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "CLAIM_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no {name}", name=name)


class CaseStateInvalid(DanbaoError):
    """`name` is the case, dispute or claim that refuses."""

    code, reason = Code.FAILED_PRECONDITION, "TRADE_STATE_INVALID"

    def __init__(self, name: str, command: str, state: str, legal_commands: Iterable[str]) -> None:
        super().__init__(
            f"{command} is not legal now: {name} is {state}",
            name=name,
            command=command,
            state=state,
            legal_commands=",".join(sorted(legal_commands)),
        )


class ClaimPending(DanbaoError):
    """One claim a trade at a time."""

    code, reason = Code.FAILED_PRECONDITION, "TRADE_STATE_INVALID"

    def __init__(self, trade: str, claim: str, command: str, state: str) -> None:
        text = f"{command} is not legal now: {claim} is open on {trade}"
        super().__init__(text, trade=trade, command=command, state=state, legal_commands="", claim=claim)


class EtagMismatch(DanbaoError):
    code, reason = Code.ABORTED, "ETAG_MISMATCH"

    def __init__(self, name: str, etag: str) -> None:
        super().__init__(f"{name} has changed since it was read", name=name, etag=etag)


class DisputeWindowClosed(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "DISPUTE_WINDOW_CLOSED"

    def __init__(self, name: str, command: str) -> None:
        super().__init__(f"the time for {command} on {name} has passed", name=name, command=command)


class DecisionNotEqualFrozen(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "DECISION_NOT_EQUAL_FROZEN"

    def __init__(self, dispute: str, *, frozen_minor: int, buyer_minor: int, seller_minor: int) -> None:
        super().__init__(
            f"the two parts must be {frozen_minor} together",
            dispute=dispute,
            frozen_minor=frozen_minor,
            buyer_minor=buyer_minor,
            seller_minor=seller_minor,
        )


class TooMuch(DanbaoError):
    """`what` is what there is at most `limit` of."""

    code, reason = Code.FAILED_PRECONDITION, "LIMIT_EXCEEDED"

    def __init__(self, name: str, what: str, *, limit: int, given: int) -> None:
        super().__init__(f"{what} of {name} is at most {limit}", name=name, what=what, limit=limit, given=given)


class ClaimWindowClosed(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "CLAIM_WINDOW_CLOSED"

    def __init__(self, trade: str) -> None:
        super().__init__(f"the time to claim compensation for {trade} has passed", trade=trade)


class NotAMember(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "NOT_A_MEMBER"

    def __init__(self, trade: str, seller: str) -> None:
        super().__init__(f"{seller} was not a member when {trade} was made", trade=trade, seller=seller)


class GuaranteeExhausted(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "GUARANTEE_EXHAUSTED"

    def __init__(self, claim: str, amount_minor: int) -> None:
        text = f"deposit and fund together have less than {amount_minor}; nothing moved"
        super().__init__(text, claim=claim, amount_minor=amount_minor)
