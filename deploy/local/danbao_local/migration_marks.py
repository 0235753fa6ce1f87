"""Is a service's database already at its newest migration? Asking costs a tenth of starting the service to find out.

A mark holds the fingerprint of the migrations' files and the version the database had after them.
Migrating is skipped only when both are still so; in any doubt the service's own `migrate` decides.
"""

import hashlib
import importlib.util
import json
from pathlib import Path

from danbao_kit.testing.embedded_postgres import EmbeddedPostgres
from danbao_kit.testing.postgres_home import PostgresFailed
from danbao_local.layout import write_atomically


class MigrationMark:
    """The mark of one service's database, kept in a file of its own."""

    def __init__(self, path: Path, *, service: str, server: EmbeddedPostgres, database: str) -> None:
        self._path = path
        self._service = service
        self._server = server
        self._database = database

    def is_current(self) -> bool:
        """Whether nothing is left to migrate."""
        try:
            mark = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return False
        version = self._version()
        return version is not None and mark == {"files": self._fingerprint(), "version": version}

    def set(self) -> None:
        """Remember that everything was migrated just now."""
        mark = {"files": self._fingerprint(), "version": self._version()}
        write_atomically(self._path, json.dumps(mark))

    def _version(self) -> str | None:
        try:
            return self._server.execute("SELECT version_num FROM alembic_version", database=self._database) or None
        except PostgresFailed:
            return None

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for folder in (_package(f"danbao_{self._service}") / "store", _package("danbao_kit")):
            for file in sorted(folder.rglob("*.py")):
                digest.update(str(file).encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} is not installed"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])
