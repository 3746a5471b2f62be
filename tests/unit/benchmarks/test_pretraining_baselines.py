"""Do the baseline programs see the rows as the models do? The arrays in between, by hand."""

import numpy as np

from benchmarks import pretraining_baselines

# One row: [CLS]=2 5 6 [SEP]=3 7 5 [SEP]=3 [PAD]=0; token 6 stands behind the mask (4) at position 2.
BATCH = {
    "token_ids": np.array([[2, 5, 4, 3, 7, 5, 3, 0]]),
    "token_type_ids": np.array([[0, 0, 0, 0, 1, 1, 1, 0]]),
    "sequence_ids": np.array([[1, 1, 1, 1, 1, 1, 1, 0]]),
    "masked_positions": np.array([[2, 0]]),
    "masked_labels": np.array([[6, 0]]),
    "masked_weights": np.array([[1.0, 0.0]]),
    "pair_labels": np.array([[1]]),
    "pair_weights": np.array([[1.0]]),
}


def test_masked_tokens_are_put_back_and_empty_slots_change_nothing():
    assert pretraining_baselines.unmasked(BATCH).tolist() == [[2, 5, 6, 3, 7, 5, 3, 0]]


def test_the_overlap_of_a_pair_is_between_its_two_parts_without_special_tokens():
    ignored = np.zeros(8, bool)
    ignored[[0, 2, 3, 4]] = True
    overlaps, is_random = pretraining_baselines.pairs(iter([BATCH]), ignored)
    assert overlaps.tolist() == [0.5]  # {5, 6} and {7, 5} share one of two
    assert is_random.tolist() == [1]


def test_rows_without_a_pair_are_left_out():
    batch = BATCH | {"pair_weights": np.array([[0.0]])}
    overlaps, is_random = pretraining_baselines.pairs(iter([batch]), np.zeros(8, bool))
    assert (len(overlaps), len(is_random)) == (0, 0)


def test_next_tokens_across_documents_and_at_padding_are_left_out():
    batch = {
        "token_ids": np.array([[2, 5, 3, 2, 6, 0]]),
        "labels": np.array([[5, 3, 2, 6, 0, 0]]),
        "label_weights": np.array([[1.0, 1.0, 0.0, 1.0, 0.0, 0.0]]),
    }
    previous, following = pretraining_baselines.next_tokens(iter([batch]))
    assert previous.tolist() == [2, 5, 2]
    assert following.tolist() == [5, 3, 6]
