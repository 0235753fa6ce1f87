"""One `make run`: a stack, one trade played on it, and how to call it."""

import json
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from danbao_local import calls, demo
from danbao_local.client import CallFailed
from danbao_local.errors import StackFailed
from danbao_local.show import make_console, show
from danbao_local.stack import Clock, LocalStack


class Session:
    """Starts the stack, shows the demo trade, tells how to call it."""

    def __init__(self, state_dir: Path, *, clock: Clock, wanted_ports: Mapping[str, int], gateway_tls: bool) -> None:
        self._console = make_console()
        self._trace_id = "TRACE_ID"
        self._stack = LocalStack(
            state_dir, clock=clock, wanted_ports=wanted_ports, gateway_tls=gateway_tls, say=self._say
        )

    def start(self) -> bool:
        """Whether the demo trade went well; the stack runs in either case. Raises StackFailed."""
        began = time.monotonic()
        self._stack.start(publish=False)
        self._say(f"Everything runs after {time.monotonic() - began:.1f} s")
        prepared = None
        try:
            result = demo.play(self._stack.card)
            self._trace_id = result.trace_id
            show(result, self._console)
            prepared = calls.prepare(self._stack.card, result)
        except (CallFailed, StackFailed) as failure:
            print(f"The demo trade failed: {failure}", file=sys.stderr)
        self._stack.publish(prepared)
        return prepared is not None

    def show_how_to_call(self) -> None:
        """Addresses and one working call each, by JSON and by gRPC."""
        card, layout = self._stack.card, self._stack.layout
        lines = [
            "",
            f"gRPC  {card.gateway}     JSON  {card.json}",
            f"Addresses, tokens by role and a body for every RPC: {_shown(layout.card)}",
            *self._example_calls(),
            "",
            f"A trace, every statement of it: .venv/bin/python -m danbao_local trace {self._trace_id}",
            "Ctrl-C stops everything; the data stays for the next start.",
        ]
        for line in lines:
            self._console.print(line, markup=False, soft_wrap=True)

    def _example_calls(self) -> list[str]:
        card = self._stack.card
        call = next((entry for entry in card.calls if entry["rpc"].endswith("/CreatePayment")), None)
        if call is None:
            return []
        body = shlex.quote(json.dumps(call["body"]))
        token = self._stack.layout.tokens / f"{call['role']}.jwt"
        header = f'-H "Authorization: Bearer $(cat {shlex.quote(_shown(token))})"'
        trust = f" --cacert {shlex.quote(_shown(Path(card.ca)))}" if card.ca else ""
        prior = trust or " --http2-prior-knowledge"
        return [
            "",
            f"  {card.json}/docs/ shows every JSON call, to read and to try",
            "",
            f"  curl --http1.1{trust} {header} \\",
            f"    -d {body} \\",
            f"    {card.json}{call['path']}",
            "",
            f"  .venv/bin/buf curl --protocol grpc{prior} --schema protos/gen/danbao/descriptors.binpb {header} \\",
            f"    -d {body} \\",
            f"    {card.json}/{call['rpc']}",
        ]

    def stop(self) -> None:
        """Stop the stack in order."""
        self._stack.stop()

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)


def _shown(path: Path) -> str:
    """The path as a person types it here: relative where that is shorter."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
