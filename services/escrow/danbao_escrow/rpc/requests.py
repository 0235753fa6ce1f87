"""How requests become commands: what the contract's rules cannot say is checked here, before anything is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

from danbao.escrow.v1 import trade_pb2
from danbao_escrow.application.create import check_new_trade
from danbao_escrow.domain import commands
from danbao_escrow.domain.commands import CommandName, Token
from danbao_escrow.domain.model import Actor, Delivery, Role
from danbao_escrow.domain.terms import default_grade_terms, frozen_terms
from danbao_kit.call import Call
from danbao_kit.errors import FieldInvalid, FieldViolation
from danbao_kit.money import Money
from danbao_kit.timestamps import moment_of

OPERATIONS: Mapping[str, CommandName] = MappingProxyType(
    {
        "create_trade": CommandName.CREATE_TRADE,
        "pay_trade": CommandName.PAY_TRADE,
        "ship_lines": CommandName.SHIP_LINES,
        "report_delivery": CommandName.REPORT_DELIVERY,
        "confirm_lines": CommandName.CONFIRM_LINES,
        "cancel_lines": CommandName.CANCEL_LINES,
        "cancel_trade": CommandName.CANCEL_TRADE,
        "release_held": CommandName.RELEASE_HELD,
    }
)
"""Fields of Operation, and what they ask for."""


def token_of(call: Call) -> Token:
    """What the call says about who is calling. The local operator's certificate counts as an operator's token."""
    is_operator = "operator" in call.roles or call.peer == "operator"
    return Token(
        subject=f"subjects/{call.subject}" if call.subject else "",
        # A partner's token without a partner stands for itself.
        partner=call.partner or (f"subject:{call.subject}" if "partner" in call.roles else ""),
        is_partner="partner" in call.roles,
        is_operator=is_operator,
        sees_all=is_operator or "arbiter" in call.roles,
    )


def trade_id(name: str, field: str = "name") -> UUID:
    """The id in trades/{uuid}. Raises FieldInvalid for anything that is not a UUID in its usual form."""
    text = name.removeprefix("trades/")
    try:
        value = UUID(text)
    except ValueError:
        value = None
    if value is None or str(value) != text:
        raise FieldInvalid(FieldViolation(field, "must be trades/{uuid}"))
    return value


def command_of(name: CommandName, request: Any, token: Token) -> Any:
    """The command that a request message stands for. Raises what refuses the message."""
    return _COMMANDS[name](request, token)


def _actor(message: trade_pb2.Actor) -> Actor:
    return Actor(message.subject, Role(trade_pb2.Role.Name(message.role).removeprefix("ROLE_")))


def _money(message: Any) -> Money:
    return Money(message.currency, message.amount_minor)


def _delivery(value: Any) -> Delivery:
    name = trade_pb2.Delivery.Name(value).removeprefix("DELIVERY_")
    return Delivery.EXPRESS if name == "UNSPECIFIED" else Delivery(name)


def _ship_by_time(request: trade_pb2.CreateTradeRequest) -> datetime | None:
    return moment_of(request.ship_by_time, "ship_by_time") if request.HasField("ship_by_time") else None


def _pay_by(request: trade_pb2.CreateTradeRequest) -> timedelta | None:
    if not request.HasField("pay_by"):
        return None
    try:
        value: timedelta = request.pay_by.ToTimedelta()
    except (ValueError, OverflowError) as error:
        raise FieldInvalid(FieldViolation("pay_by", "is not a duration")) from error
    return value


def _create_trade(request: trade_pb2.CreateTradeRequest, token: Token) -> commands.CreateTrade:
    fee_bps = request.fee_bps if request.HasField("fee_bps") else None
    command = commands.CreateTrade(
        actor=_actor(request.actor),
        buyer=request.buyer,
        seller=request.seller,
        lines=tuple(
            commands.NewLine(line.line_id, line.title, _money(line.amount), _delivery(line.delivery))
            for line in request.lines
        ),
        postage=_money(request.postage) if request.HasField("postage") else None,
        total=_money(request.total),
        fee_bps=fee_bps,
        pay_by=_pay_by(request),
        ship_by_time=_ship_by_time(request),
        reference=request.reference,
        token=token,
        terms=frozen_terms(default_grade_terms(request.total.currency), fee_bps),
        blocked="",
    )
    check_new_trade(command)
    return command


def _pay_trade(request: trade_pb2.PayTradeRequest, token: Token) -> commands.PayTrade:
    return commands.PayTrade(_actor(request.actor), trade_id(request.name), token, blocked="")


def _ship_lines(request: trade_pb2.ShipLinesRequest, token: Token) -> commands.ShipLines:
    return commands.ShipLines(
        actor=_actor(request.actor),
        name=trade_id(request.name),
        line_ids=tuple(request.line_ids),
        carrier=request.carrier,
        tracking=request.tracking,
        token=token,
    )


def _report_delivery(request: trade_pb2.ReportDeliveryRequest, token: Token) -> commands.ReportDelivery:
    return commands.ReportDelivery(_actor(request.actor), trade_id(request.name), tuple(request.line_ids), token)


def _confirm_lines(request: trade_pb2.ConfirmLinesRequest, token: Token) -> commands.ConfirmLines:
    return commands.ConfirmLines(_actor(request.actor), trade_id(request.name), tuple(request.line_ids), token)


def _cancel_lines(request: trade_pb2.CancelLinesRequest, token: Token) -> commands.CancelLines:
    return commands.CancelLines(
        _actor(request.actor), trade_id(request.name), tuple(request.line_ids), request.reason, token
    )


def _cancel_trade(request: trade_pb2.CancelTradeRequest, token: Token) -> commands.CancelTrade:
    return commands.CancelTrade(_actor(request.actor), trade_id(request.name), request.reason, token)


def _release_held(request: trade_pb2.ReleaseHeldRequest, token: Token) -> commands.ReleaseHeld:
    return commands.ReleaseHeld(_actor(request.actor), trade_id(request.name), request.reason, token)


_COMMANDS: Mapping[CommandName, Callable[[Any, Token], commands.Command]] = MappingProxyType(
    {
        CommandName.CREATE_TRADE: _create_trade,
        CommandName.PAY_TRADE: _pay_trade,
        CommandName.SHIP_LINES: _ship_lines,
        CommandName.REPORT_DELIVERY: _report_delivery,
        CommandName.CONFIRM_LINES: _confirm_lines,
        CommandName.CANCEL_LINES: _cancel_lines,
        CommandName.CANCEL_TRADE: _cancel_trade,
        CommandName.RELEASE_HELD: _release_held,
    }
)
