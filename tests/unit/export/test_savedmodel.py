"""Is an export whole, numbered, written once, and refused where servers cannot run it? [n]: the protocol checklist."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.config import make_run
from kerasllm.decisions import ClassDecision
from kerasllm.errors import ExportError
from kerasllm.export import checks, savedmodel, write_classifier


@pytest.fixture
def unchecked(monkeypatch):
    """Exports without the check in another process, which the first export of the session has been through."""
    monkeypatch.setattr(savedmodel, "check_export", lambda *_: None)


def test_an_export_is_a_numbered_folder_with_its_notes(exported):
    assert exported.name == "1"
    assert (exported / "assets.extra" / "labels.txt").read_text() == "positive\nneutral\nnegative\n"
    notes = json.loads((exported / "assets.extra" / "export.json").read_text())
    assert notes["format_version"] == 2
    assert notes["heads"]["label"]["labels"] == ["positive", "neutral", "negative"]
    assert notes["metrics"] == {"accuracy": 0.5}


def test_nothing_is_left_beside_the_version(exported):
    """[56]."""
    assert [path.name for path in exported.parent.iterdir()] == ["1"]


def test_label_is_the_likeliest_class_and_probabilities_add_up_to_one(exported):
    answer = tf.saved_model.load(str(exported)).signatures["serving_default"](
        text=tf.constant(["profit rose .", "净利润", ""])
    )
    probabilities = answer["probabilities"].numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    names = ["positive", "neutral", "negative"]
    assert [label.decode() for label in answer["label"].numpy()] == [names[i] for i in probabilities.argmax(1)]


def test_served_probabilities_are_the_models(exported, model):
    # [CLS] profit rose [SEP] = 2 5 6 3
    logits = model({"token_ids": tf.constant([[2, 5, 6, 3]]), "sequence_ids": tf.ones([1, 4], tf.int32)})[
        "label_logits"
    ]
    served = tf.saved_model.load(str(exported)).signatures["serving_default"](text=tf.constant(["Profit rose"]))
    np.testing.assert_allclose(served["probabilities"], tf.nn.softmax(logits), atol=1e-6)


def test_an_empty_batch_gets_an_empty_answer(exported):
    served = tf.saved_model.load(str(exported)).signatures["serving_default"](text=tf.constant([], tf.string))
    assert served["probabilities"].shape == (0, 3)


def test_each_weight_is_written_once(exported, model):
    reader = tf.train.load_checkpoint(str(exported / "variables" / "variables"))
    stored = [shape for name, shape in reader.get_variable_to_shape_map().items() if "OBJECT_GRAPH" not in name]
    assert sorted(map(tuple, stored)) == sorted(tuple(weight.shape) for weight in model.weights)


@pytest.mark.usefixtures("unchecked")
def test_versions_count_on_from_the_highest(model, tokenizer, run, tmp_path):
    (tmp_path / "sentiment" / "7").mkdir(parents=True)
    (tmp_path / "sentiment" / "readme").mkdir()
    assert write_classifier(model, tokenizer, run, tmp_path, "sentiment").name == "8"


@pytest.mark.usefixtures("unchecked")
def test_exports_at_the_same_time_get_different_numbers(exported, tmp_path):
    for index in range(8):
        shutil.copytree(exported, tmp_path / f"unfinished-{index}")
    with ThreadPoolExecutor(8) as pool:
        sources = [tmp_path / f"unfinished-{index}" for index in range(8)]
        versions = list(pool.map(lambda source: savedmodel._rename(source, tmp_path), sources))
    assert sorted(int(version.name) for version in versions) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all((version / "saved_model.pb").exists() for version in versions)


def test_labels_that_do_not_fit_the_model_are_refused(model, tokenizer, tmp_path):
    two = make_run({"data": {"labels": ["a", "b"]}, "export": {"sequence_length": 16}})
    with pytest.raises(ExportError, match="3 classes, but data.labels names 2"):
        write_classifier(model, tokenizer, two, tmp_path, "sentiment")


def test_a_failed_check_leaves_no_version(model, tokenizer, run, tmp_path, monkeypatch):
    """[56]."""

    def refuse(*_):
        raise ExportError("no")

    monkeypatch.setattr(savedmodel, "check_export", refuse)
    with pytest.raises(ExportError):
        write_classifier(model, tokenizer, run, tmp_path, "sentiment")
    assert list((tmp_path / "sentiment").iterdir()) == []


def test_a_base_path_that_is_a_file_is_refused(model, tokenizer, run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        write_classifier(model, tokenizer, run, tmp_path / "file", "sentiment")


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "a:predict"])
def test_names_that_would_break_paths_or_addresses_are_refused(model, tokenizer, run, tmp_path, name):
    with pytest.raises(ExportError, match="name"):
        write_classifier(model, tokenizer, run, tmp_path, name)


def _save(path, function, **tracked):
    module = tf.Module()
    for name, value in tracked.items():
        setattr(module, name, value)
    module.serve = tf.function(function, input_signature=[tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})


def _findings(path, parameter_bytes=0):
    with pytest.raises(ExportError) as caught:
        checks.check_export(path, parameter_bytes, [])
    return str(caught.value)


def test_a_function_compiled_by_xla_is_found(tmp_path):
    """[53]."""
    compiled = tf.function(lambda x: x + 1, jit_compile=True)
    _save(tmp_path / "1", lambda x: {"y": compiled(x)}, compiled=compiled)
    assert "compiled by XLA" in _findings(tmp_path / "1")


def test_a_call_of_python_is_found(tmp_path):
    """[54]."""
    _save(tmp_path / "1", lambda x: {"y": tf.reshape(tf.numpy_function(np.sin, [x], tf.float32), tf.shape(x))})
    assert "calls Python" in _findings(tmp_path / "1")


def test_an_operation_newer_than_the_servers_is_found(tmp_path):
    """[52]."""
    import tensorflow_text as tf_text

    def trim(x):
        row = tf.RaggedTensor.from_row_lengths(x, [tf.size(x)])
        return {"y": tf_text.RoundRobinTrimmer(2).trim([row, row])[0].to_tensor()}

    _save(tmp_path / "1", trim)
    assert "RoundRobinTrim" in _findings(tmp_path / "1")


def test_an_output_without_batch_dimension_is_found(tmp_path):
    """[55]."""
    _save(tmp_path / "1", lambda x: {"y": tf.reduce_sum(x)})
    assert "y has shape []" in _findings(tmp_path / "1")


def test_variables_stored_twice_are_found(tmp_path):
    first, second = tf.Variable(tf.zeros([50_000])), tf.Variable(tf.zeros([50_000]))
    _save(tmp_path / "1", lambda x: {"y": x + first[0]}, first=first, second=second)
    assert "stored twice" in _findings(tmp_path / "1", parameter_bytes=200_000)


@pytest.mark.slow
def test_the_check_runs_an_export_in_another_process_and_compares(exported):
    probabilities = np.array([[0.2, 0.3, 0.5]], np.float32)
    call = checks.Call("serving_default", {"text": np.array([b"profit"], object)}, {"probabilities": probabilities})
    with pytest.raises(ExportError, match="serving_default/probabilities: served answers differ"):
        checks.check_export(exported, 10**6, [call])


@pytest.mark.slow
def test_an_export_that_does_not_load_is_found(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "1")
    (tmp_path / "1" / "variables" / "variables.index").unlink()
    with pytest.raises(ExportError, match="does not load or run in a version-1 Session"):
        checks.check_export(tmp_path / "1", 10**6, [])


class TwoHeads(keras.Model):
    """Logits that the number of tokens decides: easy to follow by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones")

    def call(self, inputs, training=False):
        count = tf.reduce_sum(tf.cast(inputs["sequence_ids"], tf.float32), 1, keepdims=True) * self.scale
        nothing = tf.zeros_like(count)
        return {
            "mood_logits": tf.concat([count - 2, nothing], 1),
            "topic_logits": tf.concat([nothing, count - 2, nothing], 1),
        }


@pytest.fixture(scope="module")
def two_heads(tokenizer, tmp_path_factory):
    """An export of two heads with decisions, checked in all but its answers; and those decisions."""
    heads = {"mood": {"column": "m", "labels": ["up", "down"]}, "topic": {"column": "t", "labels": ["x", "y", "z"]}}
    run = make_run({"data": {"heads": heads}, "export": {"sequence_length": 16}})
    decisions = {
        "mood": ClassDecision(2.0, (0.0, 0.9), 0.45, 0.6),
        "topic": ClassDecision(0.5, (0.5, 0.99, 0.5), 0.05, 0.5, (), "energy", 1.5),
    }
    model = TwoHeads()
    model({"sequence_ids": tf.ones([1, 4], tf.int32)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "_wrong_answers", lambda *_: [])
        extra = {"model_card.md": "# Card\n"}
        path = tmp_path_factory.mktemp("two")
        folder = write_classifier(model, tokenizer, run, path, "two", decisions=decisions, extra_files=extra)
    return folder, decisions


def test_several_heads_answer_under_their_names_as_decided_in_the_process(two_heads):
    folder, decisions = two_heads
    texts = ["", "profit", "profit rose", "profit rose a", "profit rose a profit rose"]
    served = tf.saved_model.load(str(folder)).signatures["serving_default"](text=tf.constant(texts))
    count = np.array([[0.0], [1], [2], [3], [5]])
    nothing = np.zeros_like(count)
    logits = {
        "mood": np.concatenate([count, nothing], 1),
        "topic": np.concatenate([nothing, count, nothing], 1),
    }
    for head, decision in decisions.items():
        probabilities = decision.probabilities(logits[head])
        np.testing.assert_allclose(served[f"{head}_probabilities"], probabilities, atol=1e-6)
        np.testing.assert_array_equal(served[f"{head}_in_set"], decision.sets(probabilities))
        np.testing.assert_array_equal(served[f"{head}_abstain"], decision.abstains(probabilities))
    np.testing.assert_array_equal(served["topic_out_of_scope"], decisions["topic"].out_of_scope(logits["topic"]))
    assert served["topic_out_of_scope"].numpy().tolist() == [True, False, False, False, False]  # ln 3, ln(2 + e), ...
    assert "mood_out_of_scope" not in served
    assert [label.decode() for label in served["topic_label"].numpy()] == ["x", "y", "y", "y", "y"]


def test_the_notes_of_several_heads_hold_labels_decisions_and_further_files(two_heads):
    folder, decisions = two_heads
    extra = folder / "assets.extra"
    assert (extra / "mood_labels.txt").read_text() == "up\ndown\n"
    assert (extra / "topic_labels.txt").read_text() == "x\ny\nz\n"
    assert (extra / "model_card.md").read_text() == "# Card\n"
    notes = json.loads((extra / "export.json").read_text())
    assert ClassDecision.from_json(notes["heads"]["topic"]["decision"]) == decisions["topic"]


def test_without_decisions_every_label_is_in_the_set_and_every_text_is_answered(exported):
    served = tf.saved_model.load(str(exported)).signatures["serving_default"](text=tf.constant(["profit"]))
    assert served["in_set"].numpy().tolist() == [[True, True, True]]
    assert served["abstain"].numpy().tolist() == [False]
