"""How do texts become rows of one length? Special tokens, cutting and padding, in-graph."""

# B texts, T tokens of a row

import tensorflow as tf

from kerasllm.text.interface import Tokenizer


def pack_texts(
    tokenizer: Tokenizer,
    texts: tf.Tensor,
    length: int | None,
    max_length: int | None = None,
    multiple_of: int = 1,
) -> dict[str, tf.Tensor]:
    """Makes rows `[CLS] text [SEP] padding`; a text that is too long loses its end.

    Training and serving call this one function. Only operations that stock TensorFlow Serving links are used.

    Args:
      tokenizer: its `special` gives the ids around the text.
      texts: [B] string.
      length: tokens of a row; None pads to the longest text of the batch.
      max_length: with `length=None`, tokens that a row has at most.
      multiple_of: with `length=None`, rows are rounded up to a multiple of this (few shapes), at most max_length.

    Returns:
      token_ids, token_type_ids (all 0), sequence_ids (1 at tokens, 0 at padding): [B, T] int32.
    """
    longest = _longest(length, max_length, 2)
    tokens = tokenizer.tokenize(texts)[:, : longest - 2]
    first, last = _column(texts, tokenizer.special.cls), _column(texts, tokenizer.special.sep)
    token_ids, sequence_ids = _padded(
        tf.concat([first, tokens, last], axis=1), tokenizer.special.pad, length, longest, multiple_of
    )
    return {"token_ids": token_ids, "token_type_ids": tf.zeros_like(token_ids), "sequence_ids": sequence_ids}


def pack_pairs(
    tokenizer: Tokenizer,
    first: tf.Tensor,
    second: tf.Tensor,
    length: int | None,
    max_length: int | None = None,
    multiple_of: int = 1,
) -> dict[str, tf.Tensor]:
    """Makes rows `[CLS] first [SEP] second [SEP] padding`; what is too long is cut from the end of the longer text.

    Tokens are taken away until the pair fits, each from the text that is then the longer one (of equal ones, the
    second): a short question stays whole beside a long answer.

    Args:
      tokenizer: its `special` gives the ids around the texts.
      first: [B] string.
      second: [B] string.
      length: tokens of a row; None pads to the longest pair of the batch.
      max_length: as for `pack_texts`.
      multiple_of: as for `pack_texts`.

    Returns:
      token_ids, token_type_ids (0 up to the first [SEP], 1 after it and 0 at padding), sequence_ids: [B, T] int32.
    """
    longest = _longest(length, max_length, 3)
    room = longest - 3
    first_tokens, second_tokens = tokenizer.tokenize(first), tokenizer.tokenize(second)
    first_size, second_size = first_tokens.row_lengths(), second_tokens.row_lengths()
    # The shorter text keeps what it has up to half of the room, the other one the rest.
    first_tokens = _cut(first_tokens, tf.maximum(room - second_size, room - room // 2), room)
    second_tokens = _cut(second_tokens, tf.maximum(room - first_size, room // 2), room)
    cls, sep = _column(first, tokenizer.special.cls), _column(first, tokenizer.special.sep)
    tokens = tf.concat([cls, first_tokens, sep, second_tokens, sep], axis=1)
    token_ids, sequence_ids = _padded(tokens, tokenizer.special.pad, length, longest, multiple_of)
    size_of_first = tf.cast(first_tokens.row_lengths(), tf.int32) + 2
    is_second = tf.range(tf.shape(token_ids)[1])[None] >= size_of_first[:, None]
    return {
        "token_ids": token_ids,
        "token_type_ids": tf.cast(is_second, tf.int32) * sequence_ids,
        "sequence_ids": sequence_ids,
    }


def _longest(length: int | None, max_length: int | None, num_special: int) -> int:
    longest = length or max_length
    assert longest is not None, "either length or max_length says where texts are cut"
    assert longest >= num_special, "[CLS] and [SEP] need room"
    return longest


def _column(texts: tf.Tensor, token_id: int) -> tf.Tensor:
    """One token for each text, [B, 1] int32."""
    rows = tf.reshape(tf.shape(texts), [1])
    return tf.fill(tf.concat([rows, [1]], 0), tf.constant(token_id, tf.int32))


def _cut(tokens: tf.RaggedTensor, sizes: tf.Tensor, room: int) -> tf.RaggedTensor:
    """The first sizes[b] tokens of each row, at most `room`."""
    tokens = tokens[:, :room]
    return tf.RaggedTensor.from_tensor(tokens.to_tensor(), lengths=tf.minimum(tokens.row_lengths(), sizes))


def _padded(
    tokens: tf.RaggedTensor, pad: int, length: int | None, longest: int, multiple_of: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows [B, T] of tokens and padding, and 1 at the tokens."""
    token_ids = tokens.to_tensor(pad, shape=[None, length])
    if multiple_of > 1 and length is None:
        width = tf.shape(token_ids)[1]
        missing = tf.minimum(-width % multiple_of, longest - width)
        token_ids = tf.pad(token_ids, [[0, 0], [0, missing]], constant_values=pad)
    is_token = tf.sequence_mask(tokens.row_lengths(), tf.shape(token_ids)[1])
    return token_ids, tf.cast(is_token, tf.int32)
