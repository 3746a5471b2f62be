"""Are the right tokens masked, in the right shares, and the same ones for the same seed?"""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import text
from kerasllm.text import masking

# Ids 0-4 are special, 5-54 start words, 55-104 continue them.
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(50)), *(f"##p{i}" for i in range(50))]
TOKENIZER = text.WordPieceTokenizer("\n".join(WORDS).encode())
MASK = 4


def rows(count: int, length: int = 64, real: int = 60) -> tf.Tensor:
    """[CLS], words, [SEP] in the middle and at the end, padding."""
    ids = np.zeros((count, length), np.int32)
    ids[:, :real] = np.random.default_rng(0).integers(5, 105, (count, real))
    ids[:, 0], ids[:, real // 2], ids[:, real - 1] = 2, 3, 3
    return tf.constant(ids)


def seeds(count: int, run: int = 0) -> tf.Tensor:
    return tf.constant([[run, row] for row in range(count)], tf.int32)


def test_the_share_of_real_tokens_is_masked_and_slots_are_static():
    # 60 real tokens of which 3 are special: 0.15 * 57 = 8.55, so 9 of ceil(0.15 * 64) = 10 slots.
    masked = text.Masker(TOKENIZER)(rows(5), seeds(5))
    assert masked["masked_positions"].shape == (5, 10)
    assert masked["masked_weights"].numpy().sum(axis=1).tolist() == [9.0] * 5


def test_special_tokens_and_padding_are_never_masked_and_labels_are_the_originals():
    original = rows(200)
    masked = text.Masker(TOKENIZER, 0.5)(original, seeds(200))
    filled = masked["masked_weights"].numpy() > 0
    at_slots = np.take_along_axis(original.numpy(), masked["masked_positions"].numpy(), axis=1)
    assert (at_slots[filled] >= 5).all()
    np.testing.assert_array_equal(masked["masked_labels"].numpy()[filled], at_slots[filled])
    assert not masked["masked_labels"].numpy()[~filled].any()


def test_tokens_outside_the_slots_stay_as_they_are():
    original = rows(50)
    masked = text.Masker(TOKENIZER)(original, seeds(50))
    changed = masked["token_ids"].numpy() != original.numpy()
    slots = np.zeros_like(changed)
    np.put_along_axis(slots, masked["masked_positions"].numpy(), masked["masked_weights"].numpy() > 0, axis=1)
    # Position 0 stands for empty slots: it is [CLS], never changed.
    assert not (changed & ~slots)[:, 1:].any()
    assert not changed[:, 0].any()


def test_of_the_masked_tokens_80_percent_are_hidden_10_random_10_kept():
    # 2000 rows x 9 slots = 18,000 draws: one standard deviation of a share of 0.8 is 0.003, of 0.1 it is 0.0022.
    original = rows(2000)
    masked = text.Masker(TOKENIZER)(original, seeds(2000))
    filled = masked["masked_weights"].numpy() > 0
    now = np.take_along_axis(masked["token_ids"].numpy(), masked["masked_positions"].numpy(), axis=1)[filled]
    before = masked["masked_labels"].numpy()[filled]
    assert np.mean(now == MASK) == pytest.approx(0.8, abs=0.012)
    assert np.mean(now == before) == pytest.approx(0.1 + 0.1 / 100, abs=0.009)
    replaced = now[(now != MASK) & (now != before)]
    assert replaced.min() == 5  # the first word; special tokens are never put in
    assert replaced.max() == 104


def test_a_row_of_one_token_has_it_masked_and_an_empty_row_nothing():
    ids = tf.constant([[2, 7, 3, 0, 0, 0, 0, 0], [2, 3, 0, 0, 0, 0, 0, 0], [0] * 8])
    masked = text.Masker(TOKENIZER)(ids, seeds(3))
    assert masked["masked_weights"].numpy().tolist() == [[1, 0], [0, 0], [0, 0]]
    assert masked["masked_positions"].numpy()[0, 0] == 1
    assert masked["token_ids"].numpy()[1:].tolist() == ids.numpy()[1:].tolist()


def test_whole_words_are_masked_together():
    ids = rows(300, length=128, real=120)
    masked = text.Masker(TOKENIZER, 0.15, whole_word=True)(ids, seeds(300))
    chosen = np.zeros(ids.shape, bool)
    np.put_along_axis(chosen, masked["masked_positions"].numpy(), masked["masked_weights"].numpy() > 0, axis=1)
    continues = (ids.numpy() >= 55) & (ids.numpy() > 0)
    # A piece shares the fate of the token before it, unless that one is special.
    inside = continues[:, 1:] & (ids.numpy()[:, :-1] >= 5)
    assert inside.any()
    np.testing.assert_array_equal(chosen[:, 1:][inside], chosen[:, :-1][inside])
    assert chosen.mean() == pytest.approx(0.15 * 117 / 128, rel=0.15)


def test_a_word_longer_than_all_slots_is_masked_as_far_as_they_go():
    ids = tf.constant([[2, 5, *[60] * 13, 3]])  # one word of 14 pieces; ceil(0.15 * 16) + 8 = 11 slots
    masked = text.Masker(TOKENIZER, 0.15, whole_word=True)(ids, seeds(1))
    assert masked["masked_positions"].numpy().tolist() == [list(range(1, 12))]


def test_a_mask_depends_on_its_own_seed_and_on_nothing_else():
    masker, ids = text.Masker(TOKENIZER), rows(8)
    together = masker(ids, seeds(8))["token_ids"].numpy()
    alone = [masker(ids[i : i + 1], seeds(8)[i : i + 1])["token_ids"].numpy()[0] for i in range(8)]
    np.testing.assert_array_equal(together, alone)
    assert (masker(ids, seeds(8, run=1))["token_ids"].numpy() != together).any()


def test_masks_are_the_same_at_any_parallelism():
    masker = text.Masker(TOKENIZER, whole_word=True)
    ids = rows(64)

    def masks(parallel_calls: int) -> np.ndarray:
        dataset = tf.data.Dataset.from_tensor_slices((ids, seeds(64))).batch(4)
        dataset = dataset.map(lambda row, seed: masker(row, seed)["token_ids"], parallel_calls).unbatch()
        return np.stack(list(dataset.as_numpy_iterator()))

    np.testing.assert_array_equal(masks(1), masks(8))


def test_slots_are_enough_for_the_share():
    assert masking.num_slots(128, 0.15, whole_word=False) == 20  # 19.2
    assert masking.num_slots(128, 0.15, whole_word=True) == 28
    assert masking.num_slots(8, 0.9, whole_word=True) == 8
