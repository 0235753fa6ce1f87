"""How gauges are sent: OTLP when an endpoint is set, nothing otherwise."""

from __future__ import annotations

import logging

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

_EVERY_MS = 15_000
_PATIENCE_MS = 1_000


def start_metrics(*, service: str, endpoint: str) -> MeterProvider | None:
    """Sends this process's metrics to `endpoint` (host:port, OTLP/gRPC). Ended by stop_metrics."""
    if not endpoint:
        return None
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    # Our log is lines of JSON. That a collector is away shows where the metrics end.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    exporter = OTLPMetricExporter(endpoint=endpoint, insecure=True, timeout=5)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=_EVERY_MS, export_timeout_millis=5_000)
    provider = MeterProvider([reader], Resource.create({"service.name": service}), shutdown_on_exit=False)
    metrics.set_meter_provider(provider)
    return provider


def stop_metrics(provider: MeterProvider | None) -> None:
    """Sends what there is for the last time, and waits no longer than a moment for a collector that is away."""
    if provider is not None:
        provider.shutdown(timeout_millis=_PATIENCE_MS)
