"""How do strings become rows that a served GPT goes on from, and its tokens strings again?"""

# B prompts, S columns of tokens, N stop strings of a row, M bytes of the longest

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from kerasllm.text import Tokenizer


def checked(is_right: Mapping[str, Any]) -> list[Any]:
    """What a client may get wrong, by the sentence that tells it, as INVALID_ARGUMENT."""
    return [tf.debugging.Assert(condition, [message]) for message, condition in is_right.items()]


def prompt_rows(tokenizer: Tokenizer, prompt: Any, max_length: int, is_right: Mapping[str, Any]) -> tuple[Any, Any]:
    """Tokens [B, P] of prompts [B], each behind the one that begins a text, and how many of them there are [B].

    Args:
      tokenizer: of the model.
      prompt: [B] string.
      max_length: tokens that the model has room for.
      is_right: what else has to hold, see `checked`.
    """
    ids = tokenizer.tokenize(prompt)
    ids = tf.concat([tf.fill([tf.shape(prompt)[0], 1], tokenizer.special.bos), ids], axis=1)
    lengths = tf.cast(ids.row_lengths(), tf.int32)
    too_long = f"a prompt has no room for a new token: prompts may have {max_length - 2} tokens. Shorten it."
    with tf.control_dependencies(checked({too_long: tf.reduce_all(lengths < max_length), **is_right})):
        return tf.identity(ids.to_tensor()), tf.identity(lengths)  # before anything is looked up that is not there


def texts_between(tokenizer: Tokenizer, token_ids: Any, starts: Any, ends: Any) -> Any:
    """[B] string of the tokens [B, S] from `starts` to `ends` of each row, as they continue what stands before."""
    columns = tf.range(tf.shape(token_ids)[1])
    is_special = tf.reduce_any([token_ids == one for one in tokenizer.special.ids], axis=0)
    is_text = (columns < ends[:, None]) & ~is_special
    whole = tokenizer.detokenize(tf.ragged.boolean_mask(token_ids, is_text))
    before = tokenizer.detokenize(tf.ragged.boolean_mask(token_ids, is_text & (columns < starts[:, None])))
    return tf.strings.substr(whole, tf.strings.length(before), tf.strings.length(whole))


def without_half_character(texts: Any) -> Any:
    """Texts [B] without what bytes at their end leave that are no whole character yet."""
    return tf.strings.regex_replace(texts, "\N{REPLACEMENT CHARACTER}+$", "")


def first_stop(texts: Any, stop: Any) -> Any:
    """Where the first stop string begins in each text, in bytes; -1: none is in it.

    Places are crossed out byte by byte of the stop strings, so that long ones take no more memory than short ones.

    Args:
      texts: [B] string.
      stop: [B, N] string, those of each row; an empty one is none.
    """
    sizes, text_sizes = tf.strings.length(stop), tf.strings.length(texts)
    room = tf.maximum(tf.reduce_max(text_sizes), 1)  # 1: of no texts too
    longest = tf.clip_by_value(tf.reduce_max(sizes), 1, room)  # what is longer than all texts is in none
    wanted = tf.io.decode_raw(stop, tf.uint8, fixed_length=longest)  # [B, N, M]
    there = tf.io.decode_raw(texts, tf.uint8, fixed_length=room + longest)  # [B, room + M]
    ends = tf.range(room) + sizes[:, :, None]
    fits = (sizes > 0)[:, :, None] & (ends <= text_sizes[:, None, None])  # [B, N, room]

    def is_undecided(offset: Any, is_here: Any) -> Any:
        return (offset < longest) & tf.reduce_any(is_here)

    def compare(offset: Any, is_here: Any) -> Any:
        is_equal = there[:, None, offset : offset + room] == wanted[:, :, offset, None]
        return offset + 1, is_here & (is_equal | (offset >= sizes)[:, :, None])

    _, is_here = tf.while_loop(is_undecided, compare, (tf.constant(0), fits))
    starts = tf.where(tf.reduce_any(is_here, axis=1), tf.range(room), room)
    first = tf.reduce_min(starts, axis=1)
    return tf.where(first < room, first, -1)
