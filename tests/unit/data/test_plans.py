"""Do plans use every token, keep pairs honest, and depend on seed and epoch alone?"""

from types import SimpleNamespace

import numpy as np
import pytest

from kerasllm import data
from kerasllm.data import plans


def split_of(documents: list[list[int]], sources: list[int] | None = None) -> data.Split:
    """A split of documents given as lengths of sentences; plans look at nothing else."""
    lengths = [length for document in documents for length in document]
    sentence_starts = np.cumsum([0, *lengths])
    document_sentences = np.cumsum([0, *map(len, documents)])
    return SimpleNamespace(  # type: ignore[return-value]
        sentence_starts=sentence_starts,
        document_sentences=document_sentences,
        document_starts=sentence_starts[document_sentences],
        source_ids=np.array(sources or [0] * len(documents)),
        num_documents=len(documents),
        num_tokens=int(sentence_starts[-1]),
    )


def random_split(num_documents: int = 400, sources: int = 2) -> data.Split:
    rng = np.random.default_rng(3)
    documents = [rng.integers(3, 40, rng.integers(1, 40)).tolist() for _ in range(num_documents)]
    return split_of(documents, sorted(rng.integers(0, sources, num_documents).tolist()))


def document_of(split: data.Split, addresses: np.ndarray) -> np.ndarray:
    return np.searchsorted(split.document_starts, addresses, side="right") - 1


def test_every_token_stands_in_exactly_one_a_or_real_b():
    split = random_split()
    plan = plans.plan_pairs(split, 1, 0, 64)
    seen = np.zeros(split.num_tokens, int)
    for i in range(len(plan)):
        seen[plan.start_a[i] : plan.start_a[i] + plan.length_a[i]] += 1
        if not plan.is_wrong[i]:
            seen[plan.start_b[i] : plan.start_b[i] + plan.length_b[i]] += 1
    assert (seen == 1).all()


def test_half_of_the_pairs_are_random():
    plan = plans.plan_pairs(random_split(), 1, 0, 64)
    assert abs(int(plan.is_wrong.sum()) * 2 - int(plan.has_pair.sum())) <= 1
    assert plan.has_pair.sum() > 1000


def test_rows_fit_and_pairs_have_two_sides():
    plan = plans.plan_pairs(random_split(), 1, 0, 64)
    assert (plan.length_a + plan.length_b).max() <= 61
    assert plan.length_a.min() > 0
    np.testing.assert_array_equal(plan.has_pair, plan.length_b > 0)


def test_a_real_next_follows_and_a_random_one_is_another_document_of_the_same_source():
    split = random_split(sources=3)
    plan = plans.plan_pairs(split, 1, 0, 64)
    real = plan.has_pair & ~plan.is_wrong
    np.testing.assert_array_equal(plan.start_b[real], (plan.start_a + plan.length_a)[real])
    a, b = (document_of(split, start[plan.is_wrong]) for start in (plan.start_a, plan.start_b))
    assert (a != b).all()
    np.testing.assert_array_equal(split.source_ids[a], split.source_ids[b])
    # It does not run over the end of its document.
    ends = (plan.start_b + plan.length_b)[plan.is_wrong] - 1
    np.testing.assert_array_equal(document_of(split, ends), b)


def test_one_sentence_documents_and_lonely_documents_make_no_pairs():
    plan = plans.plan_pairs(split_of([[5], [6], [7]]), 1, 0, 32)
    assert not plan.has_pair.any()
    plan = plans.plan_pairs(split_of([[5] * 9, [6] * 9, [7] * 9], [0, 0, 1]), 1, 0, 32)
    lonely = plan.start_a >= 99
    assert lonely.any()
    assert not plan.has_pair[lonely].any()
    assert plan.has_pair[~lonely].any()


@pytest.mark.parametrize("sentences", ["many", "few"])
def test_lengths_do_not_give_the_label_away(sentences: str):
    # Documents of a few sentences end within most rows: the case in which careless fillings tell the label.
    rng = np.random.default_rng(5)
    longest = 60 if sentences == "many" else 8
    documents = [rng.integers(3, 40, rng.integers(1, longest)).tolist() for _ in range(4000 if longest == 8 else 600)]
    plan = plans.plan_pairs(split_of(documents), 1, 0, 128)
    pairs = plan[np.flatnonzero(plan.has_pair)]
    features = np.stack([pairs.length_a, pairs.length_b, pairs.length_a + pairs.length_b], axis=1) // 4
    half = len(pairs) // 2
    assert half > 1500
    for columns in ([0, 1], [0], [1], [2]):  # a table of label counts for each combination of lengths
        counts: dict[tuple, int] = {}
        for key, label in zip(map(tuple, features[:half, columns].tolist()), pairs.is_wrong[:half], strict=True):
            counts[key] = counts.get(key, 0) + (1 if label else -1)
        guesses = [counts.get(key, 0) > 0 for key in map(tuple, features[half:, columns].tolist())]
        assert np.mean(np.array(guesses) == pairs.is_wrong[half:]) < 0.56


def test_sentences_longer_than_a_row_are_cut_into_equal_pieces():
    # 100 tokens, room for 29: four pieces of 25.
    plan = plans.plan_pairs(split_of([[100]]), 1, 0, 32)
    assert sorted(plan.start_a.tolist()) == [0, 25, 50, 75]
    assert plan.length_a.tolist() == [25] * 4


def test_without_pairs_rows_are_filled_with_sentences_of_one_document():
    # Room for 30: documents of 5 x 10 and 2 x 10 tokens make rows of 30, 20 and 20.
    plan = plans.plan_pairs(split_of([[10] * 5, [10] * 2]), 1, 0, 32, None)
    assert sorted(zip(plan.start_a.tolist(), plan.length_a.tolist(), strict=True)) == [(0, 30), (30, 20), (50, 20)]
    assert not plan.has_pair.any()


def test_a_plan_is_a_function_of_seed_and_epoch():
    split = random_split()
    first, again, other_epoch, other_seed = (
        plans.plan_pairs(split, seed, epoch, 64) for seed, epoch in [(1, 0), (1, 0), (1, 1), (2, 0)]
    )
    np.testing.assert_array_equal(first.start_a, again.start_a)
    np.testing.assert_array_equal(first.start_b, again.start_b)
    for other in (other_epoch, other_seed):
        assert first.start_a[:50].tolist() != other.start_a[:50].tolist()


def test_a_stream_is_cut_into_full_rows_of_every_document_once():
    # 3 documents of 4, 6 and 3 tokens, with bos and eos 6 + 8 + 5 = 19: (19 - 1) // 4 rows of 4.
    plan = plans.plan_stream(split_of([[4], [6], [3]]), 1, 0, 4)
    assert len(plan) == 4
    assert sorted(plan.rows.tolist()) == [0, 1, 2, 3]
    assert sorted(plan.documents.tolist()) == [0, 1, 2]
    assert plan.starts[-1] == 19
