"""Do bfloat16 weights take half of the disk, serve what they are rounded to, and is the change told?"""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.config import make_run
from kerasllm.export import ExportOptions, write_classifier
from kerasllm.export.narrow import NarrowWeights, Rounding, compare, rounding_section


@pytest.fixture(scope="module")
def wide(tokenizer):
    """A classifier whose matrices are large beside what a SavedModel stores besides."""
    inputs = {name: keras.Input([None], dtype="int32", name=name) for name in ("token_ids", "sequence_ids")}
    keras.utils.set_random_seed(5)
    hidden = keras.layers.Embedding(tokenizer.vocab_size, 4096)(inputs["token_ids"])
    hidden = keras.layers.GlobalAveragePooling1D()(hidden, mask=keras.ops.cast(inputs["sequence_ids"], "bool"))
    return keras.Model(inputs, {"label_logits": keras.layers.Dense(2, name="out")(hidden * 5)})


@pytest.fixture(scope="module")
def narrow_export(wide, tokenizer, tmp_path_factory):
    """Written with the check in a fresh version-1 Session, which the initialisers have to run in."""
    run = make_run({"data": {"labels": ["a", "b"]}, "export": {"sequence_length": 16}})
    options = ExportOptions(bfloat16_weights=True, evaluation_texts=("profit rose", "净利润", "a"))
    return write_classifier(wide, tokenizer, run, tmp_path_factory.mktemp("n"), "narrow", options=options)


def test_matrices_are_stored_in_half_of_the_bytes_and_vectors_as_they_are(narrow_export, wide):
    reader = tf.train.load_checkpoint(str(narrow_export / "variables" / "variables"))
    kinds, shapes = reader.get_variable_to_dtype_map(), reader.get_variable_to_shape_map()
    stored = {tuple(shapes[name]): kind for name, kind in kinds.items() if "OBJECT_GRAPH" not in name}
    assert stored == {(14, 4096): tf.bfloat16, (4096, 2): tf.bfloat16, (2,): tf.float32}
    size = sum(path.stat().st_size for path in (narrow_export / "variables").glob("*.data*"))
    assert size < 0.6 * sum(weight.value.numpy().nbytes for weight in wide.weights)


def test_the_export_answers_as_the_model_with_rounded_weights(narrow_export, wide):
    rounded = keras.models.clone_model(wide)
    for target, weight in zip(rounded.weights, wide.weights, strict=True):
        exact = weight.value if len(weight.shape) < 2 else tf.cast(tf.cast(weight.value, tf.bfloat16), tf.float32)
        target.assign(exact)
    # [CLS] profit rose [SEP] = 2 5 6 3
    inputs = {"token_ids": tf.constant([[2, 5, 6, 3]]), "sequence_ids": tf.ones([1, 4], tf.int32)}
    loaded = tf.saved_model.load(str(narrow_export))
    served = loaded.signatures["serving_default"](text=tf.constant(["profit rose"]))
    expected = tf.nn.softmax(rounded(inputs)["label_logits"])
    np.testing.assert_allclose(served["probabilities"], expected, atol=1e-6)
    assert not np.allclose(expected, tf.nn.softmax(wide(inputs)["label_logits"]), atol=1e-6)


def test_the_change_stands_in_notes_and_card(narrow_export):
    extra = narrow_export / "assets.extra"
    told = json.loads((extra / "export.json").read_text())["bfloat16_weights"]["label"]
    assert told["num_texts"] == 3
    assert 0 < told["largest_difference"] < 0.1
    assert f"| label | 3 | {told['labels_changed']} | " in (extra / "README.md").read_text()
    assert "as bfloat16, float32" in (extra / "README.md").read_text()


def test_the_model_itself_keeps_its_weights(wide):
    before = [weight.numpy() for weight in wide.weights]
    with NarrowWeights(wide).in_place():
        wide({"token_ids": tf.constant([[2]]), "sequence_ids": tf.ones([1, 1], tf.int32)})
    for weight, values in zip(wide.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), values)


class Fixed:
    """A classifier of two heads that gives its probabilities whatever it reads."""

    def __init__(self, mood, topic):
        self.labels = {"mood": ("up", "down"), "topic": ("x", "y")}
        self.answers = {"mood_probabilities": mood, "topic_probabilities": topic}

    def predict(self, text):
        answers = {name: tf.constant(rows) for name, rows in self.answers.items()}
        for head, labels in self.labels.items():
            answers[f"{head}_label"] = tf.gather(labels, tf.argmax(answers[f"{head}_probabilities"], -1))
        return answers


def test_changed_labels_and_the_largest_difference_are_counted_for_each_head():
    exact = Fixed([[0.6, 0.4], [0.51, 0.49]], [[0.9, 0.1], [0.9, 0.1]])
    rounded = Fixed([[0.6, 0.4], [0.49, 0.51]], [[0.9, 0.1], [0.85, 0.15]])
    found = compare(exact, rounded, ["one", "two"])
    assert found["mood"] == Rounding(2, 1, pytest.approx(0.02, rel=1e-4))
    assert found["topic"] == Rounding(2, 0, pytest.approx(0.05, rel=1e-4))
    assert "| mood | 2 | 1 | 2.00e-02 |" in rounding_section(found)
