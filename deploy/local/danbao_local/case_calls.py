"""Bodies that work for refund cases, disputes and claims, with the resources they need."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from danbao_local.client import GatewayClient
from danbao_local.demo import BUYER, ESCROW, PAYMENTS, actor, command_body, money, new_id, new_trade_body

_REFUNDS = f"{ESCROW}.RefundService"
_DISPUTES = f"{ESCROW}.DisputeService"
_CLAIMS = f"{ESCROW}.CompensationService"

TRADES = 12
"""How many shipped trades the fixtures are made of."""
_CLAIMED_MINOR = 500
_PARTS = {"buyerMinor": 200, "sellerMinor": 300}


@dataclass(frozen=True, slots=True)
class CaseFixtures:
    """Cases, disputes and a claim in the state that the bodies need."""

    trade: str
    completed: str
    to_accept: str
    to_reject: str
    to_submit: str
    to_confirm: str
    to_cancel: str
    to_dispute: str
    to_add: str
    to_take: str
    to_decide: str
    to_appeal: str
    claim: str


Example = tuple[str, Callable[[CaseFixtures], dict[str, Any]]]

EXAMPLES: Mapping[str, Example] = {
    f"{_REFUNDS}/OpenRefundCase": ("user", lambda made: _case_body(made.trade)),
    f"{_REFUNDS}/AcceptRefundCase": ("partner", lambda made: command_body(made.to_accept, "SELLER")),
    f"{_REFUNDS}/RejectRefundCase": (
        "partner",
        lambda made: command_body(made.to_reject, "SELLER", reason="the cups left unbroken"),
    ),
    f"{_REFUNDS}/SubmitReturn": (
        "user",
        lambda made: command_body(made.to_submit, "BUYER", carrier="SF Express", tracking="SF3"),
    ),
    f"{_REFUNDS}/ConfirmReturn": ("partner", lambda made: command_body(made.to_confirm, "SELLER")),
    f"{_REFUNDS}/CancelRefundCase": ("user", lambda made: command_body(made.to_cancel, "BUYER", reason="found it")),
    f"{_REFUNDS}/GetRefundCase": ("partner", lambda made: {"name": made.to_accept}),
    f"{_REFUNDS}/ListRefundCases": ("user", lambda _: {"openOnly": True, "pageSize": 10}),
    f"{_DISPUTES}/OpenDispute": (
        "user",
        lambda made: {
            "requestId": new_id(),
            "actor": actor("BUYER"),
            "refundCase": made.to_dispute,
            "reason": "they are broken",
        },
    ),
    f"{_DISPUTES}/AddEvidence": ("user", lambda made: command_body(made.to_add, "BUYER", evidence=[_evidence()])),
    f"{_DISPUTES}/MakeOffer": ("partner", lambda made: command_body(made.to_add, "SELLER", **_PARTS)),
    f"{_DISPUTES}/AcceptOffer": ("user", lambda made: command_body(made.to_take, "BUYER")),
    f"{_DISPUTES}/DecideDispute": (
        "arbiter",
        lambda made: command_body(made.to_decide, "ARBITER", reason="one of two was broken", **_PARTS),
    ),
    f"{_DISPUTES}/AppealDispute": ("user", lambda made: command_body(made.to_appeal, "BUYER", reason="both were")),
    f"{_DISPUTES}/GetDispute": ("arbiter", lambda made: {"name": made.to_decide}),
    f"{_DISPUTES}/ListDisputes": ("arbiter", lambda _: {"openOnly": True, "pageSize": 10}),
    f"{_CLAIMS}/OpenClaim": ("user", lambda made: _claim_body(made.completed)),
    f"{_CLAIMS}/DecideClaim": (
        "arbiter",
        # A goodwill: fraud would block the seller of all the other bodies.
        lambda made: command_body(
            made.claim,
            "ARBITER",
            compensationMinor=_CLAIMED_MINOR,
            finding="FINDING_NOT_FRAUD",
            reason="nobody cheated, and the buyer is made whole",
        ),
    ),
    f"{_CLAIMS}/GetClaim": ("partner", lambda made: {"name": made.claim}),
    f"{_CLAIMS}/ListClaims": ("arbiter", lambda _: {"party": BUYER, "pageSize": 10}),
}
"""By RPC: the role to call it with, and the body."""


def make(client: GatewayClient, shipped: list[str], completed: str) -> CaseFixtures:
    """From TRADES shipped trades of the demo's parties and a completed one. Raises CallFailed."""

    def ask(rpc: str, body: dict[str, Any], role: str = "partner") -> str:
        return str(client.call(rpc, body, role=role).name)

    def case(trade: str, **fields: Any) -> str:
        return ask(f"{_REFUNDS}/OpenRefundCase", {**_case_body(trade), **fields})

    def rejected(trade: str) -> str:
        return ask(f"{_REFUNDS}/RejectRefundCase", command_body(case(trade), "SELLER", reason="no"))

    def disputed(trade: str) -> str:
        body = {"requestId": new_id(), "actor": actor("BUYER"), "refundCase": rejected(trade)}
        return ask(f"{_DISPUTES}/OpenDispute", body)

    def accepted(trade: str) -> str:
        return ask(f"{_REFUNDS}/AcceptRefundCase", command_body(case(trade, withReturn=True), "SELLER"))

    trades = iter(shipped)
    to_submit, to_confirm = accepted(next(trades)), accepted(next(trades))
    ask(f"{_REFUNDS}/SubmitReturn", command_body(to_confirm, "BUYER", carrier="SF Express", tracking="SF4"))
    to_take, to_appeal = disputed(next(trades)), disputed(next(trades))
    ask(f"{_DISPUTES}/MakeOffer", command_body(to_take, "SELLER", **_PARTS))
    ask(f"{_DISPUTES}/DecideDispute", command_body(to_appeal, "ARBITER", reason="half", **_PARTS), role="arbiter")
    claimed = next(trades)
    ask(f"{ESCROW}.TradeService/ConfirmLines", command_body(claimed, "BUYER"))
    ask(f"{PAYMENTS}.LedgerService/PostTransaction", _funding(), role="operator")
    return CaseFixtures(
        trade=next(trades),
        completed=completed,
        to_accept=case(next(trades)),
        to_reject=case(next(trades)),
        to_submit=to_submit,
        to_confirm=to_confirm,
        to_cancel=case(next(trades)),
        to_dispute=rejected(next(trades)),
        to_add=disputed(next(trades)),
        to_take=to_take,
        to_decide=disputed(next(trades)),
        to_appeal=to_appeal,
        claim=ask(f"{_CLAIMS}/OpenClaim", _claim_body(claimed)),
    )


def _case_body(trade: str) -> dict[str, Any]:
    return {
        "requestId": new_id(),
        "actor": actor("BUYER"),
        "trade": trade,
        "lineId": new_trade_body()["lines"][1]["lineId"],
        "amount": money(_CLAIMED_MINOR),
        "reasonCode": "REFUND_REASON_DAMAGED",
        "reason": "one cup is broken",
    }


def _claim_body(trade: str) -> dict[str, Any]:
    return {
        "requestId": new_id(),
        "actor": actor("BUYER"),
        "trade": trade,
        "amount": money(_CLAIMED_MINOR),
        "reason": "the kettle is a forgery",
    }


def _evidence() -> dict[str, Any]:
    return {
        "uri": "https://demo-shop.example/photos/cup.jpg",
        "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "sizeBytes": 81_920,
        "mediaType": "image/jpeg",
        "note": "the cup",
    }


def _funding() -> dict[str, Any]:
    """What the platform puts into its guarantee fund."""
    leg = {
        "debit": {"owner": "platform", "kind": "opening"},
        "credit": {"owner": "platform", "kind": "guarantee.fund"},
        "amount": money(100 * _CLAIMED_MINOR),
    }
    return {"requestId": new_id(), "legs": [leg], "description": "the guarantee fund"}
