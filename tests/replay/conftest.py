"""The rule of complaints once more, from the rows alone, apart from everything that the replay is made of."""

import csv
import gzip
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

DAY = timedelta(days=1)


@pytest.fixture(scope="session")
def complaints_by_files() -> Callable[[Path], Counter[str]]:
    """Counts, in a folder of files, how many trades take which course."""
    return _count


def _count(folder: Path) -> Counter[str]:
    """How many trades take which course, from the rows alone."""
    reviews: dict[str, tuple[int, datetime | None]] = {}
    for row in _rows(folder, "order_reviews"):
        if row["review_score"] in set("12345"):
            mine = (int(row["review_score"]), _time(row["review_creation_date"]))
            kept = reviews.get(row["order_id"])
            reviews[row["order_id"]] = mine if kept is None or mine[0] < kept[0] else kept
    items: dict[str, dict[str, dict[str, str]]] = {}
    for row in _rows(folder, "order_items"):
        if row["price"].replace(".", "").isdigit():
            items.setdefault(row["order_id"], {}).setdefault(row["order_item_id"], row)
    counts: Counter[str] = Counter()
    seen: set[str] = set()
    for order in _rows(folder, "orders"):
        if order["order_id"] in seen or _time(order["order_purchase_timestamp"]) is None:
            continue
        seen.add(order["order_id"])
        by_seller: dict[str, list[dict[str, str]]] = {}
        for item in items.get(order["order_id"], {}).values():
            by_seller.setdefault(item["seller_id"], []).append(item)
        sellers = {seller: mine for seller, mine in by_seller.items() if any(float(item["price"]) > 0 for item in mine)}
        limits = {seller: max(_sure(item["shipping_limit_date"]) for item in mine) for seller, mine in sellers.items()}
        for seller, mine in sellers.items():
            sold = sum(float(item["price"]) > 0 for item in mine)
            course = _by_files(order, reviews.get(order["order_id"]), sold, limits[seller], max(limits.values()))
            if course:
                counts[course] += 1
    return counts


def _by_files(
    order: dict[str, str],
    review: tuple[int, datetime | None] | None,
    items: int,
    limit: datetime,
    last_limit: datetime,
) -> str | None:
    status, purchased = order["order_status"], _sure(order["order_purchase_timestamp"])
    approved, handed, delivered, estimated = (
        _time(order[f"order_{name}"])
        for name in ("approved_at", "delivered_carrier_date", "delivered_customer_date", "estimated_delivery_date")
    )
    if status == "unavailable":
        return None
    if approved is None:
        sent = [time for time in (handed, delivered) if time]
        if not sent or status == "canceled":
            return None
        approved = min(sent)
    paid = max(approved, purchased)
    if paid >= purchased + 15 * DAY:
        return None
    system_cancels = limit + 7 * DAY
    if status == "canceled" and handed is None:
        return "CANCELED_UNSHIPPED" if max(paid, limit) < system_cancels else None
    sent_by_status = max(paid, last_limit) if status in ("shipped", "delivered") else None
    shipped = max(handed or delivered, paid) if handed or delivered else sent_by_status
    if shipped and shipped >= system_cancels:
        return None
    arrived = max(delivered, shipped) if delivered and shipped else None
    if arrived and shipped and arrived >= shipped + 60 * DAY:
        arrived = None
    score, written = review or (5, None)
    if status == "canceled":
        if arrived:
            return "CANCELED_KEPT"
        return "CANCELED_RETURN_UNANSWERED" if score < 3 else "CANCELED_RETURNED"
    if score > 2 or written is None:
        return None
    if shipped is None:
        return "UNSHIPPED_UNANSWERED" if max(written, paid) < system_cancels else None
    if arrived is None:
        in_time = status != "delivered" and written < shipped + 60 * DAY
        return ("LOST_UNANSWERED" if score == 1 else "LOST_ACCEPTED") if in_time else None
    if written > arrived + DAY:
        return None
    assert delivered
    late = delivered - estimated if estimated and delivered > estimated else None
    if late is not None and score == 1:
        return "LATE_AGREED" if late < 4 * DAY else "LATE_DECIDED" if late < 14 * DAY else "LATE_APPEALED"
    if late is not None:
        return "LATE_HALF"
    if score == 2:
        return "POOR_WITHDRAWN"
    return "POOR_RETURNED" if items > 1 else "POOR_REJECTED"


def _rows(folder: Path, name: str) -> list[dict[str, str]]:
    (path,) = folder.glob(f"olist_{name}_dataset.csv*")
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return list(csv.DictReader(file))


def _time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _sure(text: str) -> datetime:
    time = _time(text)
    assert time, text
    return time
