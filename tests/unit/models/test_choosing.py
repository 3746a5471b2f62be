"""Is the probability of a given text the one that the whole model has for it?"""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.models import GPTBackbone, GPTCausalLM
from kerasllm.models.choosing import mean_log_probabilities, score_choices

PROMPTS = [[2, 7, 9], [5]]
CHOICES = [[[3], [4, 8, 1], [6, 6]], [[9, 9, 9, 9], [], [1]]]  # of each prompt


@pytest.fixture(scope="module")
def model() -> GPTCausalLM:
    sizes = {"num_layers": 2, "hidden_dim": 16, "num_heads": 4, "num_key_value_heads": 2, "max_length": 10}
    model = GPTCausalLM(GPTBackbone(12, positions="rotary", **sizes))
    random = np.random.default_rng(4)
    for weight in model.weights:
        weight.assign_add(random.normal(0, 0.3, weight.shape))
    return model


@pytest.mark.parametrize(
    ("prompts", "choices"),
    [
        (PROMPTS, CHOICES),
        # max_length is 10: the first row is full while the second one is read on
        ([[2, 7, 9, 1, 3, 8, 8, 4], [5]], [[[3, 4]], [[9, 9, 6, 2, 9, 1, 1, 5, 7]]]),
    ],
)
def test_each_choice_has_the_probability_of_its_tokens_after_its_prompt(
    model: GPTCausalLM, prompts: list[list[int]], choices: list[list[list[int]]]
) -> None:
    rows = tf.ragged.constant(prompts, dtype=tf.int32).to_tensor()
    sizes = tf.constant([[len(choice) for choice in row] for row in choices])
    lengths = tf.constant([len(prompt) for prompt in prompts])
    words = tf.ragged.constant(choices, dtype=tf.int32).to_tensor()
    scores = tf.function(score_choices)(model, rows, lengths, words, sizes).numpy()
    for row, prompt in enumerate(prompts):
        for number, choice in enumerate(choices[row]):
            known = tf.nn.log_softmax(model({"token_ids": tf.constant([prompt + choice])})["logits"])[0].numpy()
            expected = sum(known[len(prompt) - 1 + i, word] for i, word in enumerate(choice))
            assert abs(scores[row, number] - expected) < 1e-4


def test_a_mean_is_over_the_tokens_behind_the_start_of_each_row(model: GPTCausalLM) -> None:
    texts, starts = [[2, 7, 9, 4, 8, 1], [5, 9], [3]], [3, 1, 1]
    rows = tf.ragged.constant(texts, dtype=tf.int32).to_tensor(shape=[3, 8])
    means = mean_log_probabilities(model, rows, tf.constant(starts), tf.constant([6, 2, 1])).numpy()
    for mean, text, start in zip(means[:2], texts, starts, strict=False):
        known = tf.nn.log_softmax(model({"token_ids": tf.constant([text])})["logits"])[0].numpy()
        assert mean == pytest.approx(np.mean([known[i - 1, text[i]] for i in range(start, len(text))]), abs=1e-5)
    assert means[2] == 0
