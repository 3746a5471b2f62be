"""kerasllm: language models on TensorFlow and Keras, from raw text to a served answer.

The public names below are imported when they are first used, so that `import kerasllm` itself is quick.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Run": "kerasllm.config",
    "load_run": "kerasllm.config",
    "make_run": "kerasllm.config",
    "BertBackbone": "kerasllm.models",
    "BertPretrainer": "kerasllm.models",
    "GPTBackbone": "kerasllm.models",
    "GPTCausalLM": "kerasllm.models",
    "TextClassifier": "kerasllm.models",
    "train_wordpiece": "kerasllm.text",
    "train_sentencepiece": "kerasllm.text",
    "pack_texts": "kerasllm.text",
    "classify": "kerasllm.trained",
    "load": "kerasllm.trained",
    "save": "kerasllm.trained",
    "write_classifier": "kerasllm.export",
}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"kerasllm has no {name!r}. It has: {', '.join(_HOMES)}.")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
