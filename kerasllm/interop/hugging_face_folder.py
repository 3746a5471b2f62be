"""How does one of our models become a Hugging Face folder? config.json, model.safetensors and the tokenizer's files."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors.numpy import save_file

from kerasllm.errors import CheckpointError, ConfigError
from kerasllm.interop.hugging_face_config import Folder, described
from kerasllm.interop.hugging_face_names import names, to_theirs
from kerasllm.interop.hugging_face_tokenizer import write_tokenizer
from kerasllm.interop.weights import arrays
from kerasllm.models import BertBackbone, BertPretrainer, GPTBackbone, GPTCausalLM, TextClassifier
from kerasllm.text import Tokenizer

_HEADS = ("cls.", "classifier.")  # what has no prefix in a model with a head


def write_hugging_face(
    model: keras.Model, folder: Folder, tokenizer: Tokenizer, labels: Mapping[str, Sequence[str]] | None = None
) -> tuple[str, ...]:
    """Writes a new folder that `transformers` loads with AutoModel... and AutoTokenizer; it appears when it is whole.

    A BertPretrainer becomes a BertForPreTraining, or a BertForMaskedLM where words that match tell next sentences; a
    TextClassifier of one head a BertForSequenceClassification, a GPTCausalLM a GPT2LMHeadModel, a backbone the bare
    model.

    Args:
      model: ours; what it computes in does not matter, float32 is written.
      folder: must not exist.
      tokenizer: of the model.
      labels: by head, in the order of the classes.

    Returns: our names of the weights that have no place there and are left out.

    Raises:
      ConfigError: the folder exists already, or Hugging Face has no such model.
      CheckpointError: the folder cannot be written.
    """
    path = Path(folder)
    if path.exists():
        raise ConfigError(f"{path} exists already. Give the name of a new folder.")
    backbone = getattr(model, "backbone", model)
    kind, head = backbone.architecture, _only_head(model)
    config = described(backbone.options, backbone.vocab_size) | _ids(tokenizer, kind) | _class(model, head, labels)
    ours = arrays(model)
    keys = {name: key for key, name in names(kind, backbone.options.num_layers, head).items()}
    if config["architectures"] == ["BertForMaskedLM"]:  # its next sentences are told by more than [CLS]
        keys = {name: key for name, key in keys.items() if not name.startswith("next_sentence/")}
    tensors = {keys[name]: value for name, value in to_theirs(ours, kind).items() if name in keys}
    left = tuple(name for name in ours if not {name, name.replace("query_key_value", "query")} & keys.keys())
    if model is not backbone:
        tensors = _prefixed(tensors, "bert." if kind == "bert" else "transformer.")
    _write(path, config, tensors, tokenizer, backbone.options.max_length)
    return left


def _only_head(model: keras.Model) -> str | None:
    if not isinstance(model, TextClassifier):
        return None
    if model.pooling != "first" or len(model.num_classes) != 1:
        raise ConfigError(
            f"a classifier with {len(model.num_classes)} heads on the {model.pooling!r} token has no place in Hugging "
            "Face's bert, which has one head on the first token. Write its backbone."
        )
    return next(iter(model.num_classes))


def _class(model: keras.Model, head: str | None, labels: Mapping[str, Sequence[str]] | None) -> dict[str, Any]:
    """What config.json says of the task."""
    if head is not None:
        words = (labels or {}).get(head) or [f"LABEL_{index}" for index in range(model.num_classes[head])]
        return {
            "architectures": ["BertForSequenceClassification"],
            "id2label": {str(index): word for index, word in enumerate(words)},
            "label2id": {word: index for index, word in enumerate(words)},
            "classifier_dropout": model.dropout,
        }
    if isinstance(model, BertPretrainer) and model.word_matches is not None:
        return {"architectures": ["BertForMaskedLM"]}
    classes: dict[type, str] = {
        BertBackbone: "BertModel",
        BertPretrainer: "BertForPreTraining",
        GPTBackbone: "GPT2Model",
        GPTCausalLM: "GPT2LMHeadModel",
    }
    if type(model) not in classes:
        raise ConfigError(f"Hugging Face has no model for a {type(model).__name__}. Write its backbone.")
    return {"architectures": [classes[type(model)]]}


def _ids(tokenizer: Tokenizer, kind: str) -> dict[str, Any]:
    if kind == "bert":
        return {"pad_token_id": tokenizer.special.pad}
    special = tokenizer.special
    return {"pad_token_id": special.pad, "bos_token_id": special.bos, "eos_token_id": special.eos}


def _prefixed(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key if key.startswith(_HEADS) else prefix + key: value for key, value in tensors.items()}


def _write(
    path: Path, config: dict[str, Any], tensors: dict[str, np.ndarray], tokenizer: Tokenizer, max_length: int
) -> None:
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        staging.mkdir(parents=True)
        (staging / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        save_file(tensors, staging / "model.safetensors", metadata={"format": "pt"})
        write_tokenizer(tokenizer, staging, max_length)
        (staging / "model.safetensors").chmod((staging / "config.json").stat().st_mode)  # it lets nobody else read
        os.rename(staging, path)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise CheckpointError(f"{path}: cannot be written ({error.strerror}).") from error
