"""Which function decides which command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from danbao_escrow.application import (
    case_timers,
    checkouts,
    claims,
    create,
    disputes,
    payment_events,
    refund_cases,
    steps,
    timers,
    trades,
)
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain import case_commands, commands
from danbao_escrow.domain.payment_events import ApplyPaymentEvents
from danbao_kit.decision import Moment

Decision = Callable[[Any, EscrowSet, Moment], Any]

DECISIONS: Mapping[type, Decision] = MappingProxyType(
    {
        commands.CreateTrade: create.create_trade,
        commands.PayTrade: trades.pay_trade,
        commands.CancelTrade: trades.cancel_trade,
        commands.ShipLines: trades.ship_lines,
        commands.ReportDelivery: trades.report_delivery,
        commands.ConfirmLines: trades.confirm_lines,
        commands.CancelLines: trades.cancel_lines,
        commands.ReleaseHeld: trades.release_held,
        commands.AdjustPrice: trades.adjust_price,
        commands.ExtendConfirmation: trades.extend_confirmation,
        case_commands.OpenRefundCase: refund_cases.open_refund_case,
        case_commands.AcceptRefundCase: refund_cases.accept_refund_case,
        case_commands.RejectRefundCase: refund_cases.reject_refund_case,
        case_commands.SubmitReturn: refund_cases.submit_return,
        case_commands.ConfirmReturn: refund_cases.confirm_return,
        case_commands.CancelRefundCase: refund_cases.cancel_refund_case,
        case_commands.OpenDispute: disputes.open_dispute,
        case_commands.AddEvidence: disputes.add_evidence,
        case_commands.MakeOffer: disputes.make_offer,
        case_commands.AcceptOffer: disputes.accept_offer,
        case_commands.DecideDispute: disputes.decide_dispute,
        case_commands.AppealDispute: disputes.appeal_dispute,
        case_commands.OpenClaim: claims.open_claim,
        case_commands.DecideClaim: claims.decide_claim,
        case_commands.FireCaseTimer: case_timers.fire_case_timer,
        commands.SettleStep: steps.settle_step,
        commands.ClaimStep: steps.claim_step,
        commands.FireTimer: timers.fire_timer,
        commands.CreateCheckout: checkouts.create_checkout,
        commands.PayCheckout: checkouts.pay_checkout,
        ApplyPaymentEvents: payment_events.apply_payment_events,
    }
)


def decide(command: Any, working: EscrowSet, moment: Moment) -> Any:
    """The reply: a Trade, case, dispute or claim; None for the service's own commands; DEFERRED while a step is under
    way."""
    return DECISIONS[type(command)](command, working, moment)
