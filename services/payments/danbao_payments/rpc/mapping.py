"""What messages become in the domain, and how its values look on the wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from danbao.payments.v1 import account_pb2, ledger_pb2, payment_pb2
from danbao.type.v1 import money_pb2
from danbao_kit.call import Call
from danbao_kit.errors import FieldInvalid, FieldViolation
from danbao_kit.money import Money
from danbao_payments.application.ports import Entry
from danbao_payments.domain.account import Account, AccountState, available_minor
from danbao_payments.domain.account_commands import (
    CloseAccount,
    CreateAccount,
    CreateAccounts,
    FreezeAccount,
    NewAccount,
    UnfreezeAccount,
)
from danbao_payments.domain.callers import PEERS, Caller, Party
from danbao_payments.domain.chart import CHART, Side
from danbao_payments.domain.commands import (
    CapturePayment,
    CreatePayment,
    CreateTopUp,
    RefundPayment,
    RefundTopUp,
    SetLimits,
    SplitTerm,
    VoidPayment,
)
from danbao_payments.domain.owner import Owner
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.payment_split import SplitPart
from danbao_payments.domain.top_up import TopUp
from danbao_payments.domain.transfer import PostedTransaction, Purpose, Transfer
from danbao_payments.rpc.legs import post_transaction, reverse_transaction
from danbao_payments.rpc.rails import create_withdrawal, report_rail_result
from danbao_payments.rpc.values import facts_of, id_of, key_of, money_of, timestamp

# --- who calls --------------------------------------------------------------------------------------------------------

_PEERS = {"escrow": Party.ESCROW, "credit": Party.CREDIT, "operator": Party.OPERATOR}
# A token with several roles counts as the first of these.
_ROLES = (
    ("operator", Party.OPERATOR),
    ("partner", Party.PARTNER),
    ("arbiter", Party.ARBITER),
    ("user", Party.USER),
    ("rail", Party.RAIL),
)


def caller_of(call: Call) -> Caller:
    """Who asks, by certificate and, behind the gateway, by token."""
    if call.is_internal:
        return Caller(_PEERS.get(call.peer, Party.NOBODY))
    party = next((party for role, party in _ROLES if role in call.roles), Party.NOBODY)
    subject = f"subjects/{call.subject}" if call.subject else ""
    # A partner's token without a partner stands for itself.
    partner = (call.partner or f"subject:{call.subject}") if party is Party.PARTNER else ""
    return Caller(party, subject, partner, call.partner if party is Party.USER else "")


def on_behalf(request: Any, caller: Caller) -> Caller:
    """The caller with those for whom it asks. Raises FieldInvalid from others than the services that do."""
    if not request.HasField("acting_for"):
        return caller
    if caller.party not in PEERS:
        raise FieldInvalid(FieldViolation("acting_for", "services say for whom they ask; a token speaks for itself"))
    return Caller(caller.party, request.acting_for.subject, request.acting_for.partner)


# --- messages to commands ---------------------------------------------------------------------------------------------


def create_payment(request: payment_pb2.CreatePaymentRequest, caller: Caller) -> CreatePayment:
    return CreatePayment(
        payer=request.payer,
        payee=key_of(request.payee),
        beneficiary=request.beneficiary,
        amount=money_of(request.amount),
        capture_mode=_CAPTURE_MODES[request.capture_mode],
        hold_lifetime=_lifetime(request) if request.HasField("hold_lifetime") else None,
        metadata=facts_of(request.metadata),
        description=request.description,
        caller=on_behalf(request, caller),
        on_expiry=_ON_EXPIRY[request.on_expiry],
        splits=tuple(_split_term(split) for split in request.splits) if request.splits else (),
        remainder_policy=_REMAINDER_POLICIES[request.remainder_policy],
        limit_class=request.limit_class,
        rail=request.rail,
        instrument=request.instrument,
    )


def _split_term(split: payment_pb2.Split) -> SplitTerm:
    return SplitTerm(
        key_of(split.destination),
        split.fixed_minor if split.HasField("fixed_minor") else None,
        split.basis_points if split.HasField("basis_points") else None,
        split.cap_minor or None,
        split.beneficiary,
    )


def capture_payment(request: payment_pb2.CapturePaymentRequest, caller: Caller) -> CapturePayment:
    final = request.final if request.HasField("final") else True
    return CapturePayment(id_of(request.name, "name"), _optional_money(request), caller, final)


def void_payment(request: payment_pb2.VoidPaymentRequest, caller: Caller) -> VoidPayment:
    return VoidPayment(id_of(request.name, "name"), caller)


def refund_payment(request: payment_pb2.RefundPaymentRequest, caller: Caller) -> RefundPayment:
    return RefundPayment(
        id_of(request.name, "name"),
        _optional_money(request),
        request.description,
        caller,
        fee_refund=_FEE_REFUNDS[request.fee_refund],
        purpose=_PURPOSES[request.purpose] or Purpose.REFUND.value,
    )


def create_top_up(request: payment_pb2.CreateTopUpRequest, caller: Caller) -> CreateTopUp:
    return CreateTopUp(
        owner=request.owner,
        amount=money_of(request.amount),
        rail=request.rail,
        instrument=request.instrument,
        metadata=facts_of(request.metadata),
        caller=caller,
    )


def refund_top_up(request: payment_pb2.RefundTopUpRequest, caller: Caller) -> RefundTopUp:
    return RefundTopUp(id_of(request.name, "name"), _optional_money(request), caller)


def create_account(request: account_pb2.CreateAccountRequest, caller: Caller) -> CreateAccount:
    return CreateAccount(_new_account(request.account), caller)


def create_accounts(request: account_pb2.BatchCreateAccountsRequest, caller: Caller) -> CreateAccounts:
    return CreateAccounts(tuple(_new_account(new) for new in request.accounts), caller)


def freeze_account(request: account_pb2.FreezeAccountRequest, caller: Caller) -> FreezeAccount:
    return FreezeAccount(id_of(request.name, "name"), _FREEZE_SCOPES[request.scope], caller)


def unfreeze_account(request: account_pb2.UnfreezeAccountRequest, caller: Caller) -> UnfreezeAccount:
    return UnfreezeAccount(id_of(request.name, "name"), caller)


def close_account(request: account_pb2.CloseAccountRequest, caller: Caller) -> CloseAccount:
    return CloseAccount(id_of(request.name, "name"), caller)


def _new_account(new: account_pb2.NewAccount) -> NewAccount:
    return NewAccount(new.owner, new.kind, new.currency, new.partner)


def set_limits(request: payment_pb2.SetLimitsRequest, caller: Caller) -> SetLimits:
    def limit(field: str) -> int | None:
        return getattr(request, field) if request.HasField(field) else None

    return SetLimits(
        request.scope,
        request.currency,
        limit("per_transaction_minor"),
        limit("per_day_minor"),
        limit("per_month_minor"),
        caller,
    )


# The mutations: by their name, how a request becomes a command. BatchExecute's operations are the same in snake case.
COMMANDS: Mapping[str, Callable[[Any, Caller], Any]] = {
    "CreatePayment": create_payment,
    "CapturePayment": capture_payment,
    "VoidPayment": void_payment,
    "RefundPayment": refund_payment,
    "PostTransaction": lambda request, caller: post_transaction(request, on_behalf(request, caller)),
    "ReverseTransaction": reverse_transaction,
    "CreateTopUp": create_top_up,
    "RefundTopUp": refund_top_up,
    "CreateWithdrawal": create_withdrawal,
    "ReportRailResult": report_rail_result,
    "SetLimits": set_limits,
    "CreateAccount": create_account,
    "BatchCreateAccounts": create_accounts,
    "FreezeAccount": freeze_account,
    "UnfreezeAccount": unfreeze_account,
    "CloseAccount": close_account,
}


def _optional_money(request: Any) -> Money | None:
    return money_of(request.amount) if request.HasField("amount") else None


def _lifetime(request: payment_pb2.CreatePaymentRequest) -> timedelta:
    duration = request.hold_lifetime
    return timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)


# --- values to messages -----------------------------------------------------------------------------------------------

_CAPTURE_MODES = {number: name.removeprefix("CAPTURE_MODE_") for name, number in payment_pb2.CaptureMode.items()}
_ON_EXPIRY = {number: name.removeprefix("ON_EXPIRY_") for name, number in payment_pb2.OnExpiry.items()} | {0: "CANCEL"}
_ON_EXPIRY_NUMBERS = {name: number for number, name in _ON_EXPIRY.items() if number}
_REMAINDER_POLICIES = {
    number: name.removeprefix("REMAINDER_POLICY_") for name, number in ledger_pb2.RemainderPolicy.items()
} | {0: ""}
_REMAINDER_POLICY_NUMBERS = {name: number for number, name in _REMAINDER_POLICIES.items()}
_CAPTURE_MODE_NUMBERS = {name: number for number, name in _CAPTURE_MODES.items()}
_FEE_REFUNDS = {number: name.removeprefix("FEE_REFUND_") for name, number in payment_pb2.FeeRefund.items()} | {
    payment_pb2.FEE_REFUND_UNSPECIFIED: "PROPORTIONAL"
}
_PURPOSES = {number: name.removeprefix("PURPOSE_") for name, number in ledger_pb2.Purpose.items()} | {0: ""}
_PURPOSE_NUMBERS = {name: number for number, name in _PURPOSES.items()}
PAYMENT_STATES = {name.removeprefix("STATE_"): number for name, number in payment_pb2.Payment.State.items()}
_REFUND_STATES = {
    name.removeprefix("REFUND_STATE_"): number for name, number in payment_pb2.Payment.RefundState.items()
}
_TOP_UP_STATES = {name.removeprefix("STATE_"): number for name, number in payment_pb2.TopUp.State.items()}
_TRANSFER_KINDS = {name.removeprefix("KIND_"): number for name, number in ledger_pb2.Transfer.Kind.items()}
_SIDES = {name.removeprefix("SIDE_"): number for name, number in account_pb2.Account.Side.items()}
_FREEZE_SCOPES = {number: name.removeprefix("FREEZE_SCOPE_") for name, number in account_pb2.FreezeScope.items()} | {
    account_pb2.FREEZE_SCOPE_UNSPECIFIED: "DEBITS"
}
_FREEZE_SCOPE_OF = {
    AccountState.FROZEN_DEBITS: account_pb2.FREEZE_SCOPE_DEBITS,
    AccountState.FROZEN_ALL: account_pb2.FREEZE_SCOPE_ALL,
}
_ACCOUNT_STATES = {
    AccountState.OPEN: account_pb2.Account.STATE_OPEN,
    AccountState.FROZEN_DEBITS: account_pb2.Account.STATE_FROZEN,
    AccountState.FROZEN_ALL: account_pb2.Account.STATE_FROZEN,
    AccountState.CLOSED: account_pb2.Account.STATE_CLOSED,
}
# What each state of the contract is in the books.
STATES_SHOWN_AS: Mapping[int, tuple[str, ...]] = {
    shown: tuple(state.value for state in AccountState if _ACCOUNT_STATES[state] == shown)
    for shown in _ACCOUNT_STATES.values()
}


def payment_message(payment: Payment) -> payment_pb2.Payment:
    # Field by field, without what is unset: every payment comes by here, and by keywords it takes twice as long.
    message = payment_pb2.Payment()
    message.name = f"payments/{payment.id}"
    message.state = PAYMENT_STATES[payment.state]
    message.refund_state = _REFUND_STATES[payment.refund_state]
    message.payer = payment.payer
    payee = message.payee
    payee.owner, payee.kind = payment.payee_owner, payment.payee_kind
    amount = message.amount
    amount.currency, amount.amount_minor = payment.currency, payment.amount_minor
    message.capture_mode = _CAPTURE_MODE_NUMBERS[payment.capture_mode]
    message.authorized_minor, message.captured_minor = payment.authorized_minor, payment.captured_minor
    if payment.released_minor:
        message.released_minor = payment.released_minor
    if payment.refunded_minor:
        message.refunded_minor = payment.refunded_minor
    created = timestamp(payment.create_time)
    message.create_time.CopyFrom(created)
    message.update_time.CopyFrom(
        created if payment.update_time is payment.create_time else timestamp(payment.update_time)
    )
    if payment.last_transaction is not None:
        message.last_transaction = f"transactions/{payment.last_transaction}"
    message.etag = str(payment.version)
    if payment.beneficiary:
        message.beneficiary = payment.beneficiary
    if payment.description:
        message.description = payment.description
    if payment.expire_time is not None:
        message.expire_time.CopyFrom(timestamp(payment.expire_time))
        message.on_expiry = _ON_EXPIRY_NUMBERS[payment.on_expiry]
    if payment.parts:
        message.splits.extend(_split_message(part) for part in payment.parts)
        message.remainder_policy = _REMAINDER_POLICY_NUMBERS[payment.remainder_policy]
    if payment.rail:
        message.rail, message.instrument = payment.rail, payment.instrument
        message.rail_reference, message.failure = payment.rail_reference, payment.failure
        message.charged_back_minor = payment.charged_back_minor
        message.refunds_settled_minor = payment.refunds_settled_minor
        if payment.settle_time is not None:
            message.settle_time.CopyFrom(timestamp(payment.settle_time))
    if payment.metadata:
        message.metadata.update(payment.metadata)
    return message


def _split_message(part: SplitPart) -> payment_pb2.SplitPart:
    key = account_pb2.AccountKey(owner=part.owner, kind=part.kind)
    split = payment_pb2.Split(destination=key, beneficiary=part.beneficiary)
    if part.fixed_minor is not None:
        split.fixed_minor = part.fixed_minor
    elif part.basis_points is not None:
        split.basis_points = part.basis_points
    else:
        split.remaining = True
    if part.cap_minor is not None:
        split.cap_minor = part.cap_minor
    return payment_pb2.SplitPart(split=split, captured_minor=part.captured_minor, refunded_minor=part.refunded_minor)


def transaction_message(posted: PostedTransaction) -> ledger_pb2.Transaction:
    transaction = posted.transaction
    message = ledger_pb2.Transaction(
        name=f"transactions/{transaction.id}",
        transfers=[_transfer_message(transfer) for transfer in posted.transfers],
        description=transaction.description,
        create_time=timestamp(transaction.create_time),
        effective_time=timestamp(transaction.effective_time or transaction.create_time),
        reverses="" if transaction.reverses is None else f"transactions/{transaction.reverses}",
    )
    if transaction.metadata:
        message.metadata.update(transaction.metadata)
    return message


def _transfer_message(transfer: Transfer) -> ledger_pb2.Transfer:
    return ledger_pb2.Transfer(
        sequence=transfer.sequence,
        kind=_TRANSFER_KINDS[transfer.kind],
        debit_account=f"accounts/{transfer.debit_account}",
        credit_account=f"accounts/{transfer.credit_account}",
        amount=money_pb2.Money(currency=transfer.currency, amount_minor=transfer.amount_minor),
        payment="" if transfer.payment_id is None else f"payments/{transfer.payment_id}",
        purpose=_PURPOSE_NUMBERS[transfer.purpose],
    )


def top_up_message(top_up: TopUp) -> payment_pb2.TopUp:
    message = payment_pb2.TopUp(
        name=f"topUps/{top_up.id}",
        state=_TOP_UP_STATES[top_up.state],
        owner=top_up.owner,
        amount=money_pb2.Money(currency=top_up.currency, amount_minor=top_up.amount_minor),
        rail=top_up.rail,
        instrument=top_up.instrument,
        rail_reference=top_up.rail_reference,
        failure=top_up.failure,
        refunded_minor=top_up.refunded_minor,
        refunds_settled_minor=top_up.refunds_settled_minor,
        create_time=timestamp(top_up.create_time),
        update_time=timestamp(top_up.update_time),
        settle_time=None if top_up.settle_time is None else timestamp(top_up.settle_time),
        returned_minor=top_up.returned_minor,
    )
    if top_up.metadata:
        message.metadata.update(top_up.metadata)
    return message


def account_message(account: Account) -> account_pb2.Account:
    return account_pb2.Account(
        name=f"accounts/{account.id}",
        owner=account.owner,
        kind=account.kind,
        currency=account.currency,
        state=_ACCOUNT_STATES[AccountState(account.state)],
        normal_side=_SIDES[CHART[account.kind].normal_side],
        debits_pending_minor=account.debits_pending,
        debits_posted_minor=account.debits_posted,
        credits_pending_minor=account.credits_pending,
        credits_posted_minor=account.credits_posted,
        available_minor=available_minor(account),
        freeze_scope=_FREEZE_SCOPE_OF.get(AccountState(account.state), account_pb2.FREEZE_SCOPE_UNSPECIFIED),
        create_time=timestamp(account.create_time),
        update_time=timestamp(account.update_time),
    )


def owner_message(owner: str, brought: Owner | None) -> account_pb2.Owner:
    message = account_pb2.Owner(owner=owner)
    if brought is not None:
        message.partner, message.brought_by = brought.partner, brought.brought_by
        message.create_time.CopyFrom(timestamp(brought.create_time))
    return message


def entry_message(entry: Entry) -> account_pb2.Entry:
    return account_pb2.Entry(
        sequence=entry.sequence,
        transaction=f"transactions/{entry.transaction_id}",
        side=_SIDES[Side(entry.side)],
        amount=money_pb2.Money(currency=entry.currency, amount_minor=entry.amount_minor),
        counterparty=f"accounts/{entry.counterparty}",
        counterparty_owner=entry.counterparty_owner,
        counterparty_kind=entry.counterparty_kind,
        balance_after_minor=entry.balance_after_minor,
        create_time=timestamp(entry.create_time),
        effective_time=timestamp(entry.effective_time),
        description=entry.description,
    )
