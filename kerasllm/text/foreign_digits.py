"""Which tokens write a digit or an "@" in another form than the plain one, whole or by their last byte? In-graph."""

# B texts, V vocabulary, N tokens that are one byte, D digits

import functools
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

_LAST = 0x20000  # all of them come before
_MOST_BYTES = 4  # of a character in UTF-8


def has_foreign_digit(text: str) -> bool:
    """Has it a full-width digit, one of another script, or a character that NFKC turns into several with a digit?"""
    plain = unicodedata.normalize("NFKC", "".join(character for character in text if not character.isascii()))
    return any(character == "@" or unicodedata.category(character) == "Nd" for character in plain)


def completes_foreign_digit(pieces: Sequence[bytes]) -> Callable[[Any], Any]:
    """A function from texts [B] string to [B, V] bool: the token is the last byte of such a character.

    Args:
      pieces: what each of the V tokens writes.
    """
    places = [number for number, piece in enumerate(pieces) if len(piece) == 1 and 0x80 <= piece[0] < 0xC0]
    last_bytes = np.array([pieces[place][0] for place in places], np.int32)
    column = np.zeros(len(pieces), np.int32)
    column[places] = np.arange(len(places))
    is_byte = np.zeros(len(pieces), bool)
    is_byte[places] = True

    def completes(texts: Any) -> Any:
        if not places:
            return tf.zeros([tf.shape(texts)[0], len(pieces)], tf.bool)
        sizes = tf.strings.length(texts)
        before = tf.minimum(sizes, _MOST_BYTES - 1)
        end = tf.strings.join([b"\0" * (_MOST_BYTES - 1), tf.strings.substr(texts, sizes - before, before)])
        end = tf.strings.substr(end, before, tf.fill(tf.shape(before), _MOST_BYTES - 1))
        ended = tf.cast(tf.io.decode_raw(end, tf.uint8, fixed_length=_MOST_BYTES - 1), tf.int32)
        written, is_one = tf.tile(last_bytes[None], [tf.shape(texts)[0], 1]), tf.zeros([], tf.bool)
        for num_before in range(1, _MOST_BYTES):
            written += tf.bitwise.left_shift(ended[:, -num_before], 8 * num_before)[:, None]
            digits = tf.constant(_digits(num_before + 1), tf.int32)
            is_one |= tf.reduce_any(written[:, :, None] == digits, axis=-1)
        return tf.gather(is_one, column, axis=1) & is_byte

    return completes


@functools.cache
def _digits(num_bytes: int) -> np.ndarray:
    """All such characters of so many bytes, each as one number of these bytes."""
    found = [chr(code) for code in range(0x80, _LAST) if not 0xD800 <= code < 0xE000 and has_foreign_digit(chr(code))]
    spelled = [character.encode() for character in found]
    numbers = [int.from_bytes(one, "big") for one in spelled if len(one) == num_bytes]
    return np.array(numbers, np.int64).astype(np.int32)  # four bytes begin with 0xF0: the sign bit is one of them
