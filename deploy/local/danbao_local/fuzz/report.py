"""How a run is told: every failure so that it can be sent again, and a table of RPCs by codes."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from danbao_local.fuzz.attempt import Attempt
from danbao_local.fuzz.run import Failure, FuzzResult

_LONGEST = 600
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "ok": ("OK", "200"),
    "invalid": ("INVALID_ARGUMENT", "400", "415"),
    "missing": ("NOT_FOUND", "UNIMPLEMENTED", "404"),
    "denied": ("PERMISSION_DENIED", "UNAUTHENTICATED", "401", "403"),
    "state": ("FAILED_PRECONDITION", "ALREADY_EXISTS", "ABORTED", "409"),
}
"""gRPC's codes, and HTTP's where the answer was none of gRPC."""
_OTHER, _FAILED = "other", "failed"


def write_failures(result: FuzzResult, places: Mapping[str, str], folder: Path) -> list[Path]:
    """Each request that failed in a file of its own, for --again; those of an earlier run are gone."""
    shutil.rmtree(folder, ignore_errors=True)
    paths = []
    for number, failure in enumerate(result.failures):
        if failure.attempt is not None:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"failure-{number}.json"
            content = {"what": failure.what, "attempt": failure.attempt.to_json(), "places": dict(places)}
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            paths.append(path)
    return paths


def read_failure(path: Path) -> tuple[Attempt, dict[str, str]]:
    """The request, and the names of the stack it failed on. Raises OSError, ValueError, TypeError, KeyError."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return Attempt.from_json(content["attempt"]), dict(content["places"])


def told(failure: Failure, *, seed: int) -> str:
    """A failure in words, with the request as it was sent."""
    if failure.attempt is None:
        return f"{failure.what} (seed {seed})"
    attempt, answer = failure.attempt, failure.answer
    lines = [
        f"{failure.what}",
        f"  request {attempt.number} of seed {seed}, family {attempt.family}: {attempt.rpc}",
        f"  as {attempt.role} at the {attempt.door}, metadata {attempt.metadata!r}"[:_LONGEST],
    ]
    if answer is not None:
        lines.append(f"  answer {answer.code} {answer.reason} after {answer.seconds:.2f} s: {answer.text[:300]!r}")
    if failure.message:
        lines.append(f"  body {failure.message[:_LONGEST]}")
    elif attempt.http:
        lines.append(f"  sent {attempt.http[:_LONGEST]!r}")
    lines += [f"  bytes {message.hex()[:_LONGEST]}" for message in attempt.messages[:3]]
    return "\n".join(lines)


def show(result: FuzzResult, console: Console) -> None:
    """The table, RPCs that failed first, and the figures."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("RPC", no_wrap=True)
    for heading in (*_COLUMNS, _OTHER, _FAILED):
        table.add_column(heading, justify="right")
    rows: dict[str, Counter[str]] = {}
    for (rpc, code), number in result.codes.items():
        rows.setdefault(rpc, Counter())[_column(code)] += number
    for rpc in sorted(rows, key=lambda rpc: (-result.failed[rpc], rpc)):
        _add_row(table, _short(rpc), rows[rpc], result.failed[rpc])
    table.add_section()
    _add_row(table, "all", sum(rows.values(), Counter()), result.failed.total())
    console.print(table)
    families = ", ".join(
        f"{family} {result.families[family, 'accepted']}+{result.families[family, 'refused']}"
        for family in sorted({family for family, _ in result.families})
    )
    codes: Counter[str] = Counter()
    for (_, code), number in result.codes.items():
        codes[code] += number
    told = ", ".join(f"{code} {number}" for code, number in codes.most_common())
    for line in (
        f"Accepted + refused by family: {families}",
        f"By code: {told}",
        f"{result.sent} requests in {result.seconds:.0f} s, {result.failed.total()} failures; "
        f"{result.still_requests} were refused before or had to be, and left streams and balances as they were",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def _add_row(table: Table, name: str, row: Counter[str], failed: int) -> None:
    table.add_row(name, *[str(row[column] or "") for column in (*_COLUMNS, _OTHER)], str(failed or ""))


def _short(rpc: str) -> str:
    return rpc.removeprefix("danbao.").replace(".v1.", ".").replace("Service/", "/")


def _column(code: str) -> str:
    return next((column for column, codes in _COLUMNS.items() if code in codes), _OTHER)
