"""How does a text never hold certain words? Scores of the tokens that would complete one are lowered, in-graph."""

# B rows, N words of a row, M bytes of the longest word, S columns of tokens, V vocabulary, R beginnings that are there,
# P bytes of the longest token, or M where that is less

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from kerasllm.text.interface import Tokenizer
from kerasllm.text.sizes import written

FORBIDDEN = -1e9  # a score that no token has otherwise


def forbid(tokenizer: Tokenizer, words: Any) -> Callable[[Any, Any, Any], Any]:
    """A function (logits [B, V], token_ids [B, S], lengths [B]) -> logits [B, V] for the next token of each row.

    It compares bytes: a word can neither be one token, nor part of one, nor come together of several, whatever stands
    around it and whether a space stands before it. What is in the prompt already stays, but its end is not completed.
    U+FFFD, which detokenizing puts for bytes that are no character, cannot be forbidden.

    Args:
      tokenizer: of the model.
      words: [B, N] string, of each row; an empty one is none.
    """
    pieces = tf.constant(written(tokenizer))
    piece_sizes, sizes = tf.strings.length(pieces), tf.strings.length(words)
    longest = tf.maximum(tf.reduce_max(sizes), 1)
    wanted = tf.io.decode_raw(words, tf.uint8, fixed_length=longest)  # [B, N, M]
    most_left = tf.clip_by_value(tf.reduce_max(piece_sizes), 1, longest)
    beginnings = tf.io.decode_raw(pieces, tf.uint8, fixed_length=most_left)  # [V, P]
    offsets, places_left = tf.range(longest), tf.range(most_left)
    holds_word = _pieces_that_hold(pieces, wanted, sizes)

    def lower(logits: Any, token_ids: Any, lengths: Any) -> Any:
        is_text = tf.sequence_mask(lengths, tf.shape(token_ids)[1])
        text = tf.strings.reduce_join(tf.where(is_text, tf.gather(pieces, token_ids), b""), axis=-1)
        size = tf.strings.length(text)
        tail = tf.strings.substr(text, tf.maximum(size - longest, 0), tf.fill(tf.shape(size), longest))
        tail_size = tf.strings.length(tail)
        tail = tf.io.decode_raw(tail, tf.uint8, fixed_length=longest)  # [B, M]
        # does the text end with the first `offsets` bytes of a word?
        places = tail_size[:, None, None] - offsets[None, :, None] + offsets  # [B, M beginnings, M]
        last_bytes = tf.gather(tail, tf.clip_by_value(places, 0, longest - 1), batch_dims=1)
        is_equal = (last_bytes[:, None] == wanted[:, :, None]) | (offsets >= offsets[:, None])
        is_begun = tf.reduce_all(is_equal, axis=-1) & (offsets > 0) & (offsets < sizes[:, :, None])
        is_begun &= (offsets <= tail_size[:, None])[:, None]
        is_begun &= sizes[:, :, None] - offsets <= most_left  # no token completes what lacks more
        # which tokens begin with the rest of it?
        row, word, done = tf.unstack(tf.cast(tf.where(is_begun), tf.int32), axis=1)  # [R] each
        left = tf.gather_nd(sizes, tf.stack([row, word], axis=1)) - done
        rest = tf.minimum(done[:, None] + places_left, longest - 1)
        rest = tf.gather(tf.gather_nd(wanted, tf.stack([row, word], axis=1)), rest, batch_dims=1)  # [R, P]
        is_rest = (rest[:, None] == beginnings) | (places_left >= left[:, None])[:, None]
        completes = tf.reduce_all(is_rest, axis=-1) & (piece_sizes >= left[:, None])  # [R, V]
        completes = tf.math.unsorted_segment_max(tf.cast(completes, tf.int32), row, tf.shape(logits)[0]) > 0
        return tf.where(holds_word | completes, FORBIDDEN, logits)

    return lower


def _pieces_that_hold(pieces: Any, wanted: Any, sizes: Any) -> Any:
    """[B, V] bool: tokens that have a whole word of the row in them; wanted [B, N, M], sizes [B, N]."""
    batch, num_words, longest = tf.unstack(tf.shape(wanted))
    piece_sizes = tf.strings.length(pieces)
    room = tf.maximum(tf.reduce_max(piece_sizes), 1)
    spelled = tf.io.decode_raw(pieces, tf.uint8, fixed_length=room + longest)
    windows = tf.gather(spelled, tf.range(room)[:, None] + tf.range(longest), axis=1)  # [V, places, M]

    def holds(word_and_size: tuple[Any, Any]) -> Any:
        word, size = word_and_size
        is_here = tf.reduce_all((windows == word) | (tf.range(longest) >= size), axis=-1)
        return tf.reduce_any(is_here & (tf.range(room) + size <= piece_sizes[:, None]), axis=-1) & (size > 0)

    flat = (tf.reshape(wanted, [-1, longest]), tf.reshape(sizes, [-1]))
    is_held = tf.map_fn(holds, flat, fn_output_signature=tf.TensorSpec(pieces.shape, tf.bool))
    return tf.reduce_any(tf.reshape(is_held, [batch, num_words, tf.size(pieces)]), axis=1)
