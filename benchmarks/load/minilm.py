"""Which model is asked, and for what? all-MiniLM-L6-v2 as a SavedModel: sentences in, embeddings out."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kerasllm.errors import DataError

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


def write_minilm(folder: str, base_path: Path) -> Path:
    """Exports it to base_path/minilm/1 and returns that."""
    from benchmarks.minilm_exports import read_encoder
    from kerasllm.export.encoder import write_encoder

    encoder, tokenizer = read_encoder(folder, LENGTH)
    return write_encoder(encoder, tokenizer, LENGTH, base_path, NAME)


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
