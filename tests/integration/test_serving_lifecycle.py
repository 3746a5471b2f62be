"""Is a version ready before it serves? Warm-up, half copies, the configuration's file. [n]: protocol checklist."""

import shutil
import threading
import time

import numpy as np
import pytest

from serving.server.status import StatusError
from serving.server.versions import LoadPolicy, ModelConfig, Models, State

AT_ONCE = LoadPolicy(max_retries=0, rest_seconds=0)


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    """A version that counts its runs: each answers how many there have been."""
    import tensorflow as tf

    module = tf.Module()
    module.count = tf.Variable(0.0)

    def run(inputs):
        with tf.control_dependencies([module.count.assign_add(1.0)]):
            return {"outputs": tf.fill([tf.size(inputs)], module.count.read_value())}

    folder = tmp_path_factory.mktemp("counter") / "1"
    signature = tf.function(run).get_concrete_function(inputs=tf.TensorSpec([None], tf.string))
    tf.saved_model.save(module, str(folder), {"serving_default": signature})
    return folder


def _log(kind="predict_log", signature=""):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    request = getattr(log, kind).request
    if kind == "multi_inference_log":
        request.tasks.add(method_name="tensorflow/serving/regress")
    else:
        request.model_spec.signature_name = signature
    if kind == "predict_log":
        request.inputs["inputs"].CopyFrom(tf.make_tensor_proto(["a"]))
    elif kind != "session_run_log":
        request.input.example_list.examples.add()
    return log


def _version(base, counter, logs=(), number="1"):
    """A copy of the counter with logged requests beside it."""
    import tensorflow as tf

    shutil.copytree(counter, base / number)
    (base / number / "assets.extra").mkdir()
    path = base / number / "assets.extra" / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())
    return path


def _models(base, **settings):
    from serving.server.loading import Loader

    return Models([ModelConfig("m", base)], load=Loader(**settings), policy=AT_ONCE)


def _num_runs(models):
    """How often the model has been run before this."""
    with models.use("m") as (_, engine):
        signature = engine.signatures["serving_default"]
        feeds = [(signature.inputs["inputs"].name, np.array([b"a"], np.object_))]
        return int(engine.run(feeds, [signature.outputs["outputs"].name])[0][0]) - 1


def _error(models):
    with pytest.raises(StatusError), models.use("m"):
        pass
    return str(models.versions("m")[0].error)


@pytest.mark.parametrize(("settings", "expected"), [({}, 3), ({"num_warmup_runs": 2}, 6), ({"num_warmup_runs": 0}, 0)])
def test_logged_requests_are_run_before_a_version_serves(counter, tmp_path, settings, expected):  # [36]
    _version(tmp_path, counter, [_log(), _log("regress_log"), _log("multi_inference_log")])
    models = _models(tmp_path, **settings)
    models.poll()
    assert _num_runs(models) == expected
    models.close()


def test_a_failing_warm_up_keeps_the_old_version(counter, tmp_path):  # [36]
    shutil.copytree(counter, tmp_path / "1")
    models = _models(tmp_path)
    models.poll()
    _version(tmp_path, counter, [_log(signature="s")], "2")
    models.poll()
    assert [(v.number, v.state) for v in models.versions("m")] == [(2, State.END), (1, State.AVAILABLE)]
    assert str(models.versions("m")[0].error) == 'FAILED_PRECONDITION: Serving signature key "s" not found.'
    models.close()


def test_what_is_no_warm_up_fails_the_load(counter, tmp_path):  # [36]
    path = _version(tmp_path, counter, [_log("session_run_log")])
    models = _models(tmp_path)
    models.poll()
    assert _error(models) == "UNIMPLEMENTED: Unsupported log_type for warmup: session_run_log"
    path.write_bytes(b"no record at all, but some text")
    models.poll()
    error = _error(models)
    assert error.startswith("DATA_LOSS: ")
    assert error.endswith("Please verify your warmup data is in TFRecord format.")
    path.unlink()
    models.poll()
    assert _num_runs(models) == 0
    models.close()


def test_a_thousand_warm_up_requests_are_the_most(counter, tmp_path):  # [36]
    path = _version(tmp_path, counter, [_log()] * 1001)
    models = _models(tmp_path)
    models.poll()
    assert _error(models) == f"INVALID_ARGUMENT: Number of warmup records exceeds the maximum (1000) at {path}"


def test_a_half_copied_version_is_never_served_and_taken_when_it_is_whole(counter, tmp_path):  # [34]
    base = tmp_path / "m"
    shutil.copytree(counter, base / "1")
    models = Models([ModelConfig("m", base)], policy=AT_ONCE)
    models.poll()
    (base / "2" / "variables").mkdir(parents=True)
    for part in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        models.poll()
        with models.use("m") as (number, _):
            assert number == 1
        assert models.versions("m")[0].state == State.END
        content = (counter / part).read_bytes()
        (base / "2" / part).write_bytes(content[: len(content) // 2])
        models.poll()
        with models.use("m") as (number, _):
            assert number == 1
        (base / "2" / part).write_bytes(content)
    models.poll()
    assert [(v.number, v.state) for v in models.versions("m")] == [(2, State.AVAILABLE), (1, State.END)]
    models.close()


def _write_config(path, *models):
    listed = (f'config {{ name: "{n}" base_path: "{b}" model_platform: "tensorflow" }}' for n, b in models)
    path.write_text(f"model_config_list {{ {' '.join(listed)} }}")


def test_a_changed_configuration_file_is_taken_over(counter, tmp_path):  # [38]
    from serving.server.config_file import ConfigFile
    from serving.server.model_config import read_model_configs

    path, base = tmp_path / "models.config", counter.parent
    _write_config(path, ("a", base))
    models, stopped = Models(read_model_configs(str(path)), policy=AT_ONCE), threading.Event()
    models.start(0)
    file = ConfigFile(str(path), models, stopped)
    file.look()
    assert models.load_attempts == 1
    _write_config(path, ("a", base), ("b", base))
    file.look()
    assert models.names() == ["a", "b"]
    for text, message in [("model_config_list {", "Invalid protobuf"), ("", "names no model_config_list")]:
        path.write_text(text)
        with pytest.raises(StatusError, match=message):
            file.look()
        assert models.names() == ["a", "b"]
    _write_config(path, ("b", base))
    thread = file.watch(0.01)
    while models.names() != ["b"]:
        assert thread.is_alive()
        time.sleep(0.01)
    stopped.set()
    thread.join()
    models.close()


def test_the_tags_of_the_meta_graph_can_be_chosen(counter, tmp_path):
    models = _models(counter.parent, tags=["serve", "gpu"])
    models.poll()
    assert "gpu" in _error(models)
