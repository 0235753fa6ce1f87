"""What the files of the Olist format are called, and which columns they have."""

import csv
import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

from danbao_local.errors import StackFailed

ORDERS = "olist_orders_dataset"
ITEMS = "olist_order_items_dataset"
PAYMENTS = "olist_order_payments_dataset"
CUSTOMERS = "olist_customers_dataset"
REVIEWS = "olist_order_reviews_dataset"
SELLERS = "olist_sellers_dataset"

COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        ORDERS: (
            "order_id",
            "customer_id",
            "order_status",
            "order_purchase_timestamp",
            "order_approved_at",
            "order_delivered_carrier_date",
            "order_delivered_customer_date",
            "order_estimated_delivery_date",
        ),
        ITEMS: (
            "order_id",
            "order_item_id",
            "product_id",
            "seller_id",
            "shipping_limit_date",
            "price",
            "freight_value",
        ),
        PAYMENTS: ("order_id", "payment_sequential", "payment_type", "payment_installments", "payment_value"),
        CUSTOMERS: (
            "customer_id",
            "customer_unique_id",
            "customer_zip_code_prefix",
            "customer_city",
            "customer_state",
        ),
        REVIEWS: ("review_id", "order_id", "review_score", "review_creation_date", "review_answer_timestamp"),
        SELLERS: ("seller_id", "seller_zip_code_prefix", "seller_city", "seller_state"),
    }
)

OPTIONAL_FILES = frozenset({CUSTOMERS, REVIEWS, SELLERS})
"""Without them orders can still be replayed; what they would have told is missing then."""
_UNUSED_COLUMNS = frozenset(
    {
        "product_id",
        "payment_installments",
        "review_id",
        "review_answer_timestamp",
        "customer_zip_code_prefix",
        "customer_city",
        "customer_state",
        "seller_zip_code_prefix",
        "seller_city",
        "seller_state",
    }
)


class FilesUnusable(StackFailed):
    """The folder does not hold what it should; the message says which file and why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a file, by column; surrounding blanks are gone."""

    file: str
    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")


def find(folder: Path, name: str) -> Path | None:
    """The file, plain or compressed; None when neither is there."""
    for ending in (".csv", ".csv.gz"):
        path = folder / f"{name}{ending}"
        if path.is_file():
            return path
    return None


def fingerprint(folder: Path) -> str:
    """A hash of every file's content: the same orders give the same one, compressed or not."""
    digest = hashlib.sha256()
    for name in COLUMNS:
        path = find(folder, name)
        digest.update(f"{name}\n".encode())
        if path is None:
            continue
        try:
            digest.update(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
        except (OSError, EOFError) as failure:
            raise _unreadable(path, failure) from failure
    return digest.hexdigest()


def read_rows(folder: Path, name: str) -> Iterator[Row | tuple[int, str]]:
    """Each data line as a Row, or as (line, reason) when it has the wrong number of cells. Raises FilesUnusable."""
    path = find(folder, name)
    if path is None:
        if name in OPTIONAL_FILES:
            return
        raise FilesUnusable(f"{folder} has no {name}.csv or {name}.csv.gz: DATA must name a folder of Olist's files.")
    try:
        with _open_text(path) as file:
            reader = csv.reader(file)
            header = [cell.strip() for cell in next(reader, [])]
            missing = [column for column in COLUMNS[name] if column not in header and column not in _UNUSED_COLUMNS]
            if missing:
                raise FilesUnusable(f"{path.name} lacks the column {missing[0]}.")
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    yield reader.line_num, f"{len(cells)} cells where the header has {len(header)}"
                    continue
                stripped = [cell.strip() for cell in cells]
                yield Row(file=path.name, line=reader.line_num, cells=dict(zip(header, stripped, strict=True)))
    except (OSError, EOFError, csv.Error) as failure:
        raise _unreadable(path, failure) from failure


def _open_text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
    return path.open(encoding="utf-8-sig", errors="replace", newline="")


def _unreadable(path: Path, failure: Exception) -> FilesUnusable:
    return FilesUnusable(f"{path.name} cannot be read: {failure}.")
