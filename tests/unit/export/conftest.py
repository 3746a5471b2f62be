"""What do the tests of exports share? A tiny tokenizer, a tiny classifier, and one export of it."""

from pathlib import Path

import keras
import pytest
import tensorflow as tf

from kerasllm.config import Run, make_run
from kerasllm.text import WordPieceTokenizer

LABELS = ("positive", "neutral", "negative")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "profit", "rose", "fell", "##s", "a", "净", "利", "润", "."]


class MeanWordClassifier(keras.Model):
    """Logits from the mean of word vectors; counts every token but padding."""

    def __init__(self, vocab_size: int, num_classes: int) -> None:
        super().__init__()
        self.embedding = keras.layers.Embedding(vocab_size, 8)
        self.dense = keras.layers.Dense(num_classes)

    def call(self, inputs, training=False):
        weights = tf.cast(inputs["sequence_ids"], tf.float32)[..., None]
        mean = tf.reduce_sum(self.embedding(inputs["token_ids"]) * weights, 1) / tf.reduce_sum(weights, 1)
        return {"label_logits": self.dense(mean)}


@pytest.fixture(scope="session")
def tokenizer() -> WordPieceTokenizer:
    return WordPieceTokenizer("\n".join(WORDS).encode())


@pytest.fixture(scope="session")
def run() -> Run:
    return make_run(
        {
            "data": {"labels": LABELS},
            "objective": {"task": "text_classification"},
            "export": {"sequence_length": 16},
        }
    )


@pytest.fixture(scope="session")
def model(tokenizer: WordPieceTokenizer) -> MeanWordClassifier:
    keras.utils.set_random_seed(3)
    model = MeanWordClassifier(tokenizer.vocab_size, len(LABELS))
    model({"token_ids": tf.zeros([1, 4], tf.int32), "sequence_ids": tf.ones([1, 4], tf.int32)})
    return model


@pytest.fixture(scope="session")
def exported(model, tokenizer, run, tmp_path_factory) -> Path:
    """An export checked in all but its answers, which tests/integration compares with a real model's."""
    from kerasllm.export import checks, write_classifier

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "_wrong_answers", lambda *_: [])
        return write_classifier(
            model, tokenizer, run, tmp_path_factory.mktemp("exports"), "sentiment", {"accuracy": 0.5}
        )
