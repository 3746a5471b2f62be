"""Does the mean of tokens leave padding out?"""

import numpy as np
import tensorflow as tf

from kerasllm.models.tasks import mean_of_tokens


def test_the_mean_of_tokens_leaves_padding_out():
    hidden = tf.constant([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]]])
    np.testing.assert_allclose(mean_of_tokens(hidden, {"sequence_ids": tf.constant([[1, 1, 0]])}), [[2.0, 4.0]])


def test_the_mean_of_a_row_without_tokens_is_zero():
    hidden = tf.ones([1, 3, 2])
    np.testing.assert_allclose(mean_of_tokens(hidden, {"sequence_ids": tf.zeros([1, 3], tf.int32)}), [[0.0, 0.0]])
