"""Does `transformers` compute from our folders what we do? In the environment that scripts/get_torch makes."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import interop, models, text

PROJECT = Path(__file__).parents[2]
TEXTS = [
    "Net profit rose by 12 percent.",
    "Sales fell in the third quarter.",
    "公司净利润同比下降。",
    "Ｆｕｌｌ, café!",
]
SIZES = {"num_layers": 2, "hidden_dim": 32, "num_heads": 4, "max_length": 24, "name": "backbone"}
MASK = (np.arange(12)[None] < np.array([[12], [9], [5]])).astype(np.int32)


@pytest.fixture(scope="module")
def python():
    """The interpreter of the environment with torch."""
    found = subprocess.run([PROJECT / "scripts" / "get_torch"], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"the environment with torch cannot be made: {found.stderr[-200:]}")
    return found.stdout.strip()


@pytest.fixture
def ask(python, tmp_path):
    """Writes a model with random weights, and returns token ids and what transformers answers to them."""

    def ask(model, tokenizer, class_name, labels=None):
        generator = np.random.default_rng(1)
        for weight in model.weights:  # zero biases and unit gains would hide a mistake
            weight.assign(weight + generator.normal(0, 0.1, weight.shape))
        interop.write_hugging_face(model, tmp_path / "model", tokenizer, labels)
        ids = generator.integers(4, tokenizer.vocab_size, MASK.shape).astype(np.int32) * MASK
        np.savez(tmp_path / "inputs.npz", token_ids=ids, attention_mask=MASK, texts=np.array(TEXTS))
        command = [python, Path(__file__).with_name("transformers_answers.py")]
        command += [tmp_path / "model", tmp_path / "inputs.npz", tmp_path / "outputs.npz", class_name]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr
        return tf.constant(ids), np.load(tmp_path / "outputs.npz")

    return ask


def text_ids(tokenizer, begin, end):
    rows = tokenizer.tokenize(tf.constant(TEXTS)).to_list()
    return [[*begin, *row, *end] for row in rows]


@pytest.mark.slow
def test_a_pretrained_bert_scores_masked_words_and_next_sentences_alike(ask):
    tokenizer = text.train_wordpiece(TEXTS * 3, vocab_size=120)
    model = models.BertPretrainer(models.BertBackbone(tokenizer.vocab_size, **SIZES))
    ids, theirs = ask(model, tokenizer, "BertForPreTraining")
    positions = tf.constant(np.tile(np.arange(12), (3, 1)), tf.int32)
    ours = model({"token_ids": ids, "sequence_ids": tf.constant(MASK), "masked_positions": positions})
    difference = np.abs(theirs["prediction_logits"] - ours["masked_lm_logits"])
    assert difference[MASK.astype(bool)].max() < 1e-5
    assert np.abs(theirs["seq_relationship_logits"] - ours["next_sentence_logits"][:, 0]).max() < 1e-5
    special = tokenizer.special
    assert json.loads(str(theirs["text_ids"])) == text_ids(tokenizer, [special.cls], [special.sep])
    assert json.loads(str(theirs["unmatched"])) == []


@pytest.mark.slow
def test_a_classifier_scores_its_labels_alike(ask):
    tokenizer = text.train_wordpiece(TEXTS * 3, vocab_size=120)
    backbone = models.BertBackbone(tokenizer.vocab_size, activation="gelu_tanh", **SIZES)
    model = models.TextClassifier(backbone, {"mood": 3})
    ids, theirs = ask(model, tokenizer, "AutoModelForSequenceClassification", {"mood": ["bad", "so so", "good"]})
    ours = model({"token_ids": ids, "sequence_ids": tf.constant(MASK)})["mood_logits"]
    assert np.abs(theirs["logits"] - ours).max() < 1e-5
    assert json.loads(str(theirs["unmatched"])) == []


@pytest.mark.slow
def test_a_gpt_scores_next_words_alike(ask):
    tokenizer = text.train_sentencepiece(TEXTS * 20, vocab_size=330)
    model = models.GPTCausalLM(models.GPTBackbone(tokenizer.vocab_size, **SIZES))
    ids, theirs = ask(model, tokenizer, "AutoModelForCausalLM")
    difference = np.abs(theirs["logits"] - model({"token_ids": ids})["logits"])
    assert difference[MASK.astype(bool)].max() < 1e-4
    assert json.loads(str(theirs["text_ids"])) == text_ids(tokenizer, [tokenizer.special.bos], [])
    assert json.loads(str(theirs["unmatched"])) == []
