"""Weights from elsewhere and to elsewhere: Hugging Face folders, keras-nlp backbones and presets."""

from kerasllm.interop.hugging_face import load_bert, load_gpt2, load_into, read_tokenizer
from kerasllm.interop.hugging_face_config import backbone_config, vocab_size
from kerasllm.interop.hugging_face_folder import write_hugging_face
from kerasllm.interop.keras_nlp import from_keras_nlp, read_preset, to_keras_nlp, write_preset
from kerasllm.interop.weights import LoadReport

__all__ = [
    "LoadReport",
    "backbone_config",
    "from_keras_nlp",
    "load_bert",
    "load_gpt2",
    "load_into",
    "read_preset",
    "read_tokenizer",
    "to_keras_nlp",
    "vocab_size",
    "write_hugging_face",
    "write_preset",
]
