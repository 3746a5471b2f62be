"""Which signatures of a served GPT weigh whole texts? The most probable one, and one of several that are given."""

# B prompts, N choices of a row, C tokens of the longest

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from kerasllm.export.prompts import checked, prompt_rows, texts_between, without_half_character
from kerasllm.models import GPTCausalLM
from kerasllm.models.beam_search import search
from kerasllm.models.choosing import score_choices
from kerasllm.text import Tokenizer

MOST_BEAMS = 32  # of a row: each takes a cache of its own
MOST_PENALTY = 4  # either way: more is out of the range of floats
NO_CHOICE = -1e9  # log probability of an empty string; JSON has no infinity
Signature = tuple[Callable[..., dict[str, Any]], dict[str, tf.TensorSpec]]
PROMPT = tf.TensorSpec([None], tf.string)


def searching_signatures(model: GPTCausalLM, tokenizer: Tokenizer) -> dict[str, Signature]:
    """The functions `beam_search` and `choose`, and what they take."""
    of_rows, numbers = tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.int32)
    return {
        "beam_search": (
            _beam_search(model, tokenizer),
            {"prompt": PROMPT, "max_new_tokens": numbers, "num_beams": numbers, "length_penalty": of_rows},
        ),
        "choose": (
            _choose(model, tokenizer),
            {"prompt": PROMPT, "choices": tf.TensorSpec([None, None], tf.string), "length_penalty": of_rows},
        ),
    }


def _beam_search(model: GPTCausalLM, tokenizer: Tokenizer) -> Callable[..., dict[str, Any]]:
    max_length = model.backbone.options.max_length

    def beam_search(prompt: Any, max_new_tokens: Any, num_beams: Any, length_penalty: Any) -> dict[str, Any]:
        is_right = {
            "max_new_tokens has to be at least 1.": tf.reduce_all(max_new_tokens >= 1),
            f"num_beams has to be from 1 to {MOST_BEAMS}.": tf.reduce_all((num_beams >= 1) & (num_beams <= MOST_BEAMS)),
            **_penalty_is_right(length_penalty),
        }
        rows, lengths = prompt_rows(tokenizer, prompt, max_length, is_right)
        limits = lengths + tf.minimum(max_new_tokens, max_length - lengths)
        found = search(model, rows, lengths, limits, num_beams, length_penalty, tokenizer.special.eos)
        return {
            "text": without_half_character(texts_between(tokenizer, found.token_ids, lengths, found.lengths)),
            "num_tokens": found.lengths - lengths,
            "num_prompt_tokens": lengths,
            "finish_reason": tf.where(found.is_ended, "stop", "length"),
            "score": found.scores,
        }

    return beam_search


def _choose(model: GPTCausalLM, tokenizer: Tokenizer) -> Callable[..., dict[str, Any]]:
    max_length = model.backbone.options.max_length

    def choose(prompt: Any, choices: Any, length_penalty: Any) -> dict[str, Any]:
        rows, lengths = prompt_rows(tokenizer, prompt, max_length, _penalty_is_right(length_penalty))
        padded, sizes = _tokens_of_choices(tokenizer, choices, lengths, max_length)
        sums = tf.where(sizes > 0, score_choices(model, rows, lengths, padded, sizes), NO_CHOICE)
        scores = sums / tf.cast(tf.maximum(sizes, 1), tf.float32) ** length_penalty[:, None]
        scores = tf.where(sizes > 0, scores, NO_CHOICE)
        index = tf.argmax(scores, axis=1, output_type=tf.int32)
        return {
            "choice": tf.gather(choices, index, batch_dims=1),
            "index": index,
            "log_probabilities": sums,
            "probabilities": tf.nn.softmax(scores),
            "num_prompt_tokens": lengths,
        }

    return choose


def _tokens_of_choices(tokenizer: Tokenizer, choices: Any, lengths: Any, max_length: int) -> tuple[Any, Any]:
    """Token ids [B, N, C] of the choices, and how many each has [B, N]; all have to fit behind their prompts."""
    ids = tokenizer.tokenize(tf.reshape(choices, [-1]))
    sizes = tf.reshape(tf.cast(ids.row_lengths(), tf.int32), tf.shape(choices))
    too_long = f"a prompt and a choice have more than {max_length} tokens together. Shorten one of them."
    is_right = {
        "a row has no choice: give at least one string that is not empty.": (
            tf.reduce_all(tf.reduce_any(sizes > 0, axis=1))
        ),
        too_long: tf.reduce_all(lengths[:, None] + sizes <= max_length),
    }
    with tf.control_dependencies(checked(is_right)):
        sizes = tf.identity(sizes)
    longest = tf.maximum(tf.reduce_max(sizes), 1)
    padded = tf.pad(ids.to_tensor(), [[0, 0], [0, 1]])[:, :longest]
    return tf.reshape(padded, tf.concat([tf.shape(choices), [longest]], axis=0)), sizes


def _penalty_is_right(length_penalty: Any) -> dict[str, Any]:
    is_number = tf.math.is_finite(length_penalty) & (tf.abs(length_penalty) <= MOST_PENALTY)
    return {
        f"length_penalty has to be a number from -{MOST_PENALTY} to {MOST_PENALTY} (0: none).": tf.reduce_all(is_number)
    }
