"""How much of a text stands in others? Counted by hand on bytes."""

import numpy as np
import tensorflow as tf

from kerasllm.text import ByteTokenizer
from kerasllm.text.overlap import agreement, shares_in

BYTES = ByteTokenizer()


def test_a_share_counts_the_runs_of_three_tokens_that_the_other_has_too() -> None:
    # "abcde" has abc, bcd and cde. "xabcd" has abc and bcd of them; "cde" has one; "" none.
    shares = shares_in(BYTES, tf.constant(["abcde"]), tf.constant([["xabcd", "cde", "", "abcde"]]))
    np.testing.assert_allclose(shares, [[2 / 3, 1 / 3, 0, 1]])


def test_a_text_of_two_tokens_stands_nowhere() -> None:
    shares = shares_in(BYTES, tf.constant(["ab", "", "abc"]), tf.constant([["ab"], [""], ["abc"]]))
    assert shares.numpy().tolist() == [[0], [0], [1]]


def test_agreement_is_the_f1_of_both_directions() -> None:
    # Two of three runs of the first, two of two of the second: 2 x 2/3 x 1 / (5/3).
    found = agreement(BYTES, tf.constant(["abcde", "ab", "abc"]), tf.constant(["abcd", "ab", "xyz"]))
    np.testing.assert_allclose(found, [0.8, 1, 0], rtol=1e-6)
