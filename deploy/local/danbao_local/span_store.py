"""Keeps what services export, in a few append-only files of bounded size, and finds a trace in it.

Exports are stored as they come: receiving must cost the services' machine as little as possible,
and somebody looks at one trace in ten thousand. A question reads the files through; every file
begins anew when full and the oldest goes.
"""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from danbao_local.spans import Span, SpanLink, spans_in

_LENGTH = struct.Struct(">I")


class SpanStore:
    """Payloads in `directory`, at most `files` × `file_bytes`."""

    def __init__(self, directory: Path, *, files: int = 4, file_bytes: int = 16 * 1024 * 1024) -> None:
        self._directory = directory
        self._files = files
        self._file_bytes = file_bytes
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        existing = self._segments()
        self._number = int(existing[-1].stem) + 1 if existing else 1
        self._file = self._open()

    def append(self, payload: bytes) -> None:
        """Keep one export."""
        if self._file.tell() + len(payload) > self._file_bytes:
            self._file.close()
            self._number += 1
            self._file = self._open()
        self._file.write(_LENGTH.pack(len(payload)) + payload)
        self._file.flush()

    def trace(self, trace_id: str) -> list[Span]:
        """The trace's spans, and the work of other traces that belongs to it, by start.

        Work begun because of it: traces whose first span links to it (an event's reader, say).
        Work shared with others: a span that one of these links to (a batch's commit, which stands
        in the trace of another request). Both with everything below them.
        """
        own, readers = [], set()
        for span in self._spans_naming(trace_id):
            if span.trace_id == trace_id:
                own.append(span)
            elif _is_begun_by(span, trace_id):
                readers.add(span.trace_id)
        chosen = {span.span_id: span for span in own}
        for reader in sorted(readers):
            spans = self._spans_of(reader)
            firsts = {span.span_id for span in spans if _is_begun_by(span, trace_id)}
            chosen |= {span.span_id: span for span in _with_descendants(spans, firsts)}
        while wanted := _missing(chosen):
            for other in sorted({link.trace_id for link in wanted}):
                spans = self._spans_of(other)
                chosen |= {span.span_id: span for span in _with_descendants(spans, {link.span_id for link in wanted})}
            if _missing(chosen) >= wanted:
                break  # what is missing was never kept, or is kept no more
        return sorted(chosen.values(), key=lambda span: (span.start_ns, span.end_ns))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self) -> BinaryIO:
        for old in self._segments()[: -(self._files - 1) or None]:
            with contextlib.suppress(FileNotFoundError):
                old.unlink()
        return (self._directory / f"{self._number:08d}.spans").open("ab")

    def _segments(self) -> list[Path]:
        return sorted(self._directory.glob("*.spans"))

    def _spans_of(self, trace_id: str) -> list[Span]:
        return [span for span in self._spans_naming(trace_id) if span.trace_id == trace_id]

    def _spans_naming(self, trace_id: str) -> Iterator[Span]:
        """The spans of every export that has the id's bytes in it somewhere."""
        needle = bytes.fromhex(trace_id)
        for segment in self._segments():
            content = segment.read_bytes()
            if needle not in content:
                continue
            for payload in _payloads(content):
                if needle in payload:
                    yield from spans_in(payload)


def _payloads(content: bytes) -> Iterator[bytes]:
    """The records of a file; a torn last one is left out."""
    offset = 0
    while offset + _LENGTH.size <= len(content):
        (length,) = _LENGTH.unpack_from(content, offset)
        offset += _LENGTH.size
        if offset + length > len(content):
            return
        yield content[offset : offset + length]
        offset += length


def _is_begun_by(span: Span, trace_id: str) -> bool:
    return not span.parent_span_id and any(link.trace_id == trace_id for link in span.links)


def _missing(chosen: dict[str, Span]) -> set[SpanLink]:
    return {link for span in chosen.values() for link in span.links if link.span_id not in chosen}


def _with_descendants(spans: list[Span], firsts: set[str]) -> list[Span]:
    chosen = {span.span_id for span in spans} & firsts
    grown = True
    while grown:
        more = {span.span_id for span in spans if span.parent_span_id in chosen} - chosen
        chosen |= more
        grown = bool(more)
    return [span for span in spans if span.span_id in chosen]
