"""One JSON line per thing worth telling: an event name and fields; ids and states, never personal data."""

from __future__ import annotations

import sys
import time
import traceback
from typing import IO, Any

import orjson
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
        """An error with the traceback of the exception at hand; for our logs only, never for a caller."""
        self._write("error", event, {**fields, "exception": traceback.format_exc()})

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if _LEVELS[level] < _Sink.threshold:
            return
        line: dict[str, Any] = {"time": time.time(), "level": level, "service": _Sink.service, "event": event}
        current = trace.get_current_span().get_span_context()
        if current.is_valid:
            line["trace_id"] = f"{current.trace_id:032x}"
        line.update(fields)
        _Sink.stream.write(orjson.dumps(line, default=str) + b"\n")
        _Sink.stream.flush()


log = Logger()


def get_logger() -> Logger:
    """The process's logger."""
    return log
