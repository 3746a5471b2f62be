"""Does an exported encoder embed strings as the model does, in float32 and in bfloat16?"""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.export.encoder import write_encoder
from kerasllm.export.narrow import computing_in_bfloat16
from kerasllm.models import BertBackbone, TextEncoder
from kerasllm.text import pack_texts

TEXTS = ["profit rose", "净利润 fell .", "", "a " * 40]


@pytest.fixture(scope="module")
def encoder(tokenizer):
    keras.utils.set_random_seed(3)
    model = TextEncoder(BertBackbone(tokenizer.vocab_size, num_layers=2, hidden_dim=32, num_heads=2, max_length=32))
    model.backbone.skips_padding = True
    return model


@pytest.fixture(scope="module")
def exported(encoder, tokenizer, tmp_path_factory):
    """Both exports, checked in a fresh version-1 Session."""
    folder = tmp_path_factory.mktemp("e")
    return {
        name: write_encoder(encoder, tokenizer, 16, folder, name, bfloat16_compute=name == "narrow")
        for name in ("exact", "narrow")
    }


def embed(directory, texts):
    return tf.saved_model.load(str(directory)).signatures["embed"](text=tf.constant(texts, tf.string))["embedding"]


def test_texts_get_the_models_embeddings_in_their_order_whatever_stands_beside_them(exported, encoder, tokenizer):
    encoder.backbone.skips_padding = False  # the plain graph
    expected = encoder(pack_texts(tokenizer, tf.constant(TEXTS), 16), training=False)["embeddings"]
    encoder.backbone.skips_padding = True
    np.testing.assert_allclose(embed(exported["exact"], TEXTS), expected, atol=1e-5)
    np.testing.assert_allclose(embed(exported["exact"], TEXTS[::-1]), expected[::-1], atol=1e-5)
    np.testing.assert_allclose(embed(exported["exact"], TEXTS[1:2]), expected[1:2], atol=1e-5)
    assert embed(exported["exact"], []).shape == (0, 32)


def test_bfloat16_takes_half_of_the_bytes_and_says_how_near_it_stays(exported, encoder):
    exact, narrow = (
        sum(path.stat().st_size for path in (exported[name] / "variables").glob("*.data*"))
        for name in ("exact", "narrow")
    )
    norms = 5 * 2 * 32 * 2  # bytes that stay: scale and offset of five norms, at two more bytes each
    parameters = sum(weight.value.numpy().nbytes for weight in encoder.weights)
    assert exact - narrow == pytest.approx(parameters / 2 - norms, abs=1024)
    told = json.loads((exported["narrow"] / "assets.extra" / "export.json").read_text())["least_cosine_to_float32"]
    assert 0.99 < told < 1
    cosines = tf.reduce_sum(embed(exported["narrow"], TEXTS) * embed(exported["exact"], TEXTS), axis=1)
    assert float(tf.reduce_min(cosines)) > 0.99


def test_a_copy_in_bfloat16_keeps_its_norms_in_float32(encoder):
    kinds = {weight.path.rsplit("/", 1)[1]: weight.dtype for weight in computing_in_bfloat16(encoder).weights}
    assert {kinds["gamma"], kinds["beta"]} == {"float32"}
    assert {kinds["kernel"], kinds["bias"], kinds["word_table"]} == {"bfloat16"}
