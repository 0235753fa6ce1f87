"""What is written down of who has brought an owner: a row that never changes."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class Owner(NamedTuple):
    """An owner's row. `brought_by` is the caller of the request by which `partner` brought it."""

    owner: str
    partner: str
    create_time: datetime
    brought_by: str
