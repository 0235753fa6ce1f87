"""A real PostgreSQL server of our own, on 127.0.0.1, for tests and the local stack.

    with EmbeddedPostgres(Path(".danbao/postgres")) as server:
        database = server.create_service_database("payments")
        connect(database.dsn)

One server is one data directory. Passwords are random and kept beside the data in a file that
only we can read, so a second start finds them. The server stays our child: `poll()` tells when
it died, and `start()` brings it back.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

import psutil

from danbao_kit.testing.free_ports import free_ports, is_free
from danbao_kit.testing.postgres_binaries import PostgresPrograms
from danbao_kit.testing.postgres_home import PostgresFailed, PostgresHome, last_words

StopMode = Literal["smart", "fast", "immediate"]

SETTINGS_FOR_TESTS: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "300",
}
"""Nothing survives a power cut, and nothing has to; a killed process loses nothing that was committed."""

_STOP_SIGNALS = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
_START_SECONDS = 30.0
_STOP_SECONDS = 30.0
_RETRY_SECONDS = 10.0
"""How long a killed postmaster's children may hold on to its lock file and shared memory."""
_RETRIED_MESSAGES = ("postmaster.pid", "pre-existing shared memory block", "lock file")


class PostgresPortTaken(PostgresFailed):
    """Another process listens on the port that was asked for."""

    def __init__(self, port: int) -> None:
        super().__init__(f"port {port} is taken by another process")
        self.port = port


class PostgresAlreadyRunning(PostgresFailed):
    """Another server runs on this data directory."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"a PostgreSQL server with pid {pid} runs on this data directory")
        self.pid = pid


@dataclass(frozen=True, slots=True)
class ServiceDatabase:
    """A database with the two roles that may connect to it."""

    name: str
    role: str
    owner_role: str
    dsn: str
    owner_dsn: str


class EmbeddedPostgres:
    """Starts, stops and fills one PostgreSQL server.

    `data_dir` is where the data lives; as root it only holds a pointer, the data being below
    /var/tmp where the unprivileged user can reach it (`data_location` says where). `port` None
    takes the port of the last start if it is free, else any free one. `settings` are
    configuration parameters of the server. `log_path` is appended to.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        log_path: Path | None = None,
    ) -> None:
        self._home = PostgresHome(data_dir)
        self._wanted_port = port
        self._settings = dict(settings or {})
        self._log_path = (log_path or data_dir / "postgres.log").absolute()
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None
        self._served_port: int | None = None

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the server and return when it takes connections; creates the data if missing.

        Raises PostgresPortTaken, PostgresAlreadyRunning, or PostgresFailed with the log's end.
        """
        assert self._process is None or self._process.poll() is not None, "already started"
        self._log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._home.make(durable=self._settings.get("fsync") != "off")
        running = self._home.running_pid()
        if running is not None:
            raise PostgresAlreadyRunning(running)
        self._home.forget_foreign_pid()
        deadline = time.monotonic() + _RETRY_SECONDS
        while True:
            self._port = self._choose_port()
            failure = self._start_once(self._port)
            if failure is None:
                break
            taken = "could not bind" in failure or "could not create any TCP/IP" in failure
            if taken and self._wanted_port is not None:
                raise PostgresPortTaken(self._wanted_port)
            retried = taken or any(text in failure for text in _RETRIED_MESSAGES)
            if not retried or time.monotonic() > deadline:
                raise PostgresFailed(f"PostgreSQL did not start: {last_words(failure)}")
            time.sleep(0.1)
        self._served_port = self._port
        self._home.remember_port(self._port)

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and wait for its end; also one that an earlier process left behind."""
        pid = self._process.pid if self._process is not None else self.running_pid()
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self._process is None or self._process.poll() is None:
                os.kill(pid, _STOP_SIGNALS[mode])
        try:
            if self._process is not None:
                self._process.wait(_STOP_SECONDS)
            else:
                psutil.Process(pid).wait(_STOP_SECONDS)
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            if mode == "immediate":
                raise PostgresFailed(f"PostgreSQL with pid {pid} does not end") from None
            self.stop("immediate")
        except psutil.NoSuchProcess:
            pass
        self._process = None

    def poll(self) -> int | None:
        """None while our server runs, else its exit code."""
        return self._process.poll() if self._process is not None else -1

    def destroy(self) -> None:
        """Stop, and remove the data."""
        self.stop("immediate")
        self._home.remove()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # --- what it is ---------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Process id of the postmaster that we started."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def port(self) -> int:
        """TCP port on 127.0.0.1."""
        assert self._port is not None, "not started"
        return self._port

    @property
    def programs(self) -> PostgresPrograms:
        """PostgreSQL's programs, pgbench and pg_dump among them."""
        return self._home.programs

    @property
    def data_location(self) -> Path:
        """Where the data really is."""
        return self._home.data

    @property
    def admin_dsn(self) -> str:
        """DSN of the superuser, database postgres."""
        return self._dsn("postgres", "postgres")

    def running_pid(self) -> int | None:
        """Pid of whatever server runs on this data directory, ours or a leftover."""
        return self._home.running_pid() if self._home.find() else None

    # --- databases ----------------------------------------------------------------------------

    def create_service_database(
        self,
        service: str,
        *,
        database: str | None = None,
        template: str = "template1",
    ) -> ServiceDatabase:
        """Database danbao_SERVICE with roles SERVICE and SERVICE_owner; what exists is kept.

        The owner migrates, the other one serves; nobody else may connect. Timeouts on the
        serving role keep a stopped replica from stopping the service.
        """
        name = database or f"danbao_{service}"
        owner = f"{service}_owner"
        for word in (service, name, template):
            assert word.replace("_", "").isalnum(), f"not a plain name: {word}"
        self.execute(
            _CREATE_SERVICE.format(
                role=service,
                owner=owner,
                role_password=self._home.password(service),
                owner_password=self._home.password(owner),
                database=name,
                template=template,
            )
        )
        return ServiceDatabase(
            name=name,
            role=service,
            owner_role=owner,
            dsn=self._dsn(service, name),
            owner_dsn=self._dsn(owner, name),
        )

    def drop_database(self, name: str) -> None:
        """Drop a database with every connection to it."""
        assert name.replace("_", "").isalnum(), f"not a plain name: {name}"
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def execute(self, sql: str, *, database: str = "postgres") -> str:
        """Run SQL as the superuser and return what psql prints (unaligned, rows only)."""
        options = self.programs.process_options()
        options["env"] |= {
            "PGPASSWORD": self._home.password("postgres"),
            "PGCONNECT_TIMEOUT": "10",
        }
        arguments = ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1")
        result = subprocess.run(
            self.programs.command(
                "psql",
                *arguments,
                "-p",
                str(self.port),
                "-U",
                "postgres",
                "-d",
                database,
            ),
            input=sql,
            text=True,
            capture_output=True,
            check=False,
            timeout=120,
            **options,
        )
        if result.returncode != 0:
            raise PostgresFailed(f"PostgreSQL refused: {last_words(result.stderr)}")
        return str(result.stdout).strip()

    def _dsn(self, role: str, database: str) -> str:
        return f"postgresql://{role}:{self._home.password(role)}@127.0.0.1:{self.port}/{database}"

    # --- the process --------------------------------------------------------------------------

    def _choose_port(self) -> int:
        if self._wanted_port is not None:
            return self._wanted_port
        if self._served_port is not None:
            return self._served_port  # who was connected to it will come back to it
        last = self._home.last_port
        if last is not None and is_free(last):
            return last
        return free_ports(1)[0]

    def _start_once(self, port: int) -> str | None:
        """None when it runs, else what it said before it ended."""
        parameters = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            "password_encryption": "scram-sha-256",
            # Else the details of a refused row, that is all of it, stand in the server's log.
            "log_error_verbosity": "terse",
            **self._settings,
        }
        arguments = ["-D", str(self._home.data)]
        for name, value in parameters.items():
            arguments += ["-c", f"{name}={value}"]
        with self._log_path.open("ab") as log:
            log.seek(0, os.SEEK_END)
            offset = log.tell()
            self._process = self._spawn(arguments, log)
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                self._process = None
                return self._log_since(offset)
            if self._home.ready_pid() == self._process.pid:
                return None
            time.sleep(0.01)
        self.stop("immediate")
        return f"not ready within {_START_SECONDS:.0f} s\n{self._log_since(offset)}"

    def _spawn(self, arguments: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.programs.command("postgres", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **self.programs.process_options(),
        )

    def _log_since(self, offset: int) -> str:
        with self._log_path.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")


_CREATE_SERVICE = """
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
    CREATE ROLE {role} LOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{owner}') THEN
    CREATE ROLE {owner} LOGIN;
  END IF;
END $$;
ALTER ROLE {role} PASSWORD '{role_password}';
ALTER ROLE {owner} PASSWORD '{owner_password}';
ALTER ROLE {role} SET idle_in_transaction_session_timeout = '2s';
ALTER ROLE {role} SET lock_timeout = '2s';
SELECT 'CREATE DATABASE {database} OWNER {owner} TEMPLATE {template}'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{database}') \\gexec
REVOKE ALL ON DATABASE {database} FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role};
"""
