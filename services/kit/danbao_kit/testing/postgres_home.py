"""Where does a server's data live, and what do we remember about it?"""

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import psutil

from danbao_kit.testing.postgres_binaries import SHARED_ROOT, PostgresPrograms, find_programs


class PostgresFailed(Exception):
    """PostgreSQL could not do what was asked; the message ends with its own last words."""


class PostgresHome:
    """One server's directory, its passwords and its last port.

    As a normal user the data lies in `home`. As root it lies below /var/tmp, where the user the
    server drops to can reach it; `home` then holds a pointer to it, and it points back, so that
    a copied checkout does not take its original's data.
    """

    def __init__(self, home: Path) -> None:
        self._home = home.absolute()
        self._base: Path | None = None
        self._programs: PostgresPrograms | None = None
        self._remembering = threading.Lock()

    @property
    def programs(self) -> PostgresPrograms:
        """PostgreSQL's programs and the user they run as."""
        if self._programs is None:
            self._programs = find_programs()
        return self._programs

    @property
    def data(self) -> Path:
        """The data directory proper."""
        return self._require_base() / "data"

    def find(self) -> bool:
        """Whether a directory was made by an earlier start; changes nothing."""
        if self._base is None:
            self._base = self._home if os.geteuid() != 0 else self._pointed_to()
        return self._base is not None and self._base.is_dir()

    def make(self, *, durable: bool) -> None:
        """Make the directory and the data where they are missing."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.find():
            self._base = self._make_base_below_var_tmp()
        if not (self.data / "PG_VERSION").exists():
            self._initialise(durable=durable)

    def remove(self) -> None:
        """Remove everything, the data included."""
        if self.find():
            shutil.rmtree(self._require_base(), ignore_errors=True)
        shutil.rmtree(self._home, ignore_errors=True)
        self._base = None

    def password(self, role: str) -> str:
        """The role's password, made at the first question."""
        # Services are set up at the same time: two of them must not forget one another's password.
        with self._remembering:
            passwords = self._remembered().get("passwords", {})
            assert isinstance(passwords, dict)
            if role not in passwords:
                passwords[role] = secrets.token_urlsafe(24)
                self._remember(passwords=passwords)
            return str(passwords[role])

    @property
    def last_port(self) -> int | None:
        """Port of the last successful start."""
        port = self._remembered().get("port")
        return port if isinstance(port, int) else None

    def remember_port(self, port: int) -> None:
        """Keep the port for the next start."""
        with self._remembering:
            self._remember(port=port)

    # --- the server's own pid file ------------------------------------------------------------

    def ready_pid(self) -> int | None:
        """Pid of a server that says it takes connections (the file's 8th line, as pg_ctl)."""
        lines = self._pid_file_lines()
        return int(lines[0]) if len(lines) >= 8 and "ready" in lines[7] else None

    def running_pid(self) -> int | None:
        """Pid of the live server on this data, ours or a leftover."""
        pid = self._recorded_pid()
        return pid if pid is not None and self._is_postmaster(pid) else None

    def forget_foreign_pid(self) -> None:
        """After a reboot the recorded pid may be someone else's: PostgreSQL would not start."""
        pid = self._recorded_pid()
        if pid is None or self._is_postmaster(pid):
            return
        if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _recorded_pid(self) -> int | None:
        lines = self._pid_file_lines()
        return int(lines[0]) if lines and lines[0].strip().isdigit() else None

    def _is_postmaster(self, pid: int) -> bool:
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return str(self.data) in process.cmdline()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False

    # --- making it ----------------------------------------------------------------------------

    def _require_base(self) -> Path:
        assert self._base is not None, "no directory found or made"
        return self._base

    def _pointed_to(self) -> Path | None:
        try:
            base = Path((self._home / "location").read_text().strip())
            back = base / "home"
            trusted = back.stat().st_uid == 0 and back.read_text() == str(self._home)
        except OSError:
            return None
        return base if trusted else None

    def _make_base_below_var_tmp(self) -> Path:
        base = Path(tempfile.mkdtemp(prefix="danbao-", dir=SHARED_ROOT))
        base.chmod(0o711)
        (base / "home").write_text(str(self._home))
        (self._home / "location").write_text(str(base))
        return base

    def _initialise(self, *, durable: bool) -> None:
        """initdb into a directory beside the data's, then rename: whole or not at all."""
        base = self._require_base()
        building = base / "data.new"
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(base / "data", ignore_errors=True)
        building.mkdir(mode=0o700)
        password_file = base / "password.tmp"
        write_private(password_file, self.password("postgres"))
        user_id = self.programs.user_id
        if user_id is not None:
            os.chown(building, user_id, user_id)
            os.chown(password_file, user_id, user_id)
        arguments = ["-D", str(building), "-U", "postgres", "-A", "scram-sha-256"]
        arguments += [f"--pwfile={password_file}", "--locale=C", "-E", "UTF8"]
        arguments += ["--no-instructions", *([] if durable else ["--no-sync"])]
        try:
            result = subprocess.run(
                self.programs.command("initdb", *arguments),
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
                **self.programs.process_options(),
            )
        finally:
            password_file.unlink()
        if result.returncode != 0:
            shutil.rmtree(building, ignore_errors=True)
            raise PostgresFailed(f"initdb failed: {last_words(result.stderr)}")
        building.rename(base / "data")

    def _remembered(self) -> dict[str, object]:
        try:
            content = json.loads((self._require_base() / "server.json").read_text())
        except FileNotFoundError:
            return {}
        assert isinstance(content, dict)
        return content

    def _remember(self, **values: object) -> None:
        path = self._require_base() / "server.json"
        write_private(path, json.dumps(self._remembered() | values))


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically, readable by us alone."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


def last_words(text: str) -> str:
    """The lines of a log that tell what went wrong, as one sentence."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL" in line or "ERROR" in line or "error:" in line]
    return " / ".join((telling or lines)[-3:]) or "it said nothing"
