"""Weights from elsewhere: Hugging Face folders and keras-nlp backbones."""

from kerasllm.interop.hugging_face import (
    backbone_config,
    load_bert,
    load_gpt2,
    load_into,
    read_tokenizer,
    vocab_size,
)
from kerasllm.interop.keras_nlp import from_keras_nlp
from kerasllm.interop.weights import LoadReport

__all__ = [
    "LoadReport",
    "backbone_config",
    "from_keras_nlp",
    "load_bert",
    "load_gpt2",
    "load_into",
    "read_tokenizer",
    "vocab_size",
]
