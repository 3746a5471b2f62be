"""Does each step belong to the task that its share asks for, and does each task go through its own rows in order?"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import config, data
from kerasllm.data.mixed import ROUND, TaskOrder
from kerasllm.errors import ConfigError, DataError

TASK = {"second_text_column": "hypothesis", "labels": ["same", "other"], "share": 0.25}
MOOD = {"labels": ["up", "down"], "share": 0.1}


def make_run(mix: dict, **train: object) -> config.Run:
    tree = {
        "tokenizer": {"vocab_size": 300},
        "data": {"held_out_share": 0.2, "shard_megabytes": 1},
        "train": {"steps": 10, "sequence_length": 48, "global_batch": 4, "evaluation_rows": 6, **train},
        "mix": mix,
    }
    return config.make_run(tree)


def write_tables(folder: Path) -> dict[str, Path]:
    """Twenty pairs, and twenty single texts without an empty label."""
    for name in ("pairs", "mood"):
        (folder / name).mkdir(parents=True)
    for part in ("train", "validation"):
        pairs = [f"profit {i}\tmarket {i}\t{'same' if i % 2 else 'other'}" for i in range(20)]
        (folder / "pairs" / f"{part}.tsv").write_text("\n".join(["text\thypothesis\tlabel", *pairs]) + "\n")
        moods = [json.dumps({"text": f"trade {i}", "label": "up" if i % 2 else "down"}) for i in range(20)]
        (folder / "mood" / f"{part}.jsonl").write_text("\n".join(moods) + "\n")
    return {"pairs": folder / "pairs", "mood": folder / "mood"}


def numpy_batches(batches: tf.data.Dataset, count: int) -> list[dict[str, np.ndarray]]:
    return list(batches.take(count).as_numpy_iterator())


def test_every_round_of_steps_has_the_shares_of_the_tasks():
    # 64 steps: 16 of a quarter; 6.4 of a tenth: 6 or 7; the rest, 41 or 42, is the corpus's.
    order = TaskOrder(make_run({"pairs": TASK, "mood": MOOD}))
    counts = np.array([np.bincount(order.of_round(number), minlength=3) for number in range(200)])
    assert counts.sum(axis=1).tolist() == [ROUND] * 200
    assert set(counts[:, 1]) == {16}
    assert set(counts[:, 2]) == {6, 7}
    assert counts[:, 2].mean() == pytest.approx(6.4, abs=0.15)
    assert not np.array_equal(order.of_round(0), order.of_round(1))


def test_steps_before_a_step_are_counted_as_they_come():
    order = TaskOrder(make_run({"pairs": TASK, "mood": MOOD}))
    tasks = np.concatenate([order.of_round(number) for number in range(4)])
    for step in (0, 1, 63, 64, 65, 200):
        assert order.steps_before(step) == np.bincount(tasks[:step], minlength=3).tolist()
        assert list(order.from_step(step).take(20).as_numpy_iterator()) == tasks[step : step + 20].tolist()


def test_the_order_is_another_one_for_another_seed():
    run = make_run({"pairs": TASK})
    other = run.model_copy(update={"seed": 2})
    assert not np.array_equal(TaskOrder(run).of_round(0), TaskOrder(other).of_round(0))


def test_each_step_holds_the_next_batch_of_its_task_and_resuming_is_asking_for_a_step(train, tmp_path):
    run = make_run({"pairs": TASK, "mood": MOOD})
    tables = data.read_tables(write_tables(tmp_path), run)
    batches = numpy_batches(data.mixed_batches(train, tables, run), 20)
    corpus = data.pretraining_batches(train, run).as_numpy_iterator()
    pairs = data.labelled_batches(tables["pairs"].train, train.tokenizer, run, training=True).as_numpy_iterator()
    for task, batch in zip(TaskOrder(run).of_round(0), batches, strict=False):
        weights = [batch[name].sum() for name in ("masked_weights", "pairs_weights", "mood_weights")]
        assert (np.array(weights) > 0).tolist() == [task == 0, task == 1, task == 2]
        if task == 0:
            for name, expected in next(corpus).items():
                np.testing.assert_array_equal(batch[name], expected)
        if task == 1:
            for name, expected in next(pairs).items():
                np.testing.assert_array_equal(batch[name], expected)
            assert set(batch["token_type_ids"].ravel()) == {0, 1}
        if task > 0:  # no padding but to a multiple of 16, and no masked slot
            assert batch["token_ids"].shape[1] == 16
            assert batch["masked_positions"].shape == (4, 0)
            assert batch["pair_weights"].sum() == 0
            assert batch["position_ids"][3].tolist() == list(range(16))
    resumed = numpy_batches(data.mixed_batches(train, tables, run, start_step=17), 3)
    for ours, theirs in zip(resumed, batches[17:], strict=True):
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_evaluation_judges_the_corpus_and_then_each_table(corpus, tmp_path):
    run = make_run({"pairs": TASK, "mood": MOOD})
    tables = data.read_tables(write_tables(tmp_path), run)
    batches = list(data.mixed_batches(corpus.split("held_out"), tables, run).as_numpy_iterator())
    # 6 rows each, 4 a batch.
    for name, batches_of in (("masked_weights", (0, 1)), ("pairs_weights", (2, 3)), ("mood_weights", (4, 5))):
        rows = [(batch[name].reshape(4, -1).max(axis=-1, initial=0) > 0).sum() for batch in batches]
        assert sum(rows) == 6
        assert [number for number, count in enumerate(rows) if count] == list(batches_of)


def test_an_epoch_lasts_longer_by_the_steps_of_the_tasks(train):
    plain = data.steps_per_epoch(train, make_run({}))
    assert data.mixed_steps_per_epoch(train, make_run({"pairs": TASK})) == round(plain / 0.75)


def test_folders_that_are_missing_too_many_or_wrong_are_named(tmp_path):
    folders = write_tables(tmp_path)
    run = make_run({"pairs": TASK})
    with pytest.raises(ConfigError, match=r"mix.pairs: no folder is given for it. Give --labelled pairs=FOLDER"):
        data.read_tables({}, run)
    with pytest.raises(ConfigError, match=r"no task 'mood' in the run's mix \(there are: pairs\)"):
        data.read_tables(folders, run)
    with pytest.raises(DataError, match=r"mix.pairs: .*train.jsonl:1: no column 'hypothesis'"):
        data.read_tables({"pairs": folders["mood"]}, run)
    (folders["pairs"] / "validation.tsv").unlink()
    with pytest.raises(DataError, match=r"mix.pairs: .* holds 0 files validation.tsv, .csv or .jsonl; it needs one"):
        data.read_tables({"pairs": folders["pairs"]}, run)


@pytest.mark.skipif("KERASLLM_DATA" not in os.environ, reason="KERASLLM_DATA names no folder of real data")
def test_chinese_inference_pairs_are_read_as_they_are(train, tmp_path):
    source = Path(os.environ["KERASLLM_DATA"]) / "fewclue" / "ocnli"
    (tmp_path / "train.jsonl").write_bytes((source / "train_few_all.jsonl").read_bytes())
    (tmp_path / "validation.jsonl").write_bytes((source / "dev_few_all.jsonl").read_bytes())
    task = {
        "text_column": "sentence1",
        "second_text_column": "sentence2",
        "labels": ["contradiction", "entailment", "neutral"],
        "share": 0.5,
    }
    run = make_run({"inference": task})
    tables = data.read_tables({"inference": tmp_path}, run)
    lines = (source / "train_few_all.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(tables["inference"].train) == len(lines)
    assert tables["inference"].train.texts[0] == json.loads(lines[0])["sentence1"]
    assert tables["inference"].train.second[0] == json.loads(lines[0])["sentence2"]
    assert sorted(set(tables["inference"].train.labels["inference"])) == [0, 1, 2]
    batches = numpy_batches(data.mixed_batches(train, tables, run), 8)
    assert {bool(batch["inference_weights"].sum()) for batch in batches} == {True, False}
