"""Do rows hold every sequence once, as few rows as may be, and the same rows again for the same seed and epoch?"""

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kerasllm import data
from kerasllm.data import packing, plans

_SPEC = importlib.util.spec_from_file_location("data_fixtures", Path(__file__).with_name("conftest.py"))
_FIXTURES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_FIXTURES)
make_run = _FIXTURES.make_run

PACK = {"steps": 10, "sequence_length": 48, "global_batch": 4, "pack": True}


def packed(lengths: list[int], room: int, most: int) -> dict[tuple[int, ...], int]:
    return packing.pack_lengths(np.bincount(lengths, minlength=room + 1), most)


def sequences_of(lengths: np.ndarray) -> plans.PairPlan:
    """Sequences without a B of so many tokens, special ones included; start_a is the number of the sequence."""
    zero, false = np.zeros(len(lengths), np.int64), np.zeros(len(lengths), bool)
    return plans.PairPlan(np.arange(len(lengths)), lengths - 2, zero, zero, false, false)


def batches(split: data.Split, run, count: int | None = None, **arguments) -> list[dict[str, np.ndarray]]:
    dataset = data.pretraining_batches(split, run, **arguments)
    return list((dataset if count is None else dataset.take(count)).as_numpy_iterator())


def test_lengths_that_fill_rows_to_the_last_token_share_them():
    assert packed([6, 4, 7, 3, 5, 5], 10, 9) == {(7, 3): 1, (6, 4): 1, (5, 5): 1}


def test_the_room_that_fits_best_is_taken():
    # 3 goes to the row of 7, where it leaves nothing, and not to that of 6, where it would leave 1 and 4 out.
    assert packed([6, 7, 3, 4], 10, 9) == {(7, 3): 1, (6, 4): 1}


def test_the_rest_of_equal_lengths_shares_the_last_row():
    assert packed([3] * 8, 10, 9) == {(3, 3, 3): 2, (3, 3): 1}
    assert packed([2] * 9, 10, 2) == {(2, 2): 4, (2,): 1}
    assert packed([], 10, 3) == {}


def test_short_ones_fill_up_many_rows_at_a_time():
    # 5 rows of 8 take two of length 1 each; the eleventh has a row of its own.
    assert packed([8] * 5 + [1] * 11, 10, 9) == {(8, 1, 1): 5, (1,): 1}
    assert packed([8] * 5 + [1] * 6, 10, 2) == {(8, 1): 5, (1,): 1}


@pytest.mark.parametrize(
    ("pairs", "length"), [("next_sentence", 64), ("next_sentence", 128), (None, 128), ("sentence_order", 128)]
)
def test_long_documents_fill_97_percent_of_the_rows(pairs: str | None, length: int):
    rng = np.random.default_rng(6)
    lengths = np.maximum(3, rng.lognormal(3.3, 0.6, 20_000).astype(int))  # sentences of WikiText have a mean of 30
    starts, sentences = np.cumsum([0, *lengths]), np.append(np.arange(0, 20_000, 40), 20_000)
    split: Any = SimpleNamespace(
        sentence_starts=starts,
        document_sentences=sentences,
        document_starts=starts[sentences],
        source_ids=np.zeros(500, np.int32),
        num_documents=500,
    )
    plan = plans.plan_pairs(split, 1, 0, length, pairs, cut=True)
    rows = packing.pack_rows(plan, length, 1, 0, packing.sequences_a_row(plan, length))
    tokens = plan.length_a.sum() + plan.length_b.sum() + 2 * len(plan) + np.count_nonzero(plan.length_b)
    assert tokens / (len(rows) * length) >= 0.97


@pytest.mark.parametrize("most", [1, 2, 5, 64])
def test_every_sequence_stands_in_one_row_which_it_fits_into(most: int):
    lengths = np.random.default_rng(1).integers(3, 65, 2000)
    rows = packing.pack_rows(sequences_of(lengths), 64, 1, 0, most)
    assert sorted(rows.sequences.start_a.tolist()) == list(range(2000))
    assert np.diff(rows.borders).min() >= 1
    assert np.diff(rows.borders).max() <= most
    assert np.add.reduceat(rows.sequences.length_a + 2, rows.borders[:-1]).max() <= 64
    if most >= 5:
        assert len(rows) <= 1.02 * lengths.sum() / 64  # even lengths fit together nearly without a gap


def test_places_for_sequences_are_as_few_as_the_fewest_rows_need():
    # 60 + 4 fills a row; the 8 of one token cost two rows more with one place than with eight of them, of 1,002.
    lengths = np.array([60] * 1000 + [4] * 1000)
    assert packing.sequences_a_row(sequences_of(lengths), 64) == 2
    assert packing.sequences_a_row(sequences_of(np.array([64] * 5)), 64) == 1
    assert packing.sequences_a_row(sequences_of(np.array([16] * 400)), 64) == 4


def test_rows_are_a_function_of_seed_and_epoch():
    sequences = sequences_of(np.random.default_rng(2).integers(3, 65, 500))
    first, again, epoch, seed = (
        packing.pack_rows(sequences, 64, *key, most=4).sequences.start_a.tolist()
        for key in [(1, 0), (1, 0), (1, 1), (2, 0)]
    )
    assert first == again
    assert first != epoch
    assert first != seed


def test_packed_batches_have_static_shapes_with_places_for_several_pairs(train: data.Split):
    spec = data.pretraining_batches(train, make_run(train=PACK)).element_spec
    places = spec["pair_labels"].shape[1]
    assert places >= 2
    for name in ("pair_positions", "pair_labels", "pair_weights"):
        assert spec[name].shape == (4, places)
    assert spec["token_ids"].shape == (4, 48)
    assert spec["masked_positions"].shape == (4, 8)


def test_a_packed_row_is_its_sequences_one_after_another(train: data.Split):
    special = train.tokenizer.special
    seen = []
    for batch in batches(train, make_run(train=PACK), 20):
        for row in range(4):
            real, ids = batch["sequence_ids"][row], batch["token_ids"][row]
            assert (np.diff(real[real > 0]) >= 0).all()
            assert not real[np.count_nonzero(real) :].any()
            seen.append(real.max())
            assert not batch["pair_weights"][row, real.max() :].any()
            for slot in range(real.max()):
                place = np.flatnonzero(real == slot + 1)
                first, types = place[0], batch["token_type_ids"][row, place]
                assert batch["pair_positions"][row, slot] == first
                assert ids[first] == special.cls
                assert ids[place[-1]] == special.sep
                assert batch["position_ids"][row, place].tolist() == list(range(len(place)))
                assert (np.diff(types) >= 0).all()
                assert batch["pair_weights"][row, slot] == float(types.any())
    assert max(seen) > 1


def test_an_epoch_of_packed_rows_has_little_padding_and_holds_every_token(train: data.Split):
    run = make_run(train={**PACK, "global_batch": 1}, objective={"next_sentence_weight": 0.0})
    rows = batches(train, run, repeat=False)
    fill = np.mean([np.count_nonzero(batch["sequence_ids"]) for batch in rows]) / 48
    alone = make_run(train={**PACK, "global_batch": 1, "pack": False}, objective={"next_sentence_weight": 0.0})
    assert fill > 0.95  # documents of one to twelve sentences in rows of 48; of corpora with longer ones more
    assert len(rows) < 0.85 * data.steps_per_epoch(train, alone)
    ids = [unmasked(batch) for batch in rows]
    counts = np.bincount(np.concatenate(ids), minlength=train.tokenizer.vocab_size)
    special = list(train.tokenizer.special.ids)
    expected = train.token_counts()
    assert np.delete(counts, special).tolist() == np.delete(expected, special).tolist()


def unmasked(batch: dict[str, np.ndarray]) -> np.ndarray:
    ids = batch["token_ids"][0].copy()
    slots = batch["masked_weights"][0] > 0
    ids[batch["masked_positions"][0, slots]] = batch["masked_labels"][0, slots]
    return ids


def test_resuming_in_packed_rows_is_slicing_over_the_border_of_epochs(train: data.Split):
    run = make_run(train=PACK)
    start = data.steps_per_epoch(train, run) - 2
    whole = batches(train, run, start + 5)[start:]
    for one, other in zip(whole, batches(train, run, 5, start_step=start), strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_held_out_rows_do_not_depend_on_packing(corpus: data.Corpus):
    held_out = corpus.split("held_out")
    for one, other in zip(*(batches(held_out, make_run(train={**PACK, "pack": pack})) for pack in (0, 1)), strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_the_order_of_sentences_is_asked_of_packed_rows_too(train: data.Split):
    run = make_run(train=PACK, objective={"pairs": "sentence_order"})
    labels, weights = (
        np.concatenate([batch[name] for batch in batches(train, run, 40)]) for name in ("pair_labels", "pair_weights")
    )
    assert 0.4 < labels[weights > 0].mean() < 0.6
