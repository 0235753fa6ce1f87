"""A rail that moves no money: for development, tests and replays. How it answers stands in the instrument."""

from __future__ import annotations

import asyncio

from danbao_kit.money import Money
from danbao_payments.application.ports import ChargeAnswer

NAME = "rails/simulated"
_SLOW_S = 2.0
_MOST_MINOR = 10**13


class SimulatedRail:
    """`decline` is refused, `slow` takes two seconds, everything else succeeds at once, up to 10^13 minor units.

    It remembers nothing and needs not to: its answer depends on what it is asked alone.
    """

    async def charge(self, *, reference: str, instrument: str, amount: Money) -> ChargeAnswer:
        await _take_its_time(instrument)
        if instrument == "decline":
            return ChargeAnswer(accepted=False, failure="declined by the simulated rail")
        if amount.minor > _MOST_MINOR:
            return ChargeAnswer(accepted=False, failure="above the rail's limit")
        return ChargeAnswer(accepted=True, rail_reference=f"sim-{reference}")

    async def pay_back(self, *, reference: str, charge: str, instrument: str, amount: Money) -> str:
        await _take_its_time(instrument)
        return f"sim-{reference}"


async def _take_its_time(instrument: str) -> None:
    if instrument == "slow":
        await asyncio.sleep(_SLOW_S)
