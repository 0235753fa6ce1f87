"""How far a replay has come, on disk: it makes going on fast, and is not needed for going on right.

Without it every call is sent again with its request id, and answered as the first time.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from danbao_local.replay.record import OrderRecord

JOURNAL_FILE = "replay.jsonl"


@dataclass(slots=True)
class Progress:
    """What an earlier run had finished."""

    steps: int = 0
    """That many steps from the beginning are done."""
    seconds: float = 0.0
    """How long earlier runs took."""
    records: dict[int, OrderRecord] = field(default_factory=dict)
    ranking: list[dict[str, Any]] | None = None
    """The merchants' credit, once it was asked for."""


class Journal:
    """One line a step: the records that it changed. Whose it is says state.Identity."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / JOURNAL_FILE
        self._file: IO[str] | None = None

    def open(self) -> Progress:
        """Read what is there, and be ready to add to it; a last line that is not whole goes."""
        progress = Progress()
        good_bytes = 0
        if self._path.exists():
            with self._path.open("rb") as file:
                for line in file:
                    if not _take(line, progress):
                        break
                    good_bytes += len(line)
        with self._path.open("ab") as file:
            file.truncate(good_bytes)
        self._file = self._path.open("a", encoding="utf-8")
        return progress

    def add(self, *, steps: int, seconds: float, changed: Mapping[int, OrderRecord]) -> None:
        """A step is done."""
        records = {str(number): record.to_json() for number, record in changed.items()}
        self._write({"steps": steps, "seconds": round(seconds, 3), "records": records})

    def add_ranking(self, ranking: list[dict[str, Any]]) -> None:
        """Credit as it was when the last order was done; later it is another."""
        self._write({"ranking": ranking})

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, content: Mapping[str, Any]) -> None:
        assert self._file is not None, "opened before"
        self._file.write(json.dumps(content, separators=(",", ":")) + "\n")
        self._file.flush()


def _take(line: bytes, progress: Progress) -> bool:
    """Whether the line is whole."""
    if not line.endswith(b"\n"):
        return False
    try:
        content = json.loads(line)
        if "ranking" in content:
            progress.ranking = content["ranking"]
            return True
        progress.steps = content["steps"]
        progress.seconds = content["seconds"]
        for number, record in content["records"].items():
            progress.records[int(number)] = OrderRecord.from_json(record)
    except (ValueError, KeyError, TypeError):
        return False
    return True
