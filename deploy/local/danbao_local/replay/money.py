"""What the files alone say must have come in: read from the payments file once more, apart from everything else."""

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

from danbao_kit.money import exponent
from danbao_local.olist import files
from danbao_local.olist.orders import CURRENCY, Order


def money_in_by_files(folder: Path, orders: Iterable[Order]) -> int:
    """Minor units of all payments of the orders that are sent; a line that cannot be used counts as nothing."""
    wanted = {order.order_id for order in orders}
    seen: set[tuple[str, str]] = set()
    total = Decimal(0)
    for row in files.read_rows(folder, files.PAYMENTS):
        if not isinstance(row, files.Row) or row["order_id"] not in wanted:
            continue
        try:
            value = Decimal(row["payment_value"])
        except ArithmeticError:
            continue
        key = (row["order_id"], row["payment_sequential"])
        usable = value.is_finite() and value >= 0 and value == round(value, exponent(CURRENCY))
        if usable and row["payment_sequential"].isdigit() and key not in seen:
            seen.add(key)
            total += value
    return int(total.scaleb(exponent(CURRENCY)))
