"""One run: chunks of attempts, sent many at a time, every answer judged, the stack looked at after every chunk."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from google.protobuf import json_format, text_format

from danbao_kit.testing.certificates import DOMAIN, CertificateAuthority
from danbao_local import business_clock, calls, demo
from danbao_local.client import GatewayClient
from danbao_local.fuzz import judging
from danbao_local.fuzz.attempt import REFUSED, Answer, Attempt
from danbao_local.fuzz.connections import broken, garble, tls_context
from danbao_local.fuzz.making import PEERS, Maker
from danbao_local.fuzz.methods import FuzzedMethod, fuzzed_methods
from danbao_local.fuzz.sending import Sender
from danbao_local.fuzz.shrinking import shrunk
from danbao_local.fuzz.values import Known
from danbao_local.fuzz.watching import Watch
from danbao_local.stack import SERVICES, LocalStack

CHUNK = 500
_AT_ONCE = 24
_GARBLED_CONNECTIONS = 6
_STILL_EVERY = 10
_REFUSED_BEFORE = 400
# Of one RPC so many are kept: a thousand of the same say no more.
_KEPT_OF_AN_RPC = 3
# Refusals that say: the same again is refused again.
_FOR_GOOD = {"INVALID_ARGUMENT", "PERMISSION_DENIED", "UNAUTHENTICATED", "UNIMPLEMENTED", "NOT_FOUND"}
_FOR_GOOD |= {"400", "401", "403", "404", "415"}


@dataclass(frozen=True, slots=True)
class Failure:
    """A rule that an answer broke, or the stack; the requests that did it, as JSON."""

    what: str
    attempt: Attempt | None = None
    answer: Answer | None = None
    message: str = ""


@dataclass(slots=True)
class FuzzResult:
    """What came of a run."""

    sent: int = 0
    seconds: float = 0.0
    codes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By RPC and code."""
    families: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By family, and whether it was accepted, refused or neither."""
    failures: list[Failure] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    """By RPC; those of the stack as a whole under the empty name."""
    still_requests: int = 0
    """Sent in chunks that were refused as a whole, and after which streams and balances were what they had been."""


class Fuzzer:
    """Fuzzes a stack that runs, with everything prepared on it; `methods` are found when preparing."""

    def __init__(
        self,
        stack: LocalStack,
        seed: int,
        say: Callable[[str], None] = lambda _line: None,
        methods: Sequence[FuzzedMethod] = (),
    ) -> None:
        self._stack = stack
        self._seed = seed
        self._say = say
        self._known = Known()
        self._methods = methods

    @property
    def places(self) -> Mapping[str, str]:
        """Names that exist, by where each was found."""
        return self._known.places

    def prepare(self) -> None:
        """Plays a trade and makes what the working bodies need; learns the names and page tokens of what exists."""
        card = self._stack.card
        if card.clock == "test":
            business_clock.advance_to(card, datetime.now(UTC))
        entries = calls.prepare(card, demo.play(card))
        self._stack.publish(entries)
        self._methods = fuzzed_methods(entries, _stream_bodies())
        with GatewayClient(card) as client:
            for method in self._methods:
                for number, body in enumerate(method.bodies):
                    self._known.learn(body, f"{method.rpc} {number}")
                if method.verb == "GET" and method.bodies and not method.server_streaming:
                    fields = method.request.fields_by_name
                    small = {"pageSize": 1} if "page_size" in fields else {}
                    answer = client.call(method.rpc, {**method.bodies[0], **small}, role=method.roles[0])
                    self._known.learn(json_format.MessageToDict(answer), method.rpc)

    def maker(self) -> Maker:
        """Of this seed's attempts."""
        return Maker(self._methods, self._known, self._seed)

    async def run(self, count: int) -> FuzzResult:
        """Sends so many attempts."""
        result = FuzzResult()
        maker = self.maker()
        refused: deque[Attempt] = deque(maxlen=_REFUSED_BEFORE)
        authority = CertificateAuthority(self._stack.layout.certificates)
        watch = Watch(self._stack)
        sender = Sender(self._stack.card, authority, PEERS)
        started = time.monotonic()
        try:
            for chunk, first in enumerate(range(0, count, CHUNK)):
                numbers = range(first, min(first + CHUNK, count))
                if chunk % _STILL_EVERY == _STILL_EVERY - 1:
                    again = [maker.attempt(number, REFUSED) for number in numbers][len(refused) :]
                    await self.send_still([*refused, *again], watch, sender, result)
                else:
                    for attempt, answer in await self._send_all(map(maker.attempt, numbers), sender, result):
                        if answer.code in _FOR_GOOD:
                            refused.append(attempt)
                await self._garble(chunk, authority)
                for complaint in await asyncio.to_thread(watch.complaints):
                    _note(result, f"requests {numbers.start} to {numbers.stop - 1}: {complaint}")
                result.seconds = time.monotonic() - started
                rate, failed = result.sent / result.seconds, result.failed.total()
                self._say(f"{result.sent} of {count}, {rate:.0f}/s, {failed} failures")
            await watch.standing()
            for wrong in await watch.books():
                _note(result, wrong)
        finally:
            await sender.close()
        result.seconds = time.monotonic() - started
        return result

    async def again(self, attempt: Attempt, places: Mapping[str, str]) -> tuple[Answer, list[str]]:
        """One attempt once more, with this stack's names: its answer, and what is wrong with it and with the stack."""
        translated = replace(
            attempt,
            http=self._known.translated(attempt.http, places),
            messages=tuple(self._known.translated(message, places) for message in attempt.messages),
        )
        watch = Watch(self._stack)
        sender = Sender(self._stack.card, CertificateAuthority(self._stack.layout.certificates), PEERS)
        try:
            answer = await sender.send(translated)
        finally:
            await sender.close()
        await watch.standing()
        return answer, [*judging.faults(translated, answer), *watch.complaints(), *await watch.books()]

    async def _send_all(
        self, attempts: Iterable[Attempt], sender: Sender, result: FuzzResult
    ) -> list[tuple[Attempt, Answer]]:
        """In the order of the attempts, so that what follows from the answers follows from the seed."""
        waiting = iter(enumerate(attempts))
        answers: dict[int, tuple[Attempt, Answer]] = {}

        async def work() -> None:
            for number, attempt in waiting:
                answer = await sender.send(attempt)
                answers[number] = attempt, answer
                result.sent += 1
                result.codes[attempt.rpc, answer.code] += 1
                result.families[attempt.family, "accepted" if answer.is_accepted else "refused"] += 1
                for what in judging.faults(attempt, answer):
                    await self._note_fault(what, attempt, answer, sender, result)

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(work())
        return [answers[number] for number in sorted(answers)]

    async def send_still(self, attempts: Sequence[Attempt], watch: Watch, sender: Sender, result: FuzzResult) -> None:
        """Requests that must all be refused, so that nothing of the books may be other than before."""
        before = await watch.standing()
        answers = await self._send_all(attempts, sender, result)
        after = await watch.standing()
        if any(answer.is_accepted for _, answer in answers):
            return  # what exists by now may have made it good
        differences = before.differences(after)
        if differences:
            _note(result, f"{len(attempts)} requests were all refused, and {differences}")
        else:
            result.still_requests += len(attempts)

    async def _note_fault(
        self, what: str, attempt: Attempt, answer: Answer, sender: Sender, result: FuzzResult
    ) -> None:
        result.failed[attempt.rpc] += 1
        if result.failed[attempt.rpc] > _KEPT_OF_AN_RPC:
            return

        async def still_fails(tried: Attempt) -> bool:
            again = await sender.send(tried)
            return again.code == answer.code and any(judging.faults(tried, again))

        method = next(method for method in self._methods if method.rpc == attempt.rpc)
        small, message = await shrunk(attempt, method, still_fails)
        shown = text_format.MessageToString(message, as_one_line=True) if message is not None else ""
        result.failures.append(Failure(what, small, answer, shown))

    async def _garble(self, chunk: int, authority: CertificateAuthority) -> None:
        """At every port; at the services' with a peer's certificate, half of the time."""
        rng = Random(f"{self._seed}:garbled:{chunk}")
        card = self._stack.card
        context = tls_context(authority.issue("operator"))
        sent = []
        for number in range(_GARBLED_CONNECTIONS):
            for port, address in (("", card.gateway), *card.services.items()):
                method = rng.choice([one for one in self._methods if not port or one.service == port])
                messages = method.working_requests() or [method.new_request()]
                role = method.roles[0]
                data = broken(rng, f"/{method.rpc}", card.token[role], messages[0].SerializeToString())
                sent.append(garble(address, data, context if port and number % 2 else None, f"{port}.{DOMAIN}"))
        await asyncio.gather(*sent)


def _note(result: FuzzResult, what: str) -> None:
    """Of the stack as a whole."""
    result.failed[""] += 1
    result.failures.append(Failure(what))


def _stream_bodies() -> dict[str, list[dict[str, Any]]]:
    """Messages of the streaming methods, which the card has no bodies of."""
    watched: dict[str, list[dict[str, Any]]] = {
        f"danbao.{service}.v1.EventService/WatchEvents": [{"cursor": {}}] for service in SERVICES
    }
    return {
        **watched,
        "danbao.credit.v1.CreditService/WatchScores": [{"subjects": [demo.SELLER]}],
        "danbao.payments.v1.ReconciliationService/ImportStatement": calls.statement_messages(datetime.now(UTC)),
    }


def still_stack(state_dir: Path, say: Callable[[str], None] = lambda _line: None) -> LocalStack:
    """A stack whose business time stands still, so that only requests move anything; few traces, for speed."""
    return LocalStack(state_dir, clock="test", trace_ratio=0.02, say=say)
