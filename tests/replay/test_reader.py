"""Reading the files: exactly or not at all, and whatever cannot be used is told with file, line and reason."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from danbao_local.olist import files
from danbao_local.olist.files import COLUMNS, CUSTOMERS, ITEMS, ORDERS, PAYMENTS, REVIEWS, SELLERS, FilesUnusable
from danbao_local.olist.reader import read
from danbao_local.olist.values import CellUnreadable, read_amount, read_time

_ORDER = (
    "o1,c1,delivered,2017-06-01 10:00:00,2017-06-01 11:00:00,2017-06-03 08:00:00,"
    "2017-06-09 09:30:00,2017-06-20 00:00:00"
)
_ROWS = {
    ORDERS: [_ORDER],
    ITEMS: ["o1,1,p1,s1,2017-06-05 00:00:00,99.90,27.65"],
    PAYMENTS: ["o1,1,credit_card,2,127.55"],
    CUSTOMERS: ["c1,person,20231,rio de janeiro,RJ"],
    REVIEWS: ["r1,o1,4,2017-06-10 00:00:00,2017-06-11 00:00:00"],
    SELLERS: ["s1,13844,mogi guacu,SP"],
}


def _folder(path: Path, *, packed: bool = False, **changes: list[str] | None) -> Path:
    """A folder of one order; `olist_orders=[…]` and the like replace the rows of a file, None leaves it out."""
    for name, columns in COLUMNS.items():
        rows = changes.get(name.removesuffix("_dataset"), _ROWS[name])
        if rows is None:
            continue
        text = "\n".join([",".join(columns), *rows]) + "\n"
        if packed:
            (path / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (path / f"{name}.csv").write_text(text)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_an_order_is_read_whole(tmp_path: Path, packed: bool) -> None:
    found = read(_folder(tmp_path, packed=packed))
    (order,) = found.orders
    assert found.odd_rows == ()
    assert (order.order_id, order.status, order.customer, order.customer_known) == ("o1", "delivered", "person", True)
    assert order.purchased == datetime(2017, 6, 1, 10, tzinfo=UTC)
    assert order.delivered == datetime(2017, 6, 9, 9, 30, tzinfo=UTC)
    (item,) = order.items
    assert (item.seller_id, item.price_minor, item.freight_minor) == ("s1", 9990, 2765)
    assert [row.amount_minor for row in order.payments] == [12755]
    assert [review.score for review in order.reviews] == [4]


def test_packed_or_not_the_fingerprint_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "packed").mkdir()
    (tmp_path / "other").mkdir()
    plain = files.fingerprint(_folder(tmp_path / "plain"))
    assert plain == files.fingerprint(_folder(tmp_path / "packed", packed=True))
    assert plain != files.fingerprint(_folder(tmp_path / "other", olist_order_items=[]))


@pytest.mark.parametrize(
    ("text", "minor"), [("0.00", 0), ("10", 1000), ("127.5", 12750), ("19.99", 1999), ("1e2", 10000), ("0.1", 10)]
)
def test_amounts_are_exact(text: str, minor: int) -> None:
    assert read_amount("price", text) == minor


@pytest.mark.parametrize("text", ["", "x", "1,50", "-0.01", "1.005", "NaN", "Infinity", "1e30"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(CellUnreadable, match="price is"):
        read_amount("price", text)


@pytest.mark.parametrize("text", ["", "yesterday", "2017-13-01 00:00:00", "2015-12-31 23:59:59", "0000-00-00 00:00:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(CellUnreadable, match="purchase is"):
        read_time("purchase", text)


@pytest.mark.parametrize(
    ("changes", "kind", "line", "reason"),
    [
        ({"olist_orders": [_ORDER, "o2,c1,x"]}, "ROW_UNREADABLE", 3, "3 cells where the header has 8"),
        ({"olist_orders": [_ORDER, _ORDER]}, "ROW_TWICE", 3, "stands in line 2 already"),
        ({"olist_orders": [_ORDER, "o2,c1,x,soon,,,,"]}, "ROW_UNREADABLE", 3, "order_purchase_timestamp is 'soon'"),
        ({"olist_orders": [_ORDER, "o/2,c1,x,2017-06-01,,,,"]}, "ROW_UNREADABLE", 3, "order_id is 'o/2'"),
        ({"olist_orders": [_ORDER.replace("11:00:00", "25:00:00")]}, "VALUE_UNREADABLE", 2, "taken as missing"),
        ({"olist_order_items": ["o1,1,p1,s1,2017-06-05,free,1"]}, "ROW_UNREADABLE", 2, "price is 'free'"),
        ({"olist_order_items": ["o1,1,p1,,2017-06-05,1,1"]}, "ROW_UNREADABLE", 2, "seller_id is empty"),
        ({"olist_order_items": ["o9,1,p1,s1,2017-06-05,1,1"]}, "ROW_WITHOUT_ORDER", 2, "no order o9"),
        ({"olist_order_payments": ["o1,1,card,1,-1"]}, "ROW_UNREADABLE", 2, "payment_value is '-1', below zero"),
        ({"olist_order_payments": ["o1,1,card,1,1", "o1,1,card,1,1"]}, "ROW_TWICE", 3, "payment 1 of order o1"),
        ({"olist_order_reviews": ["r1,o1,6,,"]}, "ROW_UNREADABLE", 2, "review_score is '6'"),
        ({"olist_customers": ["c1,,1,x,y"]}, "ROW_UNREADABLE", 2, "customer_unique_id is empty"),
    ],
)
def test_an_odd_line_is_told_and_the_rest_is_read(
    tmp_path: Path, changes: dict[str, list[str]], kind: str, line: int, reason: str
) -> None:
    found = read(_folder(tmp_path, **changes))
    (odd,) = found.odd_rows
    assert (odd.kind, odd.line) == (kind, line)
    assert reason in odd.reason
    assert odd.file.endswith("_dataset.csv")
    assert [order.order_id for order in found.orders] == ["o1"]


def test_lines_of_an_unreadable_order_are_told_apart(tmp_path: Path) -> None:
    found = read(_folder(tmp_path, olist_orders=[_ORDER.replace("2017-06-01 10:00:00", "")]))
    assert found.orders == ()
    reasons = [odd.reason for odd in found.odd_rows]
    assert sum("the row of order o1 is unreadable" in reason for reason in reasons) == 3


def test_the_limit_takes_the_first_orders_and_is_silent_about_the_others(tmp_path: Path) -> None:
    _folder(
        tmp_path,
        olist_orders=[_ORDER, _ORDER.replace("o1", "o2")],
        olist_order_items=["o2,1,p1,s1,2017-06-05,1,1", "o9,1,p1,s1,2017-06-05,1,1"],
    )
    found = read(tmp_path, limit=1)
    assert [order.order_id for order in found.orders] == ["o1"]
    assert [odd.reason for odd in found.odd_rows] == ["no order o9 in the file of orders"]


def test_customers_reviews_and_sellers_may_be_missing(tmp_path: Path) -> None:
    found = read(_folder(tmp_path, olist_customers=None, olist_order_reviews=None, olist_sellers=None))
    (order,) = found.orders
    assert (order.customer, order.customer_known, order.unknown_sellers) == ("c1", False, ())
    assert found.missing_files == (CUSTOMERS, REVIEWS, SELLERS)


@pytest.mark.parametrize("name", ["olist_orders", "olist_order_items", "olist_order_payments"])
def test_a_missing_file_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(FilesUnusable, match=f"has no {name}_dataset.csv"):
        read(_folder(tmp_path, **{name: None}))


def test_a_missing_column_is_one_sentence(tmp_path: Path) -> None:
    _folder(tmp_path)
    (tmp_path / f"{PAYMENTS}.csv").write_text("order_id,payment_type\no1,card\n")
    with pytest.raises(FilesUnusable, match="lacks the column payment_sequential"):
        read(tmp_path)


def test_a_broken_archive_is_one_sentence(tmp_path: Path) -> None:
    _folder(tmp_path, packed=True)
    path = tmp_path / f"{ITEMS}.csv.gz"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(FilesUnusable, match="cannot be read"):
        read(tmp_path)
