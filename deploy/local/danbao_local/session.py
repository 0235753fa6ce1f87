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
            show(result, self._console)
            prepared = calls.prepare(self._stack.card, result)
        except (CallFailed, StackFailed) as failure:
            print(f"The demo trade failed: {failure}", file=sys.stderr)
        self._stack.publish(prepared)
        return prepared is not None

    def show_how_to_call(self) -> None:
        """Addresses and one working call each, by JSON and by gRPC."""
        card = self._stack.card
        listed = {entry["rpc"].rpartition("/")[2]: entry for entry in card.calls}
        self._console.print()
        self._console.print(f"[bold]gRPC[/] {card.gateway}   [bold]JSON[/] {card.json}", soft_wrap=True)
        self._console.print(f"Addresses, tokens and a body for every RPC: {self._stack.layout.card}", soft_wrap=True)
        call = listed.get("CreatePayment")
        if call is not None:
            body = shlex.quote(json.dumps(call["body"]))
            token = f"$(jq -r .token.{call['role']} {shlex.quote(str(self._stack.layout.card))})"
            trust = f"--cacert {shlex.quote(card.ca)} " if card.ca else ""
            self._console.print(
                f'\n  curl --http1.1 {trust}-H "Authorization: Bearer {token}" \\\n'
                f"    -d {body} \\\n    {card.json}{call['path']}",
                markup=False,
                soft_wrap=True,
            )
        self._console.print("\nCtrl-C stops everything; the data stays for the next start.")

    def stop(self) -> None:
        """Stop the stack in order."""
        self._stack.stop()

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)
