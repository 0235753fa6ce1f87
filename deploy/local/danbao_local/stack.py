"""The whole local stack as one object: what is started, with which settings, and in which order.

    with LocalStack(Path(".danbao/replay"), clock="test") as stack:
        call(stack.card.gateway, token=stack.card.token["partner"])

State lies in the state directory: a second start resumes the first one's data.
"""

import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from danbao_gateway.envoy import command as envoy_command
from danbao_gateway.rates import MethodClass
from danbao_gateway.rendering import render_files
from danbao_gateway.rendering import write as write_rendering
from danbao_gateway.settings import GatewaySettings
from danbao_kit.testing.certificates import DOMAIN, LOCAL_HOSTS, CertificateAuthority, CertificateFiles
from danbao_kit.testing.embedded_postgres import EmbeddedPostgres, PostgresPortTaken, ServiceDatabase
from danbao_kit.testing.postgres_binaries import SHARED_ROOT
from danbao_kit.testing.postgres_home import PostgresFailed
from danbao_local import leftovers, ports
from danbao_local.card import Card
from danbao_local.children import PostgresChild, ProcessChild
from danbao_local.errors import ChildFailed, DiskFull, PortTaken, is_disk_full
from danbao_local.health import envoy_is_ready, is_serving, takes_connections
from danbao_local.layout import NEEDED_MIB, StateLayout, check_space
from danbao_local.local_terms import write_local_terms
from danbao_local.migration_marks import MigrationMark
from danbao_local.supervisor import Supervisor
from danbao_local.tokens import AUDIENCE, DEMO_SELLER, ISSUER, TokenIssuer

SERVICES = ("payments", "escrow", "credit")
OPERATOR = "operator"
GATEWAY = "gateway"
RECEIVER = "otlp"
STOP_ORDER = ((GATEWAY,), ("escrow", "credit"), ("payments",), (RECEIVER,), ("postgres",))
"""The door first; then callers before the called; the books' store last."""

Clock = Literal["real", "test"]


# Of whom fraud may be found without blocking the seller of everything else.
DEMO_CHEAT = "demo-cheat"
# So that claims can be tried out without a deposit.
_OWN_SETTINGS = {"credit": {"DANBAO_MEMBERS": f"subjects/{DEMO_SELLER},subjects/{DEMO_CHEAT}"}}
# Counted as anywhere, and out of reach: on a laptop one token stands for a whole marketplace, and is measured.
_LAPTOP_RATE = {"per_second": 1_000_000}


class LocalStack:
    """PostgreSQL, payments, escrow, credit, Envoy and the span receiver on 127.0.0.1.

    `service_commands` replaces the program of a service (which gets `serve` or `migrate` as its last
    argument), `service_environment` adds variables to one service's environment (`{"credit":
    {"DANBAO_TERMS_FILE": …}}`), `gateway_settings` replaces parts of the gateway's settings
    and adds upstreams to its own.
    `say` gets one line for a person at every step.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        clock: Clock = "real",
        wanted_ports: Mapping[str, int] | None = None,
        trace_ratio: float = 1.0,
        gateway_tls: bool = False,
        service_environment: Mapping[str, Mapping[str, str]] | None = None,
        gateway_settings: Mapping[str, Any] | None = None,
        postgres_settings: Mapping[str, str] | None = None,
        service_commands: Mapping[str, Sequence[str]] | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.layout = StateLayout.at(state_dir)
        self.databases: dict[str, ServiceDatabase] = {}
        self._clock: Clock = clock
        self._wanted_ports = dict(wanted_ports or {})
        self._trace_ratio = trace_ratio
        self._gateway_tls = gateway_tls
        self._service_environment = service_environment or {}
        self._service_commands = service_commands or {}
        self._gateway_settings = gateway_settings or {}
        self._postgres_settings = {"max_connections": "200", **(postgres_settings or {})}
        self._say = say
        self._supervisor = Supervisor(say=say, on_change=self._processes_changed)
        self._changing = threading.RLock()
        self._tasks: list[ProcessChild] = []
        self._ports: dict[str, int] = {}
        self._certificates: dict[str, CertificateFiles] = {}
        self._card: Card | None = None
        self._published = False
        self._server: EmbeddedPostgres | None = None

    # --- life ---------------------------------------------------------------------------------

    def start(self, *, publish: bool = True) -> None:
        """Start everything and return when calls are answered; leftovers of an earlier start are ended.

        With `publish` the card is written at once, else by publish(). Raises StackFailed.
        """
        try:
            self._start()
            if publish:
                self.publish()
        except BaseException as failure:
            self.stop()
            if isinstance(failure, (OSError, PostgresFailed, ChildFailed)) and is_disk_full(failure):
                raise DiskFull(place=self.layout.root, free_mib=0, needed_mib=NEEDED_MIB) from failure
            raise

    def publish(self, calls: list[dict[str, Any]] | None = None) -> None:
        """Write the card, with the calls if there are any; from now on it follows every change."""
        with self._changing:
            if calls is not None:
                self.card.calls = calls
            self._published = True
            self.card.write(self.layout.card)

    def stop(self) -> None:
        """Stop everything in order; no process stays behind. Harmless when nothing runs."""
        with self._changing:
            self._published = False
            self.layout.card.unlink(missing_ok=True)
        for task in self._tasks:
            task.stop()
        self._supervisor.stop(STOP_ORDER)
        if self._server is not None:
            self._server.stop()
        if self._ports:
            self.layout.processes.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- what it is ---------------------------------------------------------------------------

    @property
    def card(self) -> Card:
        """How to call it; only while it runs."""
        assert self._card is not None, "not started"
        return self._card

    @property
    def postgres(self) -> EmbeddedPostgres:
        """The database server, for audits and baselines."""
        assert self._server is not None, "not started"
        return self._server

    @property
    def operator(self) -> CertificateFiles:
        """The command line's own certificate."""
        return self._certificates[OPERATOR]

    @property
    def gateway(self) -> CertificateFiles:
        """What the gateway shows to the services."""
        return self._certificates[GATEWAY]

    def address(self, name: str) -> str:
        """host:port of a process, by a name of ports.VARIABLES."""
        return f"127.0.0.1:{self._ports[name]}"

    # --- starting -----------------------------------------------------------------------------

    def _start(self) -> None:
        self.layout.make()
        if os.geteuid() == 0:
            check_space(SHARED_ROOT)  # where PostgreSQL's data lies then
        self.layout.card.unlink(missing_ok=True)
        ended = leftovers.end(self.layout.processes)
        if ended:
            self._say(f"Ended what an earlier start left behind: {', '.join(ended)}")
        server = EmbeddedPostgres(
            self.layout.postgres,
            port=self._wanted_ports.get("postgres"),
            settings=self._postgres_settings,
            log_path=self.layout.log("postgres"),
        )
        server.stop()
        self._ports = ports.choose(wanted=self._wanted_ports, remembered_in=self.layout.ports)
        self._processes_changed()
        self._issue_certificates()
        issuer = TokenIssuer(self.layout.tokens)
        with ThreadPoolExecutor(max_workers=4) as pool:
            try:
                receiver = pool.submit(self._start_receiver)
                self._start_postgres(server)
                rendered = pool.submit(self._render_gateway, issuer)
                started = [pool.submit(self._start_service, name) for name in SERVICES]
                receiver.result()
                for waiting in started:
                    waiting.result()
                self._start_gateway(rendered.result())
            except BaseException:
                self._stop_children()
                raise
        self._card = self._make_card(issuer)

    def _issue_certificates(self) -> None:
        authority = CertificateAuthority(self.layout.certificates)
        for name in (*SERVICES, GATEWAY, OPERATOR):
            self._certificates[name] = authority.issue(name)
        self._certificates["listener"] = authority.issue(GATEWAY, file_name="listener", extra_hosts=LOCAL_HOSTS)

    def _start_receiver(self) -> None:
        address = self.address(RECEIVER)
        arguments = ["--port", str(self._ports[RECEIVER]), "--directory", str(self.layout.traces)]
        self._supervisor.start(
            ProcessChild(
                name=RECEIVER,
                command=[sys.executable, "-P", "-m", "danbao_local.otlp_receiver", *arguments],
                log_path=self.layout.log(RECEIVER),
                is_ready=lambda: takes_connections(address),
            )
        )

    def _start_postgres(self, server: EmbeddedPostgres) -> None:
        self._server = server
        try:
            self._supervisor.start(PostgresChild(server))
        except PostgresPortTaken as taken:
            raise PortTaken(port=taken.port, variable=ports.VARIABLES["postgres"]) from taken
        self._say(f"PostgreSQL runs, its data is in {server.data_location}")

    def _start_service(self, name: str) -> None:
        """Database, migrations, then the service itself."""
        database = self.postgres.create_service_database(name)
        self.databases[name] = database
        self._migrate(name, database)
        address = self.address(name)
        self._supervisor.start(
            ProcessChild(
                name=name,
                command=[*self._command_of(name), "serve"],
                log_path=self.layout.log(name),
                environment=self._environment_of(name, database),
                is_ready=lambda: is_serving(address, service=name, operator=self.operator),
                stop_seconds=15.0,
            )
        )
        self._say(f"{name} serves on {address}")

    def _migrate(self, name: str, database: ServiceDatabase) -> None:
        mark = MigrationMark(
            self.layout.root / f"{name}.migrated", service=name, server=self.postgres, database=database.name
        )
        if mark.is_current():
            return
        task = ProcessChild(
            name=f"{name} migrate",
            command=[*self._command_of(name), "migrate"],
            log_path=self.layout.log(name),
            environment={"DANBAO_MIGRATION_DSN": database.owner_dsn, "DANBAO_DATABASE_ROLE": database.role},
        )
        self._tasks.append(task)
        task.run_to_end()
        mark.set()

    def _command_of(self, name: str) -> Sequence[str]:
        return self._service_commands.get(name) or (sys.executable, "-P", "-m", f"danbao_{name}")

    def _environment_of(self, name: str, database: ServiceDatabase) -> dict[str, str]:
        files = self._certificates[name]
        peers = {f"DANBAO_{peer.upper()}_ADDRESS": self.address(peer) for peer in SERVICES if peer != name}
        return {
            "DANBAO_LISTEN": self.address(name),
            "DANBAO_DATABASE_DSN": database.dsn,
            "DANBAO_TLS_CERT": str(files.cert),
            "DANBAO_TLS_KEY": str(files.key),
            "DANBAO_TLS_CA": str(files.ca),
            "DANBAO_OTLP_ENDPOINT": self.address(RECEIVER),
            "DANBAO_TRACE_RATIO": str(self._trace_ratio),
            "DANBAO_CLOCK": self._clock,
            "DANBAO_REFLECTION": "true",
            "DANBAO_DRAIN_SECONDS": "5",
            **peers,
            **_OWN_SETTINGS.get(name, {}),
            **({"DANBAO_TERMS_FILE": str(write_local_terms(self.layout.root))} if name == "credit" else {}),
            **self._service_environment.get(name, {}),
        }

    def _render_gateway(self, issuer: TokenIssuer) -> Path:
        """Envoy's configuration, from the gateway's own typed settings."""
        own, listener = self._certificates[GATEWAY], self._certificates["listener"]
        tls = {"certificate": str(listener.cert), "key": str(listener.key)} if self._gateway_tls else None
        upstreams = {name: {"addresses": [self.address(name)], "san": f"{name}.{DOMAIN}"} for name in SERVICES}
        given = dict(self._gateway_settings)
        content: dict[str, Any] = {
            "listener": {"port": self._ports["gateway"], "tls": tls},
            "admin": {"port": self._ports["gateway_admin"]},
            "upstreams": upstreams | given.pop("upstreams", {}),
            "upstream_tls": {"certificate": str(own.cert), "key": str(own.key), "ca": str(own.ca)},
            "issuers": [{"issuer": ISSUER, "audiences": [AUDIENCE], "jwks_file": str(issuer.jwks_path)}],
            "telemetry": {"otlp_endpoint": self.address(RECEIVER), "sampling_ratio": self._trace_ratio},
            "access_log": str(self.layout.log("gateway-access")),
            "rate_limits": {"classes": {name.value: _LAPTOP_RATE for name in MethodClass}},
            "api_page": True,
            **given,
        }
        settings = GatewaySettings.model_validate(content)
        (self.layout.gateway / "settings.yaml").write_text(settings.to_yaml())
        return write_rendering(render_files(settings, str(self.layout.gateway)), self.layout.gateway)

    def _start_gateway(self, configuration: Path) -> None:
        admin = self.address("gateway_admin")
        self._supervisor.start(
            ProcessChild(
                name=GATEWAY,
                command=envoy_command(configuration),
                log_path=self.layout.log(GATEWAY),
                is_ready=lambda: envoy_is_ready(admin),
            )
        )
        self._say(f"The gateway listens on {self.address(GATEWAY)}")

    def _stop_children(self) -> None:
        """So that threads which wait for a child see it end."""
        for task in self._tasks:
            task.stop()
        self._supervisor.stop(STOP_ORDER)

    def _make_card(self, issuer: TokenIssuer) -> Card:
        gateway = self.address(GATEWAY)
        return Card(
            gateway=gateway,
            json=f"{'https' if self._gateway_tls else 'http'}://{gateway}",
            ca=str(self.operator.ca) if self._gateway_tls else None,
            token=issuer.token_per_role(),
            pids=self._supervisor.pids,
            services={name: self.address(name) for name in SERVICES},
            operator={name: str(getattr(self.operator, name)) for name in ("ca", "cert", "key")},
            databases={name: database.dsn for name, database in self.databases.items()},
            otlp=self.address(RECEIVER),
            clock=self._clock,
        )

    def _processes_changed(self) -> None:
        """A process was started: leftovers and card must know it."""
        with self._changing:
            leftovers.record(self.layout.processes, {leftovers.SUPERVISOR: os.getpid(), **self._supervisor.pids})
            if self._published and not self._supervisor.is_stopping:
                self.card.pids = self._supervisor.pids
                self.card.write(self.layout.card)
