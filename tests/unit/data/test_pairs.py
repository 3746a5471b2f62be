"""Do queries meet their right passage first, and the mined ones after it?"""

import numpy as np
import pytest

from kerasllm import data, text
from kerasllm.config import make_run
from kerasllm.errors import DataError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d"]
MATCHING = {"query_length": 4, "passage_length": 5, "hard_negatives": 1}


@pytest.fixture
def letters() -> text.WordPieceTokenizer:
    return text.WordPieceTokenizer("\n".join(WORDS).encode())


def run_of(**matching):
    return make_run({"matching": MATCHING | matching, "train": {"steps": 1, "global_batch": 2, "sequence_length": 8}})


def pairs_with(negatives: list[list[int]]) -> data.QueryPassages:
    table = data.join_pairs(["a", "b", "A "], ["a a", "b b b b", "c"])
    return data.QueryPassages(table.queries, table.passages, table.right, np.array(negatives, np.int32))


def test_passages_that_say_the_same_are_one():
    table = data.join_pairs(["a", "b", "A "], ["One  answer", "two", "one answer"])
    assert table.passages == ["One  answer", "two"]
    assert table.right.tolist() == [0, 1, 0]
    assert table.query_groups().tolist() == [0, 1, 0]


def test_an_equal_query_shares_its_right_passages():
    assert pairs_with([[], [], []]).all_right() == [{0, 2}, {1}, {0, 2}]
    assert pairs_with([[], [], []]).take([1]).all_right() == [{1}]


def test_matching_batches_hold_the_right_passage_first_then_the_mined_one(letters):
    first, last = data.matching_batches(pairs_with([[1], [-1], [1]]), letters, run_of(), training=False)
    assert first["query_token_ids"].numpy().tolist() == [[2, 5, 3, 0], [2, 6, 3, 0]]
    # Passages of at most 5 tokens: [CLS] b b b [SEP].
    assert first["passage_token_ids"].numpy().tolist()[0] == [[2, 5, 5, 3, 0], [2, 6, 6, 6, 3]]
    assert first["passage_group"].numpy().tolist() == [[0, 1], [1, -1]]
    assert first["candidate_weights"].numpy().tolist() == [[1, 1], [1, 0]]
    assert first["query_group"].numpy().tolist() == [0, 1]
    assert last["match_weights"].numpy().tolist() == [1, 0]
    assert last["passage_group"].numpy().tolist()[0] == [2, 1]


def test_another_mined_passage_comes_in_each_epoch(letters):
    batches = data.matching_batches(pairs_with([[1, 2], [0, 2], [1, -1]]), letters, run_of(), training=True)
    seen = {}
    for step, batch in zip(range(4), batches, strict=False):  # an epoch is one batch of 2, the third row is left out
        for right, mined in batch["passage_group"].numpy().tolist():
            seen.setdefault((right, step % 2), set()).add(mined)
    assert all(len(mined) == 1 for mined in seen.values())
    assert {mined for (right, _), found in seen.items() if right == 1 for mined in found} <= {0, 2}


def test_a_step_is_the_same_batch_wherever_the_run_starts(letters):
    pairs = pairs_with([[1], [0], [1]])
    whole = list(data.matching_batches(pairs, letters, run_of(), training=True).take(4))
    resumed = next(iter(data.matching_batches(pairs, letters, run_of(), training=True, start_step=3)))
    for key, values in whole[3].items():
        assert values.numpy().tolist() == resumed[key].numpy().tolist()


def test_reranking_batches_hold_packed_pairs(letters):
    first, _ = data.reranking_batches(pairs_with([[1], [2], [1]]), letters, run_of(), training=False)
    # Room of 8 - 3 = 5: "a" + "a a", and "a" + "b b b b" fit.
    assert first["token_ids"].numpy().tolist()[0] == [[2, 5, 3, 5, 5, 3, 0, 0], [2, 5, 3, 6, 6, 6, 6, 3]]
    assert first["token_type_ids"].numpy().tolist()[0][0] == [0, 0, 0, 1, 1, 1, 0, 0]
    assert first["candidate_weights"].shape == (2, 2)


def test_a_reranker_without_negatives_is_refused(letters):
    with pytest.raises(DataError, match="mine them"):
        data.reranking_batches(pairs_with([[], [], []]), letters, run_of(), training=True)
