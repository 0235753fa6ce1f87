"""Makes up orders in the Olist format from a seed, with every oddity that the replay reports among them.

The same seed gives the same orders. All of it is invented: nothing stems from real orders.
"""

import csv
import gzip
import io
import random
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from danbao_local.olist.draft import FIRST_PURCHASE, Draft
from danbao_local.olist.files import COLUMNS, CUSTOMERS, ITEMS, ORDERS, PAYMENTS, REVIEWS, SELLERS
from danbao_local.olist.oddities import BROKEN_ROWS, ODDITIES

Tables = Mapping[str, list[dict[str, str]]]

_ORDINARY: tuple[tuple[int, str], ...] = (
    (78, "delivered"),
    (8, "shipped"),
    (5, "processing"),
    (4, "invoiced"),
    (3, "canceled"),
    (2, "approved"),
)
"""Weights of the statuses of orders that are not made to be odd."""


def generate(orders: int, seed: int, *, days: int = 60, broken_rows: bool = True) -> Tables:
    """Rows by file. The first orders made are one of each oddity; then ordinary ones, until there are `orders`.

    `days` is how long the purchases spread. With `broken_rows` some lines cannot be used at all.
    """
    chance = random.Random(f"danbao {seed}")
    sellers = [new_id(chance) for _ in range(max(4, orders // 8))]
    customers = [new_id(chance) for _ in range(max(4, orders * 9 // 10))]
    drafts: list[Draft] = []
    for number in range(orders):
        purchased = FIRST_PURCHASE + timedelta(seconds=chance.randrange(days * 86_400))
        draft = Draft.of_chance(chance, new_id(chance), chance.choice(customers), sellers, purchased)
        make: Callable[[Draft, random.Random], None] = (
            ODDITIES[number].make if number < len(ODDITIES) else _make_ordinary
        )
        make(draft, chance)
        drafts.append(draft)
    drafts.sort(key=lambda draft: (draft.purchased, draft.order_id))
    tables = tables_of(drafts, sellers, chance)
    if broken_rows:
        for break_rows in BROKEN_ROWS:
            break_rows(tables, chance)
    return tables


def write(tables: Tables, folder: Path, *, compressed: frozenset[str] | None = None) -> None:
    """One file each; those named in `compressed` end in .csv.gz (unset: every second one)."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = frozenset(list(COLUMNS)[::2]) if compressed is None else compressed
    for name, columns in COLUMNS.items():
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(tables[name])
        content = text.getvalue().encode()
        if name in chosen:
            (folder / f"{name}.csv").unlink(missing_ok=True)
            (folder / f"{name}.csv.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (folder / f"{name}.csv.gz").unlink(missing_ok=True)
            (folder / f"{name}.csv").write_bytes(content)


def _make_ordinary(draft: Draft, chance: random.Random) -> None:
    statuses = [status for weight, status in _ORDINARY for _ in range(weight)]
    draft.status = chance.choice(statuses)
    if draft.status not in ("delivered", "shipped"):
        draft.handed = draft.delivered = None
    elif draft.status == "shipped":
        draft.delivered = None


def tables_of(drafts: list[Draft], sellers: list[str], chance: random.Random) -> dict[str, list[dict[str, str]]]:
    """The rows by file of these orders."""
    tables: dict[str, list[dict[str, str]]] = {name: [] for name in COLUMNS}
    for draft in drafts:
        customer_id = new_id(chance)
        tables[ORDERS].append(
            {
                "order_id": draft.order_id,
                "customer_id": customer_id,
                "order_status": draft.status,
                "order_purchase_timestamp": _time(draft.purchased),
                "order_approved_at": _time(draft.approved),
                "order_delivered_carrier_date": _time(draft.handed),
                "order_delivered_customer_date": _time(draft.delivered),
                "order_estimated_delivery_date": _time(draft.estimated),
            }
        )
        if draft.customer is not None:
            tables[CUSTOMERS].append({"customer_id": customer_id, "customer_unique_id": draft.customer})
        tables[ITEMS] += [
            {
                "order_id": draft.order_id,
                "order_item_id": str(number),
                "product_id": new_id(chance),
                "seller_id": item.seller_id,
                "shipping_limit_date": _time(item.shipping_limit),
                "price": _amount(item.price_minor),
                "freight_value": _amount(item.freight_minor),
            }
            for number, item in enumerate(draft.items, start=1)
        ]
        tables[PAYMENTS] += [
            {
                "order_id": draft.order_id,
                "payment_sequential": str(number),
                "payment_type": payment_type,
                "payment_installments": "1",
                "payment_value": _amount(amount_minor),
            }
            for number, (payment_type, amount_minor) in enumerate(draft.payments, start=1)
        ]
        tables[REVIEWS] += [
            {
                "review_id": new_id(chance),
                "order_id": draft.order_id,
                "review_score": str(score),
                "review_creation_date": _time((draft.delivered or draft.purchased) + timedelta(days=1)),
                "review_answer_timestamp": _time((draft.delivered or draft.purchased) + timedelta(days=2)),
            }
            for score in draft.scores
        ]
    tables[SELLERS] = [{"seller_id": seller} for seller in sellers]
    return tables


def new_id(chance: random.Random) -> str:
    """Like those of the files."""
    return f"{chance.getrandbits(128):032x}"


def _time(time: datetime | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S") if time else ""


def _amount(minor: int) -> str:
    return f"{minor // 100}.{minor % 100:02d}"
