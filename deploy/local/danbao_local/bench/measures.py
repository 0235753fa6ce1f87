"""What is measured, in which order, and next to what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from danbao_local.bench.bodies import payment_bytes
from danbao_local.bench.figures import Baseline

IN_FLIGHT = 64
BATCH = 256
ACCOUNTS = 4_000
_BATCHES_IN_FLIGHT = 4
_TRADES_A_BATCH = 128


class Way(StrEnum):
    """How a load reaches its service."""

    GATEWAY = "gateway"
    UNTRACED = "gateway, not sampled"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class Measure:
    """One load.

    `service` answers it; `wrote` is the service whose request records must equal the replies; with `credit_title` one
    also looks at how many events credit applies meanwhile.
    """

    key: str
    title: str
    load: str
    service: str
    way: Way = Way.GATEWAY
    unit: str = "calls/s"
    in_flight: int = IN_FLIGHT
    wrote: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    baselines: Sequence[Baseline] = ()
    credit_title: str = ""


_ECHO = {"bytes": payment_bytes()}
_SPREAD = {"accounts": ACCOUNTS}
_TO_ECHO = Baseline("echo_gateway")
_TO_PGBENCH = Baseline("pgbench_s100")
_TO_SCALE_1 = Baseline("pgbench_s1")


def measures() -> list[Measure]:
    """All of them; a subject stands right after its baseline."""
    return [
        Measure("echo_direct", "raw echo, direct", "echo", "testing", Way.DIRECT, parameters=_ECHO),
        Measure(
            "echo_gateway",
            "raw echo",
            "echo",
            "testing",
            parameters=_ECHO,
            baselines=[Baseline("echo_direct")],
        ),
        Measure(
            "create_payment",
            "CreatePayment",
            "payments",
            "payments",
            wrote="payments",
            parameters=_SPREAD,
            baselines=[
                _TO_ECHO,
                _TO_PGBENCH,
                Baseline("create_payment_untraced", "traces at 100 % to none"),
            ],
        ),
        Measure(
            "create_payment_untraced",
            "CreatePayment, not sampled",
            "payments",
            "payments",
            Way.UNTRACED,
            wrote="payments",
            parameters=_SPREAD,
            baselines=[_TO_ECHO],
        ),
        Measure(
            "create_payment_direct",
            "CreatePayment, direct",
            "payments",
            "payments",
            Way.DIRECT,
            wrote="payments",
            parameters=_SPREAD,
            baselines=[_TO_PGBENCH, Baseline("echo_direct")],
        ),
        Measure(
            "create_payment_alone",
            "CreatePayment, one at a time",
            "payments",
            "payments",
            in_flight=1,
            wrote="payments",
            parameters=_SPREAD,
        ),
        _batches("batch", f"payments BatchExecute of {BATCH}"),
        _batches("batch_hot_payee", "the same, all to one payee", hot="payee"),
        _batches("batch_hot_payer", "the same, all from one payer", hot="payer"),
        Measure(
            "evaluate",
            "Evaluate",
            "evaluations",
            "credit",
            parameters=_SPREAD,
            baselines=[_TO_ECHO],
        ),
        Measure(
            "trades",
            "trades: create, pay, ship, confirm",
            "trades",
            "escrow",
            unit="trades/s",
            wrote="escrow",
            parameters=_SPREAD,
            credit_title="whole trades",
        ),
        Measure(
            "trades_batch",
            f"trades, escrow BatchExecute of {_TRADES_A_BATCH}",
            "trade_batches",
            "escrow",
            unit="trades/s",
            in_flight=_BATCHES_IN_FLIGHT,
            wrote="escrow",
            parameters={**_SPREAD, "batch": _TRADES_A_BATCH},
            baselines=[Baseline("trades")],
            credit_title="whole trades in batches",
        ),
    ]


def _batches(key: str, title: str, *, hot: str = "") -> Measure:
    to_spread = (
        [Baseline("batch"), _TO_SCALE_1] if hot else [_TO_PGBENCH, _TO_SCALE_1, Baseline("create_payment_alone")]
    )
    return Measure(
        key,
        title,
        "payment_batches",
        "payments",
        unit="payments/s",
        in_flight=_BATCHES_IN_FLIGHT,
        wrote="payments",
        parameters={**_SPREAD, "batch": BATCH, "hot": hot},
        baselines=to_spread,
    )
