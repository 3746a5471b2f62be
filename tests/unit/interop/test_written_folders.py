"""Do our models keep their weights on the way to Hugging Face's form and back, and are texts the same ids there?"""

import json

import numpy as np
import pytest
import tensorflow as tf
import tokenizers
from safetensors.numpy import load_file

from kerasllm import interop, models, text
from kerasllm.errors import ConfigError
from kerasllm.export import GOLDEN_TEXTS
from kerasllm.interop.weights import arrays

BERT = {"num_layers": 2, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 12, "max_length": 16}
GPT = {"num_layers": 2, "hidden_dim": 8, "num_heads": 2, "max_length": 16}
TEXTS = ["Net profit rose by 12 percent.", "Sales fell in the third quarter.", "公司净利润同比下降。", "Straße, café!"]


@pytest.fixture(scope="module")
def wordpiece():
    return text.train_wordpiece([*TEXTS, *GOLDEN_TEXTS] * 3, vocab_size=300)


@pytest.fixture(scope="module")
def pieces():
    return text.train_sentencepiece([*TEXTS, *GOLDEN_TEXTS] * 3, vocab_size=600)


def with_random_weights(model):
    """Zero biases and unit gains would hide a mistake."""
    generator = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(weight + generator.normal(0, 0.1, weight.shape))
    return model


def assert_same(ours, theirs):
    expected, found = arrays(ours), arrays(theirs)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, name)


def test_a_pretrained_bert_comes_back_with_every_weight(wordpiece, tmp_path):
    model = with_random_weights(models.BertPretrainer(models.BertBackbone(wordpiece.vocab_size, **BERT)))
    assert interop.write_hugging_face(model, tmp_path / "bert", wordpiece) == ()
    assert [path.name for path in tmp_path.iterdir()] == ["bert"]
    assert_same(model, interop.load_bert(tmp_path / "bert"))
    tokenizer = interop.read_tokenizer(tmp_path / "bert")
    assert (tokenizer.words, tokenizer.lowercase) == (wordpiece.words, True)


def test_a_gpt_comes_back_with_every_weight(pieces, tmp_path):
    model = with_random_weights(models.GPTCausalLM(models.GPTBackbone(pieces.vocab_size, **GPT, activation="gelu")))
    assert interop.write_hugging_face(model, tmp_path / "gpt", pieces) == ()
    assert_same(model, interop.load_gpt2(tmp_path / "gpt"))
    config = json.loads((tmp_path / "gpt" / "config.json").read_text())
    assert (config["activation_function"], config["n_inner"], config["eos_token_id"]) == ("gelu", None, 3)


def test_a_head_stands_beside_the_prefixed_backbone_with_its_labels(wordpiece, tmp_path):
    backbone = models.BertBackbone(wordpiece.vocab_size, **BERT)
    model = with_random_weights(models.TextClassifier(backbone, {"mood": 3}))
    labels = {"mood": ["negative", "neutral", "positive"]}
    assert interop.write_hugging_face(model, tmp_path / "mood", wordpiece, labels) == ()
    tensors = load_file(tmp_path / "mood" / "model.safetensors")
    np.testing.assert_array_equal(tensors["classifier.weight"], model.heads["mood"].projection.kernel.numpy().T)
    assert {"bert.pooler.dense.bias", "bert.encoder.layer.1.attention.self.value.weight"} <= tensors.keys()
    config = json.loads((tmp_path / "mood" / "config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "neutral", "2": "positive"}


def test_next_sentences_that_are_told_by_words_too_stay_behind_and_are_named(wordpiece, tmp_path):
    model = models.BertPretrainer(models.BertBackbone(wordpiece.vocab_size, **BERT), word_matches=True)
    left = interop.write_hugging_face(model, tmp_path / "bert", wordpiece)
    assert {name.split("/")[0] for name in left} == {"next_sentence", "word_matches"}
    assert json.loads((tmp_path / "bert" / "config.json").read_text())["architectures"] == ["BertForMaskedLM"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"positions": "rotary"}, "backbone.positions='rotary' has no place in Hugging Face's bert"),
        ({"norm": "rms_norm"}, "backbone.norm='rms_norm'"),
        ({"activation": "swiglu"}, "backbone.activation='swiglu'"),
        ({"num_key_value_heads": 1}, "backbone.num_key_value_heads=1"),
        ({"num_token_types": 0}, "backbone.num_token_types=0"),
    ],
)
def test_what_hugging_face_cannot_compute_is_refused_and_nothing_is_written(wordpiece, tmp_path, fields, message):
    model = models.BertBackbone(wordpiece.vocab_size, **{**BERT, **fields})
    with pytest.raises(ConfigError, match=message):
        interop.write_hugging_face(model, tmp_path / "bert", wordpiece)
    assert list(tmp_path.iterdir()) == []


def test_several_heads_and_a_folder_that_exists_are_refused(wordpiece, tmp_path):
    backbone = models.BertBackbone(wordpiece.vocab_size, **BERT)
    with pytest.raises(ConfigError, match="2 heads on the 'first' token has no place.*Write its backbone"):
        interop.write_hugging_face(models.TextClassifier(backbone, {"a": 2, "b": 3}), tmp_path / "new", wordpiece)
    with pytest.raises(ConfigError, match="exists already"):
        interop.write_hugging_face(backbone, tmp_path, wordpiece)


@pytest.mark.parametrize("kind", ["wordpiece", "pieces"])
def test_the_written_tokenizer_gives_our_ids(request, kind, tmp_path):
    tokenizer = request.getfixturevalue(kind)
    fields, backbone_class = (BERT, models.BertBackbone) if kind == "wordpiece" else (GPT, models.GPTBackbone)
    interop.write_hugging_face(backbone_class(tokenizer.vocab_size, **fields), tmp_path / "model", tokenizer)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    texts = [each for each in [*TEXTS, *GOLDEN_TEXTS, "Ｆｕｌｌ ﬁ ①", "  two  spaces\n", "Größe"] if "[" not in each]
    ours = tokenizer.tokenize(tf.constant(texts)).to_list()
    for each, ids in zip(texts, ours, strict=True):
        assert theirs.encode(each, add_special_tokens=False).ids == ids, each
    with_special = theirs.encode(texts[0]).ids
    first, last = tokenizer.special.cls, tokenizer.special.sep
    assert with_special == ([first, *ours[0], last] if kind == "wordpiece" else [first, *ours[0]])


def test_written_pieces_decode_to_the_text(pieces, tmp_path):
    interop.write_hugging_face(models.GPTBackbone(pieces.vocab_size, **GPT), tmp_path / "gpt", pieces)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "gpt" / "tokenizer.json"))
    for each in ("Net profit  rose.", "净利润 🙂"):
        assert theirs.decode(theirs.encode(each).ids) == each
