"""What is remembered of a report: enough to know it again, and to take it back."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from danbao_credit.domain.log import decoded
from danbao_credit.domain.telling import Telling


@dataclass(frozen=True, slots=True)
class ReportRecord:
    """One report that was applied. `subject` is empty when it was erased since; `peer` when it was told of no peer.

    `measures` are what the log has of it. `reversed_by` is the number of the report that took it back.
    """

    fingerprint: bytes
    number: int
    subject: str
    peer: str
    kind: str
    at_us: int
    currency: str
    about: str
    measures: str
    reversed_by: int | None = None
    # The number of the report that this one took back.
    reverses: int | None = None
    # The partner that told it, as the caller of its request; empty: an officer of the platform.
    teller: str = ""

    @property
    def telling(self) -> Telling:
        """What it told."""
        roles = (("subject", self.subject), ("peer", self.peer))
        return Telling(
            self.about, self.currency, tuple((role, who) for role, who in roles if who), decoded(self.measures)
        )


def report_key(caller: str, event_id: str) -> bytes:
    """16 bytes that stand for whose event it is."""
    return blake2b(f"{caller}\x00{event_id}".encode(), digest_size=16, person=b"danbao-report").digest()
