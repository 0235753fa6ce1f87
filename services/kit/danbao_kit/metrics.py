"""How gauges are sent: OTLP when an endpoint is set, nothing otherwise."""

from __future__ import annotations

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

_EVERY_MS = 15_000


def start_metrics(*, service: str, endpoint: str) -> MeterProvider | None:
    """Sends this process's metrics to `endpoint` (host:port, OTLP/gRPC). The provider is shut down at the end."""
    if not endpoint:
        return None
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    exporter = OTLPMetricExporter(endpoint=endpoint, insecure=True, timeout=5)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=_EVERY_MS, export_timeout_millis=5_000)
    provider = MeterProvider([reader], Resource.create({"service.name": service}), shutdown_on_exit=False)
    metrics.set_meter_provider(provider)
    return provider
