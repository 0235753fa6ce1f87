"""Which replay a state directory belongs to, and how it is emptied for another one."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from danbao_kit.testing.embedded_postgres import EmbeddedPostgres
from danbao_local import leftovers
from danbao_local.layout import StateLayout, write_atomically
from danbao_local.replay.journal import JOURNAL_FILE

_FORMAT = 3
"""Rises when the same files are replayed otherwise than before."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes two replays the same: the same requests follow from it."""

    orders: str
    """Fingerprint of the files."""
    limit: int | None
    step_seconds: int
    format: int = _FORMAT


def prepare(state_dir: Path, identity: Identity, *, fresh: bool, say: Callable[[str], None]) -> None:
    """Makes the directory this replay's own. What another replay left in it goes: it can be replayed again."""
    layout = StateLayout.at(state_dir)
    mark = layout.root / "replay.json"
    mine = asdict(identity)
    try:
        found = json.loads(mark.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if (found != mine or fresh) and layout.postgres.exists():
        leftovers.end(layout.processes)
        EmbeddedPostgres(layout.postgres).destroy()
        why = "as asked" if found == mine else "they were of another replay (other orders, LIMIT or STEP)"
        say(f"Removed the databases in {layout.root}: {why}")
    if found != mine or fresh:
        (layout.root / JOURNAL_FILE).unlink(missing_ok=True)
    layout.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(mark, json.dumps(mine) + "\n")
