"""Streams of events kept in files, to be read again without the services: each event as its length and its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from danbao.escrow.v1 import event_pb2 as escrow_event_pb2
from danbao.payments.v1 import event_pb2 as payments_event_pb2
from danbao_credit.application.ports import RawEvent
from danbao_credit.clients.decoding import EscrowEvent, PaymentsEvent
from danbao_credit.domain.errors import EventMalformed
from danbao_credit.domain.events import Source

_LENGTH_BYTES = 4


def file_of(folder: Path, source: Source) -> Path:
    """Where a stream is kept."""
    return folder / f"{source}.events"


def keep(file: BinaryIO, event: RawEvent) -> None:
    """Writes one event behind the others."""
    payload = event.payload
    file.write(len(payload).to_bytes(_LENGTH_BYTES, "big"))
    file.write(payload)


def kept(folder: Path, source: Source) -> Iterator[RawEvent]:
    """The events of a stream as they were kept. Raises OSError, and EventMalformed for a file that was cut off."""
    with file_of(folder, source).open("rb") as file:
        while header := file.read(_LENGTH_BYTES):
            length = int.from_bytes(header, "big")
            payload = file.read(length)
            if len(header) < _LENGTH_BYTES or len(payload) < length:
                raise EventMalformed(f"{file_of(folder, source)} ends within an event")
            yield _event(source, payload)


def _event(source: Source, payload: bytes) -> RawEvent:
    if source is Source.ESCROW:
        return EscrowEvent(escrow_event_pb2.Event.FromString(payload))
    return PaymentsEvent(payments_event_pb2.Event.FromString(payload))
