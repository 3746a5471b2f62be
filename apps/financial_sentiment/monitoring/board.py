"""How does TensorBoard show a monitor? Mood and expectation as curves of time, alerts as texts; without TensorFlow."""

import html
import itertools
import os
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from apps.financial_sentiment.monitoring.pipeline import Committed

_FILES = itertools.count()  # of this process


class Board:
    """Writes one event file; call it with each commit. Steps are minutes since 1970, wall times are event times."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010}.monitor.{os.getpid()}.{next(_FILES)}"
        self._file = open(folder / name, "wb")  # noqa: SIM115  open as long as the monitor runs
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def __call__(self, done: Committed) -> None:
        """Takes over one commit."""
        for mood in done.moods:
            values = [Summary.Value(tag=f"negative_share/{mood.topic}", simple_value=mood.verdict.share)]
            if mood.verdict.expected_share == mood.verdict.expected_share:  # not NaN
                tag = f"expected_share/{mood.topic}"
                values.append(Summary.Value(tag=tag, simple_value=mood.verdict.expected_share))
            if mood.alert is not None:
                values.append(_text_value(f"alerts/{mood.topic}", _as_markdown(mood.alert)))
            self._write(Event(wall_time=mood.end, step=int(mood.end // 60), summary=Summary(value=values)))
        self._file.flush()

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString())


def _text_value(tag: str, text: str) -> Any:
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode("utf-8")], tensor_shape=TensorShapeProto())
    metadata = SummaryMetadata.FromString(create_summary_metadata(tag, "").SerializeToString())
    return Summary.Value(tag=tag, tensor=tensor, metadata=metadata)


def _as_markdown(alert: dict[str, Any]) -> str:
    head = (
        f"**{alert['window_start']} to {alert['window_end']}**: {alert['negative']} of {alert['texts']} texts negative,"
        f" {alert['share']:.0%} where {alert['expected_share']:.0%} were expected ({alert['evidence']:.1f} nats)\n\n"
    )
    return head + "\n".join(f"- {html.escape(cause['text'])} ({cause['probability']:.2f})" for cause in alert["causes"])
