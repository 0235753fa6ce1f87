"""One run of the bench: a stack of its own, every measure beside its baselines, several rounds."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from danbao_kit.testing.certificates import DOMAIN, CertificateAuthority
from danbao_local.bench.credit_watch import CreditWatch, Lag
from danbao_local.bench.databases import Databases
from danbao_local.bench.figures import Figure, Observation, why_void
from danbao_local.bench.measures import ACCOUNTS, Measure, Way, measures
from danbao_local.bench.orders import Order, Target, Tls
from danbao_local.bench.pgbench import CLIENTS, Pgbench
from danbao_local.bench.processes import CpuMeter, EchoProcess, LoadClient, used_between
from danbao_local.errors import StackFailed
from danbao_local.layout import StateLayout
from danbao_local.stack import LocalStack
from danbao_local.tokens import HOLDERS

ECHO_METHOD = "danbao.testing.v1.EchoService/Echo"
ROLE = "partner"
TRACE_RATIO = 1.0
_TOP_UPS_A_CALL = 500
# As the gateway calls for a partner: what an operator's certificate does is also told in the log of privileged actions.
_PARTNER = (
    ("x-danbao-subject", HOLDERS[ROLE].subject),
    ("x-danbao-roles", ROLE),
    ("x-danbao-partner", HOLDERS[ROLE].partner or ""),
)
_UNSAMPLED = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and how often."""

    rounds: int
    seconds: float
    warm_up_seconds: float
    scales: tuple[int, ...]
    most_seconds_for_credit: float


QUICK = Pace(rounds=3, seconds=2.5, warm_up_seconds=0.5, scales=(100,), most_seconds_for_credit=3.0)
FULL = Pace(rounds=5, seconds=8.0, warm_up_seconds=2.0, scales=(100, 1), most_seconds_for_credit=60.0)


class NotFilled(StackFailed):
    """The accounts that payments are made from have no money."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The bench could not fill its accounts: {why}.")


def stack_with_echo(state_dir: Path, echo_port: int, say: Callable[[str], None]) -> LocalStack:
    """A stack whose gateway also knows the echo, guarded by token and role like everything else."""
    return LocalStack(
        state_dir,
        trace_ratio=TRACE_RATIO,
        gateway_settings={
            "allow_testing": True,
            "upstreams": {"testing": {"addresses": [f"127.0.0.1:{echo_port}"], "san": f"testing.{DOMAIN}"}},
            "roles": {ECHO_METHOD: [ROLE]},
        },
        say=say,
    )


def echo_process(state_dir: Path) -> EchoProcess:
    """The echo, with a certificate of the same authority as the services'."""
    layout = StateLayout.at(state_dir)
    layout.make()
    return EchoProcess(CertificateAuthority(layout.certificates).issue("testing"))


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Everything that was seen."""

    figures: dict[str, Figure]
    lags: list[Lag]
    postgres_version: str


async def run_bench(stack: LocalStack, echo: EchoProcess, pace: Pace, *, say: Callable[[str], None]) -> BenchResult:
    """All rounds of all measures on a running stack."""
    async with AsyncExitStack() as resources:
        client = await resources.enter_async_context(LoadClient())
        databases = await resources.enter_async_context(Databases(stack.card.databases))
        bench = _Bench(stack, echo, client, databases, pace, say)
        yardsticks = [await bench.fill_pgbench(resources, scale) for scale in pace.scales]
        await bench.fill_accounts()
        for number in range(pace.rounds):
            say(f"Round {number + 1} of {pace.rounds}")
            for yardstick in yardsticks:
                await bench.measure_pgbench(yardstick)
            for measure in measures():
                await bench.measure(measure)
        version = await databases.postgres_version()
        return BenchResult({**bench.figures, **bench.credit.figures}, bench.credit.lags, version)


@dataclass(frozen=True, slots=True)
class _Yardstick:
    figure: Figure
    pgbench: Pgbench
    lacks_space: str


class _Bench:
    """Measures, one load at a time."""

    def __init__(
        self,
        stack: LocalStack,
        echo: EchoProcess,
        client: LoadClient,
        databases: Databases,
        pace: Pace,
        say: Callable[[str], None],
    ) -> None:
        self._stack = stack
        self._echo = echo
        self._client = client
        self._databases = databases
        self._pace = pace
        self._say = say
        self._run_id = secrets.token_hex(5)
        self._orders = 0
        self._meter = CpuMeter(lambda: {**stack.card.pids, "client": client.pid, "echo": echo.pid})
        self.credit = CreditWatch(databases, pace.most_seconds_for_credit)
        self.figures: dict[str, Figure] = {}

    # --- before -------------------------------------------------------------------------------

    async def fill_pgbench(self, resources: AsyncExitStack, scale: int) -> _Yardstick:
        """A database of pgbench's own, dropped with the resources."""
        title = f"pgbench TPC-B, scale {scale}"
        figure = self.figures[f"pgbench_s{scale}"] = Figure(f"pgbench_s{scale}", title, "transactions/s", CLIENTS)
        pgbench = Pgbench(self._stack.postgres, scale)
        lacks = pgbench.lacks_space
        if not lacks:
            self._say(f"Filling pgbench at scale {scale}")
            await resources.enter_async_context(pgbench)
        return _Yardstick(figure, pgbench, lacks)

    async def fill_accounts(self) -> None:
        """Money for everybody who pays. Raises NotFilled."""
        self._say(f"Topping up {ACCOUNTS} accounts")
        order = Order(
            load="top_ups",
            target=self._target(Way.GATEWAY, "payments"),
            in_flight=1,
            seconds=120,
            warm_up_seconds=0,
            id_prefix=self._next_prefix(),
            parameters={"accounts": ACCOUNTS, "batch": _TOP_UPS_A_CALL},
            most_items=ACCOUNTS,
        )
        report = await self._client.run(order)
        why = why_void(report, await self._databases.written("payments", order.id_prefix))
        if why or report.replies.get("CreateTopUp", 0) < ACCOUNTS:
            raise NotFilled(why or f"{dict(report.replies)} in {report.seconds:.0f} s")
        await self._databases.until_read(self._pace.most_seconds_for_credit)

    # --- measuring ----------------------------------------------------------------------------

    async def measure_pgbench(self, yardstick: _Yardstick) -> None:
        """One round of TPC-B."""
        observations = yardstick.figure.observations
        if yardstick.lacks_space:
            observations.append(Observation(0.0, void=yardstick.lacks_space))
            return
        seconds = max(1, round(self._pace.seconds))
        before = self._meter.read()
        report = await yardstick.pgbench.measure(seconds)
        used = used_between(before, self._meter.read())
        void = f"{report.failed} transactions failed" if report.failed else ""
        observations.append(
            Observation(report.per_second, seconds, p50_ms=report.average_ms, cpu_seconds=used, void=void)
        )

    async def measure(self, measure: Measure) -> None:
        """One round of one load."""
        order = Order(
            load=measure.load,
            target=self._target(measure.way, measure.service),
            in_flight=measure.in_flight,
            seconds=self._pace.seconds,
            warm_up_seconds=self._pace.warm_up_seconds,
            id_prefix=self._next_prefix(),
            parameters=measure.parameters,
        )
        used: dict[str, dict[str, float]] = {}

        async def on_window(event: str) -> None:
            used[event] = self._meter.read()
            await self.credit.mark(event)

        report = await self._client.run(order, on_window)
        written = await self._databases.written(measure.wrote, order.id_prefix) if measure.wrote else None
        figure = self.figures.setdefault(
            measure.key, Figure(measure.key, measure.title, measure.unit, measure.in_flight, measure.baselines)
        )
        figure.observations.append(
            Observation(
                report.per_second,
                report.seconds,
                report.p50_ms,
                report.p99_ms,
                used_between(used["begins"], used["ends"]),
                report.remarks,
                why_void(report, written),
            )
        )
        if measure.credit_title:
            self.credit.during(measure.key, measure.credit_title, report)
        if measure.wrote:
            await self.credit.let_it_read(measure.key)

    # --- helpers ------------------------------------------------------------------------------

    def _target(self, way: Way, service: str) -> Target:
        card = self._stack.card
        if way is Way.DIRECT:
            address = f"127.0.0.1:{self._echo.port}" if service == "testing" else card.services[service]
            shown = {name: str(getattr(self._stack.gateway, name)) for name in ("ca", "cert", "key")}
            return Target(address, tls=Tls(server_name=f"{service}.{DOMAIN}", **shown), metadata=_PARTNER)
        metadata = [("authorization", f"Bearer {card.token[ROLE]}")]
        if way is Way.UNTRACED:
            metadata.append(_UNSAMPLED)
        return Target(card.gateway, metadata=tuple(metadata))

    def _next_prefix(self) -> str:
        """Request ids of one load: of this run, and of no other load."""
        self._orders += 1
        return f"b{self._run_id}-{self._orders:04d}-"
