"""Where the stack keeps what it must find again: one state directory, `.danbao` in the checkout."""

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from danbao_local.errors import DiskFull

NEEDED_MIB = 300
_LOG_LIMIT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StateLayout:
    """The files below one state directory."""

    root: Path

    @classmethod
    def at(cls, state_dir: Path) -> "StateLayout":
        """The layout below `state_dir`, whose path becomes absolute; makes nothing."""
        return cls(root=state_dir.absolute())

    @property
    def card(self) -> Path:
        """What a caller needs to know about the running stack."""
        return self.root / "local.json"

    @property
    def processes(self) -> Path:
        """Pids and start times, for ending leftovers."""
        return self.root / "processes.json"

    @property
    def ports(self) -> Path:
        """The ports of the last start."""
        return self.root / "ports.json"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's directory."""
        return self.root / "postgres"

    @property
    def certificates(self) -> Path:
        """The local authority and what it issued."""
        return self.root / "certificates"

    @property
    def tokens(self) -> Path:
        """The key that signs tokens, and its public half."""
        return self.root / "tokens"

    @property
    def traces(self) -> Path:
        """Spans kept by the receiver."""
        return self.root / "traces"

    @property
    def gateway(self) -> Path:
        """The gateway's settings and what is rendered from them."""
        return self.root / "gateway"

    def make(self) -> None:
        """Make the directories, readable by us alone. Raises DiskFull when little space is left."""
        for folder in (self.root, self.root / "logs", self.tokens, self.traces, self.gateway):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_space(self.root)

    def log(self, name: str) -> Path:
        """The log of one process; a big one is set aside first."""
        path = self.root / "logs" / f"{name}.log"
        if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".log.old"))
        return path


def check_space(place: Path) -> None:
    """Raises DiskFull when `place` has less room than a start needs."""
    free_mib = shutil.disk_usage(place).free // (1024 * 1024)
    if free_mib < NEEDED_MIB:
        raise DiskFull(place=place, free_mib=free_mib, needed_mib=NEEDED_MIB)


def write_atomically(path: Path, text: str) -> None:
    """Replace a file as a whole: a reader sees the old or the new one. Readable by us alone."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
