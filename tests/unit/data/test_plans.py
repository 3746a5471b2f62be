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


@pytest.mark.parametrize(
    ("pairs", "cut"), [("next_sentence", False), ("next_sentence", True), ("sentence_order", False), (None, True)]
)
def test_every_token_stands_in_exactly_one_a_or_real_b(pairs: str | None, cut: bool):
    split = random_split()
    plan = plans.plan_pairs(split, 1, 0, 64, pairs, cut)
    seen = np.zeros(split.num_tokens, int)
    for i in range(len(plan)):
        seen[plan.start_a[i] : plan.start_a[i] + plan.length_a[i]] += 1
        if pairs == "sentence_order" or not plan.is_wrong[i]:
            seen[plan.start_b[i] : plan.start_b[i] + plan.length_b[i]] += 1
    assert (seen == 1).all()


CUT = pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])


@CUT
def test_half_of_the_pairs_are_random(cut: bool):
    plan = plans.plan_pairs(random_split(), 1, 0, 64, cut=cut)
    pairs = int(plan.has_pair.sum())
    assert pairs > 1000
    # Whole chunks are balanced two by two, cut ones are drawn: three standard errors.
    assert abs(int(plan.is_wrong.sum()) * 2 - pairs) <= (3 * pairs**0.5 if cut else 1)


@CUT
def test_rows_fit_and_pairs_have_two_sides(cut: bool):
    plan = plans.plan_pairs(random_split(), 1, 0, 64, cut=cut)
    assert (plan.length_a + plan.length_b).max() <= 61
    assert plan.length_a.min() > 0
    np.testing.assert_array_equal(plan.has_pair, plan.length_b > 0)


@CUT
def test_a_real_next_follows_and_a_random_one_is_another_document_of_the_same_source(cut: bool):
    split = random_split(sources=3)
    plan = plans.plan_pairs(split, 1, 0, 64, cut=cut)
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


@CUT
@pytest.mark.parametrize("sentences", ["many", "few"])
def test_lengths_do_not_give_the_label_away(sentences: str, cut: bool):
    # Documents of a few sentences end within most rows: the case in which careless fillings tell the label.
    rng = np.random.default_rng(5)
    longest = 60 if sentences == "many" else 8
    documents = [rng.integers(3, 40, rng.integers(1, longest)).tolist() for _ in range(4000 if longest == 8 else 600)]
    plan = plans.plan_pairs(split_of(documents), 1, 0, 128, cut=cut)
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


def test_cut_rows_are_full_but_for_the_last_of_a_document_which_has_eight_tokens_at_least():
    # Room for 30. 100 = 30 + 30 + 30 + 10; 93 = 30 + 30 + 25 + 8, as 30 more would leave 3.
    for tokens, lengths in ((100, [30, 30, 30, 10]), (93, [30, 30, 25, 8])):
        plan = plans.plan_pairs(split_of([[10] * 9 + [tokens - 90]]), 1, 0, 32, None, cut=True)
        order = np.argsort(plan.start_a)
        assert plan.length_a[order].tolist() == lengths
        assert plan.start_a[order].tolist() == np.cumsum([0, *lengths[:-1]]).tolist()


def test_a_cut_pair_is_parted_at_a_sentence_and_a_random_b_is_as_long_as_the_one_that_it_replaces():
    # 400 sentences of 20 tokens a document, room for 61: pairs are full, whether B is cut or random.
    split = split_of([[20] * 400] * 3)
    plan = plans.plan_pairs(split, 1, 0, 64, cut=True)
    pairs = plan[np.flatnonzero(plan.has_pair)]
    np.testing.assert_array_equal(pairs.start_b % 20, 0)
    assert pairs.length_a.min() >= 8
    assert pairs.length_b.min() >= 8
    ends_inside = (pairs.start_b + pairs.length_b) % 8000 != 0
    assert pairs.is_wrong[ends_inside].sum() > 50
    short = (pairs.length_a + pairs.length_b)[ends_inside] != 61
    assert short.sum() <= 3  # the row before the last one leaves it eight tokens


def test_whether_cut_parts_begin_or_end_with_a_sentence_does_not_tell_the_label():
    split = random_split(1500, sources=1)
    plan = plans.plan_pairs(split, 1, 0, 128, cut=True)
    pairs = plan[np.flatnonzero(plan.has_pair)]
    begins = np.isin(pairs.start_a, split.sentence_starts)
    ends = np.isin(pairs.start_b + pairs.length_b, split.sentence_starts)
    for place in (begins, ~begins, ends, ~ends):
        assert place.sum() > 1000
        assert abs(pairs.is_wrong[place].mean() - 0.5) < 0.05


def test_sentence_order_swaps_half_of_the_pairs_and_takes_nothing_from_other_documents():
    # One document of 60 sentences of 10 tokens, room for 29: 30 rows of two sentences, of which 15 are swapped.
    plan = plans.plan_pairs(split_of([[10] * 60]), 1, 0, 32, "sentence_order")
    assert len(plan) == 30
    assert plan.has_pair.all()
    assert plan.is_wrong.sum() == 15
    assert set(plan.length_a.tolist()) == set(plan.length_b.tolist()) == {10}
    np.testing.assert_array_equal(plan.start_b - plan.start_a, np.where(plan.is_wrong, -10, 10))
    assert sorted(np.minimum(plan.start_a, plan.start_b).tolist()) == list(range(0, 600, 20))


@CUT
def test_where_parts_begin_and_end_does_not_tell_the_order_of_sentences(cut: bool):
    split = random_split(1000)
    plan = plans.plan_pairs(split, 1, 0, 64, "sentence_order", cut)
    pairs = plan[np.flatnonzero(plan.has_pair)]
    for start, length in ((pairs.start_a, pairs.length_a), (pairs.start_b, pairs.length_b)):
        assert np.isin(start, split.sentence_starts).all()
        assert np.isin(start + length, split.sentence_starts).all()
    assert len(pairs) > 5000
    decided = pairs.length_a != pairs.length_b
    guessed_right = ((pairs.length_a < pairs.length_b) == pairs.is_wrong)[decided].mean()
    assert abs(guessed_right - 0.5) < 0.03  # 0.6 if all documents were gathered from their beginning


def test_the_rest_of_a_row_of_sentences_in_order_is_filled_with_text_that_is_no_pair():
    # Room for 45: two sentences of 20 leave 5, too little. Room for 55: they leave 15, of which 13 are text.
    plan = plans.plan_pairs(split_of([[20] * 6]), 1, 0, 48, "sentence_order", cut=True)
    assert plan.has_pair.all()
    plan = plans.plan_pairs(split_of([[20] * 6]), 1, 0, 58, "sentence_order", cut=True)
    lengths = sorted(zip(plan.length_a.tolist(), plan.length_b.tolist(), strict=True))
    # The third sentence as 12 + 8 (its end has 8 at least); then two that leave 15 again, and the last one likewise.
    assert lengths == [(8, 0), (8, 0), (12, 0), (12, 0), (20, 20), (20, 20)]
