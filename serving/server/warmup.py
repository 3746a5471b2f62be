"""Which requests does a model answer before it goes into service? Those that its exporter put beside it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import logging
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from serving.server.engine import Engine
from serving.server.inference import Inference
from serving.server.status import Code, StatusError, invalid

WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"  # TFRecords of tensorflow.serving.PredictionLog
MAX_RECORDS = 1000


class _OneEngine:
    """A model that is not in service yet, under whatever name and version a logged request asks for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def use(self, name: str, number: int | None = None, label: str | None = None) -> Iterator[tuple[int, Engine]]:
        yield number or 0, self._engine


def warm_up(engine: Engine, folder: Path, num_runs: int = 1) -> int:
    """Runs the logged requests of a version's folder and returns their number; 0 without a file of them.

    Raises:
      StatusError: a request fails, there are more than 1000, or the file is not one of PredictionLogs.
    """
    path = folder / WARMUP_FILE
    if not path.is_file():
        return 0
    inference, started, count = Inference(_OneEngine(engine)), time.monotonic(), 0
    for record in _records(path):
        count += 1
        if count > MAX_RECORDS:
            raise invalid(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
        try:
            log = prediction_log_pb2.PredictionLog.FromString(record)
        except DecodeError as error:
            raise invalid(f"Failed to parse warmup record: record {count} from {path}") from error
        for _ in range(num_runs):
            _run(inference, log)
    seconds = time.monotonic() - started
    logging.info("Ran %d warm-up requests of %s %d time(s) in %.2f s.", count, path, num_runs, seconds)
    return count


def _records(path: Path) -> Iterator[bytes]:
    try:
        for record in tf.data.TFRecordDataset(str(path)):
            yield record.numpy()
    except tf.errors.DataLossError as error:
        text = f"{error.message}. Please verify your warmup data is in TFRecord format."
        raise StatusError(Code.DATA_LOSS, text) from error


def _run(inference: Inference, log: prediction_log_pb2.PredictionLog) -> None:
    kind = log.WhichOneof("log_type")
    calls: dict[str, Any] = {
        "predict_log": inference.predict,
        "classify_log": inference.classify,
        "regress_log": inference.regress,
        "multi_inference_log": inference.multi_inference,
    }
    if kind not in calls:
        raise StatusError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind or 'none'}")
    request = getattr(log, kind).request
    for task in request.tasks if kind == "multi_inference_log" else [request]:
        task.model_spec.name = task.model_spec.name or "warmup"
    calls[kind](request, None)
