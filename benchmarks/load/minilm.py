"""Which model is asked, and for what? all-MiniLM-L6-v2 as a SavedModel: sentences in, embeddings out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kerasllm.errors import DataError

if TYPE_CHECKING:
    from kerasllm.models import TextEncoder
    from kerasllm.text import Tokenizer

NAME = "minilm"
LENGTH = 128  # tokens that a sentence is cut to


def read_sentences(path: str, count: int, seed: int = 1) -> list[str]:
    """So many of the first column of a .tsv with a header, drawn without replacement.

    Raises:
      DataError: it cannot be read, or has fewer.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()[1:]
    except OSError as error:
        raise DataError(f"--data {path}: cannot be read ({error.strerror}).") from None
    if len(lines) < count:
        raise DataError(f"--data {path} has {len(lines)} lines under its header, and {count} are drawn.")
    drawn = np.random.default_rng(seed).choice(len(lines), count, replace=False)
    return [lines[index].partition("\t")[0] for index in drawn]


def load_encoder(folder: str) -> "tuple[TextEncoder, Tokenizer]":
    """The Keras model with mean pooling, and its tokenizer, from a Hugging Face folder."""
    from kerasllm import interop, models

    backbone = interop.load_bert(folder)
    assert isinstance(backbone, models.BertBackbone), f"{folder} holds more than an encoder"
    return models.TextEncoder(backbone), interop.read_tokenizer(folder)


def write_minilm(folder: str, base_path: Path) -> Path:
    """Exports it to base_path/minilm/1 and returns that; sentences are checked to be embedded as by the Keras model."""
    import tensorflow as tf

    from kerasllm.export import GOLDEN_TEXTS, Call, arrays_of, bytes_of, write_export
    from kerasllm.export.warmup import bucket_text, length_buckets
    from kerasllm.text import pack_texts

    encoder, tokenizer = load_encoder(folder)

    class Signatures(tf.Module):
        def __init__(self) -> None:
            super().__init__(name=NAME)
            self.tracked = [variable.value for variable in encoder.weights]
            self.tracked_text = tokenizer.assets

        def embed(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
            rows = pack_texts(tokenizer, text, None, LENGTH)
            return {"embedding": encoder(rows, training=False)["embeddings"]}

        def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
            strings = tf.TensorSpec([None], tf.string)
            return {"serving_default": tf.function(self.embed, autograph=False).get_concrete_function(text=strings)}

    signatures = Signatures()
    texts = np.array([text.encode() for text in GOLDEN_TEXTS], object)
    call = Call("serving_default", {"text": texts}, arrays_of(signatures.embed(tf.constant(texts))))
    warmup = [
        ("serving_default", {"text": np.array([bucket_text(length)], object)}) for length in length_buckets(LENGTH)
    ]
    notes = json.dumps({"format_version": 1, "name": NAME, "sequence_length": LENGTH}) + "\n"
    size = bytes_of(signatures.tracked)
    return write_export(signatures, [call], size, base_path, NAME, {"export.json": notes}, warmup)


def predict_requests(sentences: Sequence[str], model: str = NAME) -> list[bytes]:
    """A serialized PredictRequest for each sentence."""
    from serving.clients import arrays, messages

    requests = []
    for sentence in sentences:
        request = messages.PredictRequest()
        request.model_spec.name = model
        request.inputs["text"].CopyFrom(arrays.to_proto([sentence]))
        requests.append(request.SerializeToString())
    return requests


def json_requests(sentences: Sequence[str]) -> list[bytes]:
    """A body for benchmarks.baselines.torch_server for each sentence."""
    return [json.dumps({"text": sentence}).encode() for sentence in sentences]
