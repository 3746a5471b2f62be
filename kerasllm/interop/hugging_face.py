"""How does a Hugging Face folder become one of our models? config.json, model.safetensors and the vocabulary."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors import SafetensorError, safe_open

from kerasllm import text
from kerasllm.config import Backbone
from kerasllm.errors import CheckpointError, ConfigError
from kerasllm.interop.weights import LoadReport, assign
from kerasllm.models import BertBackbone, BertPretrainer, GPTBackbone, GPTCausalLM

Folder = str | os.PathLike[str]

ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
OPTIONAL = ("pooler", "masked_lm", "next_sentence", "head")  # what a pretrained folder need not have
# Keys that may be left over: buffers, copies of tied weights, and heads that we do not have.
IGNORED = re.compile(
    r"embeddings\.position_ids|cls\.predictions\.decoder\..*|lm_head\.weight|h\.\d+\.attn\.(masked_)?bias"
    r"|classifier\..*|qa_outputs\..*|score\..*"
)


def backbone_config(folder: Folder) -> Backbone:
    """The backbone that the folder's config.json describes.

    Raises:
      ConfigError: the file is missing or damaged, or describes something that our blocks cannot compute.
    """
    tree, path = _read_config(folder)
    kind = tree.get("model_type")
    if not tree.get("tie_word_embeddings", True):
        raise ConfigError(f"{path}: tie_word_embeddings=false; our heads score words by their embeddings only.")
    try:
        if kind == "bert":
            return _bert_config(tree, path)
        if kind == "gpt2":
            return _gpt2_config(tree, path)
    except KeyError as error:
        raise ConfigError(f"{path}: no field {error}. Take config.json from the place of the weights.") from None
    raise ConfigError(f"{path}: model_type={kind!r} is not one that can be read. It has to be 'bert' or 'gpt2'.")


def vocab_size(folder: Folder) -> int:
    """Rows of the folder's word table."""
    tree, path = _read_config(folder)
    size = tree.get("vocab_size")
    if not isinstance(size, int):
        raise ConfigError(f"{path}: no field 'vocab_size'. Take config.json from the place of the weights.")
    return size


def load_bert(folder: Folder, dtype: Any = None) -> BertBackbone | BertPretrainer:
    """A BertPretrainer if the folder holds the masked-word head, else a BertBackbone."""
    options = _expect(folder, "bert")
    backbone = BertBackbone(
        vocab_size(folder), dtype=dtype, name="backbone", **options.model_dump(exclude={"architecture"})
    )
    has_head = any(key.startswith("cls.predictions.") for key in _read_weights(folder))
    model = BertPretrainer(backbone) if has_head else backbone
    load_into(model, folder)
    return model


def load_gpt2(folder: Folder, dtype: Any = None) -> GPTCausalLM:
    """The GPT-2 of a folder with its tied next-word head."""
    options = _expect(folder, "gpt")
    backbone = GPTBackbone(
        vocab_size(folder), dtype=dtype, name="backbone", **options.model_dump(exclude={"architecture"})
    )
    model = GPTCausalLM(backbone)
    load_into(model, folder)
    return model


def load_into(model: keras.Model, folder: Folder) -> LoadReport:
    """Copies a folder's weights into a backbone or into a task that stands on one.

    Heads and poolers may be missing on either side and are named in the report; nothing else may.

    Raises:
      CheckpointError: weights are missing, left over, damaged or of another shape; each is named.
    """
    kind = getattr(model, "backbone", model).architecture
    weights = {_plain(key): value for key, value in _read_weights(folder).items()}
    rename = _bert_name if kind == "bert" else _gpt2_name
    found = {key: rename(key) for key in weights}
    ignored = tuple(key for key, name in found.items() if name is None and IGNORED.fullmatch(key))
    unknown = [key for key, name in found.items() if name is None and key not in ignored]
    if unknown:
        raise CheckpointError(
            f"{folder}: nothing in a {kind} model takes {', '.join(unknown)}. The folder is of another kind of model."
        )
    # Only GPT-2's convolution-like kernels are stored as [input, output]; BERT's are [output, input].
    values = {name: _ours(name, weights[key], kind) for key, name in found.items() if name is not None}
    if kind == "bert":
        values = _join_query_key_value(values)
    return assign(model, values, str(folder), OPTIONAL, ignored)


def read_tokenizer(folder: Folder) -> text.WordPieceTokenizer:
    """The WordPiece tokenizer of vocab.txt; lower-casing as tokenizer_config.json says, else on.

    Ids differ from the `tokenizers` package on text that NFKC changes (full-width forms, ligatures).

    Raises:
      ConfigError: tokenizer_config.json is damaged.
      DataError: vocab.txt is missing or is not one.
    """
    path = Path(folder) / "tokenizer_config.json"
    settings = _parse(path) if path.exists() else {}
    return text.wordpiece_from_file(Path(folder) / "vocab.txt", lowercase=bool(settings.get("do_lower_case", True)))


def _bert_config(tree: dict[str, Any], path: Path) -> Backbone:
    if tree.get("position_embedding_type", "absolute") != "absolute":
        raise ConfigError(
            f"{path}: position_embedding_type={tree['position_embedding_type']!r}, only 'absolute' is read."
        )
    return Backbone(
        architecture="bert",
        num_layers=tree["num_hidden_layers"],
        hidden_dim=tree["hidden_size"],
        num_heads=tree["num_attention_heads"],
        intermediate_dim=tree["intermediate_size"],
        max_length=tree["max_position_embeddings"],
        num_token_types=tree["type_vocab_size"],
        norm_epsilon=tree["layer_norm_eps"],
        activation=_activation(tree["hidden_act"], path),
        dropout=tree["hidden_dropout_prob"],
        attention_dropout=tree["attention_probs_dropout_prob"],
    )


def _gpt2_config(tree: dict[str, Any], path: Path) -> Backbone:
    for field, expected in (("scale_attn_by_inverse_layer_idx", False), ("scale_attn_weights", True)):
        if tree.get(field, expected) != expected:
            raise ConfigError(f"{path}: {field}={tree[field]!r} is not supported, only {expected!r} is.")
    return Backbone(
        architecture="gpt",
        num_layers=tree["n_layer"],
        hidden_dim=tree["n_embd"],
        num_heads=tree["n_head"],
        intermediate_dim=tree.get("n_inner"),
        max_length=tree["n_positions"],
        num_token_types=0,
        norm_order="pre",
        norm_epsilon=tree["layer_norm_epsilon"],
        activation=_activation(tree["activation_function"], path),
        dropout=tree["resid_pdrop"],
        attention_dropout=tree["attn_pdrop"],
    )


def _activation(name: str, path: Path) -> Any:
    if name not in ACTIVATIONS:
        raise ConfigError(f"{path}: activation {name!r} is not one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


def _expect(folder: Folder, architecture: str) -> Backbone:
    options = backbone_config(folder)
    if options.architecture != architecture:
        raise ConfigError(f"{folder} holds a {options.architecture} model, {architecture} was asked for.")
    return options


def _plain(key: str) -> str:
    """Key without the model's prefix, and with the norm's names of today."""
    key = re.sub(r"^(bert|transformer)\.", "", key)
    return key.replace(".gamma", ".weight").replace(".beta", ".bias")


_PARTS_OF_BERT_LAYER = {
    "attention.self.query": "attention/query",
    "attention.self.key": "attention/key",
    "attention.self.value": "attention/value",
    "attention.output.dense": "attention/output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "expand",
    "output.dense": "contract",
    "output.LayerNorm": "feed_forward_norm",
}
_PARTS_OF_BERT = {
    "embeddings.LayerNorm": "embedding/embedding_norm",
    "pooler.dense": "pooler/projection",
    "cls.predictions.transform.dense": "masked_lm/transform",
    "cls.predictions.transform.LayerNorm": "masked_lm/norm",
    "cls.seq_relationship": "next_sentence/projection",
}
_PARTS_OF_GPT2_LAYER = {
    "attn.c_attn": "attention/query_key_value",
    "attn.c_proj": "attention/output",
    "ln_1": "attention_norm",
    "mlp.c_fc": "expand",
    "mlp.c_proj": "contract",
    "ln_2": "feed_forward_norm",
}
_TABLES = {
    "embeddings.word_embeddings.weight": "embedding/word_table",
    "embeddings.position_embeddings.weight": "embedding/position_table",
    "embeddings.token_type_embeddings.weight": "embedding/token_type_table",
    "cls.predictions.bias": "masked_lm/bias",
    "wte.weight": "embedding/word_table",
    "wpe.weight": "embedding/position_table",
}


def _bert_name(key: str) -> str | None:
    """Our name of a BERT key; query, key and value are still apart."""
    if key in _TABLES:
        return _TABLES[key]
    layer = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)", key)
    if layer and layer[2] in _PARTS_OF_BERT_LAYER:
        return _leaf(f"block_{layer[1]}/{_PARTS_OF_BERT_LAYER[layer[2]]}", layer[3])
    part, _, leaf = key.rpartition(".")
    return _leaf(_PARTS_OF_BERT[part], leaf) if part in _PARTS_OF_BERT else None


def _gpt2_name(key: str) -> str | None:
    """Our name of a GPT-2 key."""
    if key in _TABLES:
        return _TABLES[key]
    layer = re.fullmatch(r"h\.(\d+)\.(.+)\.(weight|bias)", key)
    if layer and layer[2] in _PARTS_OF_GPT2_LAYER:
        return _leaf(f"block_{layer[1]}/{_PARTS_OF_GPT2_LAYER[layer[2]]}", layer[3])
    return {"ln_f.weight": "final_norm/gamma", "ln_f.bias": "final_norm/beta"}.get(key)


def _leaf(part: str, leaf: str) -> str:
    if part.endswith("norm"):
        return f"{part}/{'gamma' if leaf == 'weight' else 'beta'}"
    return f"{part}/{'kernel' if leaf == 'weight' else 'bias'}"


def _ours(name: str, value: np.ndarray, kind: str) -> np.ndarray:
    transpose: Callable[[np.ndarray], np.ndarray] = np.transpose
    return transpose(value) if kind == "bert" and name.endswith("/kernel") else value


def _join_query_key_value(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    joined = dict(values)
    for name in values:
        if "/attention/query/" in name:
            parts = [joined.pop(name.replace("/query/", f"/{part}/"), None) for part in ("query", "key", "value")]
            present = [part for part in parts if part is not None]
            if len(present) == 3:  # else the joined weight is reported as missing
                joined[name.replace("/query/", "/query_key_value/")] = np.concatenate(present, axis=-1)
    return joined


def _read_config(folder: Folder) -> tuple[dict[str, Any], Path]:
    path = Path(folder) / "config.json"
    return _parse(path), path


def _parse(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}). Give a folder as Hugging Face saves it.") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds a {type(tree).__name__}, not a mapping.")
    return tree


def _read_weights(folder: Folder) -> dict[str, np.ndarray]:
    path = Path(folder) / "model.safetensors"
    try:
        with safe_open(path, framework="np") as file:
            return {key: file.get_tensor(key) for key in list(file.keys())}
    except (OSError, SafetensorError, TypeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}). Save the model again as float32 safetensors."
        ) from None
