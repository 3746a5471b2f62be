"""How does a GPT become a served model? Prompts in, continuations out, whole or a chunk at a time."""

# B prompts, S columns of a cache, L layers, G key-value heads

import dataclasses
import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from kerasllm.config import Chat
from kerasllm.export.narrow import computing_in_bfloat16
from kerasllm.export.narrow_generator import compare_losses, narrowing_section
from kerasllm.export.prompts import checked, first_stop, prompt_rows, texts_between, without_half_character
from kerasllm.export.sample_calls import sample_calls, sample_chunk
from kerasllm.export.savedmodel import bytes_of, write_export
from kerasllm.export.searching import Signature, searching_signatures
from kerasllm.export.settings import (
    MOST_FORBIDDEN,
    MOST_FORBIDDEN_BYTES,
    MOST_STOPS,
    SETTINGS,
    few_enough,
    rules_of,
    sampling_of,
    short_enough,
)
from kerasllm.export.streaming import STREAMING, STREAMING_FILE
from kerasllm.models import GPTCausalLM
from kerasllm.models.generation import Decoding, Forbids, begin, proceed
from kerasllm.models.sampling import Sampling
from kerasllm.text import Tokenizer
from kerasllm.text.forbidden import forbid

FORMAT_VERSION = 1  # of assets.extra/export.json


def write_generator(
    model: GPTCausalLM,
    tokenizer: Tokenizer,
    base_path: str | os.PathLike[str],
    name: str,
    metrics: Mapping[str, float] | None = None,
    bfloat16_for: Sequence[str] | None = None,
    chat: Chat | None = None,
) -> Path:
    """Writes base_path/name/<next version>/ and returns it; the folder appears whole and checked, or not at all.

    assets.extra/streaming.json says how its text can be streamed: "prefill" reads prompts, "decode_chunk" goes on.

    Args:
      model: a built causal language model.
      tokenizer: the one that it was trained with.
      base_path: folder of all exported models.
      name: of the model; letters, digits, `_`, `-` and `.`.
      metrics: of the evaluation, noted in assets.extra/export.json.
      bfloat16_for: stores and computes in bfloat16, and the card tells what it changes for these texts; None: float32.
      chat: how conversations were written that it learned to answer; becomes assets.extra/chat_template.json.

    Raises:
      ExportError: the folder cannot be written, or a check failed.
    """
    exported, about, changes = model, list[str](), dict[str, Any]()
    if bfloat16_for is not None:
        exported = computing_in_bfloat16(model)
        found = compare_losses(model, exported, tokenizer, bfloat16_for)
        about, changes = narrowing_section(found), {"bfloat16": dataclasses.asdict(found)}
    signatures = GenerationSignatures(exported, tokenizer)
    notes = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "max_length": signatures.max_length,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        **changes,
        "metrics": dict(metrics or {}),
    }
    files = {
        "export.json": json.dumps(notes, indent=1, ensure_ascii=False) + "\n",
        STREAMING_FILE: json.dumps(STREAMING, indent=1) + "\n",
    }
    if chat is not None:
        files["chat_template.json"] = json.dumps(chat.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    # bfloat16 has ties between words, and other kernels break them in another way
    compared = {"num_prompt_tokens"} if changes else {"text", "num_tokens", "num_prompt_tokens", "choice"}
    traced = signatures.signatures()
    calls, warmup = sample_calls(traced, compared), sample_chunk(traced)
    return write_export(signatures, calls, bytes_of(exported.weights), base_path, name, files, warmup, about)


class Generation:
    """What an exported GPT computes: signatures as plain functions of tensors.

    No tf.Module, which would track the model; see GenerationSignatures.

    Args:
      model: the causal language model.
      tokenizer: of the model; tokenizes and detokenizes in the graph.

    Attributes:
      max_length: tokens of a prompt with its continuation.
    """

    def __init__(self, model: GPTCausalLM, tokenizer: Tokenizer) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._end_id = tokenizer.special.eos
        self.max_length = model.backbone.options.max_length

    def functions(self) -> dict[str, Signature]:
        """Each signature with the specs of its inputs."""
        asked = {"prompt": tf.TensorSpec([None], tf.string), **SETTINGS}
        forbidden = {"forbidden": tf.TensorSpec([None, None], tf.string)}
        chunk = {"chunk_tokens": tf.TensorSpec([None], tf.int32)}
        return {
            "generate": (self.generate, asked),
            "generate_without": (self.generate_without, {**asked, **forbidden}),
            "prefill": (self.prefill, asked),
            "decode_chunk": (self.decode_chunk, {**chunk, **self._state_specs(), **SETTINGS}),
            **searching_signatures(self._model, self._tokenizer),
        }

    def generate(self, prompt: Any, **settings: Any) -> dict[str, Any]:
        """Whole continuations."""
        state, prompt_lengths, limits, sampling = self._read(prompt, settings)
        return self._finish(state, prompt_lengths, limits, sampling, settings["stop"])[1]

    def generate_without(self, prompt: Any, forbidden: Any, **settings: Any) -> dict[str, Any]:
        """Whole continuations in which no forbidden word of the row stands."""
        are_few = few_enough(forbidden, MOST_FORBIDDEN, "forbidden")
        are_short = short_enough(forbidden, MOST_FORBIDDEN_BYTES, "forbidden")
        with tf.control_dependencies(checked({**are_few, **are_short})):
            forbids = forbid(self._tokenizer, tf.identity(forbidden))
        state, prompt_lengths, limits, sampling = self._read(prompt, settings, forbids)
        return self._finish(state, prompt_lengths, limits, sampling, settings["stop"], forbids=forbids)[1]

    def prefill(self, prompt: Any, **settings: Any) -> dict[str, Any]:
        """The first new token, and the state that `decode_chunk` goes on from."""
        state, prompt_lengths, limits, sampling = self._read(prompt, settings)
        state, answers = self._finish(state, prompt_lengths, limits, sampling, settings["stop"], num_steps=0)
        return {**answers, **_carried(state, prompt_lengths)}

    def decode_chunk(self, chunk_tokens: Any, **inputs: Any) -> dict[str, Any]:
        """Some tokens more, and the state after them; `inputs` are the state and the settings."""
        sampling, prompt_lengths = sampling_of(inputs), inputs["prompt_lengths"]
        limits = prompt_lengths + tf.minimum(inputs["max_new_tokens"], self.max_length - prompt_lengths)
        cache, lengths, columns = inputs["cache"], inputs["lengths"], tf.shape(inputs["token_ids"])[1]
        fits = (
            "cache and token_ids have to have as many columns, and lengths to be within them. Give them as they came."
        )
        is_fitting = (tf.shape(cache)[4] == columns) & tf.reduce_all((lengths > 0) & (lengths <= columns))
        with tf.control_dependencies(checked({fits: is_fitting})):
            lengths = tf.identity(lengths)
            cache = tf.raw_ops.DeepCopy(x=cache)  # it is written; to transpose a single row would not copy it
        layers = tf.unstack(tf.transpose(cache, [1, 2, 0, 3, 4, 5]))
        caches = [(pair[0], pair[1]) for pair in layers]
        state = Decoding(inputs["token_ids"], lengths, inputs["is_done"], caches)
        steps = tf.reduce_max(chunk_tokens)
        state, answers = self._finish(state, prompt_lengths, limits, sampling, inputs["stop"], steps)
        return {**answers, **_carried(state, prompt_lengths)}

    def _read(
        self, prompt: Any, settings: Mapping[str, Any], forbids: Forbids | None = None
    ) -> tuple[Decoding, Any, Any, Sampling]:
        """The state with the first new token, lengths of the prompts, limits of the rows."""
        rows, lengths = prompt_rows(self._tokenizer, prompt, self.max_length, rules_of(settings))
        limits = lengths + tf.minimum(settings["max_new_tokens"], self.max_length - lengths)
        sampling = sampling_of(settings)
        columns = tf.maximum(tf.reduce_max(limits), 2)  # 2: of an empty batch too
        return begin(self._model, rows, lengths, columns, sampling, forbids), lengths, limits, sampling

    def _finish(
        self,
        state: Decoding,
        prompt_lengths: Any,
        limits: Any,
        sampling: Sampling,
        stop: Any,
        num_steps: Any = None,
        forbids: Forbids | None = None,
    ) -> tuple[Decoding, dict[str, Any]]:
        """Goes on until all rows have ended, or for `num_steps`; the state and the answers so far."""
        with tf.control_dependencies(checked(few_enough(stop, MOST_STOPS, "stop"))):
            stop = tf.identity(stop)

        def is_stopped(token_ids: Any, lengths: Any) -> Any:
            def found() -> Any:
                return first_stop(texts_between(self._tokenizer, token_ids, prompt_lengths, lengths), stop) >= 0

            return tf.cond(tf.reduce_any(tf.not_equal(stop, "")), found, lambda: tf.zeros_like(lengths, tf.bool))

        state = proceed(self._model, state, limits, sampling, (self._end_id,), is_stopped, num_steps, forbids)
        newest = tf.gather(state.token_ids, state.lengths - 1, batch_dims=1)
        text = texts_between(self._tokenizer, state.token_ids, prompt_lengths, state.lengths)
        place = first_stop(text, stop)
        is_stop = (newest == self._end_id) | (place >= 0)
        stopped = tf.strings.substr(text, tf.zeros_like(place), tf.maximum(place, 0))
        return state, {
            "text": tf.where(place >= 0, stopped, without_half_character(text)),
            "num_tokens": state.lengths - prompt_lengths,
            "num_prompt_tokens": prompt_lengths,
            "finish_reason": tf.where(is_stop, "stop", tf.where(state.is_done, "length", "")),
        }

    def _state_specs(self) -> dict[str, tf.TensorSpec]:
        """Of what `_carried` hands on."""
        options = self._model.backbone.options
        groups = options.num_key_value_heads or options.num_heads
        head_dim = options.hidden_dim // options.num_heads
        return {
            "token_ids": tf.TensorSpec([None, None], tf.int32),
            "lengths": tf.TensorSpec([None], tf.int32),
            "prompt_lengths": tf.TensorSpec([None], tf.int32),
            "is_done": tf.TensorSpec([None], tf.bool),
            "cache": tf.TensorSpec([None, options.num_layers, 2, groups, None, head_dim], tf.float32),
        }


class GenerationSignatures(tf.Module):
    """The functions of an exported GPT, traced.

    It tracks the plain variables behind the Keras ones, see ClassifierSignatures.

    Args:
      model: the causal language model.
      tokenizer: of the model.

    Attributes:
      max_length: tokens of a prompt with its continuation.
      signature: traces one of them by its name.
    """

    def __init__(self, model: GPTCausalLM, tokenizer: Tokenizer) -> None:
        super().__init__(name="generator")
        self._tracked = [variable.value for variable in model.weights]
        self._tracked_text = tokenizer.assets
        generation = Generation(model, tokenizer)  # held by the closure alone
        functions = generation.functions()

        @functools.cache
        def traced(name: str) -> tf.types.experimental.ConcreteFunction:
            function, specs = functions[name]
            return tf.function(function, autograph=False).get_concrete_function(**specs)

        self.max_length, self._names, self.signature = generation.max_length, tuple(functions), traced

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The traced functions by signature name."""
        traced = {name: self.signature(name) for name in self._names}
        return {"serving_default": traced["generate"], **traced}


def _carried(state: Decoding, prompt_lengths: Any) -> dict[str, Any]:
    """What a client sends back to go on."""
    stacked = tf.stack([tf.stack(pair) for pair in state.caches])
    return {
        "token_ids": state.token_ids,
        "lengths": state.lengths,
        "prompt_lengths": prompt_lengths,
        "is_done": state.is_done,
        "cache": tf.transpose(stacked, [2, 0, 1, 3, 4, 5]),
    }
