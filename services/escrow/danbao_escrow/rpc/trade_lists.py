"""Lists of trades: what is asked for, who sees what, and where a page ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from danbao.escrow.v1 import trade_pb2
from danbao_escrow.application.ports import Reads, TradeFilter, TradePosition
from danbao_escrow.domain.commands import Token
from danbao_escrow.domain.model import TradeState
from danbao_escrow.rpc.mapping import trade_message
from danbao_escrow.rpc.requests import time_of
from danbao_kit.errors import PageTokenInvalid
from danbao_kit.paging import decode_token, encode_token, page_size

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def list_trades(reads: Reads, request: trade_pb2.ListTradesRequest, token: Token) -> trade_pb2.ListTradesResponse:
    """A page of those trades that the token may see."""
    asked = TradeFilter(
        seen_by=None if token.sees_all else token,
        buyer=request.buyer,
        seller=request.seller,
        party=request.party,
        states=tuple(TradeState(trade_pb2.Trade.State.Name(state).removeprefix("STATE_")) for state in request.states),
        deadline_before=time_of(request, "deadline_before"),
        has_open_case=request.has_open_case if request.HasField("has_open_case") else None,
        newest_first=request.order_by != "create_time",
    )
    scope = f"trades {asked!r}"
    after = _position(scope, request.page_token) if request.page_token else None
    if not (token.sees_all or token.is_partner or token.subject):
        return trade_pb2.ListTradesResponse()
    size = page_size(request.page_size)
    found = await reads.trades(asked, after=after, limit=size + 1)
    answer = trade_pb2.ListTradesResponse(trades=[trade_message(trade) for trade in found[:size]])
    if len(found) > size:
        last = found[size - 1]
        since_us = (last.create_time - _EPOCH) // timedelta(microseconds=1)
        answer.next_page_token = encode_token(scope, f"{since_us} {last.trade_id}")
    return answer


def _position(scope: str, token: str) -> TradePosition:
    since_us, _, trade_id = decode_token(scope, token).partition(" ")
    try:
        return _EPOCH + timedelta(microseconds=int(since_us)), UUID(trade_id)
    except (ValueError, OverflowError) as error:
        raise PageTokenInvalid from error
