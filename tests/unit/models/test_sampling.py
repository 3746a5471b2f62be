"""Is each row's word chosen as its own settings say, and by random numbers of its own?"""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.models.sampling import Sampling, choose, threefry, uniforms

PROBABILITIES = np.array([0.1, 0.4, 0.2, 0.3], np.float32)  # in falling order: words 1, 3, 2, 0
LOGITS = np.log(PROBABILITIES)


def sampling(rows: int, **settings: float) -> Sampling:
    given = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0, "seed": 0, **settings}
    types = {"top_k": tf.int32, "seed": tf.int64}
    return Sampling(
        **{name: tf.fill([rows], tf.cast(value, types.get(name, tf.float32))) for name, value in given.items()}
    )


def words_at(uniform: list[float], **settings: float) -> list[int]:
    rows = len(uniform)
    return choose(np.tile(LOGITS, [rows, 1]), sampling(rows, **settings), tf.constant(uniform)).numpy().tolist()


@pytest.mark.parametrize(
    ("words", "result"),
    [  # the published known answers of Threefry-2x32 with 20 rounds (Random123 1.14, kat_vectors)
        ((0, 0, 0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 4, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344, 0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_published_answers(words: tuple[int, ...], result: tuple[int, int]) -> None:
    assert tuple(int(x) for x in threefry(*(tf.constant(word, tf.uint32) for word in words))) == result


def test_a_random_number_depends_on_its_row_s_seed_and_the_position_alone() -> None:
    three = uniforms(tf.constant([5, -1, 2**40], tf.int64), tf.constant([3, 3, 3]))
    alone = uniforms(tf.constant([-1], tf.int64), tf.constant([3]))
    assert three[1] == alone[0]
    assert len(set(three.numpy().tolist())) == 3
    many = uniforms(tf.fill([20_000], tf.constant(9, tf.int64)), tf.range(20_000)).numpy()
    assert many.min() >= 0
    assert many.max() < 1
    counts = np.histogram(many, 20, (0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi square, 19 degrees of freedom, 0.1 %


def test_temperature_0_takes_the_first_of_the_most_probable_words() -> None:
    logits = tf.constant([[1.0, 3.0, 3.0], [0.0, -1.0, 2.0]])
    assert choose(logits, sampling(2, temperature=0.0), tf.constant([0.9, 0.9])).numpy().tolist() == [1, 2]


def test_a_draw_goes_down_the_words_in_falling_order_of_probability() -> None:
    # 0.4 of word 1, to 0.7 word 3, to 0.9 word 2, then word 0
    uniform = [0.0, 0.39, 0.41, 0.69, 0.71, 0.89, 0.91, 0.9999]
    assert words_at(uniform, top_k=4) == words_at(uniform, top_p=0.9999) == [1, 1, 3, 3, 2, 2, 0, 0]


def test_a_draw_among_all_words_goes_down_the_vocabulary() -> None:
    # 0.1 of word 0, to 0.5 word 1, to 0.7 word 2, then word 3
    assert words_at([0.0, 0.09, 0.11, 0.49, 0.51, 0.69, 0.71, 0.9999]) == [0, 0, 1, 1, 2, 2, 3, 3]
    logits = tf.constant([[-np.inf, 0.0, -np.inf, 0.0, -np.inf]] * 4)
    chosen = choose(logits, sampling(4), tf.constant([0.0, 0.49, 0.51, 1 - 2**-24]))
    assert chosen.numpy().tolist() == [1, 1, 3, 3], "never a word of probability 0"
    tiny = choose(np.tile(LOGITS, [1, 1]), sampling(1, temperature=1e-38), tf.constant([0.999]))
    assert tiny.numpy().tolist() == [1]


@pytest.mark.parametrize(("top_k", "top_p"), [(300, 1.0), (0, 0.9), (0, 0.1), (256, 0.99), (700, 0.6), (5000, 0.99)])
def test_draws_of_a_large_vocabulary_are_those_of_sorting_it_whole(top_k: int, top_p: float) -> None:
    # Flat logits, so that the words that may be drawn are more than are looked at first, and less for top_p = 0.1.
    random = np.random.default_rng(4)
    logits, uniform = random.normal(0, 0.4, [200, 3000]).astype(np.float32), random.random(200).astype(np.float32)
    chosen = choose(logits, sampling(200, top_k=top_k, top_p=top_p), tf.constant(uniform)).numpy()
    order = np.argsort(-logits, axis=-1, kind="stable")[:, : top_k or None]
    weights = np.exp(np.take_along_axis(logits, order, -1).astype(float))
    weights /= weights.sum(-1, keepdims=True)
    weights[np.cumsum(weights, -1) - weights > top_p] = 0
    reached = np.cumsum(weights, -1)
    places = (reached <= uniform[:, None] * reached[:, -1:]).sum(-1)
    near = np.abs(reached / reached[:, -1:] - uniform[:, None]).min(-1) < 1e-5  # of the border between two words
    assert near.mean() < 0.1
    np.testing.assert_array_equal(chosen[~near], order[np.arange(200), places][~near])


def test_a_row_s_draw_does_not_depend_on_whether_another_row_needs_all_words() -> None:
    random = np.random.default_rng(5)
    steep, flat = random.normal(0, 4, [50, 1000]), random.normal(0, 0.1, [50, 1000])
    uniform = tf.constant(random.random(100), tf.float32)
    together = choose(np.float32([*steep, *flat]), sampling(100, top_p=0.9), uniform)
    alone = choose(np.float32(steep), sampling(50, top_p=0.9), uniform[:50])
    np.testing.assert_array_equal(together[:50], alone)


def test_top_k_and_top_p_leave_words_out_and_the_others_share_what_was_theirs() -> None:
    # of 0.4 and 0.3 word 1 has 4/7 = 0.571
    assert words_at([0.56, 0.58, 0.9999], top_k=2) == [1, 3, 3]
    # 0.4 does not reach 0.5, 0.4 + 0.3 does: the same two words
    assert words_at([0.56, 0.58, 0.9999], top_p=0.5) == [1, 3, 3]
    assert words_at([0.9999], top_p=0.01) == [1], "the most probable word always stays"
    assert words_at([0.56, 0.9999], top_k=3, top_p=0.7) == [1, 3]  # of three: 4/9 + 3/9 = 0.78 reaches 0.7


def test_temperature_sharpens_what_is_drawn_from() -> None:
    # squares: 0.01, 0.16, 0.04, 0.09; words 0 and 1 have 0.17 / 0.30 = 0.567
    assert words_at([0.56, 0.57], temperature=0.5) == [1, 2]


def test_the_penalty_is_for_words_that_the_row_has_already() -> None:
    logits = tf.constant([[2.0, 1.5, -1.0], [-2.0, -1.0, -1.5]])
    seen = tf.constant([[True, False, False], [False, True, False]])
    chosen = choose(logits, sampling(2, temperature=0.0, repetition_penalty=1.6), tf.zeros([2]), seen)
    assert chosen.numpy().tolist() == [1, 2]  # 2 / 1.6 = 1.25 < 1.5; -1 x 1.6 = -1.6 < -1.5


def test_rows_with_different_settings_share_a_batch() -> None:
    settings = Sampling(
        temperature=tf.constant([0.0, 1.0, 1.0]),
        top_k=tf.constant([0, 1, 0]),
        top_p=tf.constant([1.0, 1.0, 1.0]),
        repetition_penalty=tf.ones([3]),
        seed=tf.constant([1, 2, 3], tf.int64),
    )
    chosen = choose(np.tile(LOGITS, [3, 1]), settings, tf.constant([0.95, 0.95, 0.95]))
    assert chosen.numpy().tolist() == [1, 1, 3]
