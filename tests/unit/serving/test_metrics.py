"""Are requests counted under the stock server's names, in a page that Prometheus reads?"""

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.server.metrics import Metrics, read_monitoring_path
from serving.server.status import Code, StatusError


def _values(metrics):
    """Every sample of the page by its name and labels, as Prometheus's own parser reads them."""
    families = text_string_to_metric_families(metrics.page().decode())
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def test_requests_are_counted_by_model_and_status():
    metrics = Metrics()
    for code in (Code.OK, Code.OK, Code.NOT_FOUND):
        metrics.answered("GRPC", "m", "Predict", code, time.monotonic())
    lines = metrics.page().decode().splitlines()
    assert "# TYPE :tensorflow:serving:request_count counter" in lines
    assert ':tensorflow:serving:request_count{model_name="m",status="OK"} 2' in lines
    assert ':tensorflow:serving:request_count{model_name="m",status="NOT_FOUND"} 1' in lines
    assert "_created" not in metrics.page().decode()


def test_successes_and_failures_have_times_of_their_own_in_stock_buckets():
    metrics = Metrics()
    metrics.answered("REST", "m", "predict", Code.OK, time.monotonic() - 0.001)  # at least 1000 us: above 10 * 1.8^7
    metrics.answered("REST", "m", "predict", Code.INTERNAL, time.monotonic())
    values = _values(metrics)
    labels = [("API", "predict"), ("entrypoint", "REST"), ("model_name", "m")]
    name = ":tensorflow:serving:request_latency"
    buckets = [key for key in values if key[0] == f"{name}_bucket"]
    assert len(buckets) == 34  # 33 and +Inf
    assert values[(f"{name}_bucket", *sorted([*labels, ("le", "10")]))] == 0
    assert values[(f"{name}_bucket", *sorted([*labels, ("le", "612.22")]))] == 0
    assert values[(f"{name}_bucket", *sorted([*labels, ("le", "+Inf")]))] == 1
    assert values[(f"{name}_sum", *sorted(labels))] >= 1000
    assert values[(":kerasllm:serving:error_latency_count", *sorted([*labels, ("status", "INTERNAL")]))] == 1


def test_examples_are_counted():
    metrics = Metrics()
    for number in (1, 3):
        metrics.answered("GRPC", "m", "Classify", Code.OK, time.monotonic(), number)
    values = _values(metrics)
    assert values[":tensorflow:serving:request_example_count_total", ("model", "m")] == 4
    assert values[":tensorflow:serving:request_example_counts_bucket", ("le", "2"), ("model", "m")] == 1


def test_what_runs_waits_and_is_watched_is_told():
    metrics = Metrics()
    metrics.queued("REST", 1)
    metrics.watch("queue_depth", lambda: 7)
    with metrics.in_flight("GRPC"):
        values = _values(metrics)
    assert values[":kerasllm:serving:requests_in_flight", ("entrypoint", "GRPC")] == 1
    assert values[":kerasllm:serving:requests_queued", ("entrypoint", "REST")] == 1
    assert values[(":kerasllm:serving:queue_depth",)] == 7
    assert _values(metrics)[":kerasllm:serving:requests_in_flight", ("entrypoint", "GRPC")] == 0


def test_batches_tell_their_rows_their_padding_and_how_full_they_are():
    metrics = Metrics()
    metrics.batch_ran([1, 2], padded_rows=4, most_rows=8)  # 3 rows of 8: 0.375 full; one row of padding
    values = _values(metrics)
    batching = ":tensorflow:serving:batching_session:"
    assert values[(f"{batching}wrapped_run_count_total",)] == 1
    assert values[(f"{batching}input_batch_size_sum",)] == 3
    assert values[(f"{batching}input_batch_size_count",)] == 2
    assert values[(f"{batching}processed_batch_size_sum",)] == 4
    assert values[f"{batching}padding_size_sum", ("execution_batch_size", "4")] == 1
    assert values[":kerasllm:serving:batch_fill_bucket", ("le", "0.3")] == 0
    assert values[":kerasllm:serving:batch_fill_bucket", ("le", "0.4")] == 1


def test_names_that_clients_make_up_do_not_fill_the_memory_or_break_the_page():
    metrics = Metrics()
    for number in range(1100):
        metrics.answered("REST", f'm"\\\n{number}', "predict", Code.NOT_FOUND, time.monotonic())
    name = ":tensorflow:serving:request_count_total"  # the parser adds what the stock server leaves out
    counts = {key: value for key, value in _values(metrics).items() if key[0] == name}
    assert len(counts) == 1001
    assert counts[name, ("model_name", "(other)"), ("status", "NOT_FOUND")] == 100
    assert counts[name, ("model_name", 'm"\\\n0'), ("status", "NOT_FOUND")] == 1


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('prometheus_config: { enable: true, path: "/metrics" }', "/metrics"),
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { path: "/metrics" }', None),
        ("", None),
    ],
)
def test_the_configuration_says_where_the_page_is(tmp_path, text, path):
    (tmp_path / "monitoring.config").write_text(text)
    assert read_monitoring_path(str(tmp_path / "monitoring.config")) == path


def test_a_configuration_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(StatusError, match="cannot read the monitoring configuration"):
        read_monitoring_path(str(tmp_path / "missing"))
    (tmp_path / "broken").write_text("prometheus {}")
    with pytest.raises(StatusError, match="Invalid protobuf file"):
        read_monitoring_path(str(tmp_path / "broken"))
