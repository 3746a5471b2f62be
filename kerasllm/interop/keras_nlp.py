"""How does a keras-nlp (keras-hub) backbone become one of ours? The same weights under our names."""

import re
from typing import Any

import numpy as np

from kerasllm.errors import ConfigError
from kerasllm.interop.weights import assign
from kerasllm.models import BertBackbone, GPTBackbone

_PLACES = {
    "token_embedding/embeddings": "embedding/word_table",
    "position_embedding/embeddings": "embedding/position_table",
    "segment_embedding/embeddings": "embedding/token_type_table",
    "embeddings_layer_norm": "embedding/embedding_norm",
    "pooled_dense": "pooler/projection",
    "layer_norm": "final_norm",
}
_PLACES_IN_LAYER = {
    "attention_output": "attention/output",
    "self_attention_layer_norm": "attention_norm",
    "feedforward_layer_norm": "feed_forward_norm",
    "feedforward_intermediate_dense": "expand",
    "feedforward_output_dense": "contract",
}


def from_keras_nlp(source: Any) -> BertBackbone | GPTBackbone:
    """A backbone of ours with the weights of a keras-nlp BertBackbone or GPT2Backbone.

    Both use the tanh form of GELU there, so ours does too; hidden states agree to rounding.

    Raises:
      ConfigError: the object is neither of the two.
    """
    classes = {"BertBackbone": BertBackbone, "GPT2Backbone": GPTBackbone}
    kind = type(source).__name__
    if kind not in classes:
        raise ConfigError(f"a keras-nlp {kind} cannot be converted. Give a BertBackbone or a GPT2Backbone.")
    fields: dict[str, Any] = {
        "num_layers": source.num_layers,
        "hidden_dim": source.hidden_dim,
        "num_heads": source.num_heads,
        "intermediate_dim": source.intermediate_dim,
        "max_length": source.max_sequence_length,
        "activation": "gelu_tanh",
        "dropout": source.dropout,
        "attention_dropout": source.dropout,
    }
    if kind == "BertBackbone":
        fields["num_token_types"] = source.num_segments
    ours = classes[kind](source.vocabulary_size, name="backbone", **fields)
    assign(ours, _renamed(source), f"keras-nlp {kind}")
    return ours


def _renamed(source: Any) -> dict[str, np.ndarray]:
    """Arrays by our names; query, key and value joined, heads flattened."""
    arrays = {weight.path: np.asarray(weight.numpy(), np.float32) for weight in source.weights}
    width, result = source.hidden_dim, {}
    for path, array in arrays.items():
        place, _, leaf = path.rpartition("/")
        layer = re.fullmatch(r"transformer_layer_(\d+)/(?:\w+/)?(\w+)", place)
        if layer is None:
            result[_PLACES.get(path) or f"{_PLACES[place]}/{leaf}"] = array
        elif layer[2] in _PLACES_IN_LAYER:
            if layer[2] == "attention_output" and leaf == "kernel":
                array = array.reshape(width, width)
            result[f"block_{layer[1]}/{_PLACES_IN_LAYER[layer[2]]}/{leaf}"] = array
        elif layer[2] == "query":
            parts = [arrays[path.replace("/query/", f"/{part}/")] for part in ("query", "key", "value")]
            shape = (width, width) if leaf == "kernel" else (width,)
            joined = np.concatenate([part.reshape(shape) for part in parts], axis=-1)
            result[f"block_{layer[1]}/attention/query_key_value/{leaf}"] = joined
    return result
