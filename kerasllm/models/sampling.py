"""Which word comes next? Penalties, temperature, top-k and top-p of each row's own, and its own random numbers."""

import dataclasses
from typing import Any

import tensorflow as tf

# B rows, V vocabulary

FEW_WORDS = 256  # are put in order first for top-k and top-p
GROWTH = 8  # so many times more where these are not enough
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_ROUNDS = 20


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How each row chooses; every field is a tensor [B].

    Attributes:
      temperature: float32, divides the logits; 0 takes the most probable word (greedy).
      top_k: int32, only the k most probable words are drawn from; 0: all.
      top_p: float32, only the most probable words whose probabilities together reach p; 1: all (Holtzman et al. 2020).
      repetition_penalty: float32, divides positive logits of words that the row has already, and multiplies negative
        ones; 1: none (Keskar et al. 2019, CTRL).
      seed: int64; the same seed gives the same text, whatever rows stand beside it.
    """

    temperature: Any
    top_k: Any
    top_p: Any
    repetition_penalty: Any
    seed: Any


def next_words(logits: Any, sampling: Sampling, positions: Any, seen: Any) -> Any:
    """One word of each row [B] int32; what no row asks for, random numbers or penalties, is not computed.

    Args:
      logits: [B, V] float32.
      sampling: of each row.
      positions: [B] int32, of the new words; see `uniforms`.
      seen: [B, V] bool, see `choose`.
    """
    is_plain = tf.reduce_all((sampling.temperature <= 0) & (sampling.repetition_penalty == 1))
    return tf.cond(
        is_plain,
        lambda: tf.argmax(logits, axis=-1, output_type=tf.int32),
        lambda: choose(logits, sampling, uniforms(sampling.seed, positions), seen),
    )


def choose(logits: Any, sampling: Sampling, uniform: Any, seen: Any = None) -> Any:
    """One word of each row [B] int32.

    Rows with temperature 0 take the first of the most probable words. Others draw by inversion: words stand in falling
    order of probability, and `uniform` says how far down that order the draw goes. Rows that may draw any word stand in
    the order of the vocabulary instead, which nothing has to be sorted for.

    Args:
      logits: [B, V] float32.
      sampling: of each row.
      uniform: [B] float32 in [0, 1), see `uniforms`.
      seen: [B, V] bool, words that the repetition penalty is for; None: nothing is penalised.
    """
    if seen is not None:
        penalty = sampling.repetition_penalty[:, None]
        logits = tf.where(seen, tf.where(logits > 0, logits / penalty, logits * penalty), logits)

    def greedy() -> Any:
        return tf.argmax(logits, axis=-1, output_type=tf.int32)

    def drawn() -> Any:
        words = _draw(logits, sampling, uniform)
        return tf.where(sampling.temperature > 0, words, greedy())

    return tf.cond(tf.reduce_any(sampling.temperature > 0), drawn, greedy)


def _draw(logits: Any, sampling: Sampling, uniform: Any) -> Any:
    """See `choose`; more and more words are put in order until all that each row may draw are among them."""
    temperature = tf.where(sampling.temperature > 0, sampling.temperature, 1.0)[:, None]
    scaled = (logits - tf.reduce_max(logits, axis=-1, keepdims=True)) / temperature  # 0 for the most probable word
    top_k = sampling.top_k
    is_free = (top_k <= 0) & (sampling.top_p >= 1)
    vocab_size = tf.shape(logits)[1]

    def among_more(size: Any, words: Any, are_known: Any) -> tuple[Any, Any, Any]:
        found, are_enough = _draw_among(tf.minimum(size, vocab_size), scaled, sampling, uniform)
        return GROWTH * size, tf.where(are_known, words, found), are_known | are_enough

    of_all = tf.cond(tf.reduce_any(is_free), lambda: _inverted(tf.exp(scaled), uniform), lambda: tf.zeros_like(top_k))
    first = (tf.constant(FEW_WORDS), of_all, is_free | (sampling.temperature <= 0))
    return tf.while_loop(lambda size, words, are_known: ~tf.reduce_all(are_known), among_more, first)[1]


def _draw_among(size: Any, scaled: Any, sampling: Sampling, uniform: Any) -> tuple[Any, Any]:
    """A word of each row [B] from its `size` most probable ones, and whether all that it may draw are among these."""
    logits, words = tf.math.top_k(scaled, size)  # equal ones by their number
    top_k = sampling.top_k[:, None]
    weights = tf.where((tf.range(size) < top_k) | (top_k <= 0), tf.exp(logits), 0.0)
    total = tf.where(top_k > 0, tf.reduce_sum(weights, -1, True), tf.reduce_sum(tf.exp(scaled), -1, True))
    above = tf.cumsum(weights, axis=-1, exclusive=True)
    weights = tf.where(above <= sampling.top_p[:, None] * total, weights, 0.0)
    are_enough = tf.where(sampling.top_k > 0, sampling.top_k <= size, weights[:, -1] == 0)
    are_enough |= size == tf.shape(scaled)[1]
    return tf.gather(words, _inverted(weights, uniform), batch_dims=1), are_enough


def _inverted(weights: Any, uniform: Any) -> Any:
    """The place [B] that so much of the sum of the weights [B, N] leads to, one that has weight if any has."""
    reached = tf.cumsum(weights, axis=-1)
    total = reached[:, -1:]
    place = tf.reduce_sum(tf.cast(reached <= uniform[:, None] * total, tf.int32), axis=-1)
    last = tf.reduce_sum(tf.cast(reached < total, tf.int32), axis=-1)  # rounding may not lead past what has weight
    return tf.minimum(place, last)


def uniforms(seeds: Any, positions: Any) -> Any:
    """A random number [B] float32 in [0, 1) for each row, a pure function of its seed and a position.

    Threefry-2x32 with 20 rounds, keyed by the seed, counts positions (Salmon et al. 2011); 24 bits of it are used.

    Args:
      seeds: [B] int64.
      positions: [B] int32.
    """
    key_0, key_1 = tf.unstack(tf.bitcast(seeds, tf.uint32), axis=1)
    counter = tf.bitcast(positions, tf.uint32)
    first, _ = threefry(key_0, key_1, counter, tf.zeros_like(counter))
    return tf.cast(tf.bitwise.right_shift(first, tf.constant(8, tf.uint32)), tf.float32) * 2.0**-24


def threefry(key_0: Any, key_1: Any, counter_0: Any, counter_1: Any) -> tuple[Any, Any]:
    """Threefry-2x32-20 of uint32 tensors that broadcast (Salmon et al. 2011, section 4.2)."""
    keys = (key_0, key_1, tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(key_0, key_1), tf.constant(_PARITY, tf.uint32)))
    x, y = counter_0 + key_0, counter_1 + key_1
    for group in range(_ROUNDS // 4):
        for rotation in _ROTATIONS[group % 2]:
            x += y
            left = tf.bitwise.left_shift(y, tf.constant(rotation, tf.uint32))
            right = tf.bitwise.right_shift(y, tf.constant(32 - rotation, tf.uint32))
            y = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_or(left, right), x)
        x += keys[(group + 1) % 3]
        y += keys[(group + 2) % 3] + tf.constant(group + 1, tf.uint32)
    return x, y
