"""Watches a stream of texts through the model server, and raises an alert when a topic's mood turns.

python -m apps.financial_sentiment.monitor --server 127.0.0.1:8500 --model sentiment --input news.jsonl --follow \
    --workdir runs/monitor --plot mood.png
"""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from apps.flags import run_program

if TYPE_CHECKING:
    from apps.financial_sentiment.monitoring.board import Board
    from apps.financial_sentiment.monitoring.pipeline import Committed, Pipeline

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Says what is watched, through which server, and where what is found goes."""
    flags.DEFINE_string("server", "127.0.0.1:8500", "HOST:PORT of the gRPC server.")
    flags.DEFINE_string("model", "sentiment", "Name of the model on the server.")
    flags.DEFINE_string("input", None, "-, a .jsonl or .tsv file, or a folder: time, text, id?, topic?.", required=True)
    flags.DEFINE_bool("follow", False, "Go on when the input's end is reached: wait for more.")
    flags.DEFINE_string("workdir", None, "Folder of alerts.jsonl, state and logs; goes on there.", required=True)
    flags.DEFINE_string("plot", None, "Picture to draw at the end: mood per topic, alerts marked.")
    flags.DEFINE_integer("metrics_port", None, "Port for Prometheus; 0 takes a free one; none by default.")
    flags.DEFINE_bool("tensorboard", True, "Write mood and alerts to WORKDIR/tensorboard.")
    flags.DEFINE_bool("mask_personal_data", True, "Mask mail addresses, phone, card and ID numbers in stored texts.")
    flags.DEFINE_string("negative_label", "negative", "The label whose share is watched.")
    flags.DEFINE_float("deadline_s", 30.0, "Seconds that one call may take.", lower_bound=0)
    flags.DEFINE_integer("batch", 64, "Texts of one call.", lower_bound=1)
    flags.DEFINE_float("commit_s", 1.0, "Seconds between two saves of the state, at least.", lower_bound=0)
    flags.DEFINE_float("lateness_s", 60.0, "Seconds that a text may come in late and still count.", lower_bound=0)
    flags.DEFINE_float("dedupe_s", 3600.0, "Seconds before the watermark that copies are known for.", lower_bound=0)
    flags.DEFINE_float("ahead_s", 86_400.0, "Refuse a text so far ahead of all others that is alone with that.", 1.0)
    flags.DEFINE_multi_string("detector", [], "Setting of the detector, NAME=VALUE, such as evidence=7.")


def main() -> None:
    """Watches until the input ends, or a signal comes; then draws, if asked to."""
    from apps.financial_sentiment.monitoring import plot
    from apps.financial_sentiment.monitoring.detector import detector_settings
    from apps.financial_sentiment.monitoring.journal import Journal
    from apps.financial_sentiment.monitoring.metrics import Metrics
    from apps.financial_sentiment.monitoring.pipeline import Pipeline
    from apps.financial_sentiment.monitoring.scoring import Scorer
    from apps.financial_sentiment.monitoring.sources import open_source
    from apps.financial_sentiment.monitoring.windows import Windows
    from serving.clients import PredictClient

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    detector = detector_settings(FLAGS.detector)
    settings = {"lateness_s": FLAGS.lateness_s, "negative_label": FLAGS.negative_label, **detector.model_dump()}
    journal = Journal(FLAGS.workdir, settings)
    mask = _mask if FLAGS.mask_personal_data else str
    windows, positions = Windows(detector, FLAGS.lateness_s, FLAGS.dedupe_s, mask, FLAGS.ahead_s), {}
    if journal.state is not None:
        windows.restore(journal.state["windows"])
        positions = journal.state["positions"]
    source = open_source(FLAGS.input, FLAGS.workdir, positions, FLAGS.follow)
    metrics = Metrics()
    if FLAGS.metrics_port is not None:
        print(f"metrics at port {metrics.serve(FLAGS.metrics_port)}", flush=True)
    with PredictClient(FLAGS.server, FLAGS.model, FLAGS.deadline_s) as client:
        scorer = Scorer(client, FLAGS.negative_label, stop, metrics.count_retry)
        reports: tuple[Callable[[Committed], None], ...] = (metrics, *_board())
        pipeline = Pipeline(source, scorer, windows, journal, positions, reports, FLAGS.batch, FLAGS.commit_s)
        pipeline.run(FLAGS.follow, stop)
    _summarize(pipeline)
    if FLAGS.plot:
        plot.draw_mood(Path(FLAGS.workdir), FLAGS.plot)


def _board() -> "list[Board]":
    if not FLAGS.tensorboard:
        return []
    from apps.financial_sentiment.monitoring.board import Board

    return [Board(Path(FLAGS.workdir) / "tensorboard")]


def _mask(text: str) -> str:
    from kerasllm.text.privacy import mask_personal_data  # slow to load, so only when there is something to mask

    return mask_personal_data(text)


def _summarize(pipeline: "Pipeline") -> None:
    names = ("counted", "duplicate", "late", "rejected")
    print(", ".join(f"{pipeline.totals[name]:,} {name}" for name in names), f"-> {FLAGS.workdir}/alerts.jsonl")


if __name__ == "__main__":
    define_flags()
    run_program(main)
