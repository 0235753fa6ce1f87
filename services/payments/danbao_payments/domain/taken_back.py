"""What is remembered of the money that a rail took back of a payment: who bore it, and in which words it was told."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple


class TakenBack(NamedTuple):
    """Minor units throughout."""

    # Which accounts bore what of the chargebacks and was not won back since: (owner, kind, minor units). Once there,
    # an account stays, with 0 if need be.
    borne: tuple[tuple[str, str, int], ...] = ()
    # What was told under references of its own: (result, reference, minor units).
    told: tuple[tuple[str, str, int], ...] = ()
    # Of `charged_back_minor`: what was taken from the payer, to whom it had been refunded outside the rail.
    payer_minor: int = 0
    # When the rail said that it had taken back all of it: what a refund of before then gives back goes to the rail.
    returned_at: datetime | None = None
    # Whether it came and went in the same report, and nobody here ever had it.
    at_once: bool = False

    def bears(self, owner: str, kind: str, minor: int) -> TakenBack:
        """After an account has given so much."""
        borne = {(who, what): so_far for who, what, so_far in self.borne}
        borne[owner, kind] = borne.get((owner, kind), 0) + minor
        return self._replace(borne=tuple((who, what, total) for (who, what), total in borne.items()))

    def relieved(self, minor: int, keys: Iterable[tuple[str, str]]) -> TakenBack:
        """After so much was won back: of these accounts first, in their order, then of whichever bore the last."""
        borne = {(who, what): so_far for who, what, so_far in self.borne}
        for key in (*keys, *reversed(borne)):
            given = min(minor, borne.get(key, 0))
            if given:
                borne[key] -= given
                minor -= given
        return self._replace(borne=tuple((who, what, total) for (who, what), total in borne.items()))

    def told_before(self, result: str, reference: str) -> int | None:
        """How much was booked when the same was told under the same reference; None: it was not."""
        for before, under, minor in self.told:
            if reference and (before, under) == (result, reference):
                return minor
        return None

    def reference_of(self, result: str) -> str:
        """The last reference under which it was told; empty: none."""
        return next((under for before, under, _ in reversed(self.told) if before == result), "")

    def remembers(self, result: str, reference: str, minor: int) -> TakenBack:
        """After it was told under this reference, if it was."""
        return self._replace(told=(*self.told, (result, reference, minor))) if reference else self


NOTHING_TAKEN = TakenBack()
