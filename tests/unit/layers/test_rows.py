"""Are tokens taken out of the padding and put back where they stood?"""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.config import Backbone
from kerasllm.layers import TransformerBlock, attention_penalty, token_rows
from tests.checks import assert_close
from tests.unit.layers.test_layers import GPT2, MODERN, OPTIONS, POSITIONS, normal

SEQUENCE_IDS = tf.constant([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]])


def test_tokens_stand_one_after_another_and_go_back_to_their_places():
    rows = token_rows(SEQUENCE_IDS)
    values = tf.reshape(tf.range(12), [3, 4])  # row 0 holds 0 to 3, row 1 holds 4 to 7
    assert rows.without_padding(values).numpy().tolist() == [0, 1, 4, 5, 6, 7, 8]
    back = rows.with_padding(rows.without_padding(values)).numpy()
    assert back[SEQUENCE_IDS == 1].tolist() == [0, 1, 4, 5, 6, 7, 8]
    assert back[0].tolist() == [0, 1, 1, 1]  # padding repeats the token before it


@pytest.mark.parametrize("options", [OPTIONS, GPT2, MODERN], ids=["bert", "gpt2", "modern"])
def test_a_block_gives_the_tokens_what_they_get_among_padding(options: Backbone):
    block, x = TransformerBlock(options), normal(3, 6, 16)
    sequence_ids = tf.constant([[1, 1, 1, 0, 0, 0], [1] * 6, [1, 1, 0, 0, 0, 0]])
    penalty = attention_penalty(sequence_ids, 6, options.architecture == "gpt", packed=False, dtype=tf.float32)
    rows = token_rows(sequence_ids)
    expected = block(x, penalty=penalty, position_ids=POSITIONS).numpy()[sequence_ids == 1]
    found = block(rows.without_padding(x), penalty=penalty, position_ids=POSITIONS, rows=rows)
    assert found.shape == (11, 16)
    assert_close(found, expected)
    assert np.ptp(expected) > 0.1  # otherwise equal numbers would prove nothing


def test_heads_are_taken_from_tokens_and_put_together_again():
    rows, values = token_rows(SEQUENCE_IDS), normal(7, 5 * 4)  # 7 tokens; 2 query heads, 1 of keys, 2 of values
    query, key, value = rows.heads(values, [2, 1, 2])
    assert (query.shape, key.shape, value.shape) == ((3, 2, 4, 4), (3, 1, 4, 4), (3, 2, 4, 4))
    assert_close(key[1, 0, 3], values[5, 8:12])  # row 1 begins with token 2
    assert_close(rows.without_heads(value), values[:, 12:])
