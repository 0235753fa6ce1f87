"""One trade is one trace: through the gateway, escrow, payments, their batches and SQL, with credit's work linked."""

import threading

import pytest

from danbao_local import demo
from danbao_local.client import ClientTrace, GatewayClient
from danbao_local.otlp_receiver import TraceReader

MONEY_CALLS = ("PayTrade", "ConfirmLines")
CALLS = ("CreateTopUp", "CreateTrade", "PayTrade", "ShipLines", "ReportDelivery", "ConfirmLines")


class Tree:
    """The spans of a trace and of what it links with."""

    def __init__(self, spans, trace_id):
        self.spans = spans
        self.trace_id = trace_id
        self.by_id = {span.span_id: span for span in spans}

    def own(self, **wanted):
        return [
            span
            for span in self.spans
            if span.trace_id == self.trace_id and all(getattr(span, key) == value for key, value in wanted.items())
        ]

    def children(self, parent):
        return [span for span in self.spans if span.parent_span_id == parent.span_id]

    def below(self, parent):
        """Everything below a span, also over the links of shared batches and shared calls."""
        found, open_ = [], [parent]
        while open_:
            span = open_.pop()
            further = self.children(span) + [
                self.by_id[link.span_id] for link in span.links if link.span_id in self.by_id
            ]
            for one in further:
                if one not in found:
                    found.append(one)
                    open_.append(one)
        return found


def check(tree):
    """What must be there for a trade's trace to tell its whole story."""
    (root,) = tree.own(name="demo trade")
    for call in CALLS:
        (client_span,) = [span for span in tree.own(name=call, service="client") if span.parent_span_id == root.span_id]
        below = tree.below(client_span)
        gateway = [span for span in below if span.service == "gateway"]
        assert gateway, f"{call}: the gateway's span is missing"
        service = "payments" if call == "CreateTopUp" else "escrow"
        servers = [span for span in below if span.service == service and span.name.endswith(f"/{call}")]
        assert servers, f"{call}: {service}'s span is missing"
        names = {(span.service, span.name) for span in below}
        for needed in ("group_commit.wait", "group_commit.commit"):
            assert (service, needed) in names, f"{call}: {needed} of {service} is missing"
        assert any(owner == service and name.startswith("SQL ") for owner, name in names), (
            f"{call}: no SQL of {service}"
        )
        if call in MONEY_CALLS:
            assert any(owner == "payments" and name.endswith("PaymentService/BatchExecute") for owner, name in names), (
                f"{call}: payments' span is missing"
            )
            for needed in ("group_commit.wait", "group_commit.commit"):
                assert ("payments", needed) in names, f"{call}: {needed} of payments is missing"
            assert any(owner == "payments" and name.startswith("SQL ") for owner, name in names), f"{call}: no SQL"
    ours = {span.span_id for span in tree.own()}
    credit = [
        span for span in tree.spans if span.service == "credit" and any(link.span_id in ours for link in span.links)
    ]
    assert len(credit) >= 5, "credit's work is linked to what caused it"


def test_a_trade_alone_shows_its_whole_way(running):
    result = demo.play(running.card)
    tree = Tree(result.spans, result.trace_id)
    check(tree)
    # Alone, the statements stand in the trade's own trace, below the commit they belong to.
    statements = [span for span in tree.own() if span.name.startswith("SQL ")]
    assert {span.service for span in statements} >= {"escrow", "payments"}
    for statement in statements:
        assert statement.attributes["db.system"] == "postgresql"
        assert tree.by_id[statement.parent_span_id].service == statement.service


def test_a_trade_among_fifty_others_shows_its_whole_way(running):
    """Fifty others trade until ours is through, so that it shares batches with them."""
    done, failures = threading.Event(), []
    together = threading.Barrier(51)

    def trade_until_done():
        together.wait()
        try:
            with GatewayClient(running.card) as client:
                while not done.is_set():
                    demo.secured_trade(client)
        except Exception as failure:  # noqa: BLE001 - shown below
            failures.append(failure)

    others = [threading.Thread(target=trade_until_done) for _ in range(50)]
    for other in others:
        other.start()
    together.wait()
    trace = ClientTrace("demo trade")
    with GatewayClient(running.card, trace) as client:
        try:
            _, trade = demo.secured_trade(client)
        finally:
            done.set()
            for other in others:
                other.join()
        assert not failures
        assert trade["state"] == "COMPLETED"
        reader = TraceReader(running.card.otlp)
        reader.export(trace.finish())
        demo.wait_for_credit(running.card, client.untraced())
    spans = demo.complete_trace(reader, trace.trace_id)
    reader.close()
    tree = Tree(spans, trace.trace_id)
    check(tree)
    commits = tree.own(name="group_commit.commit")
    assert any(span.attributes["danbao.batch.size"] > 1 for span in commits), "no batch was shared: nothing was shown"


@pytest.mark.parametrize("secret", ["Bearer ", "eyJ"])
def test_no_span_carries_a_token(running, secret):
    for span in running.demo.spans:
        for value in span.attributes.values():
            assert secret not in str(value)
