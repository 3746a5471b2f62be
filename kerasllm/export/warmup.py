"""Which requests does a server run before it says that a version is available? tf_serving_warmup_requests."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.errors import ExportError

WARMUP_FILE = "tf_serving_warmup_requests"  # of assets.extra
MAX_RECORDS = 1000  # a stock server refuses more
SHORTEST = 16  # tokens of the first bucket; each further one is twice as long


def length_buckets(longest: int) -> list[int]:
    """Lengths in tokens to warm up: 16, 32, 64, ... and the longest."""
    sizes = [SHORTEST]
    while sizes[-1] < longest:
        sizes.append(min(2 * sizes[-1], longest))
    return sizes


def bucket_text(num_tokens: int) -> bytes:
    """A text of about so many tokens with the two around it: a letter is a token of every vocabulary, or unknown."""
    return " ".join(["a"] * max(1, num_tokens - 2)).encode()


def write_warmup(path: Path, name: str, requests: Sequence[tuple[str, Mapping[str, np.ndarray]]]) -> None:
    """Writes Predict requests, (signature, inputs) each, for a model's name as PredictionLogs."""
    from tensorflow_serving.apis import prediction_log_pb2

    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests:
            log = prediction_log_pb2.PredictionLog()
            spec = log.predict_log.request.model_spec
            spec.name, spec.signature_name = name, signature
            for key, array in inputs.items():
                log.predict_log.request.inputs[key].CopyFrom(tf.make_tensor_proto(array))
            writer.write(log.SerializeToString())


def read_warmup(path: Path) -> list[tuple[str, dict[str, np.ndarray]]]:
    """The signature and inputs of each record, as a server runs them.

    Raises:
      ExportError: a server would refuse the file.
    """
    records = list(_records(path))
    if len(records) > MAX_RECORDS:
        raise ExportError(
            f"{path.name} has {len(records)} records; a server refuses more than {MAX_RECORDS}. Leave the rest out."
        )
    return [request for number, log in enumerate(records) for request in _requests(path, number, log)]


def _records(path: Path) -> Iterator[Any]:
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            yield prediction_log_pb2.PredictionLog.FromString(record)
    except (tf.errors.OpError, DecodeError) as error:
        raise ExportError(
            f"{path.name} is no TFRecord file of PredictionLogs ({error}); the server fails to load the version over "
            "it. Export again, or take the file away."
        ) from None


def _requests(path: Path, number: int, log: Any) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = log.predict_log.request
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        yield request.model_spec.signature_name or "serving_default", inputs
    elif kind in ("classify_log", "regress_log"):
        request = getattr(log, kind).request
        yield request.model_spec.signature_name or "serving_default", _examples(request.input)
    elif kind == "multi_inference_log":
        request = log.multi_inference_log.request
        for task in request.tasks:
            yield task.model_spec.signature_name or "serving_default", _examples(request.input)
    else:
        raise ExportError(
            f"record {number} of {path.name} is a {kind or 'log of nothing'}, which a server does not run: it fails to "
            "load the version over it. Write it as a predict_log."
        )


def _examples(given: Any) -> dict[str, np.ndarray]:
    """The serialized tf.train.Examples of a Classify or Regress request, each behind the context that they share."""
    shared = given.example_list_with_context
    serialized = [example.SerializeToString() for example in given.example_list.examples]
    serialized += [shared.context.SerializeToString() + example.SerializeToString() for example in shared.examples]
    return {"inputs": np.array(serialized, object)}
