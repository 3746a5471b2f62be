"""Does the version-1 Session run models as TensorFlow Serving does, and refuse broken ones?"""

import numpy as np
import pytest
import tensorflow as tf

from serving.server.engine import Engine
from serving.server.status import Code, StatusError


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """Y = 3 x, over a placeholder that says [None, 1]."""
    directory = tmp_path_factory.mktemp("engine") / "1"
    module = tf.Module()
    module.three = tf.Variable([[3.0]])
    module.serve = tf.function(lambda x: {"y": x * module.three})
    spec = tf.TensorSpec([None, 1], tf.float32)
    tf.saved_model.save(module, str(directory), {"serving_default": module.serve.get_concrete_function(x=spec)})
    return directory


@pytest.fixture(scope="module")
def engine(saved_model):
    engine = Engine(saved_model)
    yield engine
    engine.close()


def _triple(engine, array, timeout_s=None):
    signature = engine.signatures["serving_default"]
    return engine.run([(signature.inputs["x"].name, array)], [signature.outputs["y"].name], timeout_s)[0]


def test_the_private_call_computes_with_and_without_a_timeout(engine):
    assert _triple(engine, np.array([[2.0]], np.float32)) == [[6.0]]
    assert _triple(engine, np.array([[2.0]], np.float32), timeout_s=1e9) == [[6.0]]


def test_shapes_that_python_sessions_refuse_are_accepted(engine):
    # Were this to fail after an update: the private call has moved, and Session.run stands in for it (see _run).
    assert _triple(engine, np.array([2.0, 4.0], np.float32)).tolist() == [[6.0, 12.0]]


def test_a_wrong_type_has_the_c_sessions_text(engine):
    with pytest.raises(StatusError) as caught:
        _triple(engine, np.array([[2]], np.int32))
    assert caught.value.code == Code.INVALID_ARGUMENT
    assert caught.value.message == "Expects arg[0] to be float but int32 is provided"


def test_a_deadline_in_the_past_is_not_run(engine):
    with pytest.raises(StatusError, match="DEADLINE_EXCEEDED"):
        _triple(engine, np.array([[2.0]], np.float32), timeout_s=0)


def test_a_model_without_variables_runs(tmp_path):
    module = tf.Module()
    function = tf.function(lambda x: {"y": x + 1})
    signature = function.get_concrete_function(x=tf.TensorSpec([None], tf.float32))
    tf.saved_model.save(module, str(tmp_path / "1"), {"serving_default": signature})
    assert _triple(Engine(tmp_path / "1"), np.array([1.0], np.float32)).tolist() == [2.0]


def test_a_folder_without_saved_model_is_not_found(tmp_path):
    with pytest.raises(StatusError) as caught:
        Engine(tmp_path)
    assert caught.value.code == Code.NOT_FOUND


@pytest.mark.parametrize("damage", ["no index", "no data", "short data", "short graph"])
def test_half_copied_models_do_not_load(saved_model, tmp_path, damage):  # [34]
    import shutil

    copy = tmp_path / "1"
    shutil.copytree(saved_model, copy)
    data = copy / "variables" / "variables.data-00000-of-00001"
    if damage == "no index":
        (copy / "variables" / "variables.index").unlink()
    elif damage == "no data":
        data.unlink()
    elif damage == "short data":
        data.write_bytes(data.read_bytes()[:2])
    else:
        (copy / "saved_model.pb").write_bytes((copy / "saved_model.pb").read_bytes()[:1000])
    with pytest.raises(StatusError):
        Engine(copy)
