"""A trace as a picture of text: who called whom, when, and for how long."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rich.console import Console
from rich.text import Text

from danbao_local.spans import Span

SERVICE_STYLES = {
    "client": "bold white",
    "gateway": "magenta",
    "escrow": "green",
    "payments": "cyan",
    "credit": "yellow",
}
_BAR_WIDTH = 24
_DURATION_WIDTH = 9
_MAX_DEPTH_SHOWN = 14


@dataclass(frozen=True, slots=True)
class WaterfallRow:
    """One line of the picture."""

    span: Span
    depth: int
    is_linked: bool
    """Belongs here by a link, not as a child: asynchronous work, or work shared with others."""


def arrange(spans: Sequence[Span], trace_id: str) -> list[WaterfallRow]:
    """The order of the lines: children below parents by start; linked work below what it links to.

    A span whose parent is unknown stands at the top. Work of other traces stands below the first
    of our spans that it is linked with, in either direction.
    """
    by_id = {span.span_id: span for span in spans}
    linked_by = {link.span_id: span.span_id for span in reversed(spans) for link in span.links}
    children: dict[str, list[Span]] = {}
    linked: dict[str, list[Span]] = {}
    tops: list[Span] = []
    for span in sorted(spans, key=lambda item: (item.start_ns, -item.end_ns)):
        anchor = _anchor(span, trace_id, by_id, linked_by)
        if span.parent_span_id in by_id:
            children.setdefault(span.parent_span_id, []).append(span)
        elif anchor is not None:
            linked.setdefault(anchor, []).append(span)
        else:
            tops.append(span)
    rows: list[WaterfallRow] = []

    def walk(span: Span, depth: int, *, is_linked: bool) -> None:
        rows.append(WaterfallRow(span=span, depth=depth, is_linked=is_linked))
        for child in children.get(span.span_id, ()):
            walk(child, depth + 1, is_linked=False)
        for other in linked.get(span.span_id, ()):
            walk(other, depth + 1, is_linked=True)

    for top in tops:
        walk(top, 0, is_linked=False)
    return rows


def _anchor(span: Span, trace_id: str, by_id: dict[str, Span], linked_by: dict[str, str]) -> str | None:
    """The span below which one of another trace is shown: the one it links to, or the one that links to it."""
    if span.trace_id == trace_id:
        return None
    for link in span.links:
        if link.span_id in by_id:
            return link.span_id
    return linked_by.get(span.span_id)


def fold_repeated_sql(rows: Sequence[WaterfallRow]) -> list[WaterfallRow]:
    """Every service's first transaction stays in full; the statements of later ones become one line each."""
    folded: list[WaterfallRow] = []
    shown: set[str] = set()
    for (service, _parent, is_sql), group in groupby(rows, key=_statement_group):
        members = list(group)
        if is_sql and len(members) > 1 and service in shown:
            members = [_folded(members)]
        if is_sql:
            shown.add(service)
        folded += members
    return folded


def _statement_group(row: WaterfallRow) -> tuple[str, str, bool]:
    return row.span.service, row.span.parent_span_id, _statement(row.span) != ""


def _folded(rows: Sequence[WaterfallRow]) -> WaterfallRow:
    first, last = rows[0], max(rows, key=lambda row: row.span.end_ns)
    span = replace(first.span, name=f"{len(rows)} SQL statements, as above", end_ns=last.span.end_ns, attributes={})
    return replace(first, span=span)


def render(spans: Sequence[Span], trace_id: str, *, console: Console, fold: bool = False) -> None:
    """Print the waterfall; readable from 80 columns on. `fold` shortens it by fold_repeated_sql."""
    rows = arrange(spans, trace_id)
    if fold:
        rows = fold_repeated_sql(rows)
    if not rows:
        console.print(f"No spans of trace {trace_id} are known.")
        return
    began = min(row.span.start_ns for row in rows)
    ended = max(row.span.end_ns for row in rows)
    services = sorted({row.span.service for row in rows})
    console.print(Text(f"Trace {trace_id}: {len(spans)} spans, {(ended - began) / 1e6:.1f} ms", style="bold"))
    legend = Text("  ")
    for service in services:
        legend.append("■ ", style=_style(service)).append(f"{service}  ")
    legend.append("↪ linked: shared or later work", style="dim")
    console.print(legend)
    label_width = max(24, console.width - _BAR_WIDTH - _DURATION_WIDTH - 3)
    for row in rows:
        console.print(_line(row, began=began, ended=ended, label_width=label_width), no_wrap=True, crop=True)


def _line(row: WaterfallRow, *, began: int, ended: int, label_width: int) -> Text:
    span = row.span
    style = _style(span.service)
    label = Text("  " * min(row.depth, _MAX_DEPTH_SHOWN))
    if row.is_linked:
        label.append("↪ ", style="dim")
    label.append(f"{span.service} ", style=style)
    label.append(_title(span), style="red" if span.is_error else "")
    label.truncate(label_width, overflow="ellipsis", pad=True)
    length = max(ended - began, 1)
    first = min(int((span.start_ns - began) / length * _BAR_WIDTH), _BAR_WIDTH - 1)
    size = max(1, min(round((span.end_ns - span.start_ns) / length * _BAR_WIDTH), _BAR_WIDTH - first))
    line = label.copy()
    line.append(" " + "·" * first, style="dim")
    line.append("█" * size, style="red" if span.is_error else style)
    line.append("·" * (_BAR_WIDTH - first - size), style="dim")
    line.append(f"{span.duration_ms:{_DURATION_WIDTH - 3}.1f} ms")
    return line


def _title(span: Span) -> str:
    """The name, and for SQL the statement itself."""
    return _statement(span) or span.name


def _statement(span: Span) -> str:
    """The SQL of a span that is a statement, on one line."""
    text = span.attributes.get("db.query.text") or span.attributes.get("db.statement") or ""
    return " ".join(str(text).split())


def _style(service: str) -> str:
    return SERVICE_STYLES.get(service, "blue")
