"""Who trades, under which request ids: all of it follows from the files."""

import uuid

from danbao.type.v1 import money_pb2
from danbao_local.olist.orders import CURRENCY, Order

_NAMESPACE = uuid.UUID("5e0a7b52-2f0d-5f43-9a3f-6f4ba1d0c9d3")


def buyer_of(order: Order) -> str:
    """The person who buys: one wallet for all of a person's orders."""
    return f"subjects/buyer-{order.customer}"


def seller_subject(seller_id: str) -> str:
    """The subject of a seller."""
    return f"subjects/seller-{seller_id}"


def request_id(order_id: str, seller_id: str, operation: str) -> str:
    """The same for the same thing done, whenever it is sent."""
    return str(uuid.uuid5(_NAMESPACE, f"{order_id}/{seller_id}/{operation}"))


def tracking_of(order_id: str, seller_id: str, which: str = "") -> str:
    """What a carrier would call the parcel. A whole UUID: its digits are never taken for a card's number."""
    return request_id(order_id, seller_id, f"tracking{which}")


def money(amount_minor: int) -> money_pb2.Money:
    """In the files' currency."""
    return money_pb2.Money(currency=CURRENCY, amount_minor=amount_minor)
