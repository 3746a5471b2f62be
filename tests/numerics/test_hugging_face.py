"""Do imported Hugging Face weights give Hugging Face's numbers?"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import interop, models


@pytest.fixture(scope="module")
def reference() -> Path:
    if "KERASLLM_DATA" not in os.environ:
        pytest.skip("KERASLLM_DATA does not name the folder of real data")
    return Path(os.environ["KERASLLM_DATA"]) / "hf_reference"


@pytest.fixture(scope="module")
def minilm() -> Path:
    script = Path(__file__).parents[2] / "scripts" / "get_minilm"
    found = subprocess.run([script], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"all-MiniLM-L6-v2 cannot be fetched: {found.stderr[-200:]}")
    return Path(found.stdout.strip())


def integers(array):
    return tf.constant(array, tf.int32)


def largest_difference(actual, expected, where=None):
    difference = np.abs(actual.numpy() - expected)
    return difference.max() if where is None else difference[where.astype(bool)].max()


def test_bert_with_its_heads_gives_the_stored_states_and_logits(reference):
    expected = np.load(reference / "bert_tiny" / "reference.npz")
    model = interop.load_bert(reference / "bert_tiny")
    assert isinstance(model, models.BertPretrainer)
    batch, length = expected["token_ids"].shape
    inputs = {
        "token_ids": integers(expected["token_ids"]),
        "token_type_ids": integers(expected["segment_ids"]),
        "sequence_ids": integers(expected["padding_mask"]),
        "masked_positions": integers(np.tile(np.arange(length), (batch, 1))),
    }
    real = expected["padding_mask"]
    assert largest_difference(model.backbone(inputs)["hidden"], expected["hidden"], real) < 1e-5
    outputs = model(inputs)
    assert largest_difference(outputs["masked_lm_logits"], expected["mlm_logits"], real) < 1e-5
    assert largest_difference(outputs["next_sentence_logits"][:, 0], expected["nsp_logits"]) < 1e-5


def test_gpt2_gives_the_stored_logits_and_greedy_continuation(reference):
    expected = np.load(reference / "gpt2_tiny" / "reference.npz")
    model = interop.load_gpt2(reference / "gpt2_tiny")
    logits = model({"token_ids": integers(expected["token_ids"])})["logits"]
    assert largest_difference(logits, expected["logits"]) < 1e-5
    prompt = integers(expected["greedy"][:, :6])
    assert np.array_equal(models.sample_continuations(model, prompt, 12, temperature=0), expected["greedy"])


@pytest.mark.slow
def test_minilm_gives_the_stored_ids_and_states(reference, minilm):
    expected = np.load(reference / "minilm.npz")
    tokenizer = interop.read_tokenizer(minilm)
    rows = tokenizer.tokenize(tf.constant(expected["sentences"].tolist())).to_list()
    real = expected["padding_mask"].astype(bool)
    for row, ids, mask in zip(rows, expected["token_ids"], real, strict=True):
        assert [tokenizer.special.cls, *row, tokenizer.special.sep] == ids[mask].tolist()
    model = interop.load_bert(minilm)
    assert isinstance(model, models.BertBackbone)
    outputs = model({"token_ids": integers(expected["token_ids"]), "sequence_ids": integers(real)})
    assert largest_difference(outputs["hidden"], expected["hidden"], real) < 1e-5
    assert largest_difference(outputs["pooled"], expected["pooled"]) < 1e-5
