"""How do texts become rows of one length? Special tokens, cutting and padding, in-graph."""

# B texts, T tokens of a row

import tensorflow as tf

from kerasllm.text.tokenizers import Tokenizer


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
    longest = length or max_length
    assert longest is not None, "either length or max_length says where texts are cut"
    assert longest >= 2, "[CLS] and [SEP] need room"
    tokens = tokenizer.tokenize(texts)[:, : longest - 2]
    rows = tf.reshape(tf.shape(texts), [1])
    first = tf.fill(tf.concat([rows, [1]], 0), tf.constant(tokenizer.special.cls, tf.int32))
    last = tf.fill(tf.concat([rows, [1]], 0), tf.constant(tokenizer.special.sep, tf.int32))
    tokens = tf.concat([first, tokens, last], axis=1)
    token_ids = tokens.to_tensor(tokenizer.special.pad, shape=[None, length])
    if multiple_of > 1 and length is None:
        width = tf.shape(token_ids)[1]
        missing = tf.minimum(-width % multiple_of, longest - width)
        token_ids = tf.pad(token_ids, [[0, 0], [0, missing]], constant_values=tokenizer.special.pad)
    is_token = tf.sequence_mask(tokens.row_lengths(), tf.shape(token_ids)[1])
    return {
        "token_ids": token_ids,
        "token_type_ids": tf.zeros_like(token_ids),
        "sequence_ids": tf.cast(is_token, tf.int32),
    }
