"""What is counted? Requests, their time and their fate, under the stock server's names and in its page for Prometheus.

The stock server tells neither how many requests run or wait, nor how long failures take; these are here under
`:kerasllm:serving:`. Times are in microseconds, as there.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.server.status import Code, StatusError, invalid

DEFAULT_PATH = "/monitoring/prometheus/metrics"
_MAX_MODEL_NAMES = 1000  # clients choose them: more are counted under one name, or memory would be theirs to fill
_OTHER_MODELS = "(other)"
_STOCK, _OURS = ":tensorflow:serving:", ":kerasllm:serving:"
_TIMES = [10 * 1.8**power for power in range(33)]  # 10 us to 25 minutes
_COUNTS = [2.0**power for power in range(16)]
_SHARES = [tenth / 10 for tenth in range(1, 11)]


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        names = ["model_name", "API", "entrypoint"]
        self._requests = Counter(
            f"{_STOCK}request_count", "Requests.", ["model_name", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            f"{_STOCK}request_latency", "Successes.", names, buckets=_TIMES, registry=self._registry
        )
        self._examples = Counter(
            f"{_STOCK}request_example_count_total", "Examples.", ["model"], registry=self._registry
        )
        self._example_counts = Histogram(
            f"{_STOCK}request_example_counts",
            "Examples in a request.",
            ["model"],
            buckets=_COUNTS,
            registry=self._registry,
        )
        self._failures = Histogram(
            f"{_OURS}error_latency", "Failures.", [*names, "status"], buckets=_TIMES, registry=self._registry
        )
        self._in_flight = Gauge(
            f"{_OURS}requests_in_flight", "Arrived, not answered.", ["entrypoint"], registry=self._registry
        )
        self._queued = Gauge(
            f"{_OURS}requests_queued", "Waiting for a thread.", ["entrypoint"], registry=self._registry
        )
        batching = f"{_STOCK}batching_session:"
        self._batches = Counter(f"{batching}wrapped_run_count", "Batches run.", registry=self._registry)
        self._task_rows, self._batch_rows = (
            Histogram(f"{batching}{name}", "Rows.", buckets=_COUNTS, registry=self._registry)
            for name in ("input_batch_size", "processed_batch_size")
        )
        self._padding = Histogram(
            f"{batching}padding_size", "Rows.", ["execution_batch_size"], buckets=_COUNTS, registry=self._registry
        )
        self._fill = Histogram(f"{_OURS}batch_fill", "Share.", buckets=_SHARES, registry=self._registry)
        self._parts = Counter(f"{_OURS}stream_parts", "Runs for streams.", ["model_name"], registry=self._registry)
        self._streams = Gauge(f"{_OURS}streams_open", "Begun, not ended.", ["model_name"], registry=self._registry)
        self._model_names: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def in_flight(self, entrypoint: str) -> Iterator[None]:
        """Counts a request as in flight while the block runs."""
        gauge = self._in_flight.labels(entrypoint)
        gauge.inc()
        try:
            yield
        finally:
            gauge.dec()

    def queued(self, entrypoint: str, change: int) -> None:
        """Counts requests that begin (1) or cease (-1) to wait for a thread."""
        self._queued.labels(entrypoint).inc(change)

    def answered(
        self, entrypoint: str, model_name: str, api: str, code: Code, start: float, num_examples: int = 0
    ) -> None:
        """Counts an answer to a request that began at `start`, a time of `time.monotonic`."""
        name = self._bounded(model_name)
        microseconds = (time.monotonic() - start) * 1e6
        self._requests.labels(name, code.name).inc()
        if code != Code.OK:
            self._failures.labels(name, api, entrypoint, code.name).observe(microseconds)
            return
        self._seconds.labels(name, api, entrypoint).observe(microseconds)
        if num_examples:
            self._examples.labels(name).inc(num_examples)
            self._example_counts.labels(name).observe(num_examples)

    @contextmanager
    def streaming(self, model_name: str) -> Iterator[Callable[[], None]]:
        """Counts a stream as open while the block runs; what it gives is to be called at each part."""
        name = self._bounded(model_name)
        gauge = self._streams.labels(name)
        gauge.inc()
        try:
            yield self._parts.labels(name).inc
        finally:
            gauge.dec()

    def batch_ran(self, task_rows: Sequence[int], padded_rows: int, most_rows: int) -> None:
        """Counts a batch: the rows of each of its tasks, all with padding, and the most that it could have held."""
        rows = sum(task_rows)
        self._batches.inc()
        for size in task_rows:
            self._task_rows.observe(size)
        self._batch_rows.observe(padded_rows)
        self._padding.labels(padded_rows).observe(padded_rows - rows)
        self._fill.observe(rows / most_rows)

    def watch(self, name: str, read: Callable[[], float]) -> None:
        """Adds a gauge of ours whose value is read whenever the page is made."""
        Gauge(f"{_OURS}{name}", name, registry=self._registry).set_function(read)

    def page(self) -> bytes:
        """All values, in the text format and under the names that the stock server gives them."""
        lines = []
        for metric in self._registry.collect():
            samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            is_counter = metric.type == "counter"
            stock_name = f"{metric.name}_total" if metric.name.endswith("example_count") else metric.name
            lines.append(f"# TYPE {stock_name} {metric.type}")
            for sample in samples:
                name = stock_name if is_counter else sample.name
                labels = ",".join(f'{key}="{_label(key, value)}"' for key, value in sample.labels.items())
                lines.append(f"{name}{{{labels}}} {_number(sample.value)}")
        return "".join(f"{line}\n" for line in lines).encode()

    def _bounded(self, model_name: str) -> str:
        with self._lock:
            if model_name not in self._model_names and len(self._model_names) >= _MAX_MODEL_NAMES:
                return _OTHER_MODELS
            self._model_names.add(model_name)
            return model_name


def read_monitoring_path(path: str) -> str | None:
    """The path at which a text MonitoringConfig wants the page; None where it wants none.

    Raises:
      StatusError: NOT_FOUND, or INVALID_ARGUMENT, not such a file.
    """
    config = _monitoring_config()
    try:
        text_format.Parse(Path(path).read_text(encoding="utf-8"), config)
    except OSError as error:
        message = f"{path}: cannot read the monitoring configuration ({error.strerror})."
        raise StatusError(Code.NOT_FOUND, message) from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise invalid(f"Invalid protobuf file: '{path}' ({error})") from error
    return (config.prometheus_config.path or DEFAULT_PATH) if config.prometheus_config.enable else None


def _monitoring_config() -> Any:
    """An empty tensorflow.serving.MonitoringConfig, which tensorflow-serving-api lacks, from a pool of its own."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="monitoring_config.proto", package="tensorflow.serving", syntax="proto3"
    )
    prometheus = file.message_type.add(name="PrometheusConfig")
    prometheus.field.add(name="enable", number=1, type=kinds.TYPE_BOOL, label=kinds.LABEL_OPTIONAL)
    prometheus.field.add(name="path", number=2, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    monitoring = file.message_type.add(name="MonitoringConfig")
    monitoring.field.add(
        name="prometheus_config",
        number=1,
        type=kinds.TYPE_MESSAGE,
        type_name=".tensorflow.serving.PrometheusConfig",
        label=kinds.LABEL_OPTIONAL,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.MonitoringConfig"))()


def _label(key: str, value: str) -> str:
    if key == "le" and value != "+Inf":
        return f"{float(value):g}"
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) else str(value)
