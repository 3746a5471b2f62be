"""How does a dual encoder become a served model? Strings in, embeddings of length 1 out."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasllm.export.golden import BFLOAT16_TOLERANCE, GOLDEN_TEXTS, TOLERANCE, Call
from kerasllm.export.narrow import computing_in_bfloat16
from kerasllm.export.savedmodel import Request, arrays_of, bytes_of, write_export
from kerasllm.export.signatures import pack_to_longest
from kerasllm.export.warmup import bucket_text, length_buckets
from kerasllm.models import TextEncoder
from kerasllm.text import Tokenizer

FORMAT_VERSION = 1  # of assets.extra/export.json

# B texts, T tokens, D width of an embedding


class EncoderSignatures(tf.Module):
    """The functions of an exported encoder; it tracks plain variables, as ClassifierSignatures does and for the reason.

    Args:
      model: a built encoder.
      tokenizer: tokenizes in the graph.
      sequence_length: tokens that a text is cut to; rows are padded to the longest of the batch.
    """

    def __init__(self, model: TextEncoder, tokenizer: Tokenizer, sequence_length: int) -> None:
        super().__init__(name="encoder")
        self._tracked = [variable.value for variable in model.weights]
        self._tracked_text = tokenizer.assets

        # The model is held by the closures alone: as an attribute tf.Module would track it.
        def token_ids(text: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"token_ids": pack_to_longest(tokenizer, text, sequence_length)["token_ids"]}

        def embed(text: tf.Tensor) -> dict[str, tf.Tensor]:
            rows = pack_to_longest(tokenizer, text, sequence_length)
            return {"embedding": model(rows, training=False)["embeddings"]}

        self.token_ids, self.embed = token_ids, embed

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """By name: texts [B] string -> embedding [B, D] float32 of length 1, or token_ids [B, T] int32."""
        strings = tf.TensorSpec([None], tf.string)
        embed = tf.function(self.embed, autograph=False).get_concrete_function(text=strings)
        token_ids = tf.function(self.token_ids, autograph=False).get_concrete_function(text=strings)
        return {"serving_default": embed, "embed": embed, "token_ids": token_ids}


def write_encoder(
    model: TextEncoder,
    tokenizer: Tokenizer,
    sequence_length: int,
    base_path: str | os.PathLike[str],
    name: str,
    metrics: Mapping[str, float] | None = None,
    bfloat16_compute: bool = False,
    measured_text: str | None = None,
) -> Path:
    """Writes base_path/name/<next version>/ and returns it; the folder appears whole and checked, or not at all.

    Args:
      model: a built encoder.
      tokenizer: the one that it was trained with.
      sequence_length: tokens that a text is cut to.
      base_path: folder of all exported models.
      name: of the model; letters, digits, `_`, `-` and `.`.
      metrics: of the evaluation, noted in assets.extra/export.json.
      bfloat16_compute: stores matrices as bfloat16 and computes in it.
      measured_text: a text of median length: batches of it are timed, which decides how a server batches.

    Raises:
      ExportError: the folder cannot be written, or a check failed.
    """
    served = computing_in_bfloat16(model) if bfloat16_compute else model
    signatures = EncoderSignatures(served, tokenizer, sequence_length)
    traced, texts = signatures.signatures(), np.array([text.encode() for text in GOLDEN_TEXTS], object)
    embedding = arrays_of(traced["embed"](text=tf.constant(GOLDEN_TEXTS)))
    notes = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "sequence_length": sequence_length,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "metrics": dict(metrics or {}),
    }
    if bfloat16_compute:
        exact = EncoderSignatures(model, tokenizer, sequence_length).embed(tf.constant(GOLDEN_TEXTS))["embedding"]
        notes["least_cosine_to_float32"] = float(np.min(np.sum(embedding["embedding"] * exact.numpy(), axis=1)))
    calls = [
        Call("serving_default", {"text": texts}, embedding, BFLOAT16_TOLERANCE if bfloat16_compute else TOLERANCE),
        Call("token_ids", {"text": texts}, arrays_of(signatures.token_ids(tf.constant(GOLDEN_TEXTS)))),
    ]
    warmup: list[Request] = [
        ("serving_default", {"text": np.array([bucket_text(num_tokens)], object)})
        for num_tokens in length_buckets(sequence_length)
    ]
    return write_export(
        signatures,
        calls,
        bytes_of(served.weights),
        base_path,
        name,
        {"export.json": json.dumps(notes, indent=1) + "\n"},
        warmup,
        measured=None if measured_text is None else ("embed", {"text": np.array([measured_text.encode()], object)}),
    )
