"""How a trade looks on the wire: nothing of it is left out, and what is unset stays unset."""

import dataclasses
from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pytest

from danbao.escrow.v1 import trade_pb2
from danbao_escrow.domain.model import FeePayer, HeldPart, Line, Role, Terms, Trade
from danbao_escrow.rpc.mapping import set_time, trade_message
from danbao_escrow.testing.world import World, new_trade
from danbao_kit.immutable import replace

AT = datetime(2020, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)
TEXTS = {
    "payment",
    "step_refusal",
    "reference",
    "open_claim",
    "rail",
    "checkout",
    "carrier",
    "tracking",
    "open_case",
    "partner",
}
SHOWN_OTHERWISE = {"name", "etag", "step_pending", "held_back_minor", "lines", "terms", "state", "delivery", "made_by"}


def filled(value: Trade | Line, message: type):
    """With something of its own in each field that the message shows."""
    changes = {}
    for number, field in enumerate(message.DESCRIPTOR.fields, start=1):
        if field.name.endswith("_time"):
            changes[field.name] = AT + timedelta(seconds=number)
        elif field.name in TEXTS:
            changes[field.name] = f"the {field.name}"
        elif field.name.endswith(("_minor", "_days")) and field.name not in SHOWN_OTHERWISE:
            changes[field.name] = 1000 + number
    return replace(value, **changes)


def all_of_it() -> Trade:
    made = World().run(new_trade((3000, 5000)))
    numbers = [field.name for field in fields(Terms) if field.type == "int"]
    flags = [field.name for field in fields(Terms) if field.type == "bool"]
    terms = dataclasses.replace(
        made.terms,
        **{name: number for number, name in enumerate(numbers, start=1)},
        **dict.fromkeys(flags, True),
        fee_payer=FeePayer.SPLIT,
    )
    trade = filled(made, trade_pb2.Trade)
    return replace(
        trade,
        lines=tuple(filled(line, trade_pb2.Line) for line in trade.lines),
        terms=terms,
        held=(HeldPart(5, None), HeldPart(6, AT)),
        step_blocked=True,
        payment_pending=True,
        made_by=Role.SELLER,
        made_by_partner=True,
        pending_step=1,
    )


def test_every_field_of_a_trade_is_shown():
    trade = all_of_it()
    message = trade_message(trade)
    for value, shown in ((trade, message), (trade.lines[0], message.lines[0]), (trade.terms, message.terms)):
        contents = {field.name: content for field, content in shown.ListFields()}
        assert contents.keys() == {field.name for field in shown.DESCRIPTOR.fields}
        for name, content in contents.items():
            if name.endswith("_time"):
                assert content.ToDatetime(UTC) == getattr(value, name)
            elif name not in SHOWN_OTHERWISE | {"fee_payer"}:
                assert content == getattr(value, name)
    assert (message.name, message.etag, message.held_back_minor) == (trade.name, str(trade.revision), 11)
    assert [line.line_id for line in message.lines] == ["1", "2"]
    assert message.made_by == trade_pb2.ROLE_SELLER
    assert message.terms.fee_payer == trade_pb2.FEE_PAYER_SPLIT


def test_what_a_new_trade_has_not_is_not_set():
    message = trade_message(World().run(new_trade((3000,))))
    shown = {field.name for field, _ in message.ListFields()}
    assert shown == {
        "name", "state", "buyer", "seller", "currency", "lines", "total_minor", "terms", "etag", "reference",
        "pay_by_time", "create_time", "update_time", "deadline_time", "made_by", "made_by_partner", "partner",
    }  # fmt: skip
    shown = {field.name for field, _ in message.lines[0].ListFields()}
    assert shown == {"line_id", "title", "amount_minor", "delivery", "state"}


@pytest.mark.parametrize("at", [AT, datetime(1970, 1, 1, tzinfo=UTC), datetime(2999, 12, 31, 23, 59, 59, 999999, UTC)])
def test_times_are_shown_to_the_microsecond(at):
    message = trade_pb2.Trade()
    set_time(message, "end_time", at)
    assert message.HasField("end_time")
    assert message.end_time.ToDatetime(UTC) == at
    set_time(message, "pay_time", None)
    assert not message.HasField("pay_time")
