"""Which refusals payments gives, beside those of the kit.

DanbaoError
├── LegsInvalid             INVALID_ARGUMENT     an account on both sides of a leg
├── SplitNotWhole           INVALID_ARGUMENT     parts that are not the amount, to the minor unit
├── AccountNotFound         NOT_FOUND            missing, or not the caller's to see
├── OwnerTaken              FAILED_PRECONDITION  another partner has brought it
├── PaymentNotFound         NOT_FOUND
├── TransactionNotFound     NOT_FOUND
├── TopUpNotFound           NOT_FOUND
├── ReconciliationNotFound  NOT_FOUND
├── ReconciliationItemNotFound  NOT_FOUND
├── WithdrawalNotFound      NOT_FOUND
├── MovementNotFound        NOT_FOUND            no movement over a rail
├── RailUnknown             FAILED_PRECONDITION  no such rail is connected
├── KindNotAllowed          PERMISSION_DENIED    the chart of accounts, or who asks, forbids it
├── CurrencyMismatch        FAILED_PRECONDITION
├── AccountClosed           FAILED_PRECONDITION
├── AccountFrozen           FAILED_PRECONDITION
├── AccountNotEmpty         FAILED_PRECONDITION  it cannot be closed
├── PaymentStateInvalid     FAILED_PRECONDITION
├── TopUpStateInvalid       FAILED_PRECONDITION
├── RailResultConflicts     FAILED_PRECONDITION  a rail contradicts what is known
├── HoldExpired             FAILED_PRECONDITION
├── HoldAlreadyCaptured     FAILED_PRECONDITION
├── HoldAlreadyVoided       FAILED_PRECONDITION
├── CaptureAmountExceeded   FAILED_PRECONDITION
├── RefundAmountExceeded    FAILED_PRECONDITION
├── AlreadyReversed         FAILED_PRECONDITION
├── ItemAlreadyResolved     FAILED_PRECONDITION
├── LimitExceeded           FAILED_PRECONDITION  of a transaction, a day or a month
├── InsufficientFunds       FAILED_PRECONDITION
├── BalanceOverflow         FAILED_PRECONDITION
├── TransactionUnrelated    FAILED_PRECONDITION  it explains nothing of this rail's
├── ReconciliationOvertaken ABORTED              another statement of the rail came first
└── WouldBePosted           no answer            what validate_only found; nobody outside sees it

They stand in the order in which they are checked.
"""

from uuid import UUID

from danbao_kit.errors import Code, DanbaoError, FieldViolation
from danbao_payments.domain.transfer import PostedTransaction


class LegsInvalid(DanbaoError):
    code, reason = Code.INVALID_ARGUMENT, "LEGS_INVALID"

    def __init__(self, leg: int) -> None:
        super().__init__(
            f"leg {leg} debits and credits the same account",
            fields=(FieldViolation(f"legs[{leg}].credit", "must differ from debit"),),
            leg=leg,
            field=f"legs[{leg}].credit",
        )


class SplitNotWhole(DanbaoError):
    code, reason = Code.INVALID_ARGUMENT, "SPLIT_NOT_WHOLE"

    def __init__(self, *, amount_minor: int, parts_minor: str, field: str = "split") -> None:
        super().__init__(
            f"the parts of {field} are not its amount",
            fields=(FieldViolation(field, "the parts must be the amount, to the minor unit"),),
            field=field,
            amount_minor=amount_minor,
            parts_minor=parts_minor,
        )


class AccountNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "ACCOUNT_NOT_FOUND"

    def __init__(self, account: str) -> None:
        super().__init__(f"{account} does not exist", account=account)


class OwnerTaken(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "OWNER_TAKEN"

    def __init__(self, owner: str, *, partner: str) -> None:
        super().__init__(f"{owner} was brought by another partner", owner=owner, partner=partner)


class PaymentNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "PAYMENT_NOT_FOUND"

    def __init__(self, payment: str) -> None:
        super().__init__(f"{payment} does not exist", payment=payment)


class TransactionNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "TRANSACTION_NOT_FOUND"

    def __init__(self, transaction: str) -> None:
        super().__init__(f"{transaction} does not exist", transaction=transaction)


class TopUpNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "TOP_UP_NOT_FOUND"

    def __init__(self, top_up: str) -> None:
        super().__init__(f"{top_up} does not exist", top_up=top_up)


class WithdrawalNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "WITHDRAWAL_NOT_FOUND"

    def __init__(self, withdrawal: str) -> None:
        super().__init__(f"{withdrawal} does not exist", withdrawal=withdrawal)


class MovementNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "MOVEMENT_NOT_FOUND"

    def __init__(self, movement: str) -> None:
        super().__init__(f"{movement} does not exist", movement=movement)


class ReconciliationNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "RECONCILIATION_NOT_FOUND"

    def __init__(self, reconciliation: str) -> None:
        super().__init__(f"{reconciliation} does not exist", reconciliation=reconciliation)


class ReconciliationItemNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "RECONCILIATION_ITEM_NOT_FOUND"

    def __init__(self, item: str) -> None:
        super().__init__(f"{item} does not exist", item=item)


class RailUnknown(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "RAIL_UNKNOWN"

    def __init__(self, rail: str) -> None:
        super().__init__(f"{rail} is not connected", rail=rail)


class KindNotAllowed(DanbaoError):
    code, reason = Code.PERMISSION_DENIED, "KIND_NOT_ALLOWED"

    def __init__(self, why: str, *, owner: str, kind: str, caller: str) -> None:
        super().__init__(why, owner=owner, kind=kind, caller=caller)


class CurrencyMismatch(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "CURRENCY_MISMATCH"

    def __init__(self, name: str, *, currency: str, expected: str) -> None:
        super().__init__(f"{name} is in {expected}, not {currency}", name=name, currency=currency, expected=expected)


class AccountClosed(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "ACCOUNT_CLOSED"

    def __init__(self, account_id: UUID) -> None:
        super().__init__(f"accounts/{account_id} is closed", account=f"accounts/{account_id}", state="CLOSED")


class AccountFrozen(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "ACCOUNT_FROZEN"

    def __init__(self, account_id: UUID, *, scope: str) -> None:
        super().__init__(
            f"accounts/{account_id} is frozen", account=f"accounts/{account_id}", state="FROZEN", scope=scope
        )


class AccountNotEmpty(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "ACCOUNT_NOT_EMPTY"

    def __init__(self, account_id: UUID, *, because: UUID, kind: str) -> None:
        what = "is not empty" if because == account_id else f"belongs to one whose {kind} is not empty"
        super().__init__(
            f"accounts/{account_id} {what}", account=f"accounts/{account_id}", because=f"accounts/{because}", kind=kind
        )


class PaymentStateInvalid(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "PAYMENT_STATE_INVALID"

    def __init__(self, payment_id: UUID, *, state: str) -> None:
        super().__init__(f"payments/{payment_id} is {state}", payment=f"payments/{payment_id}", state=state)


class TopUpStateInvalid(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "TOP_UP_STATE_INVALID"

    def __init__(self, top_up_id: UUID, *, state: str) -> None:
        super().__init__(f"topUps/{top_up_id} is {state}", top_up=f"topUps/{top_up_id}", state=state)


class RailResultConflicts(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "RAIL_RESULT_CONFLICTS"

    def __init__(self, movement: str, *, state: str, result: str, known_reference: str, rail_reference: str) -> None:
        super().__init__(
            f"{movement} is {state}, which {result} contradicts"
            if rail_reference in ("", known_reference) or not known_reference
            else f"{movement} is known to its rail by another reference",
            movement=movement,
            state=state,
            result=result,
            known_reference=known_reference,
            rail_reference=rail_reference,
        )


class HoldExpired(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "HOLD_EXPIRED"

    def __init__(self, payment_id: UUID, *, state: str) -> None:
        super().__init__(
            f"the hold of payments/{payment_id} ended by time", payment=f"payments/{payment_id}", state=state
        )


class HoldAlreadyCaptured(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "HOLD_ALREADY_CAPTURED"

    def __init__(self, payment_id: UUID, *, state: str) -> None:
        super().__init__(
            f"nothing of payments/{payment_id} is held any more: it was captured",
            payment=f"payments/{payment_id}",
            state=state,
        )


class HoldAlreadyVoided(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "HOLD_ALREADY_VOIDED"

    def __init__(self, payment_id: UUID, *, state: str) -> None:
        super().__init__(
            f"nothing of payments/{payment_id} is held any more: it was voided",
            payment=f"payments/{payment_id}",
            state=state,
        )


class CaptureAmountExceeded(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "CAPTURE_AMOUNT_EXCEEDED"

    def __init__(self, payment_id: UUID, *, held_minor: int, amount_minor: int) -> None:
        super().__init__(
            f"payments/{payment_id} holds less than is to be captured",
            payment=f"payments/{payment_id}",
            held_minor=held_minor,
            amount_minor=amount_minor,
        )


class RefundAmountExceeded(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "REFUND_AMOUNT_EXCEEDED"

    def __init__(self, name: str, *, refundable_minor: int, amount_minor: int) -> None:
        super().__init__(
            f"less of {name} is left to give back",
            name=name,
            refundable_minor=refundable_minor,
            amount_minor=amount_minor,
        )


class AlreadyReversed(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "ALREADY_REVERSED"

    def __init__(self, transaction_id: UUID, *, reversal: UUID) -> None:
        super().__init__(
            f"transactions/{transaction_id} was reversed before",
            transaction=f"transactions/{transaction_id}",
            reversal=f"transactions/{reversal}",
        )


class LimitExceeded(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "LIMIT_EXCEEDED"

    def __init__(self, scope: str, *, period: str, limit_minor: int, used_minor: int, amount_minor: int) -> None:
        super().__init__(
            f"more than {scope} may pay per {period}",
            scope=scope,
            period=period,
            limit_minor=limit_minor,
            used_minor=used_minor,
            amount_minor=amount_minor,
        )


class InsufficientFunds(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "INSUFFICIENT_FUNDS"

    def __init__(self, account_id: UUID, *, owner: str, kind: str, available_minor: int, amount_minor: int) -> None:
        super().__init__(
            f"too little is available in {kind} of {owner}",
            account=f"accounts/{account_id}",
            owner=owner,
            kind=kind,
            available_minor=available_minor,
            amount_minor=amount_minor,
        )


class BalanceOverflow(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "BALANCE_OVERFLOW"

    def __init__(self, account_id: UUID, *, amount_minor: int) -> None:
        super().__init__(
            "a total of the account would pass 2^63 - 1 minor units",
            account=f"accounts/{account_id}",
            amount_minor=amount_minor,
        )


class ItemAlreadyResolved(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "ITEM_ALREADY_RESOLVED"

    def __init__(self, item: str) -> None:
        super().__init__(f"{item} was explained before", item=item, state="RESOLVED")


class TransactionUnrelated(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "TRANSACTION_UNRELATED"

    def __init__(self, item: str, *, rail: str, currency: str) -> None:
        super().__init__(
            f"what explains {item} must touch {currency} accounts of {rail} or suspense",
            item=item,
            rail=rail,
            currency=currency,
        )


class ReconciliationOvertaken(DanbaoError):
    code, reason = Code.ABORTED, "RECONCILIATION_OVERTAKEN"

    def __init__(self, rail: str) -> None:
        super().__init__(f"another statement of {rail} came first; send it again", retry_after_ms=500, rail=rail)


class WouldBePosted(DanbaoError):
    """Carries a transaction that is valid and was not to be recorded; raising it drops what was decided."""

    code, reason, recorded = Code.ABORTED, "WOULD_BE_POSTED", False

    def __init__(self, posted: PostedTransaction) -> None:
        super().__init__("valid; not recorded, as asked")
        self.posted = posted
