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

from danbao_local.spans import Span, spans_in

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
        """The trace's spans, and what other traces did because of it or for it.

        That is: every trace with a span that links to this trace, and every trace that a span of
        this trace links to (a shared batch, say), as far as those spans and what is below them.
        """
        wanted = bytes.fromhex(trace_id)
        own: list[Span] = []
        others: dict[str, list[Span]] = {}
        linking: set[str] = set()
        for payload in self._payloads_with(wanted):
            for span in spans_in(payload):
                if span.trace_id == trace_id:
                    own.append(span)
                elif any(link.trace_id == trace_id for link in span.links):
                    linking.add(span.trace_id)
        linking |= {link.trace_id for span in own for link in span.links} - {trace_id}
        for other in linking:
            needle = bytes.fromhex(other)
            for payload in self._payloads_with(needle):
                found = [span for span in spans_in(payload) if span.trace_id == other]
                others.setdefault(other, []).extend(found)
        for spans in others.values():
            own.extend(_concerning(spans, trace_id, own))
        return sorted(own, key=lambda span: (span.start_ns, span.end_ns))

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

    def _payloads_with(self, needle: bytes) -> Iterator[bytes]:
        for segment in self._segments():
            content = segment.read_bytes()
            if needle not in content:
                continue
            for payload in _payloads(content):
                if needle in payload:
                    yield payload


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


def _concerning(spans: list[Span], trace_id: str, own: list[Span]) -> list[Span]:
    """Of another trace: the spans linked with ours, and everything below them."""
    linked_from_ours = {link.span_id for span in own for link in span.links}
    chosen = {
        span.span_id
        for span in spans
        if span.span_id in linked_from_ours or any(link.trace_id == trace_id for link in span.links)
    }
    grown = True
    while grown:
        more = {span.span_id for span in spans if span.parent_span_id in chosen} - chosen
        chosen |= more
        grown = bool(more)
    return [span for span in spans if span.span_id in chosen]
