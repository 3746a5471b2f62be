"""How does a GPT become a served model? Prompts in, continuations out, whole or a chunk at a time."""

# B prompts, S columns of a cache, N stop strings of a row, M bytes of the longest, L layers, G key-value heads

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.config import Chat
from kerasllm.export.golden import Call
from kerasllm.export.savedmodel import arrays_of, bytes_of, write_export
from kerasllm.models import GPTCausalLM
from kerasllm.models.generation import Decoding, begin, proceed
from kerasllm.models.sampling import Sampling
from kerasllm.text import Tokenizer

SETTINGS = {  # batch-major, so that rows with different settings share a batch
    "max_new_tokens": tf.TensorSpec([None], tf.int32),
    "temperature": tf.TensorSpec([None], tf.float32),
    "top_k": tf.TensorSpec([None], tf.int32),
    "top_p": tf.TensorSpec([None], tf.float32),
    "repetition_penalty": tf.TensorSpec([None], tf.float32),
    "seed": tf.TensorSpec([None], tf.int64),
    "stop": tf.TensorSpec([None, None], tf.string),
}
CARRIED = ("token_ids", "lengths", "prompt_lengths", "is_done", "cache")  # from one chunk to the next
FORMAT_VERSION = 1  # of assets.extra/export.json
SAMPLE_PROMPTS = ("The company said that", "今天公司", "", "plain 😀 text,\twith a tab")
SAMPLE_TOKENS = 4
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # stands for bytes that are no whole character yet


def write_generator(
    model: GPTCausalLM,
    tokenizer: Tokenizer,
    base_path: str | os.PathLike[str],
    name: str,
    metrics: Mapping[str, float] | None = None,
    chat: Chat | None = None,
) -> Path:
    """Writes base_path/name/<next version>/ and returns it; the folder appears whole and checked, or not at all.

    assets.extra/export.json says how its text can be streamed: "prefill" reads prompts, "decode_chunk" goes on, and
    "carried" names the outputs of both that are inputs of the next call.

    Args:
      model: a built causal language model.
      tokenizer: the one that it was trained with.
      base_path: folder of all exported models.
      name: of the model; letters, digits, `_`, `-` and `.`.
      metrics: of the evaluation, noted in assets.extra/export.json.
      chat: how conversations were written that it learned to answer; becomes assets.extra/chat_template.json.

    Raises:
      ExportError: the folder cannot be written, or a check failed.
    """
    signatures = GenerationSignatures(model, tokenizer)
    notes = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "max_length": signatures.max_length,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "streaming": {"prefill": "prefill", "decode_chunk": "decode_chunk", "carried": CARRIED},
        "metrics": dict(metrics or {}),
    }
    files = {"export.json": json.dumps(notes, indent=1, ensure_ascii=False) + "\n"}
    if chat is not None:
        files["chat_template.json"] = json.dumps(chat.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    traced = signatures.signatures()
    inputs = {"prompt": np.array([prompt.encode() for prompt in SAMPLE_PROMPTS], object), **greedy(SAMPLE_TOKENS)}
    answers = traced["generate"](**{key: tf.constant(value) for key, value in inputs.items()})
    calls = [Call("generate", inputs, arrays_of(answers))]
    return write_export(signatures, calls, bytes_of(model.weights), base_path, name, files)


def greedy(max_new_tokens: int, rows: int = len(SAMPLE_PROMPTS)) -> dict[str, np.ndarray]:
    """Settings that take the most probable word each time, of so many rows."""
    values = {"max_new_tokens": max_new_tokens, "temperature": 0, "top_k": 0, "top_p": 1, "repetition_penalty": 1}
    settings = {
        key: np.full(rows, value, SETTINGS[key].dtype.as_numpy_dtype) for key, value in {**values, "seed": 0}.items()
    }
    return {**settings, "stop": np.zeros([rows, 0], object)}


class GenerationSignatures(tf.Module):
    """The functions of an exported GPT.

    It tracks the plain variables behind the Keras ones, see ClassifierSignatures.

    Args:
      model: the causal language model.
      tokenizer: of the model; tokenizes and detokenizes in the graph.
    """

    def __init__(self, model: GPTCausalLM, tokenizer: Tokenizer) -> None:
        super().__init__(name="generator")
        self._tracked = [variable.value for variable in model.weights]
        self._tracked_text = tokenizer.assets
        self.max_length = model.backbone.options.max_length
        special = tokenizer.special
        options, width = model.backbone.options, model.backbone.compute_dtype
        groups = options.num_key_value_heads or options.num_heads
        head_dim = options.hidden_dim // options.num_heads
        state_specs = {
            "token_ids": tf.TensorSpec([None, None], tf.int32),
            "lengths": tf.TensorSpec([None], tf.int32),
            "prompt_lengths": tf.TensorSpec([None], tf.int32),
            "is_done": tf.TensorSpec([None], tf.bool),
            "cache": tf.TensorSpec([None, options.num_layers, 2, groups, None, head_dim], width),
        }

        # The model is held by the closures alone: as an attribute tf.Module would track it.
        def read(prompt: Any, settings: Mapping[str, Any]) -> tuple[Decoding, Any, Any, Sampling]:
            """The state with the first new token, lengths of the prompts, limits of the rows."""
            ids = tokenizer.tokenize(prompt)
            ids = tf.concat([tf.fill([tf.shape(prompt)[0], 1], special.bos), ids], axis=1)
            lengths = tf.cast(ids.row_lengths(), tf.int32)
            checks = _checks(lengths, settings, self.max_length)
            with tf.control_dependencies(checks):  # before anything is looked up that is not there
                lengths, rows = tf.identity(lengths), tf.identity(ids.to_tensor())
            limits = lengths + tf.minimum(settings["max_new_tokens"], self.max_length - lengths)
            sampling = _sampling(settings)
            columns = tf.maximum(tf.reduce_max(limits), 2)  # 2: of an empty batch too
            return begin(model, rows, lengths, columns, sampling), lengths, limits, sampling

        def texts(token_ids: Any, starts: Any, ends: Any) -> Any:
            """[B] string of the tokens from `starts` to `ends` of each row, as they continue what stands before."""
            columns = tf.range(tf.shape(token_ids)[1])
            is_special = tf.reduce_any([token_ids == one for one in special.ids], axis=0)
            is_text = (columns < ends[:, None]) & ~is_special
            whole = tokenizer.detokenize(tf.ragged.boolean_mask(token_ids, is_text))
            before = tokenizer.detokenize(tf.ragged.boolean_mask(token_ids, is_text & (columns < starts[:, None])))
            return tf.strings.substr(whole, tf.strings.length(before), tf.strings.length(whole))

        def finish(
            state: Decoding, prompt_lengths: Any, limits: Any, sampling: Sampling, stop: Any, num_steps: Any = None
        ) -> tuple[Decoding, dict[str, Any]]:
            """Goes on until all rows have ended, or for `num_steps`; the state and the answers so far."""

            def is_stopped(token_ids: Any, lengths: Any) -> Any:
                def found() -> Any:
                    return first_stop(texts(token_ids, prompt_lengths, lengths), stop) >= 0

                return tf.cond(tf.size(stop) > 0, found, lambda: tf.zeros_like(lengths, tf.bool))

            state = proceed(model, state, limits, sampling, (special.eos,), is_stopped, num_steps)
            newest = tf.gather(state.token_ids, state.lengths - 1, batch_dims=1)
            text = texts(state.token_ids, prompt_lengths, state.lengths)
            place = first_stop(text, stop)
            is_stop = (newest == special.eos) | (place >= 0)
            unended = tf.strings.regex_replace(text, f"{REPLACEMENT}+$", "")  # the last character may be half
            text = tf.where(place >= 0, tf.strings.substr(text, tf.zeros_like(place), tf.maximum(place, 0)), unended)
            reason = tf.where(is_stop, "stop", tf.where(state.is_done, "length", ""))
            return state, {
                "text": text,
                "num_tokens": state.lengths - prompt_lengths,
                "num_prompt_tokens": prompt_lengths,
                "finish_reason": reason,
            }

        def generate(prompt: Any, **settings: Any) -> dict[str, Any]:
            state, prompt_lengths, limits, sampling = read(prompt, settings)
            return finish(state, prompt_lengths, limits, sampling, settings["stop"])[1]

        def prefill(prompt: Any, **settings: Any) -> dict[str, Any]:
            state, prompt_lengths, limits, sampling = read(prompt, settings)
            state, answers = finish(state, prompt_lengths, limits, sampling, settings["stop"], num_steps=0)
            return {**answers, **carried(state, prompt_lengths)}

        def decode_chunk(chunk_tokens: Any, **inputs: Any) -> dict[str, Any]:
            sampling, prompt_lengths = _sampling(inputs), inputs["prompt_lengths"]
            limits = prompt_lengths + tf.minimum(inputs["max_new_tokens"], self.max_length - prompt_lengths)
            layers = tf.unstack(tf.transpose(inputs["cache"], [1, 2, 0, 3, 4, 5]))
            caches = [(pair[0], pair[1]) for pair in layers]
            state = Decoding(inputs["token_ids"], inputs["lengths"], inputs["is_done"], caches)
            steps = tf.reduce_max(chunk_tokens)
            state, answers = finish(state, prompt_lengths, limits, sampling, inputs["stop"], steps)
            return {**answers, **carried(state, prompt_lengths)}

        def carried(state: Decoding, prompt_lengths: Any) -> dict[str, Any]:
            stacked = tf.stack([tf.stack(pair) for pair in state.caches])
            return {
                "token_ids": state.token_ids,
                "lengths": state.lengths,
                "prompt_lengths": prompt_lengths,
                "is_done": state.is_done,
                "cache": tf.transpose(stacked, [2, 0, 1, 3, 4, 5]),
            }

        self._functions: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, tf.TensorSpec]]] = {
            "generate": (generate, {"prompt": tf.TensorSpec([None], tf.string), **SETTINGS}),
            "prefill": (prefill, {"prompt": tf.TensorSpec([None], tf.string), **SETTINGS}),
            "decode_chunk": (
                decode_chunk,
                {"chunk_tokens": tf.TensorSpec([None], tf.int32), **state_specs, **SETTINGS},
            ),
        }

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The traced functions by signature name."""
        traced = {
            name: tf.function(function, autograph=False).get_concrete_function(**specs)
            for name, (function, specs) in self._functions.items()
        }
        return {"serving_default": traced["generate"], **traced}


def first_stop(texts: Any, stop: Any) -> Any:
    """Where the first stop string begins in each text, in bytes; -1: none is in it.

    Args:
      texts: [B] string.
      stop: [B, N] string, those of each row; an empty one is none.
    """
    sizes = tf.strings.length(stop)
    longest, room = tf.reduce_max(sizes, keepdims=False), tf.reduce_max(tf.strings.length(texts))
    longest, room = tf.maximum(longest, 1), tf.maximum(room, 1)  # of no strings at all too
    wanted = tf.io.decode_raw(stop, tf.uint8, fixed_length=longest)  # [B, N, M]
    there = tf.io.decode_raw(texts, tf.uint8, fixed_length=room + longest)  # [B, room + M]
    windows = tf.gather(there, tf.range(room)[:, None] + tf.range(longest), axis=1)  # [B, room, M]
    is_equal = windows[:, None] == wanted[:, :, None]
    is_free = tf.range(longest) >= sizes[:, :, None, None]  # beyond the end of this stop string
    is_here = tf.reduce_all(is_equal | is_free, axis=-1) & (sizes > 0)[:, :, None]
    ends = tf.range(room) + sizes[:, :, None]
    is_here &= ends <= tf.strings.length(texts)[:, None, None]
    starts = tf.where(tf.reduce_any(is_here, axis=1), tf.range(room), room)
    first = tf.reduce_min(starts, axis=1)
    return tf.where(first < room, first, -1)


def _sampling(settings: Mapping[str, Any]) -> Sampling:
    names = ("temperature", "top_k", "top_p", "repetition_penalty", "seed")
    return Sampling(**{name: settings[name] for name in names})


def _checks(lengths: Any, settings: Mapping[str, Any], max_length: int) -> list[Any]:
    """What a client may get wrong, as INVALID_ARGUMENT with a sentence."""
    checks = {
        f"a prompt has no room for a new token: prompts may have {max_length - 2} tokens. Shorten it.": (
            tf.reduce_all(lengths < max_length)
        ),
        "max_new_tokens has to be at least 1.": tf.reduce_all(settings["max_new_tokens"] >= 1),
        "temperature has to be 0 (greedy) or more, and a number.": _all_in(settings["temperature"], 0.0, math.inf),
        "top_k has to be 0 (all words) or more.": tf.reduce_all(settings["top_k"] >= 0),
        "top_p has to be above 0 and at most 1.": _all_in(settings["top_p"], 1e-9, 1.0),
        "repetition_penalty has to be above 0, and a number.": _all_in(settings["repetition_penalty"], 1e-9, math.inf),
    }
    return [tf.debugging.Assert(is_right, [message]) for message, is_right in checks.items()]


def _all_in(values: Any, least: float, most: float) -> Any:
    return tf.reduce_all(tf.math.is_finite(values) & (values >= least) & (values <= most))
