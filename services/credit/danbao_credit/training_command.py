"""danbao-credit train: reads the streams of payments and escrow from their beginning and makes a model of them.

--stack DIR                                 a local stack's state directory (its local.json), or
--payments-address H:P --escrow-address H:P --tls-cert F --tls-key F --tls-ca F
                                            services, with a certificate that may read their streams, or
--events DIR                                streams that an earlier call kept with --keep DIR
--out FILE [--report FILE.html] [--version NAME] [--plan FILE] [--source WORDS], or --keep DIR --only-keep
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from danbao.escrow.v1 import event_pb2 as escrow_event_pb2
from danbao.escrow.v1 import event_pb2_grpc as escrow_event_pb2_grpc
from danbao.payments.v1 import event_pb2 as payments_event_pb2
from danbao.payments.v1 import event_pb2_grpc as payments_event_pb2_grpc
from danbao_credit.app import read_definition
from danbao_credit.application.ports import RawEvent
from danbao_credit.clients.event_streams import EventStreamClient, escrow_stream, payments_stream
from danbao_credit.clients.recorded_streams import file_of, keep, kept
from danbao_credit.domain.catalogue import Catalogue, catalogue_from
from danbao_credit.domain.errors import EventMalformed, TrainingImpossible
from danbao_credit.domain.events import Source
from danbao_credit.domain.facts import facts_of
from danbao_credit.domain.scorecard import model_from
from danbao_credit.domain.training.histories import Histories
from danbao_credit.domain.training.pipeline import Trained, train_model
from danbao_credit.domain.training.plan import plan_from
from danbao_kit.rpc_client import channel

_HEADER = """\
# How points are given. Made by `python -m danbao_credit train`, never edited: the hash at the end would no longer fit,
# and credit refuses such a file. What each part means stands in services/credit/README.md, under Models.
"""


def train_main(words: list[str]) -> None:
    """Runs the command. Raises DefinitionInvalid and TrainingImpossible."""
    parser = argparse.ArgumentParser(
        prog="danbao-credit train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    arguments = parser.parse_args(words)
    if arguments.only_keep and arguments.keep is None:
        parser.error("--only-keep needs --keep")
    if not arguments.only_keep and arguments.out is None:
        parser.error("say where the artefact goes: --out")
    histories = read(arguments)
    if not arguments.only_keep:
        train(arguments, histories)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    source = parser.add_argument_group("what to read")
    source.add_argument("--stack", type=Path, help="state directory of a running local stack")
    source.add_argument("--payments-address", help="host:port")
    source.add_argument("--escrow-address", help="host:port")
    for name in ("cert", "key", "ca"):
        source.add_argument(f"--tls-{name}", type=Path)
    source.add_argument("--events", type=Path, help="a folder that --keep has filled")
    parser.add_argument("--keep", type=Path, help="keep the events that are read in this folder")
    parser.add_argument("--only-keep", action="store_true", help="keep the events and train nothing")
    parser.add_argument("--out", type=Path, help="the artefact")
    parser.add_argument("--report", type=Path, help="an HTML page for people; needs danbao-credit[train]")
    parser.add_argument("--version", help="the model's version; unset: trained- and the last event's day")
    parser.add_argument("--plan", type=Path, help="another plan than the training.yaml that ships")
    parser.add_argument("--source", default="the event streams of payments and escrow", help="words for the artefact")


def read(arguments: argparse.Namespace) -> Histories:
    """What happened to whom, by the events of the streams. Raises DefinitionInvalid."""
    catalogue = catalogue_from(read_definition(None, "catalogue.yaml"))
    histories = Histories()
    _say(f"catalogue {catalogue.version}: {len(catalogue.indicators)} indicators")
    if arguments.events is not None:
        for source in Source:
            if file_of(arguments.events, source).exists():
                _gather(kept(arguments.events, source), source, catalogue, histories)
    else:
        if arguments.keep is not None:
            arguments.keep.mkdir(parents=True, exist_ok=True)
        asyncio.run(_read_streams(_peers(arguments), arguments.keep, catalogue, histories))
    histories.sort()
    _say(f"{len(histories.by_subject)} subjects")
    return histories


def train(arguments: argparse.Namespace, histories: Histories) -> Trained:
    """Trains, and writes the artefact and the report. Raises DefinitionInvalid and TrainingImpossible."""
    catalogue = catalogue_from(read_definition(None, "catalogue.yaml"))
    plan = plan_from(read_definition(arguments.plan, "training.yaml"), catalogue)
    version = arguments.version or _version(histories)
    trained = train_model(histories, catalogue, plan, version=version, source=arguments.source, told=_say)
    # What would be refused at start is refused here.
    model_from(trained.definition, catalogue)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(artefact_text(trained.definition))
    _tell(trained)
    if arguments.report is not None:
        # Only here, so that serving never needs a plotting library.
        from danbao_credit.training_report import page

        arguments.report.write_text(page(trained, catalogue))
        _say(f"report in {arguments.report}")
    _say(f"model {trained.definition['version']} in {arguments.out}")
    return trained


class _WithoutAliases(yaml.SafeDumper):
    """Writes what occurs twice twice: CreateModelVersion takes no references."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def artefact_text(definition: Any) -> str:
    """An artefact as its file has it."""
    return _HEADER + yaml.dump(
        definition, Dumper=_WithoutAliases, default_flow_style=None, sort_keys=False, allow_unicode=True, width=200
    )


@dataclass(frozen=True, slots=True)
class _Peers:
    """Where the streams are, and with which certificate they are read."""

    addresses: dict[Source, str]
    cert: Path
    key: Path
    ca: Path


def _peers(arguments: argparse.Namespace) -> _Peers:
    if arguments.stack is not None:
        card = json.loads((arguments.stack / "local.json").read_text())
        files = {name: Path(card["operator"][name]) for name in ("cert", "key", "ca")}
        return _Peers({source: card["services"][source.value] for source in _STREAMS}, **files)
    given = (
        arguments.payments_address,
        arguments.escrow_address,
        arguments.tls_cert,
        arguments.tls_key,
        arguments.tls_ca,
    )
    if not all(given):
        raise SystemExit(
            "say what to read: --stack, --events, or both addresses with --tls-cert, --tls-key and --tls-ca"
        )
    addresses = {Source.PAYMENTS: arguments.payments_address, Source.ESCROW: arguments.escrow_address}
    return _Peers(addresses, arguments.tls_cert, arguments.tls_key, arguments.tls_ca)


_STREAMS = {
    Source.PAYMENTS: (
        payments_stream,
        payments_event_pb2_grpc.EventServiceStub,
        payments_event_pb2.GetStreamHeadRequest,
    ),
    Source.ESCROW: (escrow_stream, escrow_event_pb2_grpc.EventServiceStub, escrow_event_pb2.GetStreamHeadRequest),
}


async def _read_streams(peers: _Peers, folder: Path | None, catalogue: Catalogue, histories: Histories) -> None:
    """Each stream from its beginning up to where it ends now."""
    for source, (make, stub, head_request) in _STREAMS.items():
        async with AsyncExitStack() as stack:
            opened = channel(
                peers.addresses[source], service=source.value, tls_cert=peers.cert, tls_key=peers.key, tls_ca=peers.ca
            )
            stack.push_async_callback(opened.close)
            file = stack.enter_context(file_of(folder, source).open("wb")) if folder is not None else None
            head = await stub(opened).GetStreamHead(head_request(), timeout=10)
            _say(f"{source}: {head.cursor.sequence} events")
            gathered = _Gathered(source, catalogue, histories)
            async for event in _until(make(opened), head.cursor.sequence):
                if file is not None:
                    keep(file, event)
                gathered.add(event)
            gathered.done()


async def _until(stream: EventStreamClient, sequence: int) -> AsyncIterator[RawEvent]:
    if sequence == 0:
        return
    async for chunk in stream.open(0):
        for event in chunk.events:
            yield event
        if chunk.through_sequence >= sequence:
            return
    # A service that stops ends its streams in order: what was read so far is then not all of it.
    raise TrainingImpossible(f"the stream of {stream.source} ended before event {sequence}: is the service stopping?")


def _gather(events: Iterator[RawEvent], source: Source, catalogue: Catalogue, histories: Histories) -> None:
    gathered = _Gathered(source, catalogue, histories)
    for event in events:
        gathered.add(event)
    gathered.done()


class _Gathered:
    """Events on their way into histories; what cannot be understood is counted and said."""

    def __init__(self, source: Source, catalogue: Catalogue, histories: Histories) -> None:
        self._source = source
        self._catalogue = catalogue
        self._histories = histories
        self._events = 0
        self._malformed = 0

    def add(self, raw: RawEvent) -> None:
        self._events += 1
        if self._events % 50_000 == 0:
            _say(f"{self._source}: {self._events} events read")
        try:
            facts = facts_of(raw.read(), self._source, self._catalogue)
        except EventMalformed as error:
            self._malformed += 1
            if self._malformed <= 3:
                _say(f"{self._source}: event {raw.sequence} is left out: {error}")
            return
        self._histories.add(facts.at_us, facts.changes)

    def done(self) -> None:
        left_out = f", {self._malformed} left out" if self._malformed else ""
        _say(f"{self._source}: {self._events} events{left_out}")


def _version(histories: Histories) -> str:
    if histories.last_us is None:
        raise TrainingImpossible("there are no events")
    return f"trained-{datetime.fromtimestamp(histories.last_us // 1_000_000, UTC):%Y-%m-%d}"


def _tell(trained: Trained) -> None:
    for kind, item in trained.kinds.items():
        facts = item.scorecard.training
        assert facts is not None, "it was just trained"
        lines = item.scorecard.characteristics
        learnt = sum(line.origin == "TRAINED" for line in lines)
        _say(f"{kind}: {learnt} characteristics trained, {len(lines) - learnt} by hand")
        for words, measured in (("in time", facts.in_time), ("out of time", facts.out_of_time)):
            if measured is not None:
                _say(
                    f"{kind}: {words} {measured.rows} rows, {measured.bads} of {measured.outcomes} outcomes bad: "
                    f"AUC {measured.auc:.3f}, KS {measured.ks:.3f}, Gini {measured.gini:.3f}"
                )


_STARTED = time.monotonic()


def _say(line: str) -> None:
    print(f"{time.monotonic() - _STARTED:7.1f} s  {line}", file=sys.stderr, flush=True)
