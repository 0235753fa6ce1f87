"""Where new ids come from."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID


class Ids(Protocol):
    """Makes ids."""

    def new(self) -> UUID:
        """An id nobody has."""
        ...
