"""What must hold of the stack while it is being fuzzed: the same processes, silent logs, and books that balance."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from danbao_local.client import GatewayClient
from danbao_local.replay.own_audits import own_audits
from danbao_local.stack import LocalStack

_HEADS = tuple(f"danbao.{service}.v1.EventService/GetStreamHead" for service in ("payments", "escrow", "credit"))
_TRIAL_BALANCE = "danbao.payments.v1.LedgerService/GetTrialBalance"
_QUIET_S = 0.3
_TRIES = 60
# The caller's time was up, or what an audit had of it: then it says that it was not made to its end.
_GIVEN_UP = ("canceling statement due to user request", "canceling statement due to statement timeout")
# Warnings of what was as it should be: a step for which there was no money, terms for which there was no time.
_PERMITTED = {
    ("deposit_step_refused", "INSUFFICIENT_FUNDS"),
    ("deposit_step_refused", "ACCOUNT_FROZEN"),
    ("step_refused", "INSUFFICIENT_FUNDS"),
    ("step_refused", "ACCOUNT_FROZEN"),
    ("default_terms_used", "DEADLINE_EXCEEDED"),
}
_LOUD = ("PANIC:", "FATAL:", "ERROR:", "[critical]", "[error]", "Traceback", "Segmentation", "AddressSanitizer")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the streams end, and what every kind of account holds."""

    heads: tuple[int, ...]
    balances: tuple[str, ...]

    def differences(self, later: Standing) -> str:
        """What is not as it was, in words; empty when all is."""
        moved = [f"streams went from {self.heads} to {later.heads}"] if self.heads != later.heads else []
        moved += [f"{row} is new" for row in later.balances if row not in self.balances]
        return ", ".join(moved)


class Watch:
    """The stack as it was at the beginning."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack
        self._folder = stack.layout.root / "logs"
        self._pids = dict(stack.card.pids)
        self._read: dict[Path, int] = {path: path.stat().st_size for path in self._logs()}

    def complaints(self) -> list[str]:
        """Processes that are not the same any more, and what the logs complained of since the last look."""
        found = [
            f"{name} was process {pid} and is {self._stack.card.pids.get(name)}"
            for name, pid in self._pids.items()
            if self._stack.card.pids.get(name) != pid
        ]
        self._pids = dict(self._stack.card.pids)
        for path in self._logs():
            found += [f"{path.name}: {line}" for line in self._complaints_in(path)]
        return found

    def _logs(self) -> list[Path]:
        return [path for path in sorted(self._folder.glob("*.log")) if path.name != "gateway-access.log"]

    def _complaints_in(self, path: Path) -> Iterator[str]:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            content = file.read()
        whole, newline, _ = content.rpartition(b"\n")
        self._read[path] = self._read.get(path, 0) + len(whole) + len(newline)
        for line in whole.decode("utf-8", "replace").splitlines():
            if complains(line):
                yield line[:2_000]

    async def standing(self) -> Standing:
        """Once nothing moves any more."""
        with GatewayClient(self._stack.card) as client:
            last = await asyncio.to_thread(_standing, client)
            for _ in range(_TRIES):
                await asyncio.sleep(_QUIET_S)
                now = await asyncio.to_thread(_standing, client)
                if now == last:
                    break
                last = now
        return last

    async def books(self) -> list[str]:
        """What is wrong with the books: currencies that do not balance, and what the services' own audits find."""
        with GatewayClient(self._stack.card) as client:
            balance = await asyncio.to_thread(client.call, _TRIAL_BALANCE, {}, role="operator")
        found = [
            f"{total.currency}: debits {total.debits_posted_minor}, credits {total.credits_posted_minor}"
            for total in balance.totals
            if total.debits_posted_minor != total.credits_posted_minor
        ]
        audits: Mapping[str, Any] = await own_audits(self._stack.card)
        for name, audit in audits.items():
            if not audit.complete:
                found.append(f"{name}'s audit was not made to its end")
            found += [
                f"{name}: {item.check} at {item.resource}: {item.expected}, found {item.found}"
                for item in audit.violations
            ]
        return found


def _standing(client: GatewayClient) -> Standing:
    balance = client.call(_TRIAL_BALANCE, {}, role="operator")
    return Standing(
        heads=tuple(client.call(head, {}, role="operator").cursor.sequence for head in _HEADS),
        balances=tuple(text_format.MessageToString(row, as_one_line=True) for row in balance.rows),
    )


def complains(line: str) -> bool:
    """Whether a line of a log tells of a fault."""
    if line.startswith("{"):
        try:
            fields = json.loads(line)
        except ValueError:
            return True
        if "exception" in fields:
            return True
        permitted = (fields.get("event"), fields.get("reason") or fields.get("code")) in _PERMITTED
        return fields.get("level") in ("error", "warning") and not permitted
    return any(word in line for word in _LOUD) and not line.endswith(_GIVEN_UP)
