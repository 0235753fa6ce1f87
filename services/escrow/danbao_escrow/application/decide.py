"""Which function decides which command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from danbao_escrow.application import create, steps, timers, trades
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain import commands
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
        commands.SettleStep: steps.settle_step,
        commands.ClaimStep: steps.claim_step,
        commands.FireTimer: timers.fire_timer,
    }
)


def decide(command: Any, working: EscrowSet, moment: Moment) -> Any:
    """The command's reply: a Trade, None for the service's own commands, or DEFERRED while its step is under way."""
    return DECISIONS[type(command)](command, working, moment)
