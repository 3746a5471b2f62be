"""How does a text become bytes, and bytes a text? A vocabulary that needs no learning, in-graph."""

# N texts

from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.text.interface import SpecialTokens, Tokenizer

SPECIAL_WORDS = ("<pad>", "<unk>", "<bos>", "<eos>", "<mask>")


class ByteTokenizer(Tokenizer):
    """A token for each byte of UTF-8: any text comes back exactly, and no token is unknown.

    Bytes that are no UTF-8, such as half a character, come back as U+FFFD.
    """

    kind = "byte"

    def __init__(self) -> None:
        self.words = [*SPECIAL_WORDS, *(_name(number) for number in range(256))]
        self.special = SpecialTokens(*range(len(SPECIAL_WORDS)))
        self.starts_word = np.array([False] * len(SPECIAL_WORDS) + [_begins_word(number) for number in range(256)])
        self.assets: list[Any] = []
        self._characters = [b""] * len(SPECIAL_WORDS) + [bytes([number]) for number in range(256)]

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """See Tokenizer."""
        numbers = tf.io.decode_raw(tf.strings.reduce_join(texts), tf.uint8)
        ids = tf.cast(numbers, tf.int32) + len(SPECIAL_WORDS)
        return tf.RaggedTensor.from_row_lengths(ids, tf.cast(tf.strings.length(texts), tf.int64))

    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """See Tokenizer; special tokens vanish."""
        joined = tf.strings.reduce_join(tf.gather(tf.constant(self._characters), ids), axis=-1)
        return tf.strings.unicode_transcode(joined, "UTF-8", "UTF-8", errors="replace")


def _name(number: int) -> str:
    return chr(number) if 0x20 < number < 0x7F else f"<0x{number:02X}>"


def _begins_word(number: int) -> bool:
    """The first byte of each character but of letters and digits of ASCII, which go on what stands before them."""
    return not (0x80 <= number < 0xC0 or chr(number).isascii() and chr(number).isalnum())
