"""One JSON line per thing worth telling: an event name and fields; ids and states, never personal data.

A message is never written, only its type's name, and of an exception only its class and where it came from: both may
carry what a caller wrote, or a password.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator
from typing import IO, Any

import asyncpg
import orjson
from google.protobuf.message import Message
from opentelemetry import trace

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class _Sink:
    service = ""
    threshold = 20
    stream: IO[bytes] = sys.stderr.buffer


def configure_logging(*, service: str, level: str) -> None:
    """Names the service on every line and sets the lowest level that is written."""
    _Sink.service = service
    _Sink.threshold = _LEVELS[level]


class Logger:
    """Writes JSON lines to standard error."""

    def debug(self, event: str, **fields: Any) -> None:
        self._write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._write("error", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """An error with where the exception at hand came from; for our logs only, never for a caller."""
        self.failure(event, sys.exception(), **fields)

    def failure(self, event: str, error: BaseException | None, **fields: Any) -> None:
        """An error with where `error` came from, what led to it first."""
        told = "\n".join(_origins(error)) if error is not None else ""
        self._write("error", event, {**fields, "exception": told})

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if _LEVELS[level] < _Sink.threshold:
            return
        line: dict[str, Any] = {"time": time.time(), "level": level, "service": _Sink.service, "event": event}
        current = trace.get_current_span().get_span_context()
        if current.is_valid:
            line["trace_id"] = f"{current.trace_id:032x}"
        line.update(fields)
        _Sink.stream.write(orjson.dumps(line, default=_shown) + b"\n")
        _Sink.stream.flush()


def _shown(value: Any) -> str:
    """What is no JSON by itself."""
    if isinstance(value, Message):
        return f"<{value.DESCRIPTOR.full_name}>"
    if isinstance(value, BaseException):
        return _class_of(value)
    return str(value)


def _origins(error: BaseException) -> Iterator[str]:
    """An exception, those that led to it before, those within it after."""
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None:
        yield from _origins(earlier)
        yield "which led to:"
    yield "".join(traceback.format_tb(error.__traceback__)) + _class_of(error)
    if isinstance(error, BaseExceptionGroup):
        for within in error.exceptions:
            yield from _origins(within)


def _class_of(error: BaseException) -> str:
    """Its class, and what its maker says of it that is no text: PostgreSQL puts whole rows into those."""
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    if isinstance(error, asyncpg.PostgresError):
        parts = (error.sqlstate, error.table_name, error.column_name, error.constraint_name)
        return f"{name}: {' '.join(part for part in parts if part)}"
    # What the system says of a file or a socket, and what we say of a mistake of our own.
    return f"{name}: {error}" if isinstance(error, OSError | AssertionError) else name


log = Logger()


def get_logger() -> Logger:
    """The process's logger."""
    return log
