"""What is counted of a subject, without a judgement."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from danbao_credit.application.apply_events import microseconds
from danbao_credit.application.as_of import AsOf, check_kept, from_microseconds, replay_in_parts
from danbao_credit.application.evaluate import seconds
from danbao_credit.application.ports import CreditReader, SeenHistory
from danbao_credit.domain.catalogue import Catalogue, Slot
from danbao_credit.domain.profile import Kind, Profile
from danbao_credit.domain.windows import WINDOWS
from danbao_kit.clock import Clock

_SUM = "sum"
_MARKS = {"first": Kind.FIRST, "last": Kind.LAST}


@dataclass(frozen=True, slots=True)
class CountedSlot:
    """What one slot holds: totals by window that are not 0, or a time in seconds since the epoch."""

    slot: Slot
    totals: dict[str, int]
    mark_s: int | None


@dataclass(frozen=True, slots=True)
class CountedProfile:
    """A profile with its slots by id, and what is kept of the subject besides."""

    subject: str
    moment: datetime
    slots: tuple[CountedSlot, ...]
    profile: Profile
    checkpoint: datetime | None
    kept_events: int


async def get_profile(
    subject: str, as_of: AsOf, *, catalogue: Catalogue, reader: CreditReader, clock: Clock
) -> CountedProfile:
    """The profile now or at an earlier moment. Raises FieldInvalid, AsOfNotAllowed, AsOfTooOld."""
    now = clock.now()
    as_of.check(now)
    moment = as_of.moment or now
    seen = await reader.history(subject, None if as_of.moment is None else microseconds(moment))
    profile = await _profile(seen, as_of, catalogue)
    checkpoint = seen.history.checkpoint
    return CountedProfile(
        subject=subject,
        moment=moment,
        slots=tuple(counted(profile, catalogue, as_of_s=seconds(moment))),
        profile=profile,
        checkpoint=None if checkpoint is None else from_microseconds(checkpoint.through_us),
        kept_events=len(seen.history.rows),
    )


def counted(profile: Profile, catalogue: Catalogue, *, as_of_s: int) -> list[CountedSlot]:
    """Slots of which anything is known. Peers are told by the indicators that count them."""
    totals = {
        name: profile.totals(hop_s=window.hop_s, tiles=window.tiles, as_of_s=as_of_s, slots=catalogue.slot_ids)
        for name, window in WINDOWS.items()
    }
    found = []
    for slot in sorted(catalogue.slots, key=lambda slot: slot.id):
        sums = {name: of[slot.id] for name, of in totals.items() if of[slot.id]} if slot.keep == _SUM else {}
        kind = _MARKS.get(slot.keep)
        mark_s = None if kind is None else profile.mark(kind, slot.id)
        if sums or mark_s is not None:
            found.append(CountedSlot(slot, sums, mark_s))
    return found


async def _profile(seen: SeenHistory, as_of: AsOf, catalogue: Catalogue) -> Profile:
    if as_of.moment is None:
        return seen.profile
    check_kept(seen.history, microseconds(as_of.moment))
    return await replay_in_parts(seen.history, catalogue)
