"""A body that works for every RPC of the running stack, with the resources it needs.

The bodies are made to be sent once each, in the order they are listed. Sending one twice is
harmless: its request id makes the second the same as the first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from danbao_local import case_calls, membership_calls, model_calls, rights_calls
from danbao_local.card import Card
from danbao_local.client import CallFailed, GatewayClient
from danbao_local.contracts import HttpRule, unary_rules
from danbao_local.demo import (
    BUYER,
    CREDIT,
    CURRENCY,
    ESCROW,
    PAYMENTS,
    SELLER,
    DemoResult,
    command_body,
    free_postage_body,
    money,
    new_id,
    new_trade_body,
    top_up_body,
    total_minor,
)

_TRADES = f"{ESCROW}.TradeService"
_PAYMENTS = f"{PAYMENTS}.PaymentService"
_ACCOUNTS = f"{PAYMENTS}.AccountService"
_LEDGER = f"{PAYMENTS}.LedgerService"
_CREDIT = f"{CREDIT}.CreditService"
_RECONCILIATIONS = f"{PAYMENTS}.ReconciliationService"
_PAID_TRADES = 4
_SPARE_MINOR = 10_000


@dataclass(frozen=True, slots=True)
class _Fixtures:
    """Resources in the state that the bodies need."""

    demo: DemoResult
    account: str
    to_freeze: str
    to_close: str
    to_reverse: str
    to_capture: str
    to_void: str
    to_refund: str
    top_up: str
    withdrawal: str
    refund: str
    reconciliation: str
    transaction: str
    to_pay: str
    to_ship: str
    to_deliver: str
    to_confirm: str
    to_cancel_lines: str
    to_cancel: str
    to_check_out: list[str]
    checkout: str
    cases: case_calls.CaseFixtures
    models: model_calls.ModelFixtures
    memberships: membership_calls.MembershipFixtures
    rights: rights_calls.RightsFixtures


_Example = tuple[str, Callable[[_Fixtures], dict[str, Any]]]


def _of_cases(body_of: Callable[[case_calls.CaseFixtures], dict[str, Any]]) -> Callable[[_Fixtures], dict[str, Any]]:
    return lambda made: body_of(made.cases)


def _of_models(
    body_of: Callable[[model_calls.ModelFixtures], dict[str, Any]],
) -> Callable[[_Fixtures], dict[str, Any]]:
    return lambda made: body_of(made.models)


def _of_memberships(
    body_of: Callable[[membership_calls.MembershipFixtures], dict[str, Any]],
) -> Callable[[_Fixtures], dict[str, Any]]:
    return lambda made: body_of(made.memberships)


def _of_rights(
    body_of: Callable[[rights_calls.RightsFixtures], dict[str, Any]],
) -> Callable[[_Fixtures], dict[str, Any]]:
    return lambda made: body_of(made.rights)


EXAMPLES: dict[str, _Example] = {
    f"{_ACCOUNTS}/GetAccount": ("partner", lambda made: {"name": made.account}),
    f"{_ACCOUNTS}/GetBalance": ("partner", lambda made: {"account": made.account}),
    f"{_ACCOUNTS}/GetOwner": ("partner", lambda _: {"owner": BUYER}),
    f"{_ACCOUNTS}/ListAccounts": ("user", lambda _: {"owner": BUYER}),
    f"{_ACCOUNTS}/ListEntries": ("partner", lambda made: {"account": made.account, "pageSize": 10}),
    f"{_ACCOUNTS}/CreateAccount": ("partner", lambda _: {"requestId": new_id(), "account": _new_account()}),
    f"{_ACCOUNTS}/BatchCreateAccounts": (
        "operator",
        lambda _: {"requestId": new_id(), "accounts": [_new_account(), _new_account("seller.payable")]},
    ),
    f"{_ACCOUNTS}/FreezeAccount": ("operator", lambda made: {"requestId": new_id(), "name": made.to_freeze}),
    f"{_ACCOUNTS}/UnfreezeAccount": ("operator", lambda made: {"requestId": new_id(), "name": made.to_freeze}),
    f"{_ACCOUNTS}/CloseAccount": ("operator", lambda made: {"requestId": new_id(), "name": made.to_close}),
    f"{PAYMENTS}.EventService/GetStreamHead": ("operator", lambda _: {}),
    f"{ESCROW}.EventService/GetStreamHead": ("operator", lambda _: {}),
    f"{_LEDGER}/PostTransaction": ("operator", lambda _: _posting()),
    f"{_LEDGER}/ReverseTransaction": ("operator", lambda made: {"requestId": new_id(), "name": made.to_reverse}),
    f"{_LEDGER}/ListTransactions": ("partner", lambda made: {"account": made.account, "pageSize": 10}),
    f"{_LEDGER}/VerifyChain": ("operator", lambda _: {}),
    f"{_LEDGER}/GetTransaction": ("operator", lambda made: {"name": made.transaction}),
    f"{_LEDGER}/GetTrialBalance": ("operator", lambda _: {}),
    f"{PAYMENTS}.AuditService/GetAudit": ("operator", lambda _: {}),
    f"{PAYMENTS}.AuditService/GetAssetLoss": ("operator", lambda _: {"currency": CURRENCY}),
    **{
        f"{package}.AuditService/ListPrivilegedActions": ("operator", lambda _: {"pageSize": 10})
        for package in (PAYMENTS, ESCROW, CREDIT)
    },
    **{
        f"{package}.AuditService/VerifyPrivilegedActions": ("operator", lambda _: {})
        for package in (PAYMENTS, ESCROW, CREDIT)
    },
    f"{_PAYMENTS}/CreatePayment": ("user", lambda _: _payment("AUTOMATIC")),
    f"{_PAYMENTS}/CapturePayment": (
        "partner",
        lambda made: {"requestId": new_id(), "name": made.to_capture, "amount": money(300)},
    ),
    f"{_PAYMENTS}/VoidPayment": ("partner", lambda made: {"requestId": new_id(), "name": made.to_void}),
    f"{_PAYMENTS}/RefundPayment": (
        "partner",
        lambda made: {
            "requestId": new_id(),
            "name": made.to_refund,
            "amount": money(200),
            "description": "a cup broke",
        },
    ),
    f"{_PAYMENTS}/GetPayment": ("partner", lambda made: {"name": made.to_refund}),
    f"{_PAYMENTS}/CreateTopUp": ("user", lambda _: top_up_body(5_000)),
    f"{_PAYMENTS}/GetTopUp": ("partner", lambda made: {"name": made.top_up}),
    f"{_PAYMENTS}/RefundTopUp": (
        "partner",
        lambda made: {"requestId": new_id(), "name": made.top_up, "amount": money(100)},
    ),
    f"{_PAYMENTS}/CreateWithdrawal": ("user", lambda _: _withdrawal()),
    f"{_PAYMENTS}/GetWithdrawal": ("partner", lambda made: {"name": made.withdrawal}),
    f"{_PAYMENTS}/GetRailRefund": ("partner", lambda made: {"name": made.refund}),
    f"{_PAYMENTS}/ReportRailResult": (
        "rail",
        lambda made: {"requestId": new_id(), "movement": made.top_up, "result": "RAIL_RESULT_SETTLED"},
    ),
    f"{_PAYMENTS}/ListPayments": ("user", lambda _: {"payer": BUYER, "pageSize": 10}),
    f"{_PAYMENTS}/SetLimits": (
        "operator",
        lambda _: {
            "requestId": new_id(),
            "scope": "limitClasses/new",
            "currency": CURRENCY,
            "perTransactionMinor": 100_000,
            "perDayMinor": 300_000,
        },
    ),
    f"{_PAYMENTS}/GetLimits": ("operator", lambda _: {"scope": "limitClasses/new", "currency": CURRENCY}),
    f"{_PAYMENTS}/BatchExecute": (
        "partner",
        lambda _: {"operations": [{"createPayment": _payment("AUTOMATIC")}, {"createTopUp": top_up_body(1_000)}]},
    ),
    f"{_RECONCILIATIONS}/GetReconciliation": ("operator", lambda made: {"name": made.reconciliation}),
    f"{_RECONCILIATIONS}/ListReconciliationItems": (
        "operator",
        lambda made: {"name": made.reconciliation, "pageSize": 10},
    ),
    f"{_RECONCILIATIONS}/ResolveReconciliationItem": (
        "operator",
        lambda made: {
            "requestId": new_id(),
            "name": f"{made.reconciliation}/items/1",
            "reason": "the bank has taken it back",
        },
    ),
    f"{_TRADES}/CreateTrade": ("partner", lambda _: new_trade_body()),
    f"{_TRADES}/AdjustPrice": ("partner", lambda made: free_postage_body(made.to_cancel)),
    f"{_TRADES}/PayTrade": ("partner", lambda made: command_body(made.to_pay, "BUYER")),
    f"{_TRADES}/ShipLines": (
        "partner",
        lambda made: command_body(made.to_ship, "SELLER", carrier="SF Express", tracking="SF1"),
    ),
    f"{_TRADES}/ReportDelivery": ("partner", lambda made: command_body(made.to_deliver, "SELLER")),
    f"{_TRADES}/ExtendConfirmation": ("partner", lambda made: command_body(made.to_deliver, "BUYER", days=3)),
    f"{_TRADES}/ConfirmLines": ("partner", lambda made: command_body(made.to_confirm, "BUYER")),
    f"{_TRADES}/CancelLines": (
        "partner",
        lambda made: command_body(made.to_cancel_lines, "SELLER", reason="out of stock"),
    ),
    f"{_TRADES}/CancelTrade": ("partner", lambda made: command_body(made.to_cancel, "BUYER", reason="changed my mind")),
    f"{_TRADES}/ReleaseHeld": (
        "operator",
        lambda made: command_body(made.demo.trade.name, "OPERATOR", reason="seller is known"),
    ),
    f"{_TRADES}/CreateCheckout": ("partner", lambda made: checkout_body(made.to_check_out)),
    f"{_TRADES}/PayCheckout": ("partner", lambda made: command_body(made.checkout, "BUYER")),
    f"{_TRADES}/GetCheckout": ("partner", lambda made: {"name": made.checkout}),
    f"{ESCROW}.AuditService/GetAudit": ("operator", lambda _: {}),
    f"{_TRADES}/GetTrade": ("partner", lambda made: {"name": made.demo.trade.name}),
    f"{_TRADES}/ListTrades": ("user", lambda _: {"buyer": BUYER, "orderBy": "create_time desc", "pageSize": 10}),
    f"{_TRADES}/ListTradeTimeline": ("partner", lambda made: {"trade": made.demo.trade.name}),
    f"{_TRADES}/BatchExecute": (
        "partner",
        lambda _: {"operations": [{"createTrade": new_trade_body()}, {"createTrade": new_trade_body()}]},
    ),
    **{rpc: (role, _of_cases(body_of)) for rpc, (role, body_of) in case_calls.EXAMPLES.items()},
    **{rpc: (role, _of_memberships(body_of)) for rpc, (role, body_of) in membership_calls.EXAMPLES.items()},
    **{rpc: (role, _of_rights(body_of)) for rpc, (role, body_of) in rights_calls.EXAMPLES.items()},
    f"{_CREDIT}/Evaluate": ("partner", lambda _: {"subject": SELLER, "purpose": "checkout"}),
    f"{_CREDIT}/GetTerms": ("partner", lambda _: {"subject": SELLER, "currency": CURRENCY}),
    f"{_CREDIT}/BatchGetTerms": (
        "partner",
        lambda _: {"requests": [{"subject": SELLER, "currency": code} for code in (CURRENCY, "EUR")]},
    ),
    f"{_CREDIT}/ListIndicators": ("partner", lambda _: {"category": "fulfilment"}),
    f"{_CREDIT}/ListIndicatorValues": ("partner", lambda _: {"subject": SELLER}),
    f"{_CREDIT}/BatchEvaluate": (
        "partner",
        lambda _: {"requests": [{"subject": subject, "purpose": "checkout"} for subject in (SELLER, BUYER)]},
    ),
    f"{_CREDIT}/GetProfile": ("partner", lambda _: {"subject": SELLER}),
    f"{_CREDIT}/RecordEvents": (
        "partner",
        lambda _: {
            "events": [
                {
                    "eventId": new_id(),
                    "kind": "identity_verified",
                    "subject": SELLER,
                    "occurTime": "2026-01-05T09:30:00Z",
                    "measures": {"level": "2"},
                }
            ]
        },
    ),
    f"{_CREDIT}/RebuildProfile": ("operator", lambda _: {"requestId": new_id(), "subject": SELLER}),
    f"{_CREDIT}/GetIngestStatus": ("operator", lambda _: {}),
    **{rpc: (role, _of_models(body_of)) for rpc, (role, body_of) in model_calls.EXAMPLES.items()},
    f"{_CREDIT}/ListScoreHistory": ("partner", lambda _: {"subject": SELLER, "pageSize": 10}),
    f"{_CREDIT}/SimulateScore": (
        "partner",
        lambda _: {"subject": SELLER, "facts": [{"slot": "seller_orders_completed", "amount": 20}]},
    ),
    f"{CREDIT}.EventService/GetStreamHead": ("operator", lambda _: {}),
}
"""By RPC: the role to call it with, and the body."""


def checkout_body(trades: list[str]) -> dict[str, Any]:
    """Trades to be paid together."""
    return {"requestId": new_id(), "actor": {"subject": BUYER, "role": "ROLE_BUYER"}, "trades": trades}


def prepare(card: Card, demo: DemoResult) -> list[dict[str, Any]]:
    """Make what the bodies need, and the entries of local.json's `calls`. Raises CallFailed."""
    with GatewayClient(card) as client:
        fixtures = _make_fixtures(client, demo)
    return [_entry(rule, fixtures) for rule in unary_rules()]


def _entry(rule: HttpRule, fixtures: _Fixtures) -> dict[str, Any]:
    role, body_of = EXAMPLES[rule.rpc]
    body = body_of(fixtures)
    return {"rpc": rule.rpc, "method": rule.method, "path": rule.path(body), "role": role, "body": body}


def _make_fixtures(client: GatewayClient, demo: DemoResult) -> _Fixtures:
    """Two round trips: money and trades first, then what is done to them."""

    def payments(*operations: dict[str, Any]) -> list[Any]:
        answer = client.call(f"{_PAYMENTS}/BatchExecute", {"operations": list(operations)}, role="partner")
        return [_succeeded(result) for result in answer.results]

    def trades(*operations: dict[str, Any]) -> list[str]:
        answer = client.call(f"{_TRADES}/BatchExecute", {"operations": list(operations)}, role="partner")
        return [_succeeded(result).name for result in answer.results]

    needed = total_minor() * (_PAID_TRADES + 3 + case_calls.TRADES) + _SPARE_MINOR
    top_up = client.call(f"{_PAYMENTS}/CreateTopUp", top_up_body(needed), role="partner")
    to_capture, to_void, to_refund = payments(
        {"createPayment": _payment("MANUAL")},
        {"createPayment": _payment("MANUAL")},
        {"createPayment": _payment("AUTOMATIC")},
    )
    to_freeze, to_close = payments({"createAccount": _spare_account()}, {"createAccount": _spare_account()})
    unpaid = trades(*({"createTrade": new_trade_body()} for _ in range(4)))
    names = trades(*({"createTrade": new_trade_body()} for _ in range(_PAID_TRADES + 2)))
    to_pay, to_cancel, to_ship, to_deliver, to_confirm, to_cancel_lines = names
    trades(*({"payTrade": command_body(name, "BUYER")} for name in names[2:]))
    shipped = (command_body(name, "SELLER", carrier="SF Express", tracking="SF2") for name in (to_deliver, to_confirm))
    trades(*({"shipLines": body} for body in shipped))
    disputable = trades(*({"createTrade": new_trade_body()} for _ in range(case_calls.TRADES)))
    trades(*({"payTrade": command_body(name, "BUYER")} for name in disputable))
    shipping = {"carrier": "SF Express", "tracking": "SF5"}
    trades(*({"shipLines": command_body(name, "SELLER", **shipping)} for name in disputable))
    return _Fixtures(
        demo=demo,
        account=next(item.account.name for item in demo.statements if item.account.owner == BUYER),
        to_freeze=to_freeze.name,
        to_close=to_close.name,
        to_reverse=client.call(f"{_LEDGER}/PostTransaction", _posting(), role="operator").name,
        to_capture=to_capture.name,
        to_void=to_void.name,
        to_refund=to_refund.name,
        top_up=top_up.name,
        reconciliation=client.send(
            f"{_RECONCILIATIONS}/ImportStatement",
            statement_messages(top_up.create_time.ToDatetime(UTC)),
            role="operator",
        ).name,
        withdrawal=client.call(f"{_PAYMENTS}/CreateWithdrawal", _withdrawal(), role="partner").name,
        refund=_refund_of(client, top_up),
        transaction=to_refund.last_transaction,
        to_pay=to_pay,
        to_ship=to_ship,
        to_deliver=to_deliver,
        to_confirm=to_confirm,
        to_cancel_lines=to_cancel_lines,
        to_cancel=to_cancel,
        to_check_out=unpaid[:2],
        checkout=client.call(f"{_TRADES}/CreateCheckout", checkout_body(unpaid[2:]), role="partner").name,
        cases=case_calls.make(client, disputable, demo.trade.name),
        models=model_calls.make(client),
        memberships=membership_calls.make(client),
        rights=rights_calls.make(client),
    )


def _refund_of(client: GatewayClient, top_up: Any) -> str:
    """Sends a little of it back; the refund's name stands with the transactions that do so."""
    body = {"requestId": new_id(), "name": top_up.name, "amount": money(100)}
    client.call(f"{_PAYMENTS}/RefundTopUp", body, role="partner")
    since = {"owner": BUYER, "startTime": top_up.create_time.ToJsonString(), "pageSize": 1000}
    listed = client.call(f"{_LEDGER}/ListTransactions", since, role="operator").transactions
    movements = (each.metadata.get("movement", "") for each in listed)
    return next(name for name in movements if name.startswith("refunds/"))


def _succeeded(result: Any) -> Any:
    kind = result.WhichOneof("result")
    if kind == "error":
        raise CallFailed(rpc="BatchExecute", code=str(result.error.code), reason="", message=result.error.message)
    return getattr(result, kind)


def _new_account(kind: str = "user.available") -> dict[str, Any]:
    return {"owner": BUYER, "kind": kind, "currency": CURRENCY}


def _spare_account() -> dict[str, Any]:
    """An account that nobody else uses."""
    return {"requestId": new_id(), "account": {**_new_account(), "owner": f"subjects/spare-{new_id()}"}}


def _payment(mode: str) -> dict[str, Any]:
    return {
        "requestId": new_id(),
        "payer": BUYER,
        "payee": {"owner": SELLER, "kind": "user.available"},
        "amount": money(500),
        "captureMode": f"CAPTURE_MODE_{mode}",
    }


def statement_messages(now: datetime) -> list[dict[str, Any]]:
    """A rail's statement of today with a line that nobody knows."""
    begin = now.replace(hour=0, minute=0, second=0, microsecond=0)
    header = {
        "requestId": new_id(),
        "rail": "rails/simulated",
        "currency": CURRENCY,
        "startTime": begin.isoformat(),
        "endTime": (begin + timedelta(days=1)).isoformat(),
        "source": "example",
    }
    line = {
        "externalId": f"example-{new_id()}",
        "direction": "RAIL_DIRECTION_IN",
        "amountMinor": 100,
        "bookingDate": begin.date().isoformat(),
        "reference": "a stranger's",
    }
    return [{"header": header}, {"lines": {"lines": [line]}}]


def _withdrawal() -> dict[str, Any]:
    return {
        "requestId": new_id(),
        "owner": BUYER,
        "kind": "user.available",
        "amount": money(100),
        "rail": "rails/simulated",
    }


def _posting() -> dict[str, Any]:
    """A gesture of goodwill, as an operator books it."""
    leg = {
        "debit": {"owner": "platform", "kind": "goodwill"},
        "credit": {"owner": BUYER, "kind": "user.available"},
        "amount": money(100),
    }
    return {"requestId": new_id(), "legs": [leg], "description": "a late parcel"}
