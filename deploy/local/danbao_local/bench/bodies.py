"""The requests of a bench, built so cheaply that building them does not show in the figures."""

from __future__ import annotations

from typing import Any, ClassVar

from danbao.escrow.v1 import trade_pb2
from danbao.payments.v1 import account_pb2, payment_pb2
from danbao.type.v1 import money_pb2
from danbao_local.bench.orders import REQUEST_ID_LENGTH

CURRENCY = "CNY"
TOP_UP_MINOR = 10_000_000_000
_PAYMENT_MINOR = 125
_LINE_MINOR = 8_800
_POSTAGE_MINOR = 1_200
_SELLERS = 2_000
_TAILS = 8_192


class RequestIds:
    """Request ids of one load: its prefix and a number, as long as a UUID and, like one, without 13 digits in a row:
    such a text is looked at for a card's number."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._digits = REQUEST_ID_LENGTH - len(prefix)
        self._next = 0

    def take(self) -> tuple[int, bytes]:
        """The next number, and the id made of it."""
        number = self._next
        self._next = number + 1
        return number, f"{self._prefix}{number:n>{self._digits}d}".encode()


def wrap(field_number: int, content: bytes) -> bytes:
    """A length-delimited field of the wire format, https://protobuf.dev/programming-guides/encoding/."""
    return bytes((field_number << 3 | 2,)) + _varint(len(content)) + content


def wrap_operation(field_number: int, content: bytes) -> bytes:
    """A request as one of the `operations` of a BatchExecute."""
    return wrap(1, wrap(field_number, content))


def payment_tails(*, accounts: int, hot: str = "") -> list[bytes]:
    """CreatePayments without their request ids (field 1, to be put before them): wallet to wallet.

    Spread over `accounts`; `hot` "payee": all to one wallet; "payer": all from one.
    """
    spread = range(min(accounts, _TAILS))
    # The payee is half the accounts away: everybody pays and is paid.
    pairs = [(number, (number + accounts // 2) % accounts) for number in spread]
    if hot == "payee":
        pairs = [(max(payer, 1), 0) for payer, _ in pairs]
    elif hot == "payer":
        pairs = [(0, max(payee, 1)) for _, payee in pairs]
    return [
        payment_pb2.CreatePaymentRequest(
            payer=account_owner(payer),
            payee=account_pb2.AccountKey(owner=account_owner(payee), kind="user.available"),
            amount=money_pb2.Money(currency=CURRENCY, amount_minor=_PAYMENT_MINOR),
            capture_mode=payment_pb2.CAPTURE_MODE_AUTOMATIC,
            description="bench",
        ).SerializeToString()
        for payer, payee in pairs
    ]


def payment_bytes() -> int:
    """How long a CreatePayment is: the size of the echo beside it."""
    return len(payment_tails(accounts=2)[0]) + 2 + REQUEST_ID_LENGTH


def top_up_tail(number: int) -> bytes:
    """A CreateTopUp without its request id."""
    return payment_pb2.CreateTopUpRequest(
        owner=account_owner(number),
        amount=money_pb2.Money(currency=CURRENCY, amount_minor=TOP_UP_MINOR),
        rail="rails/simulated",
    ).SerializeToString()


def account_owner(number: int) -> str:
    """Whose wallet it is."""
    return f"subjects/bench-{number:08d}"


class TradeBodies:
    """The commands of trades between buyers with money and a few thousand sellers."""

    COMMANDS: ClassVar = ("CreateTrade", "PayTrade", "ShipLines", "ConfirmLines")
    STATES: ClassVar = {
        "CreateTrade": trade_pb2.Trade.STATE_PENDING_PAYMENT,
        "PayTrade": trade_pb2.Trade.STATE_AWAITING_SHIPMENT,
        "ShipLines": trade_pb2.Trade.STATE_AWAITING_CONFIRMATION,
        "ConfirmLines": trade_pb2.Trade.STATE_COMPLETED,
    }
    _FIELDS: ClassVar = {
        "CreateTrade": "create_trade",
        "PayTrade": "pay_trade",
        "ShipLines": "ship_lines",
        "ConfirmLines": "confirm_lines",
    }

    def __init__(self, ids: RequestIds, *, accounts: int) -> None:
        self._ids = ids
        self._accounts = accounts

    def buyer(self, number: int) -> str:
        """Buyers have the wallets."""
        return account_owner(number % self._accounts)

    def seller(self, number: int) -> str:
        """Sellers have none before their first trade."""
        return f"subjects/bench-seller-{number % _SELLERS:04d}"

    def request(self, command: str, trade: Any) -> Any:
        """The command's request on `trade` as it was answered last; None for a new one."""
        number, raw_id = self._ids.take()
        request_id = raw_id.decode()
        if command == "CreateTrade":
            return self._create(number, request_id)
        buyer = trade_pb2.Actor(subject=trade.buyer, role=trade_pb2.ROLE_BUYER)
        if command == "PayTrade":
            return trade_pb2.PayTradeRequest(request_id=request_id, actor=buyer, name=trade.name)
        if command == "ConfirmLines":
            return trade_pb2.ConfirmLinesRequest(request_id=request_id, actor=buyer, name=trade.name)
        seller = trade_pb2.Actor(subject=trade.seller, role=trade_pb2.ROLE_SELLER)
        return trade_pb2.ShipLinesRequest(
            request_id=request_id, actor=seller, name=trade.name, carrier="SF Express", tracking="SF1029384756"
        )

    def operation(self, command: str, trade: Any) -> trade_pb2.Operation:
        """The same as one of a batch."""
        request = self.request(command, trade)
        return trade_pb2.Operation(**{self._FIELDS[command]: request})

    def _create(self, number: int, request_id: str) -> trade_pb2.CreateTradeRequest:
        buyer = self.buyer(number)
        return trade_pb2.CreateTradeRequest(
            request_id=request_id,
            actor=trade_pb2.Actor(subject=buyer, role=trade_pb2.ROLE_BUYER),
            buyer=buyer,
            seller=self.seller(number),
            lines=[
                trade_pb2.NewLine(
                    line_id="1", title="Kettle", amount=_money(_LINE_MINOR), delivery=trade_pb2.DELIVERY_EXPRESS
                )
            ],
            postage=_money(_POSTAGE_MINOR),
            total=_money(_LINE_MINOR + _POSTAGE_MINOR),
            reference="bench",
        )


def _money(amount_minor: int) -> money_pb2.Money:
    return money_pb2.Money(currency=CURRENCY, amount_minor=amount_minor)


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
