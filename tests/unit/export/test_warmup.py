"""Are the warm-up requests what a server runs, and is told what it would refuse?"""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from kerasllm.errors import ExportError
from kerasllm.export.warmup import WARMUP_FILE, bucket_text, length_buckets, read_warmup, write_warmup


def _write(path, *logs):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def test_buckets_double_up_to_the_longest():
    assert length_buckets(128) == [16, 32, 64, 128]
    assert length_buckets(100) == [16, 32, 64, 100]
    assert length_buckets(8) == [16]
    assert bucket_text(16).split() == [b"a"] * 14  # and two around them


def test_requests_come_out_of_their_file(tmp_path):
    requests = [("serving_default", {"text": np.array(["净利润".encode(), b"\xff"], object)})]
    requests += [("second", {"x": np.float32([[1, 2]]), "n": np.array([3])})]
    write_warmup(tmp_path / WARMUP_FILE, "m", requests)
    first, second = read_warmup(tmp_path / WARMUP_FILE)
    assert (first[0], first[1]["text"].tolist()) == ("serving_default", ["净利润".encode(), b"\xff"])
    assert second[1]["x"].tolist() == [[1, 2]]
    record = next(tf.data.TFRecordDataset(str(tmp_path / WARMUP_FILE)).as_numpy_iterator())
    spec = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request.model_spec
    assert (spec.name, spec.signature_name) == ("m", "serving_default")


def test_classify_requests_are_read_as_serialized_examples(tmp_path):
    log = prediction_log_pb2.PredictionLog()
    log.classify_log.request.model_spec.signature_name = "classify"
    example = log.classify_log.request.input.example_list.examples.add()
    example.features.feature["text"].bytes_list.value.append(b"profit")
    _write(tmp_path / WARMUP_FILE, log)
    ((signature, inputs),) = read_warmup(tmp_path / WARMUP_FILE)
    assert signature == "classify"
    assert inputs["inputs"].tolist() == [example.SerializeToString()]


def test_what_a_server_refuses_is_told(tmp_path):
    path = tmp_path / WARMUP_FILE
    path.write_bytes(b"plain text where records should be")
    with pytest.raises(ExportError, match="no TFRecord file of PredictionLogs"):
        read_warmup(path)
    log = prediction_log_pb2.PredictionLog()
    log.session_run_log.request.model_spec.name = "m"
    _write(path, log)
    with pytest.raises(ExportError, match="record 0 .* session_run_log"):
        read_warmup(path)
    _write(path, *[prediction_log_pb2.PredictionLog()] * 1001)
    with pytest.raises(ExportError, match="1001 records; a server refuses more than 1000"):
        read_warmup(path)


def test_every_export_carries_a_request_for_each_bucket_and_signature(exported):
    requests = read_warmup(exported / "assets.extra" / WARMUP_FILE)
    assert {signature for signature, _ in requests} == {"serving_default", "labels", "token_ids", "classify"}
    texts = [inputs["text"][0] for signature, inputs in requests if signature == "serving_default"]
    assert bucket_text(16) in texts
    assert all(len(array) == 1 for _, inputs in requests for array in inputs.values())
