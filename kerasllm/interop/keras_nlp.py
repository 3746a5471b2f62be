"""How does a keras-nlp (keras-hub) backbone become one of ours, and ours a preset of theirs? One map for both."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm import text
from kerasllm.config import Backbone
from kerasllm.errors import CheckpointError, ConfigError
from kerasllm.interop.weights import arrays, assign
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
_THIRDS = ("query", "key", "value")  # one product here, three there
_CLASSES = {"BertBackbone": BertBackbone, "GPT2Backbone": GPTBackbone}
_FIELDS = {
    "num_layers": "num_layers",
    "hidden_dim": "hidden_dim",
    "num_heads": "num_heads",
    "intermediate_dim": "intermediate_dim",
    "max_sequence_length": "max_length",
    "dropout": "dropout",
    "num_segments": "num_token_types",  # of BERT alone
}
# What their two models compute, and nothing else.
_FIXED: dict[str, Any] = {"positions": "learned", "norm": "layer_norm", "use_bias": True, "activation": "gelu_tanh"}
_FIXED_OF = {
    "BertBackbone": {"norm_order": "post", "norm_epsilon": 1e-12},
    "GPT2Backbone": {"norm_order": "pre", "norm_epsilon": 1e-5, "num_token_types": 0},
}


def from_keras_nlp(source: Any) -> BertBackbone | GPTBackbone:
    """A backbone of ours with the weights of a keras-nlp BertBackbone or GPT2Backbone.

    Both use the tanh form of GELU there, so ours does too; hidden states agree to rounding.

    Raises:
      ConfigError: the object is neither of the two.
    """
    kind = type(source).__name__
    if kind not in _CLASSES:
        raise ConfigError(f"a keras-nlp {kind} cannot be converted. Give a BertBackbone or a GPT2Backbone.")
    fields = {ours: getattr(source, theirs) for theirs, ours in _FIELDS.items() if hasattr(source, theirs)}
    fields |= {**_FIXED, **_FIXED_OF[kind], "attention_dropout": source.dropout}
    ours = _CLASSES[kind](source.vocabulary_size, name="backbone", **fields)
    assign(ours, _renamed(source), f"keras-nlp {kind}")
    return ours


def to_keras_nlp(backbone: BertBackbone | GPTBackbone, *, with_tanh_gelu: bool = False) -> Any:
    """A keras-nlp backbone with the weights of ours.

    Args:
      backbone: ours.
      with_tanh_gelu: a backbone with the exact GELU may go there, where the tanh form takes its place: its hidden
        states are then off by about a thousandth.

    Raises:
      ConfigError: their two models cannot compute what ours does.
    """
    import keras_hub

    kind = {"bert": "BertBackbone", "gpt": "GPT2Backbone"}[backbone.architecture]
    options = backbone.options
    _check(options, kind, with_tanh_gelu)
    fields = {theirs: getattr(options, ours) for theirs, ours in _FIELDS.items()}
    fields["intermediate_dim"] = options.intermediate_dim or 4 * options.hidden_dim
    if kind == "GPT2Backbone":
        del fields["num_segments"]
    target = getattr(keras_hub.models, kind)(vocabulary_size=backbone.vocab_size, **fields)
    ours = arrays(backbone)
    for weight in target.weights:
        name, third = _place(weight.path)
        value = ours[name] if third is None else np.split(ours[name], 3, axis=-1)[third]
        weight.assign(value.reshape(weight.shape))
    return target


def read_preset(folder: str | Path) -> tuple[BertBackbone | GPTBackbone, text.WordPieceTokenizer | None]:
    """A backbone of ours from a preset's folder, and its tokenizer; None where it is no WordPiece.

    Raises:
      CheckpointError: the folder is no preset, or is damaged.
      ConfigError: the preset is of another model.
    """
    import keras_hub

    try:
        source = keras_hub.models.Backbone.from_preset(str(Path(folder).absolute()))
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{folder}: not a keras-nlp preset ({reason}). Give a folder of save_to_preset."
        ) from None
    vocabulary = Path(folder) / "assets" / "tokenizer" / "vocabulary.txt"
    if not vocabulary.exists():
        return from_keras_nlp(source), None
    lowercase = keras_hub.tokenizers.Tokenizer.from_preset(str(Path(folder).absolute())).lowercase
    return from_keras_nlp(source), text.wordpiece_from_file(vocabulary, lowercase=lowercase)


def write_preset(
    backbone: BertBackbone | GPTBackbone,
    folder: str | Path,
    tokenizer: text.Tokenizer,
    *,
    with_tanh_gelu: bool = False,
) -> bool:
    """Writes a preset that `keras_nlp.models.Backbone.from_preset` and its tasks load.

    Returns: whether the tokenizer is in it; keras-nlp has none for SentencePiece in a GPT-2.

    Raises:
      ConfigError: the folder exists already, or their models cannot compute what ours does.
    """
    import keras_hub

    if Path(folder).exists():
        raise ConfigError(f"{folder} exists already. Give the name of a new folder.")
    target = to_keras_nlp(backbone, with_tanh_gelu=with_tanh_gelu)
    target.save_to_preset(str(folder))
    if not isinstance(tokenizer, text.WordPieceTokenizer):
        return False
    theirs = keras_hub.models.BertTokenizer(vocabulary=list(tokenizer.words), lowercase=tokenizer.lowercase)
    theirs.save_to_preset(str(folder))
    return True


def _check(options: Backbone, kind: str, with_tanh_gelu: bool) -> None:
    needed: dict[str, Any] = {**_FIXED, **_FIXED_OF[kind]}
    if options.num_key_value_heads is not None:
        needed["num_key_value_heads"] = options.num_heads
    if with_tanh_gelu and options.activation == "gelu":
        del needed["activation"]
    for field, value in needed.items():
        if getattr(options, field) != value:
            hint = f" Train with {value!r}." if field == "activation" else ""
            if hint and options.activation == "gelu":
                hint = f" with_tanh_gelu=True (apps.convert: --tanh_gelu) lets it stand in; or train with {value!r}."
            raise ConfigError(
                f"backbone.{field}={getattr(options, field)!r} has no place in keras-nlp's {kind}, which computes "
                f"{value!r} only.{hint}"
            )
    if kind == "BertBackbone" and not options.num_token_types:
        raise ConfigError(
            "backbone.num_token_types=0 has no place in keras-nlp's BertBackbone, which adds a token type."
        )


def _renamed(source: Any) -> dict[str, np.ndarray]:
    """Arrays by our names; query, key and value joined, heads flattened."""
    whole: dict[str, np.ndarray] = {}
    thirds: defaultdict[str, dict[int, np.ndarray]] = defaultdict(dict)
    for weight in source.weights:
        name, third = _place(weight.path)
        array = np.asarray(weight.numpy(), np.float32)
        if third is not None:
            thirds[name][third] = array.reshape(array.shape[0], -1) if name.endswith("kernel") else array.reshape(-1)
        elif name.endswith("attention/output/kernel"):
            whole[name] = array.reshape(-1, array.shape[-1])
        else:
            whole[name] = array
    return whole | {name: np.concatenate([part[0], part[1], part[2]], axis=-1) for name, part in thirds.items()}


def _place(path: str) -> tuple[str, int | None]:
    """Our name of a weight of theirs, and which third of ours it is: query, key, value; None: all of it."""
    place, _, leaf = path.rpartition("/")
    layer = re.fullmatch(r"transformer_layer_(\d+)/(?:\w+/)?(\w+)", place)
    if layer is None:
        return _PLACES.get(path) or f"{_PLACES[place]}/{leaf}", None
    if layer[2] in _THIRDS:
        return f"block_{layer[1]}/attention/query_key_value/{leaf}", _THIRDS.index(layer[2])
    return f"block_{layer[1]}/{_PLACES_IN_LAYER[layer[2]]}/{leaf}", None
