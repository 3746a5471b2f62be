"""How does a Hugging Face folder become one of our models? config.json, model.safetensors and the vocabulary."""

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors import SafetensorError, safe_open

from kerasllm import text
from kerasllm.config import Backbone
from kerasllm.errors import CheckpointError, ConfigError
from kerasllm.interop.hugging_face_config import Folder, backbone_config, parse_json, vocab_size
from kerasllm.interop.hugging_face_names import names, to_ours
from kerasllm.interop.weights import LoadReport, assign
from kerasllm.models import BertBackbone, BertPretrainer, GPTBackbone, GPTCausalLM

OPTIONAL = ("pooler", "masked_lm", "next_sentence", "head")  # what a pretrained folder need not have
# Keys that may be left over: buffers, copies of tied weights, and heads that we do not have.
IGNORED = re.compile(
    r"embeddings\.position_ids|cls\.predictions\.decoder\..*|lm_head\.weight|h\.\d+\.attn\.(masked_)?bias"
    r"|classifier\..*|qa_outputs\..*|score\..*"
)


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
    backbone = getattr(model, "backbone", model)
    kind = backbone.architecture
    weights = {_plain(key): value for key, value in _read_weights(folder).items()}
    named = names(kind, backbone.options.num_layers)
    ignored = tuple(key for key in weights if key not in named and IGNORED.fullmatch(key))
    unknown = [key for key in weights if key not in named and key not in ignored]
    if unknown:
        raise CheckpointError(
            f"{folder}: nothing in a {kind} model takes {', '.join(unknown)}. The folder is of another kind of model, "
            f"or has more than {backbone.options.num_layers} layers."
        )
    values = to_ours({named[key]: value for key, value in weights.items() if key in named}, kind)
    return assign(model, values, str(folder), OPTIONAL, ignored)


def read_tokenizer(folder: Folder) -> text.WordPieceTokenizer:
    """The WordPiece tokenizer of vocab.txt; lower-casing as tokenizer_config.json says, else on.

    Ids differ from the `tokenizers` package on text that NFKC changes (full-width forms, ligatures).

    Raises:
      ConfigError: tokenizer_config.json is damaged.
      DataError: vocab.txt is missing or is not one.
    """
    path = Path(folder) / "tokenizer_config.json"
    settings = parse_json(path) if path.exists() else {}
    return text.wordpiece_from_file(Path(folder) / "vocab.txt", lowercase=bool(settings.get("do_lower_case", True)))


def _expect(folder: Folder, architecture: str) -> Backbone:
    options = backbone_config(folder)
    if options.architecture != architecture:
        raise ConfigError(f"{folder} holds a {options.architecture} model, {architecture} was asked for.")
    return options


def _plain(key: str) -> str:
    """Key without the model's prefix, and with the norm's names of today."""
    key = re.sub(r"^(bert|transformer)\.", "", key)
    return key.replace(".gamma", ".weight").replace(".beta", ".bias")


def _read_weights(folder: Folder) -> dict[str, np.ndarray]:
    path = Path(folder) / "model.safetensors"
    try:
        with safe_open(path, framework="np") as file:
            return {key: file.get_tensor(key) for key in list(file.keys())}
    except (OSError, SafetensorError, TypeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}). Save the model again as float32 safetensors."
        ) from None
