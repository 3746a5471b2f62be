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


def chosen_of(masked: dict[str, tf.Tensor], shape: tuple[int, ...]) -> np.ndarray:
    chosen = np.zeros(shape, bool)
    slots, filled = masked["masked_positions"].numpy(), masked["masked_weights"].numpy() > 0
    for row in range(shape[0]):
        chosen[row, slots[row][filled[row]]] = True
    return chosen


def runs(chosen: np.ndarray) -> list[int]:
    """Lengths of the runs of True in all rows."""
    edges = np.flatnonzero(np.diff(np.pad(chosen, [(0, 0), (1, 1)]).astype(int).ravel()))
    return (edges[1::2] - edges[::2]).tolist()


def test_lengths_of_spans_are_geometric_and_end_at_ten():
    # P(1) = 0.2 / (1 - 0.8^10) = 0.22406, P(1 or 2) = 0.40331; the mean is 3.797 (the paper says 3.8).
    assert masking.span_lengths(tf.constant([0.0, 0.2240, 0.2241, 0.4033, 0.4034, 0.999999])).numpy().tolist() == [
        1, 1, 2, 2, 3, 10,
    ]  # fmt: skip
    many = masking.span_lengths(tf.linspace(0.0, 1.0, 100_001)[:-1]).numpy()
    assert many.mean() == pytest.approx(3.797, abs=0.001)


def test_spans_are_runs_of_words_and_mask_the_share():
    ids = np.random.default_rng(0).integers(5, 55, (400, 128)).astype(np.int32)  # each token is a word
    ids[:, 0], ids[:, 64], ids[:, 120], ids[:, 121:] = 2, 3, 3, 0
    single = chosen_of(text.Masker(TOKENIZER)(tf.constant(ids), seeds(400)), ids.shape)
    spans = chosen_of(text.Masker(TOKENIZER, spans=True)(tf.constant(ids), seeds(400)), ids.shape)
    # 118 words: round(0.15 * 118) = 18 in every row, the last span is cut there.
    assert set(spans.sum(axis=1).tolist()) == {18}
    assert not spans[ids < 5].any()
    # Alone, a run goes on with probability 0.15: mean 1.18. Spans of 3.8 words are cut by ends and grow together.
    assert np.mean(runs(single)) == pytest.approx(1.18, abs=0.05)
    assert np.mean(runs(spans)) == pytest.approx(3.8, abs=0.5)


def test_the_first_spans_by_their_draws_are_taken_and_the_last_is_cut(monkeypatch):
    # Words 1-6 (one token each) with spans: 2 begins first (score 0.1) and has 3 words, then 5 (0.2) with 2 words.
    ids = tf.constant([[2, 10, 11, 12, 13, 14, 15, 3]])
    scores = [0.9, 0.9, 0.8, 0.1, 0.7, 0.6, 0.2, 0.5]  # word k has place k: [CLS] is word 1
    lengths = [0.0, 0.0, 0.0, 0.45, 0.0, 0.0, 0.3, 0.0]  # 0.45 -> 3 words, 0.3 -> 2
    kinds = [0.0] * 3 + [0.95] + [0.0] * 4  # the first span is kept as it is, the second hidden
    monkeypatch.setattr(masking, "_uniform", lambda *_: tf.constant([[scores, kinds, [0.0] * 8, lengths]]))
    masked = text.Masker(TOKENIZER, 0.67, spans=True)(ids, seeds(1))  # round(0.67 * 6) = 4 tokens
    assert masked["masked_positions"].numpy()[0][masked["masked_weights"].numpy()[0] > 0].tolist() == [2, 3, 4, 5]
    assert masked["token_ids"].numpy().tolist() == [[2, 10, 11, 12, 13, MASK, 15, 3]]


def test_pieces_of_words_share_a_span_and_no_span_goes_into_the_next_sequence(monkeypatch):
    # Packed: [CLS] a ##b [SEP] [CLS] c d [SEP]; the span of the word a ##b would be 10 words long.
    ids = tf.constant([[2, 10, 60, 3, 2, 11, 12, 3]])
    scores = [0.9, 0.9, 0.1, 0.9, 0.9, 0.5, 0.4, 0.9]
    lengths = [0.0, 0.0, 0.999, 0.0, 0.0, 0.0, 0.0, 0.0]
    monkeypatch.setattr(masking, "_uniform", lambda *_: tf.constant([[scores, [0.0] * 8, [0.0] * 8, lengths]]))
    masked = text.Masker(TOKENIZER, 0.5, spans=True)(ids, seeds(1))
    assert masked["token_ids"].numpy().tolist() == [[2, MASK, MASK, 3, 2, 11, 12, 3]]
    masked = text.Masker(TOKENIZER, 0.75, spans=True)(ids, seeds(1))  # 3 of 4: then d, whose score is lower than c's
    assert masked["token_ids"].numpy().tolist() == [[2, MASK, MASK, 3, 2, 11, MASK, 3]]


def test_masks_of_spans_depend_on_their_own_seed_alone_and_hide_8_in_10():
    masker, ids = text.Masker(TOKENIZER, spans=True), rows(600, 128, 120)
    together = masker(ids, seeds(600))
    alone = masker(ids[7:8], seeds(600)[7:8])
    np.testing.assert_array_equal(together["token_ids"][7], alone["token_ids"][0])
    filled = together["masked_weights"].numpy() > 0
    now = np.take_along_axis(together["token_ids"].numpy(), together["masked_positions"].numpy(), axis=1)[filled]
    # About 600 * 18 / 5 spans: one standard deviation of 0.8 over spans is 0.009, more for their uneven lengths.
    assert np.mean(now == MASK) == pytest.approx(0.8, abs=0.04)
    masked = tf.data.Dataset.from_tensor_slices((ids, seeds(600))).batch(4).map(masker, 8).take(2)
    graph = np.concatenate([batch["token_ids"] for batch in masked])
    np.testing.assert_array_equal(graph, together["token_ids"][:8])


def test_in_chinese_a_character_is_a_word(wordpiece):
    ids = wordpiece.tokenize(tf.constant(["公司利润增长，股价上涨。" * 6])).to_tensor()
    assert wordpiece.starts_word[ids.numpy()].all()
    chosen = chosen_of(text.Masker(wordpiece, 0.3, spans=True)(ids, seeds(1)), ids.shape)
    assert chosen.sum() == round(0.3 * ids.shape[1])
    assert max(runs(chosen)) > 1
