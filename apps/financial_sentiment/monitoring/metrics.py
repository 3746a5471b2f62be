"""What can Prometheus ask a running monitor? Counts since its start, and each topic's mood now."""

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from apps.financial_sentiment.monitoring.pipeline import Committed
from kerasllm.errors import ConfigError

OUTCOMES = ("counted", "duplicate", "late", "rejected")


class Metrics:
    """Metrics of one monitor in a registry of their own; call it with each commit."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._events = Counter("monitor_events", "Lines handled, by outcome.", ["outcome"], registry=self.registry)
        self._alerts = Counter("monitor_alerts", "Alerts raised.", ["topic"], registry=self.registry)
        self._retries = Counter("monitor_server_retries", "Calls repeated.", registry=self.registry)
        self._share = Gauge("monitor_negative_share", "Of the last window.", ["topic"], registry=self.registry)
        self._expected = Gauge("monitor_expected_share", "By the history.", ["topic"], registry=self.registry)
        self._texts = Gauge("monitor_window_texts", "In the last window.", ["topic"], registry=self.registry)
        self._watermark = Gauge(
            "monitor_watermark_seconds", "No text before this time is waited for; seconds since 1970.",
            registry=self.registry,
        )  # fmt: skip
        for outcome in OUTCOMES:
            self._events.labels(outcome)

    def serve(self, port: int) -> int:
        """Answers at http://HOST:port/metrics, and returns the port, which 0 leaves to the system.

        Raises:
          ConfigError: the port is taken.
        """
        try:
            server, _ = start_http_server(port, registry=self.registry)
        except OSError as error:
            raise ConfigError(f"--metrics_port {port}: {error.strerror}. Give another one, or 0.") from None
        return int(server.server_port)

    def count_retry(self) -> None:
        """A call to the model server failed and will be repeated."""
        self._retries.inc()

    def __call__(self, done: Committed) -> None:
        """Takes over one commit."""
        for outcome in OUTCOMES:
            self._events.labels(outcome).inc(done.counts[outcome])
        for alert in done.alerts:
            self._alerts.labels(alert["topic"]).inc()
        for mood in done.moods:
            self._share.labels(mood.topic).set(mood.verdict.share)
            self._expected.labels(mood.topic).set(mood.verdict.expected_share)
            self._texts.labels(mood.topic).set(mood.verdict.texts)
        if done.counts["counted"]:
            self._watermark.set(done.watermark)
