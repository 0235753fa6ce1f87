"""The command that sends a statement file to a running service and says what came of it.

    danbao-payments import-statement FILE.csv --rail rails/simulated [--begin 2026-11-20] [--end 2026-11-21] …

Exit code 0: every line and movement was matched; 2: there are breaks; 1: nothing was imported, the reason is on stderr.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from danbao.payments.v1 import reconciliation_pb2, reconciliation_pb2_grpc
from danbao_kit.call import INTERNAL_DOMAIN
from danbao_kit.money import decimal_text
from danbao_kit.rpc_status import DETAILS_KEY, reason_of
from danbao_kit.timestamps import END_OF_TIME, FIRST_TIME
from danbao_payments.clients.statement_file import Row, StatementUnreadable, read_statement

CLEAN, FAILED, BROKEN = 0, 1, 2
_CHUNK = 1000
_SHOWN = 20
# The answer may have been lost: the same request id tells.
_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED)
_ATTEMPTS = 3


def import_statement(arguments: Sequence[str]) -> int:
    """Runs the command; its exit code."""
    asked = _parser().parse_args(arguments)
    try:
        rows = read_statement(asked.file)
        header = _header(asked, rows)
        with _channel(asked) as channel:
            stub = reconciliation_pb2_grpc.ReconciliationServiceStub(channel)
            made = _send(stub, header, rows, asked)
            _show(made, f"{asked.file}")
            if made.breaks:
                _show_items(stub, made, asked)
    except (StatementUnreadable, OSError) as error:
        print(f"{asked.file}: {error}", file=sys.stderr)
        return FAILED
    except _Wrong as error:
        print(error, file=sys.stderr)
        return FAILED
    except grpc.RpcError as error:
        print(_told(error), file=sys.stderr)
        return FAILED
    return BROKEN if made.breaks else CLEAN


class _Wrong(Exception):
    """What the command was given does not fit together."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="danbao-payments import-statement",
        description="Compares a rail's statement (CSV) with the books. Exit code 0: clean, 2: breaks, 1: not imported.",
    )
    parser.add_argument("file", type=Path, help="external_id,direction,amount,currency,date[,reference,description]")
    parser.add_argument("--rail", required=True, help="rails/{id}")
    parser.add_argument("--currency", default="", help="for a file without lines; else the lines say it")
    parser.add_argument("--begin", help="a day, or a time with its zone; default: the first line's day, UTC")
    parser.add_argument("--end", help="not included; default: the day after the last line's, UTC")
    parser.add_argument(
        "--grace-hours",
        type=float,
        default=0,
        help="movements of so long before the end may come in the next statement",
    )
    parser.add_argument("--request-id", default="", help="default: made of the file's content and these arguments")
    parser.add_argument("--to", default=os.environ.get("DANBAO_GRPC", ""), help="host:port; default: $DANBAO_GRPC")
    parser.add_argument("--ca", type=Path, help="authority of the other side's certificate; without: plain text")
    parser.add_argument("--cert", type=Path, help="own certificate: straight to the service, as the peer operator")
    parser.add_argument("--key", type=Path, help="its private key")
    parser.add_argument("--token-file", type=Path, help="an operator's token; default: $DANBAO_OPERATOR_TOKEN")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds")
    return parser


def _header(asked: argparse.Namespace, rows: Sequence[Row]) -> reconciliation_pb2.StatementHeader:
    currency = rows[0].currency if rows else asked.currency
    if not currency or (asked.currency and asked.currency != currency):
        raise _Wrong(f"the lines are in {currency}, not {asked.currency}" if currency else "--currency is missing")
    if not rows and not (asked.begin and asked.end):
        raise _Wrong("a file without lines needs --begin and --end")
    begin = _time_of(asked.begin) if asked.begin else _midnight(min(row.day for row in rows))
    end = _time_of(asked.end) if asked.end else _midnight(max(row.day for row in rows) + timedelta(days=1))
    header = reconciliation_pb2.StatementHeader(
        request_id=asked.request_id,
        rail=asked.rail,
        currency=currency,
        start_time=_stamp(begin),
        end_time=_stamp(end),
        source=asked.file.name,
        grace=Duration(seconds=round(asked.grace_hours * 3600)),
    )
    if not header.request_id:
        # The same file sent again is the same request.
        digest = hashlib.sha256(header.SerializeToString(deterministic=True))
        digest.update(repr(rows).encode())
        header.request_id = f"statement-{digest.hexdigest()[:48]}"
    return header


def _time_of(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise _Wrong(f"{text!r} is neither a day nor a time as 2026-11-20T00:00:00+08:00") from error
    if not FIRST_TIME.year <= moment.year < END_OF_TIME.year:
        raise _Wrong(f"{text!r} lies outside the years 1970 to 2999")
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _stamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment.astimezone(UTC))
    return stamp


def _channel(asked: argparse.Namespace) -> grpc.Channel:
    if not asked.to:
        raise _Wrong("--to or $DANBAO_GRPC must say where the gateway or the service is")
    if bool(asked.cert) != bool(asked.key) or (asked.cert and not asked.ca):
        raise _Wrong("--cert, --key and --ca go together")
    options: list[tuple[str, str | int]] = [("grpc.enable_http_proxy", 0)]
    if asked.ca is None:
        return grpc.insecure_channel(asked.to, options=options)
    chain, key = (asked.cert.read_bytes(), asked.key.read_bytes()) if asked.cert else (None, None)
    credentials = grpc.ssl_channel_credentials(asked.ca.read_bytes(), key, chain)
    if asked.cert:
        options.append(("grpc.ssl_target_name_override", f"payments{INTERNAL_DOMAIN}"))
    return grpc.secure_channel(asked.to, credentials, options=options)


def _metadata(asked: argparse.Namespace) -> list[tuple[str, str]]:
    if asked.cert:
        return []
    token = asked.token_file.read_text().strip() if asked.token_file else os.environ.get("DANBAO_OPERATOR_TOKEN", "")
    if not token:
        raise _Wrong("an operator's token is needed: --token-file or $DANBAO_OPERATOR_TOKEN")
    return [("authorization", f"Bearer {token}")]


def _send(
    stub: Any, header: reconciliation_pb2.StatementHeader, rows: Sequence[Row], asked: argparse.Namespace
) -> reconciliation_pb2.Reconciliation:
    metadata = _metadata(asked)
    attempt = 0
    while True:
        attempt += 1
        try:
            made: reconciliation_pb2.Reconciliation = stub.ImportStatement(
                _stream(header, rows), timeout=asked.timeout, metadata=metadata, wait_for_ready=attempt > 1
            )
        except grpc.RpcError as error:
            if error.code() not in _AGAIN or attempt == _ATTEMPTS:
                raise
            print(f"{_told(error)}; the same request again", file=sys.stderr)
        else:
            return made


def _stream(
    header: reconciliation_pb2.StatementHeader, rows: Sequence[Row]
) -> Iterator[reconciliation_pb2.ImportStatementRequest]:
    yield reconciliation_pb2.ImportStatementRequest(header=header)
    for at in range(0, len(rows), _CHUNK):
        lines = [_line(row) for row in rows[at : at + _CHUNK]]
        yield reconciliation_pb2.ImportStatementRequest(lines=reconciliation_pb2.StatementLines(lines=lines))
        print(f"\r{min(at + _CHUNK, len(rows))} of {len(rows)} lines sent", end="", file=sys.stderr)
    print("\r" if rows else "", end="\n", file=sys.stderr)


def _line(row: Row) -> reconciliation_pb2.StatementLine:
    return reconciliation_pb2.StatementLine(
        external_id=row.external_id,
        direction=reconciliation_pb2.RailDirection.Value(f"RAIL_DIRECTION_{row.direction}"),
        amount_minor=row.amount_minor,
        booking_date=row.day.isoformat(),
        reference=row.reference,
        description=row.description,
    )


def _show(made: reconciliation_pb2.Reconciliation, source: str) -> None:
    currency = made.currency
    state = reconciliation_pb2.Reconciliation.State.Name(made.state).removeprefix("STATE_")
    times = " to ".join(_day(stamp) for stamp in (made.start_time, made.end_time))
    print(f"{made.name}  {state}\n{source}, {made.rail}, {times}\n")
    rows = [
        ("lines", made.lines, made.in_minor + made.out_minor),
        ("matched", made.matched_lines, made.matched_minor),
        *((_kind(each.kind), each.items, each.minor) for each in made.breaks),
    ]
    for name, count, minor in rows:
        print(f"  {name:<16}{count:>8}{decimal_text(currency, minor):>20} {currency}")


def _show_items(stub: Any, made: reconciliation_pb2.Reconciliation, asked: argparse.Namespace) -> None:
    request = reconciliation_pb2.ListReconciliationItemsRequest(name=made.name, page_size=_SHOWN)
    page = stub.ListReconciliationItems(request, timeout=asked.timeout, metadata=_metadata(asked))
    print()
    for item in page.items:
        there = ", ".join(line.external_id for line in item.lines[:3])
        here = ", ".join(movement.name for movement in item.movements[:3])
        amounts = " / ".join(
            decimal_text(made.currency, minor) for minor in (item.lines_minor, item.movements_minor) if minor
        )
        number = item.name.rpartition("/")[2]
        print(
            f"  {number:>4}  {_kind(item.kind):<15} {amounts:>18}  {' — '.join(part for part in (there, here) if part)}"
        )
    if page.next_page_token:
        print(f"  … the first {_SHOWN} of {made.open_items}; ListReconciliationItems gives all")


def _kind(kind: int) -> str:
    return reconciliation_pb2.BreakKind.Name(kind).removeprefix("BREAK_KIND_")


def _day(stamp: Timestamp) -> str:
    moment = stamp.ToDatetime(UTC)
    return moment.date().isoformat() if moment.time() == time() else moment.isoformat()


def _told(error: Any) -> str:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            return f"{reason_of(status_pb2.Status.FromString(value))[0]}: {error.details()}"
    return f"{error.code().name}: {error.details()}"
