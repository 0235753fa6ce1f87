"""Reads a folder of Olist's files into orders; a line that cannot be used is reported, never dropped in silence."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from danbao_local.olist import files
from danbao_local.olist.files import CUSTOMERS, ITEMS, ORDERS, PAYMENTS, REVIEWS, SELLERS, Row
from danbao_local.olist.orders import (
    DUPLICATE,
    ORPHAN,
    UNREADABLE,
    VALUE_UNREADABLE,
    Item,
    OddRow,
    OlistOrders,
    Order,
    PaymentRow,
    Review,
)
from danbao_local.olist.values import CellUnreadable, read_amount, read_id, read_time, read_whole


def read(folder: Path, limit: int | None = None) -> OlistOrders:
    """The first `limit` orders, or all, with what belongs to them. Raises FilesUnusable."""
    return _Reader(folder, limit).read()


class _Reader:
    def __init__(self, folder: Path, limit: int | None) -> None:
        self._folder = folder
        self._limit = limit
        self._odd: list[OddRow] = []
        self._beyond_limit: set[str] = set()
        self._lost: set[str] = set()

    def read(self) -> OlistOrders:
        people = self._customers()
        orders, rows = self._orders(people)
        items = self._items(orders)
        payments = self._payments(orders)
        reviews = self._reviews(orders)
        sellers = self._sellers()
        complete = [
            replace(
                order,
                items=tuple(items[order.order_id]),
                payments=tuple(payments[order.order_id]),
                reviews=tuple(reviews[order.order_id]),
                unknown_sellers=_unknown(items[order.order_id], sellers),
            )
            for order in orders.values()
        ]
        return OlistOrders(
            orders=tuple(complete),
            odd_rows=tuple(self._odd),
            rows_in_orders_file=rows,
            missing_files=tuple(name for name in files.COLUMNS if files.find(self._folder, name) is None),
        )

    # --- one file each --------------------------------------------------------------------------

    def _orders(self, people: dict[str, str]) -> tuple[dict[str, Order], int]:
        orders: dict[str, Order] = {}
        taken = 0
        for row in self._rows(ORDERS):
            order_id = row["order_id"]
            if self._limit is not None and taken >= self._limit:
                self._beyond_limit.add(order_id)
                continue
            taken += 1
            if order_id in orders:
                self._tell(DUPLICATE, row, f"order {order_id} stands in line {orders[order_id].line} already")
                continue
            try:
                orders[order_id] = self._order(row, people)
            except CellUnreadable as why:
                self._lost.add(order_id)
                self._tell(UNREADABLE, row, f"{why}; the order is not sent")
        return orders, taken

    def _order(self, row: Row, people: dict[str, str]) -> Order:
        customer_id = read_id("customer_id", row["customer_id"])
        return Order(
            order_id=read_id("order_id", row["order_id"]),
            line=row.line,
            status=row["order_status"].lower(),
            customer=people.get(customer_id, customer_id),
            customer_known=customer_id in people,
            purchased=read_time("order_purchase_timestamp", row["order_purchase_timestamp"]),
            approved=self._time(row, "order_approved_at"),
            handed_to_carrier=self._time(row, "order_delivered_carrier_date"),
            delivered=self._time(row, "order_delivered_customer_date"),
            estimated=self._time(row, "order_estimated_delivery_date"),
            items=(),
            payments=(),
            reviews=(),
        )

    def _items(self, orders: dict[str, Order]) -> dict[str, list[Item]]:
        found: dict[str, list[Item]] = defaultdict(list)
        seen: set[tuple[str, str]] = set()
        for row in self._rows_of_orders(ITEMS, orders):
            key = (row["order_id"], row["order_item_id"])
            if key in seen:
                self._tell(DUPLICATE, row, f"item {key[1]} of order {key[0]} stands above already")
                continue
            try:
                item = Item(
                    item_id=read_id("order_item_id", row["order_item_id"]),
                    seller_id=read_id("seller_id", row["seller_id"]),
                    shipping_limit=read_time("shipping_limit_date", row["shipping_limit_date"]),
                    price_minor=read_amount("price", row["price"]),
                    freight_minor=read_amount("freight_value", row["freight_value"]),
                )
            except CellUnreadable as why:
                self._tell(UNREADABLE, row, f"{why}; order {key[0]} goes without this item")
                continue
            seen.add(key)
            found[key[0]].append(item)
        return found

    def _payments(self, orders: dict[str, Order]) -> dict[str, list[PaymentRow]]:
        found: dict[str, list[PaymentRow]] = defaultdict(list)
        seen: set[tuple[str, str]] = set()
        for row in self._rows_of_orders(PAYMENTS, orders):
            key = (row["order_id"], row["payment_sequential"])
            try:
                amount_minor = read_amount("payment_value", row["payment_value"])
                read_whole("payment_sequential", row["payment_sequential"], least=0, most=999_999)
            except CellUnreadable as why:
                self._tell(UNREADABLE, row, f"{why}; order {key[0]} goes without this payment")
                continue
            if key in seen:
                self._tell(DUPLICATE, row, f"payment {key[1]} of order {key[0]} stands above already")
                continue
            seen.add(key)
            rows = found[key[0]]
            rows.append(PaymentRow(len(rows) + 1, row["payment_type"], amount_minor))
        return found

    def _reviews(self, orders: dict[str, Order]) -> dict[str, list[Review]]:
        found: dict[str, list[Review]] = defaultdict(list)
        for row in self._rows_of_orders(REVIEWS, orders):
            try:
                score = read_whole("review_score", row["review_score"], least=1, most=5)
            except CellUnreadable as why:
                self._tell(UNREADABLE, row, f"{why}; the review is left out")
                continue
            found[row["order_id"]].append(Review(score=score, created=self._time(row, "review_creation_date")))
        return found

    def _customers(self) -> dict[str, str]:
        """The person behind each order's customer id."""
        people: dict[str, str] = {}
        for row in self._rows(CUSTOMERS):
            try:
                people[read_id("customer_id", row["customer_id"])] = read_id(
                    "customer_unique_id", row["customer_unique_id"]
                )
            except CellUnreadable as why:
                self._tell(UNREADABLE, row, f"{why}; the customer's orders stand under their own customer id")
        return people

    def _sellers(self) -> set[str] | None:
        if files.find(self._folder, SELLERS) is None:
            return None
        return {row["seller_id"] for row in self._rows(SELLERS)}

    # --- rows and cells -------------------------------------------------------------------------

    def _rows(self, name: str) -> Iterator[Row]:
        path = files.find(self._folder, name)
        for row in files.read_rows(self._folder, name):
            if isinstance(row, Row):
                yield row
            else:
                line, why = row
                self._odd.append(OddRow(UNREADABLE, path.name if path else name, line, f"{why}; the line is left out"))

    def _rows_of_orders(self, name: str, orders: dict[str, Order]) -> Iterator[Row]:
        """The rows of orders that are sent; others are reported unless their order is beyond the limit."""
        for row in self._rows(name):
            order_id = row["order_id"]
            if order_id in orders:
                yield row
            elif order_id in self._lost:
                self._tell(ORPHAN, row, f"the row of order {order_id} is unreadable")
            elif order_id not in self._beyond_limit:
                self._tell(ORPHAN, row, f"no order {order_id} in the file of orders")

    def _time(self, row: Row, column: str) -> datetime | None:
        if not row[column]:
            return None
        try:
            return read_time(column, row[column])
        except CellUnreadable as why:
            self._tell(VALUE_UNREADABLE, row, f"{why}; taken as missing")
            return None

    def _tell(self, kind: str, row: Row, reason: str) -> None:
        self._odd.append(OddRow(kind, row.file, row.line, reason))


def _unknown(items: list[Item], sellers: set[str] | None) -> tuple[str, ...]:
    if sellers is None:
        return ()
    return tuple(sorted({item.seller_id for item in items} - sellers))
