"""Are batches what the models expect, and is batch k always batch k?"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import data
from kerasllm.errors import ConfigError, DataError

_SPEC = importlib.util.spec_from_file_location("data_fixtures", Path(__file__).with_name("conftest.py"))
_FIXTURES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_FIXTURES)
make_run = _FIXTURES.make_run

BERT, GPT = {"task": "bert_pretraining"}, {"task": "gpt_pretraining"}
TASKS = pytest.mark.parametrize("objective", [BERT, GPT], ids=["bert", "gpt"])


def batches(split: data.Split, run, count: int | None = None, **arguments) -> list[dict[str, np.ndarray]]:
    dataset = data.pretraining_batches(split, run, **arguments)
    return list((dataset if count is None else dataset.take(count)).as_numpy_iterator())


def assert_same(left: list[dict[str, np.ndarray]], right: list[dict[str, np.ndarray]]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_bert_batches_have_the_agreed_names_types_and_static_shapes(train: data.Split):
    spec = data.pretraining_batches(train, make_run()).element_spec
    shapes = {name: (tuple(part.shape), part.dtype.name) for name, part in spec.items()}
    assert shapes == {
        **{name: ((4, 48), "int32") for name in ("token_ids", "token_type_ids", "sequence_ids", "position_ids")},
        **{name: ((4, 8), "int32") for name in ("masked_positions", "masked_labels")},  # ceil(0.15 * 48)
        "masked_weights": ((4, 8), "float32"),
        **{name: ((4, 1), "int32") for name in ("pair_positions", "pair_labels")},
        "pair_weights": ((4, 1), "float32"),
    }


def test_gpt_batches_have_the_agreed_names_types_and_static_shapes(train: data.Split):
    spec = data.pretraining_batches(train, make_run(objective=GPT)).element_spec
    shapes = {name: (tuple(part.shape), part.dtype.name) for name, part in spec.items()}
    assert shapes == {
        **{name: ((4, 48), "int32") for name in ("token_ids", "sequence_ids", "position_ids", "labels")},
        "label_weights": ((4, 48), "float32"),
    }


def test_a_bert_row_is_cls_a_sep_b_sep_padding(train: data.Split):
    special = train.tokenizer.special
    for batch in batches(train, make_run(), 20):
        ids = batch["token_ids"].copy()
        slots = batch["masked_weights"] > 0
        for row in range(len(ids)):  # take the masks off
            ids[row, batch["masked_positions"][row, slots[row]]] = batch["masked_labels"][row, slots[row]]
            length, types = int(batch["sequence_ids"][row].sum()), batch["token_type_ids"][row]
            assert ids[row, 0] == special.cls
            assert ids[row, length - 1] == special.sep
            assert (ids[row, length:] == special.pad).all()
            separators = np.flatnonzero(ids[row] == special.sep)
            assert len(separators) == (2 if types.any() else 1)
            assert types[: separators[0] + 1].sum() == 0
            assert types[separators[0] + 1 : length].all()
            assert batch["position_ids"][row, :length].tolist() == list(range(length))
            assert batch["pair_weights"][row, 0] == float(types.any())


def test_no_pairs_are_made_when_their_loss_has_no_weight(train: data.Split):
    run = make_run(objective={"next_sentence_weight": 0.0})
    for batch in batches(train, run, 10):
        assert not batch["pair_weights"].any()
        assert not batch["token_type_ids"].any()
        assert batch["masked_weights"].any()


def test_a_gpt_row_goes_on_where_labels_say_and_never_over_a_border(train: data.Split):
    special = train.tokenizer.special
    seen_border = False
    for batch in batches(train, make_run(objective=GPT), 20):
        ids, labels, weights = batch["token_ids"], batch["labels"], batch["label_weights"]
        np.testing.assert_array_equal(ids[:, 1:], labels[:, :-1])
        border = ids == special.eos
        seen_border |= bool(border.any())
        np.testing.assert_array_equal(weights, (~border).astype(np.float32))
        np.testing.assert_array_equal(labels[border], special.bos)
        change = np.diff(batch["sequence_ids"], axis=1)
        np.testing.assert_array_equal(change, border[:, :-1])
        assert not batch["position_ids"][:, 1:][change > 0].any()
        assert (np.diff(batch["position_ids"], axis=1)[change == 0] == 1).all()
    assert seen_border


def test_the_gpt_rows_of_an_epoch_hold_the_documents(train: data.Split):
    run = make_run(objective=GPT, train={"global_batch": 1})
    tokens = np.concatenate([batch["token_ids"].ravel() for batch in batches(train, run, repeat=False)])
    stored = np.concatenate([train.tokens(i) for i in range(train.num_documents)])
    lost = train.num_tokens + 2 * train.num_documents - len(tokens)
    assert 0 < lost <= 48
    counts, all_counts = np.bincount(tokens, minlength=300), np.bincount(stored, minlength=300)
    assert (counts[5:] <= all_counts[5:]).all()


@TASKS
def test_resuming_at_a_step_gives_the_batches_from_that_step_on(objective: dict, train: data.Split):
    run = make_run(objective=objective)
    per_epoch = data.steps_per_epoch(train, run)
    whole = batches(train, run, per_epoch + 6)
    start = per_epoch - 3  # the border of two epochs lies between
    assert_same(batches(train, run, 9, start_step=start), whole[start:])


@TASKS
def test_every_epoch_has_the_same_number_of_steps_and_other_rows(objective: dict, train: data.Split):
    run = make_run(objective=objective)
    per_epoch = data.steps_per_epoch(train, run)
    assert len(batches(train, run, repeat=False)) == per_epoch
    first, second = batches(train, run, 1), batches(train, run, 1, start_step=per_epoch)
    assert (first[0]["token_ids"] != second[0]["token_ids"]).any()


@TASKS
def test_another_seed_gives_other_rows(objective: dict, train: data.Split):
    run = make_run(objective=objective)
    one, other = batches(train, run, 1), batches(train, run.model_copy(update={"seed": 2}), 1)
    assert (one[0]["token_ids"] != other[0]["token_ids"]).any()


@TASKS
def test_batches_do_not_depend_on_the_threads(objective: dict, train: data.Split):
    run = make_run(objective=objective)
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    alone = list(data.pretraining_batches(train, run).with_options(options).take(20).as_numpy_iterator())
    assert_same(alone, batches(train, run, 20))


@TASKS
def test_evaluation_is_of_the_same_rows_whatever_the_run(objective: dict, corpus: data.Corpus):
    held_out = corpus.split("held_out")
    first = batches(held_out, make_run(objective=objective))
    assert_same(first, batches(held_out, make_run(objective=objective)))
    other_seed = make_run(objective=objective).model_copy(update={"seed": 9})
    assert_same(first, batches(held_out, other_seed))


@pytest.mark.parametrize(("objective", "weights"), [(BERT, "masked_weights"), (GPT, "label_weights")])
def test_the_last_batch_of_an_evaluation_is_filled_up_with_rows_of_no_weight(
    objective: dict, weights: str, corpus: data.Corpus
):
    run = make_run(objective=objective, train={"evaluation_rows": 10})
    evaluation = batches(corpus.split("held_out"), run)
    assert len(evaluation) == data.steps_per_epoch(corpus.split("held_out"), run) == 3  # 4 + 4 + 2 rows
    assert (evaluation[-1][weights][:2].sum(axis=1) > 0).all()
    assert not evaluation[-1][weights][2:].any()
    assert not evaluation[-1]["sequence_ids"][2:].any()


def test_replicas_share_the_rows_of_the_global_batch(train: data.Split):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    dataset = data.pretraining_batches(train, make_run(), start_step=3).with_options(options)
    distributed = next(iter(strategy.experimental_distribute_dataset(dataset)))
    parts = strategy.experimental_local_results(distributed["token_ids"])
    whole = batches(train, make_run(), 1, start_step=3)[0]["token_ids"]
    assert [part.shape.as_list() for part in parts] == [[2, 48], [2, 48]]
    np.testing.assert_array_equal(np.concatenate([part.numpy() for part in parts]), whole)


def test_fewer_rows_than_a_batch_are_repeated(train: data.Split):
    run = make_run(train={"global_batch": 5000})
    assert data.steps_per_epoch(train, run) == 1
    assert batches(train, run, 1)[0]["token_ids"].shape == (5000, 48)


def test_another_task_is_refused(train: data.Split):
    with pytest.raises(ConfigError, match="'text_classification' is not a pretraining"):
        data.pretraining_batches(train, make_run(objective={"task": "text_classification"}))


def test_too_little_text_for_a_row_is_refused(tmp_path: Path):
    (tmp_path / "a.txt").write_text("Just this.")
    data.prepare_corpus([str(tmp_path / "a.txt")], tmp_path / "c", make_run(data={"held_out_share": 0.0}))
    run = make_run(objective=GPT)
    with pytest.raises(DataError, match="do not fill one row of 48"):
        data.pretraining_batches(data.open_corpus(tmp_path / "c").split("train"), run)
