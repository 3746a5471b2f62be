"""Does beam search find the most probable text, and only by what its own row asks for?"""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.models import GPTBackbone, GPTCausalLM
from kerasllm.models.beam_search import Found, search

VOCAB, END = 5, 3
PROMPTS = [[1], [2, 4, 1], [4, 4]]
NEW = 4


@pytest.fixture(scope="module")
def model() -> GPTCausalLM:
    model = GPTCausalLM(GPTBackbone(VOCAB, num_layers=1, hidden_dim=16, num_heads=2, max_length=12))
    random = np.random.default_rng(4)
    for weight in model.weights:
        if len(weight.shape) > 1:
            weight.assign(random.normal(0, 0.6, weight.shape))
    return model


@pytest.fixture(scope="module")
def searching(model: GPTCausalLM):
    rows, numbers = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)

    @tf.function(input_signature=[rows, numbers, numbers, tf.TensorSpec([None], tf.float32)])
    def run(ids: tf.Tensor, lengths: tf.Tensor, num_beams: tf.Tensor, penalty: tf.Tensor) -> Found:
        return search(model, ids, lengths, lengths + NEW, num_beams, penalty, END)

    return run


def found(searching, prompts: list[list[int]], num_beams: list[int], penalty: list[float]) -> list[tuple]:
    ids = tf.ragged.constant(prompts, dtype=tf.int32).to_tensor()
    result = searching(ids, tf.constant([len(one) for one in prompts]), tf.constant(num_beams), tf.constant(penalty))
    rows = zip(*(part.numpy() for part in result), strict=True)
    return [(ids[:length].tolist(), round(float(score), 4), bool(ended)) for ids, length, score, ended in rows]


def log_probabilities(model: GPTCausalLM, rows: np.ndarray) -> np.ndarray:
    """Of each token after the first [B, T - 1]."""
    scores = tf.nn.log_softmax(model({"token_ids": tf.constant(rows, tf.int32)})["logits"]).numpy()
    return np.take_along_axis(scores[:, :-1], rows[:, 1:, None], axis=2)[:, :, 0]


def best_of_all(model: GPTCausalLM, prompt: list[int], penalty: float) -> tuple[list[int], float, bool]:
    """The best of every text that there is."""
    whole = np.array([[*prompt, *rest] for rest in itertools.product(range(VOCAB), repeat=NEW)])
    sums = np.cumsum(log_probabilities(model, whole)[:, len(prompt) - 1 :], axis=1)
    best = ([], -np.inf, False)
    for row, totals in zip(whole.tolist(), sums, strict=True):
        rest = row[len(prompt) :]
        size = rest.index(END) + 1 if END in rest else NEW
        score = totals[size - 1] / size**penalty
        if score > best[1]:
            best = ([*prompt, *rest[:size]], score, END in rest)
    return best[0], round(float(best[1]), 4), best[2]


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.5, -1.0])
def test_with_beams_for_all_texts_it_finds_the_best_of_all(model: GPTCausalLM, searching, penalty: float) -> None:
    rows = found(searching, PROMPTS, [VOCAB**3] * 3, [penalty] * 3)
    assert rows == [best_of_all(model, prompt, penalty) for prompt in PROMPTS]


def test_the_length_penalty_decides_between_short_and_long(searching) -> None:
    short, long = found(searching, [PROMPTS[0]] * 2, [50, 50], [-2.0, 3.0])
    assert len(short[0]) < len(long[0]) == len(PROMPTS[0]) + NEW


def test_one_beam_without_an_end_takes_the_most_probable_word_each_time(model: GPTCausalLM) -> None:
    ids = tf.constant([PROMPTS[1]])
    result = search(model, ids, tf.constant([3]), tf.constant([3 + NEW]), tf.constant([1]), tf.zeros([1]), end_id=-1)
    for _ in range(NEW):
        best = tf.argmax(model({"token_ids": ids})["logits"][:, -1:], axis=-1, output_type=tf.int32)
        ids = tf.concat([ids, best], axis=1)
    assert result.token_ids[:, : result.lengths[0]].numpy().tolist() == ids.numpy().tolist()


def test_rows_of_a_batch_have_beams_and_penalties_of_their_own(searching) -> None:
    beams, penalties = [1, 3, 20], [0.0, 1.0, 2.0]
    together = found(searching, PROMPTS, beams, penalties)
    alone = [found(searching, [p], [k], [a])[0] for p, k, a in zip(PROMPTS, beams, penalties, strict=True)]
    assert together == alone


def test_more_beams_are_not_worse_and_here_better(searching) -> None:
    scores = [found(searching, PROMPTS, [k] * 3, [0.0] * 3) for k in (1, 125)]
    assert all(many[1] >= one[1] for one, many in zip(*scores, strict=True))
    assert any(many[1] > one[1] for one, many in zip(*scores, strict=True))


@pytest.mark.parametrize("num_beams", [2, 3])
def test_texts_of_one_length_are_those_of_keras_nlp_s_sampler(model: GPTCausalLM, num_beams: int) -> None:
    import keras_hub

    prompt = tf.constant([[1, 2], [4, 0]])

    def following(ids: tf.Tensor, cache: tuple, index: tf.Tensor) -> tuple:
        return model({"token_ids": ids})["logits"][:, index - 1], None, cache

    sampler = keras_hub.samplers.BeamSampler(num_beams)
    room = tf.pad(prompt, [[0, 0], [0, 5]])
    theirs = sampler(next=following, prompt=room, index=2, mask=tf.sequence_mask([2, 2], 7)).numpy()
    sizes = tf.fill([2], 2)
    ours = search(model, prompt, sizes, sizes + 5, tf.fill([2], num_beams), tf.zeros([2]), end_id=-1)
    assert ours.token_ids[:, :7].numpy().tolist() == theirs.tolist()
