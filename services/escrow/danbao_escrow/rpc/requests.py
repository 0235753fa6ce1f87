"""How requests become commands: what the contract's rules cannot say is checked here, before anything is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

from danbao.escrow.v1 import trade_pb2
from danbao_escrow.application.create import check_new_trade, check_price
from danbao_escrow.domain import commands
from danbao_escrow.domain.commands import CommandName, Token
from danbao_escrow.domain.fees import AskedFees
from danbao_escrow.domain.model import Actor, Delivery, FeePayer, Role
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
        "adjust_price": CommandName.ADJUST_PRICE,
        "extend_confirmation": CommandName.EXTEND_CONFIRMATION,
        "create_checkout": CommandName.CREATE_CHECKOUT,
        "pay_checkout": CommandName.PAY_CHECKOUT,
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
        is_arbiter="arbiter" in call.roles,
        is_user="user" in call.roles,
    )


def trade_id(name: str, field: str = "name") -> UUID:
    """The id in trades/{uuid}. Raises FieldInvalid for anything that is not a UUID in its usual form."""
    return _uuid_in(name, "trades", field)


def checkout_id(name: str) -> UUID:
    """The id in checkouts/{uuid}. Raises FieldInvalid for anything that is not a UUID in its usual form."""
    return _uuid_in(name, "checkouts", "name")


def _uuid_in(name: str, collection: str, field: str) -> UUID:
    text = name.removeprefix(f"{collection}/")
    try:
        value = UUID(text)
    except ValueError:
        value = None
    if value is None or str(value) != text:
        raise FieldInvalid(FieldViolation(field, f"must be {collection}/{{uuid}}"))
    return value


def command_of(name: CommandName, request: Any, token: Token) -> Any:
    """The command that a request message stands for. Raises what refuses the message."""
    return _COMMANDS[name](request, token)


def actor_of(message: trade_pb2.Actor) -> Actor:
    """On whose behalf."""
    return Actor(message.subject, Role(trade_pb2.Role.Name(message.role).removeprefix("ROLE_")))


def money_of(message: Any) -> Money:
    """An amount."""
    return Money(message.currency, message.amount_minor)


def _delivery(value: Any) -> Delivery:
    name = trade_pb2.Delivery.Name(value).removeprefix("DELIVERY_")
    return Delivery.EXPRESS if name == "UNSPECIFIED" else Delivery(name)


def time_of(request: Any, field: str) -> datetime | None:
    """The time in a field. Raises FieldInvalid."""
    return moment_of(getattr(request, field), field) if request.HasField(field) else None


def _pay_by(request: trade_pb2.CreateTradeRequest) -> timedelta | None:
    if not request.HasField("pay_by"):
        return None
    try:
        value: timedelta = request.pay_by.ToTimedelta()
    except (ValueError, OverflowError) as error:
        raise FieldInvalid(FieldViolation("pay_by", "is not a duration")) from error
    return value


def _optional(request: Any, field: str) -> Any:
    return getattr(request, field) if request.HasField(field) else None


def _fee_payer(value: Any) -> FeePayer | None:
    name = trade_pb2.FeePayer.Name(value).removeprefix("FEE_PAYER_")
    return None if name == "UNSPECIFIED" else FeePayer(name)


def _create_trade(request: trade_pb2.CreateTradeRequest, token: Token) -> commands.CreateTrade:
    command = commands.CreateTrade(
        actor=actor_of(request.actor),
        buyer=request.buyer,
        seller=request.seller,
        lines=tuple(
            commands.NewLine(line.line_id, line.title, money_of(line.amount), _delivery(line.delivery))
            for line in request.lines
        ),
        postage=money_of(request.postage) if request.HasField("postage") else None,
        total=money_of(request.total),
        fee_bps=_optional(request, "fee_bps"),
        pay_by=_pay_by(request),
        ship_by_time=time_of(request, "ship_by_time"),
        reference=request.reference,
        token=token,
        # Credit's word comes later, and the fees asked for with it.
        terms=frozen_terms(default_grade_terms(request.total.currency), AskedFees()),
        blocked="",
        fee_fixed_minor=_optional(request, "fee_fixed_minor"),
        fee_cap_minor=_optional(request, "fee_cap_minor"),
        fee_payer=_fee_payer(request.fee_payer),
        buyer_fee_bps=_optional(request, "buyer_fee_bps"),
        buyer_fee_fixed_minor=_optional(request, "buyer_fee_fixed_minor"),
    )
    check_new_trade(command)
    return command


def _pay_trade(request: trade_pb2.PayTradeRequest, token: Token) -> commands.PayTrade:
    _check_instrument(request)
    return commands.PayTrade(
        actor_of(request.actor),
        trade_id(request.name),
        token,
        blocked="",
        rail=request.rail,
        instrument=request.instrument,
    )


def _create_checkout(request: trade_pb2.CreateCheckoutRequest, token: Token) -> commands.CreateCheckout:
    trades = tuple(trade_id(name, f"trades[{index}]") for index, name in enumerate(request.trades))
    return commands.CreateCheckout(actor_of(request.actor), trades, token)


def _pay_checkout(request: trade_pb2.PayCheckoutRequest, token: Token) -> commands.PayCheckout:
    _check_instrument(request)
    return commands.PayCheckout(
        actor_of(request.actor),
        checkout_id(request.name),
        token,
        blocked="",
        rail=request.rail,
        instrument=request.instrument,
    )


def _check_instrument(request: Any) -> None:
    if request.instrument and not request.rail:
        raise FieldInvalid(FieldViolation("instrument", "needs a rail"))


def _ship_lines(request: trade_pb2.ShipLinesRequest, token: Token) -> commands.ShipLines:
    return commands.ShipLines(
        actor=actor_of(request.actor),
        name=trade_id(request.name),
        line_ids=tuple(request.line_ids),
        carrier=request.carrier,
        tracking=request.tracking,
        token=token,
    )


def _report_delivery(request: trade_pb2.ReportDeliveryRequest, token: Token) -> commands.ReportDelivery:
    return commands.ReportDelivery(actor_of(request.actor), trade_id(request.name), tuple(request.line_ids), token)


def _confirm_lines(request: trade_pb2.ConfirmLinesRequest, token: Token) -> commands.ConfirmLines:
    return commands.ConfirmLines(actor_of(request.actor), trade_id(request.name), tuple(request.line_ids), token)


def _cancel_lines(request: trade_pb2.CancelLinesRequest, token: Token) -> commands.CancelLines:
    return commands.CancelLines(
        actor_of(request.actor), trade_id(request.name), tuple(request.line_ids), request.reason, token
    )


def _cancel_trade(request: trade_pb2.CancelTradeRequest, token: Token) -> commands.CancelTrade:
    return commands.CancelTrade(actor_of(request.actor), trade_id(request.name), request.reason, token)


def _release_held(request: trade_pb2.ReleaseHeldRequest, token: Token) -> commands.ReleaseHeld:
    return commands.ReleaseHeld(actor_of(request.actor), trade_id(request.name), request.reason, token)


def _adjust_price(request: trade_pb2.AdjustPriceRequest, token: Token) -> commands.AdjustPrice:
    command = commands.AdjustPrice(
        actor=actor_of(request.actor),
        name=trade_id(request.name),
        lines=tuple(commands.LinePrice(line.line_id, money_of(line.amount)) for line in request.lines),
        postage=money_of(request.postage) if request.HasField("postage") else None,
        total=money_of(request.total),
        reason=request.reason,
        token=token,
    )
    check_price(command)
    return command


def _extend_confirmation(request: trade_pb2.ExtendConfirmationRequest, token: Token) -> commands.ExtendConfirmation:
    return commands.ExtendConfirmation(
        actor_of(request.actor), trade_id(request.name), tuple(request.line_ids), request.days, token
    )


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
        CommandName.ADJUST_PRICE: _adjust_price,
        CommandName.EXTEND_CONFIRMATION: _extend_confirmation,
        CommandName.CREATE_CHECKOUT: _create_checkout,
        CommandName.PAY_CHECKOUT: _pay_checkout,
    }
)
