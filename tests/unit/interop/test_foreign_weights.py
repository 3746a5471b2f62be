"""Are foreign folders read whole or refused by name? Small random folders, written here in Hugging Face's form."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from kerasllm import interop, models
from kerasllm.errors import CheckpointError, ConfigError

CONFIG = {
    "model_type": "bert",
    "vocab_size": 20,
    "num_hidden_layers": 1,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 10,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.2,
}


def weights():
    generator = np.random.default_rng(0)
    layer = "encoder.layer.0."
    shapes = {
        "embeddings.word_embeddings.weight": (20, 8),
        "embeddings.position_embeddings.weight": (10, 8),
        "embeddings.token_type_embeddings.weight": (2, 8),
        layer + "intermediate.dense.weight": (12, 8),
        layer + "intermediate.dense.bias": (12,),
        layer + "output.dense.weight": (8, 12),
        layer + "output.dense.bias": (8,),
        "pooler.dense.weight": (8, 8),
        "pooler.dense.bias": (8,),
    }
    for part in ("self.query", "self.key", "self.value", "output.dense"):
        shapes |= {f"{layer}attention.{part}.weight": (8, 8), f"{layer}attention.{part}.bias": (8,)}
    for norm in ("embeddings", layer + "attention.output", layer + "output"):
        shapes |= {f"{norm}.LayerNorm.weight": (8,), f"{norm}.LayerNorm.bias": (8,)}
    return {key: generator.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}


def write(folder, config=CONFIG, tensors=None):
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights() if tensors is None else tensors, folder / "model.safetensors")
    return folder


def test_the_configuration_is_translated(tmp_path):
    options = interop.backbone_config(write(tmp_path))
    assert (options.num_layers, options.hidden_dim, options.intermediate_dim, options.max_length) == (1, 8, 12, 10)
    assert (options.dropout, options.attention_dropout, options.activation) == (0.1, 0.2, "gelu")
    assert interop.vocab_size(tmp_path) == 20


def test_products_are_transposed_and_query_key_value_joined(tmp_path):
    model = interop.load_bert(write(tmp_path))
    tensors = weights()
    block = model.blocks[0]
    np.testing.assert_array_equal(block.expand.kernel, tensors["encoder.layer.0.intermediate.dense.weight"].T)
    key = tensors["encoder.layer.0.attention.self.key.weight"].T
    np.testing.assert_array_equal(block.attention.query_key_value.kernel[:, 8:16], key)


def test_a_prefix_and_the_old_names_of_norms_are_understood(tmp_path):
    old = {
        "bert." + key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for key, value in weights().items()
    }
    model = interop.load_bert(write(tmp_path, tensors=old))
    np.testing.assert_array_equal(model.embedding.norm.gamma, weights()["embeddings.LayerNorm.weight"])


def test_a_classifier_takes_the_backbone_and_reports_its_new_head(tmp_path):
    folder = write(tmp_path, tensors=weights() | {"embeddings.position_ids": np.zeros((1, 10), np.float32)})
    options = interop.backbone_config(folder).model_dump(exclude={"architecture"})
    model = models.TextClassifier(models.BertBackbone(20, **options), num_classes=3)
    report = interop.load_into(model, folder)
    assert report.new == ("head_label/projection/kernel", "head_label/projection/bias")
    assert report.unused == ("embeddings.position_ids",)


@pytest.mark.parametrize("lost", ["embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.key.bias"])
def test_a_missing_weight_is_named(tmp_path, lost):
    tensors = weights()
    del tensors[lost]
    ours = {"embeddings": "embedding/word_table", "encoder": "block_0/attention/query_key_value/bias"}
    with pytest.raises(CheckpointError, match=f"no weights for {ours[lost.split('.')[0]]}"):
        interop.load_bert(write(tmp_path, tensors=tensors))


def test_a_left_over_weight_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nothing in a bert model takes encoder.adapter.weight"):
        interop.load_bert(write(tmp_path, tensors=weights() | {"encoder.adapter.weight": np.zeros(3, np.float32)}))


def test_another_shape_is_named_with_both_and_nothing_is_written(tmp_path):
    options = interop.backbone_config(write(tmp_path)).model_dump(exclude={"architecture"})
    model = models.BertBackbone(21, **options)
    before = [weight.numpy() for weight in model.weights]
    with pytest.raises(CheckpointError, match=r"embedding/word_table has shape \(20, 8\), the model's is \(21, 8\)"):
        interop.load_into(model, tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.weights, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "t5"}, "model_type='t5'"),
        ({"hidden_act": "relu"}, "activation 'relu'"),
        ({"position_embedding_type": "relative_key"}, "only 'absolute'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
    ],
)
def test_what_we_cannot_compute_is_refused(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        interop.load_bert(write(tmp_path, CONFIG | change))


def test_damaged_and_missing_files_are_clear_errors(tmp_path):
    with pytest.raises(ConfigError, match="config.json: cannot be read"):
        interop.load_bert(tmp_path)
    write(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match="model.safetensors: cannot be read"):
        interop.load_bert(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="model_type=None"):
        interop.load_gpt2(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match="no field 'num_hidden_layers'"):
        interop.load_bert(tmp_path)
