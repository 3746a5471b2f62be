"""Which backbone does a config.json describe, and how is one of ours described there? One table, both directions."""

import json
import os
from pathlib import Path
from typing import Any

from kerasllm.config import Backbone
from kerasllm.errors import ConfigError

Folder = str | os.PathLike[str]

KINDS = {"bert": "bert", "gpt2": "gpt"}  # model_type there, architecture here
# Our fields by theirs; n_inner alone may be missing.
_FIELDS = {
    "bert": {
        "num_hidden_layers": "num_layers",
        "hidden_size": "hidden_dim",
        "num_attention_heads": "num_heads",
        "intermediate_size": "intermediate_dim",
        "max_position_embeddings": "max_length",
        "type_vocab_size": "num_token_types",
        "layer_norm_eps": "norm_epsilon",
        "hidden_act": "activation",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
    },
    "gpt2": {
        "n_layer": "num_layers",
        "n_embd": "hidden_dim",
        "n_head": "num_heads",
        "n_inner": "intermediate_dim",
        "n_positions": "max_length",
        "layer_norm_epsilon": "norm_epsilon",
        "activation_function": "activation",
        "resid_pdrop": "dropout",
        "attn_pdrop": "attention_dropout",
    },
}
_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
# What their models cannot do otherwise.
_FIXED: dict[str, dict[str, Any]] = {
    "bert": {"positions": "learned", "norm_order": "post", "norm": "layer_norm", "use_bias": True},
    "gpt2": {
        "positions": "learned",
        "norm_order": "pre",
        "norm": "layer_norm",
        "use_bias": True,
        "num_token_types": 0,
    },
}
# What ours cannot do otherwise: field, value, which is also what a missing field means.
_NEEDED: dict[str, dict[str, Any]] = {
    "bert": {"position_embedding_type": "absolute", "tie_word_embeddings": True},
    "gpt2": {"scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True, "tie_word_embeddings": True},
}


def backbone_config(folder: Folder) -> Backbone:
    """The backbone that the folder's config.json describes.

    Raises:
      ConfigError: the file is missing or damaged, or describes something that our blocks cannot compute.
    """
    tree, path = _read(folder)
    kind = tree.get("model_type")
    if kind not in KINDS:
        raise ConfigError(f"{path}: model_type={kind!r} is not one that can be read. It has to be 'bert' or 'gpt2'.")
    for field, needed in _NEEDED[kind].items():
        if tree.get(field, needed) != needed:
            raise ConfigError(f"{path}: {field}={tree[field]!r} is not supported, only {needed!r} is.")
    values: dict[str, Any] = {}
    for theirs, ours in _FIELDS[kind].items():
        if theirs not in tree and theirs != "n_inner":
            raise ConfigError(f"{path}: no field {theirs!r}. Take config.json from the place of the weights.")
        values[ours] = tree.get(theirs)
    if values["activation"] not in _ACTIVATIONS:
        raise ConfigError(f"{path}: activation {values['activation']!r} is not one of {', '.join(_ACTIVATIONS)}.")
    values["activation"] = _ACTIVATIONS[values["activation"]]
    return Backbone.model_validate({"architecture": KINDS[kind], **_FIXED[kind], **values})


def described(options: Backbone, vocab_size: int) -> dict[str, Any]:
    """The config.json of a backbone of ours, as far as it is about the backbone.

    Raises:
      ConfigError: their models cannot compute it.
    """
    kind = {ours: theirs for theirs, ours in KINDS.items()}[options.architecture]
    needed = dict(_FIXED[kind])
    if options.num_key_value_heads not in (None, options.num_heads):
        needed["num_key_value_heads"] = options.num_heads
    for field, value in needed.items():
        if getattr(options, field) != value:
            raise ConfigError(
                f"backbone.{field}={getattr(options, field)!r} has no place in Hugging Face's {kind}, which computes "
                f"{value!r} only. What can go there is {_what_goes(kind)}."
            )
    if kind == "bert" and not options.num_token_types:
        raise ConfigError("backbone.num_token_types=0 has no place in Hugging Face's bert, which adds a token type.")
    theirs_of = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
    if options.activation not in theirs_of:
        raise ConfigError(f"backbone.activation={options.activation!r} has no place in Hugging Face's {kind}.")
    values = {theirs: getattr(options, ours) for theirs, ours in _FIELDS[kind].items()}
    if kind == "bert":
        values["intermediate_size"] = options.intermediate_dim or 4 * options.hidden_dim
    else:
        values["embd_pdrop"] = options.dropout
    values["hidden_act" if kind == "bert" else "activation_function"] = theirs_of[options.activation]
    return {"model_type": kind, "vocab_size": vocab_size, "tie_word_embeddings": True, **values}


def vocab_size(folder: Folder) -> int:
    """Rows of the folder's word table."""
    tree, path = _read(folder)
    size = tree.get("vocab_size")
    if not isinstance(size, int):
        raise ConfigError(f"{path}: no field 'vocab_size'. Take config.json from the place of the weights.")
    return size


def parse_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file of the folder.

    Raises:
      ConfigError: there is none.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}). Give a folder as Hugging Face saves it.") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds a {type(tree).__name__}, not a mapping.")
    return tree


def _read(folder: Folder) -> tuple[dict[str, Any], Path]:
    path = Path(folder) / "config.json"
    return parse_json(path), path


def _what_goes(kind: str) -> str:
    return ", ".join(f"{field}: {value!r}" for field, value in _FIXED[kind].items())
