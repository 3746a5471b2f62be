"""The loop's promises: it goes on where it stopped, stops when it must, and keeps what is good."""

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import config, losses, models, text, training
from kerasllm.errors import ConfigError, TrainingError
from kerasllm.training.actions import Action
from kerasllm.training.ledger import Ledger
from kerasllm.training.progress import format_look
from kerasllm.training.window import Window


class StopAt(Action):
    """Sends this process a signal before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def before_step(self, trainer: Any, step: int) -> None:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


class Record(Action):
    """Remembers which events came."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []

    def on_start(self, trainer: Any, step: int) -> None:
        self.events.append(("start", step))

    def on_log(self, trainer: Any, step: int, metrics: Any) -> None:
        self.events.append(("log", step))

    def on_evaluate(self, trainer: Any, step: int, metrics: Any) -> None:
        self.events.append(("evaluate", step))

    def on_checkpoint(self, trainer: Any, step: int, checkpoint: Any) -> None:
        self.events.append(("checkpoint", step))

    def on_end(self, trainer: Any, step: int) -> None:
        self.events.append(("end", step))


def test_a_run_that_was_stopped_and_started_again_equals_the_unbroken_one_bit_for_bit(
    tmp_path: Path, tiny: Any
) -> None:
    unbroken = tiny.make_trainer(tmp_path / "unbroken", dropout=0.3)
    unbroken.fit(tiny.batches_from, 12, tiny.held_out_batches)
    stopped = tiny.make_trainer(tmp_path / "broken", dropout=0.3, actions=(StopAt(6),))
    results = stopped.fit(tiny.batches_from, 12, tiny.held_out_batches)
    assert (stopped.stopped, results["step"]) == (True, 7)
    resumed = tiny.make_trainer(tmp_path / "broken", dropout=0.3)
    resumed.fit(tiny.batches_from, 12, tiny.held_out_batches)
    for ours, theirs in zip(tiny.weights_of(resumed), tiny.weights_of(unbroken), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert resumed.held_out_metrics == unbroken.held_out_metrics


def test_dropout_is_at_work_in_these_tests(tmp_path: Path, tiny: Any) -> None:
    losses = []
    for dropout in (0.0, 0.3):
        trainer = tiny.make_trainer(tmp_path / str(dropout), dropout=dropout)
        losses.append(trainer.fit(tiny.batches_from, 4)["train"]["loss"])
    assert losses[0] != losses[1]


def test_a_signal_ends_after_the_step_and_gives_the_old_handler_back(tmp_path: Path, tiny: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    record = Record()
    trainer = tiny.make_trainer(tmp_path, actions=(StopAt(2), record))
    trainer.fit(tiny.batches_from, 12)
    assert record.events == [("start", 0), ("log", 2), ("log", 3), ("checkpoint", 3), ("end", 3)]
    assert signal.getsignal(signal.SIGTERM) is before
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000003"]


def test_events_come_in_order_and_at_their_steps(tmp_path: Path, tiny: Any) -> None:
    record = Record()
    run = tiny.make_run(train_log_every=4, train_evaluate_every=3, train_checkpoint_every=5)
    tiny.make_trainer(tmp_path, run, actions=(record,)).fit(tiny.batches_from, 7, tiny.held_out_batches)
    # Step 3 and 6 are saved as the best so far, 5 is due, 7 is the last.
    assert [event for event in record.events if event[0] != "checkpoint"] == [
        ("start", 0), ("evaluate", 3), ("log", 4), ("evaluate", 6), ("log", 7), ("evaluate", 7), ("end", 7),
    ]  # fmt: skip
    assert {("checkpoint", 3), ("checkpoint", 5), ("checkpoint", 7)} <= set(record.events)


def test_three_bad_steps_in_a_row_stop_the_run_and_the_good_checkpoint_stays(tmp_path: Path, tiny: Any) -> None:
    def spoil(batch: dict, step: int) -> None:
        if step in (1, 7, 8, 9):
            batch["label_weights"][5, 0] = math.inf

    trainer = tiny.make_trainer(tmp_path)
    with pytest.raises(TrainingError, match=r"steps 7, 8, 9: .* not finite 3 times .*step-00000006"):
        trainer.fit(lambda start: tiny.batches_from(start, spoil), 12)
    assert trainer.train_metrics["skipped_steps"] == 2  # steps 1 and 7, at the look after step 8
    good = tiny.make_trainer(tmp_path)
    assert good.fit(tiny.batches_from, 12)["step"] == 12
    assert all(np.all(np.isfinite(weight)) for weight in tiny.weights_of(good))


def test_a_weight_that_is_not_finite_stops_the_run_and_is_named(tmp_path: Path, tiny: Any) -> None:
    class Break(Action):
        def before_step(self, trainer: Any, step: int) -> None:
            if step == 7:
                trainer.model.head.bias.assign([0.0, math.nan, 0.0])

    trainer = tiny.make_trainer(tmp_path, actions=(Break(),))
    with pytest.raises(TrainingError, match=r"head/bias.* not finite after steps 6 to 8\. .*step-00000006"):
        trainer.fit(tiny.batches_from, 12)


def test_data_that_ends_early_is_named(tmp_path: Path, tiny: Any) -> None:
    with pytest.raises(TrainingError, match="the data ended at step 3 of 12"):
        tiny.make_trainer(tmp_path).fit(lambda start: tiny.batches_from(start).take(3), 12)


def test_held_out_metrics_are_means_over_all_real_targets_whatever_the_replicas(tmp_path: Path, tiny: Any) -> None:
    results = []
    for replicas in (1, 2, 3):
        trainer = tiny.make_trainer(tmp_path / str(replicas), replicas=replicas)
        trainer.prepare(1)
        results.append(trainer.evaluate(tiny.held_out_batches()))
    model = tiny.build_tagger()
    right = count = 0.0
    for step in (1000, 1001):
        batch = tiny.make_batch(step)
        guess = np.argmax(model({"token_ids": batch["token_ids"]})["logits"], -1)
        right += np.sum((guess == batch["labels"]) * batch["label_weights"])
        count += np.sum(batch["label_weights"])
    for result in results:
        assert result["tag_accuracy"] == pytest.approx(right / count, rel=1e-6)
        assert result["loss"] == pytest.approx(results[0]["loss"], rel=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_last_batch_of_few_rows_is_counted_whole_by_three_replicas(tmp_path: Path, tiny: Any, rows: int) -> None:
    def batches() -> Any:
        return tiny.held_out_batches().unbatch().take(tiny.ROWS + rows).batch(tiny.ROWS)

    results = []
    for replicas in (1, 3):
        trainer = tiny.make_trainer(tmp_path / str(replicas), replicas=replicas)
        trainer.prepare(1)
        results.append(trainer.evaluate(batches()))
    assert results[1] == pytest.approx(results[0], rel=1e-6)


def test_a_run_in_mirrored_form_goes_on_on_one_device_and_the_other_way_round(tmp_path: Path, tiny: Any) -> None:
    unbroken = tiny.make_trainer(tmp_path / "unbroken")
    unbroken.fit(tiny.batches_from, 12)
    for first, second in ((2, 1), (1, 3)):
        workdir = tmp_path / f"{first}-{second}"
        tiny.make_trainer(workdir, replicas=first, actions=(StopAt(5),)).fit(tiny.batches_from, 12)
        resumed = tiny.make_trainer(workdir, replicas=second)
        resumed.fit(tiny.batches_from, 12)
        for ours, theirs in zip(tiny.weights_of(resumed), tiny.weights_of(unbroken), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_finished_run_started_again_only_evaluates(tmp_path: Path, tiny: Any) -> None:
    first = tiny.make_trainer(tmp_path).fit(tiny.batches_from, 6, tiny.held_out_batches)
    again = tiny.make_trainer(tmp_path).fit(tiny.batches_from, 6, tiny.held_out_batches)
    assert again["held_out"] == first["held_out"]
    assert json.loads((tmp_path / "metrics.json").read_text())["step"] == 6


def test_another_configuration_in_the_same_workdir_is_refused_with_the_difference(tmp_path: Path, tiny: Any) -> None:
    tiny.make_trainer(tmp_path)
    with pytest.raises(ConfigError, match=r"optimizer.peak_learning_rate: 0.02 -> 0.5(.|\n)*Give a new --workdir"):
        tiny.make_trainer(tmp_path, tiny.make_run(optimizer_peak_learning_rate=0.5))
    tiny.make_trainer(tmp_path)


def test_a_workdir_that_cannot_be_written_is_named_before_training(tmp_path: Path, tiny: Any) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="file.* cannot be written"):
        tiny.make_trainer(tmp_path / "file" / "workdir")


def test_two_runs_cannot_train_in_one_workdir(tmp_path: Path, tiny: Any) -> None:
    trainer = tiny.make_trainer(tmp_path)
    with trainer.workdir.locked(), pytest.raises(TrainingError, match="another process trains here"):
        tiny.make_trainer(tmp_path).fit(tiny.batches_from, 2)
    assert tiny.make_trainer(tmp_path).fit(tiny.batches_from, 2)["step"] == 2


def test_the_window_sums_good_steps_and_remembers_bad_ones() -> None:
    window = Window(Ledger())
    names = ("loss", "tokens", "slots", "gradient_norm", "learning_rate", "skipped")
    for step, row in enumerate([[1, 10, 40, 2, 0.1, 0], [math.nan, 10, 40, math.inf, 0.2, 1], [3, 20, 40, 4, 0.3, 0]]):
        window.add(step, np.array(row, np.float32).view(Row), names)
    sums, rates = window.close()
    assert (sums["loss"], sums["tokens"], window.skipped_steps, window.skips_in_a_row) == (4, 30, [1], 0)
    assert rates["padding_share"] == pytest.approx(1 - 30 / 80)
    assert rates["gradient_norm"] == pytest.approx(3)
    assert rates["learning_rate"] == pytest.approx(0.3)


class Row(np.ndarray):
    """An array that can be asked for its numbers as a tensor is."""

    def numpy(self) -> np.ndarray:
        return np.asarray(self)


def test_looks_stand_below_each_other() -> None:
    metrics = {"loss": 7.5, "masked_lm_accuracy": 0.01, "learning_rate": 1e-4, "gradient_norm": 1.0}
    early = format_look(5, 1000, metrics, "train", 60.0)
    late = format_look(1000, 1000, {**metrics, "loss": 12.25, "masked_lm_accuracy": 1.0}, "train", 0.0)
    assert early == "train       5/1000  loss   7.5000  masked_lm   1.0%  rate 1.00e-04  norm   1.000  left 01:00"
    assert len(early) == len(late)


def test_new_weights_are_the_runs_own_and_a_sentencepiece_tokenizer_made_before_still_works(tmp_path: Path) -> None:
    tokenizer = text.train_sentencepiece(["Profits rose. 公司利润增长。"] * 9, 290)
    backbone = {"architecture": "gpt", "num_layers": 1, "hidden_dim": 16, "num_heads": 2, "max_length": 16}
    run = config.make_run(
        {
            "backbone": backbone,
            "objective": {"task": "gpt_pretraining"},
            "train": {"steps": 1, "sequence_length": 16},
            "export": {"sequence_length": 16},
        }
    )
    strategy, first = training.make_strategy("one_device"), []
    for name in ("one", "two"):
        trainer = training.Trainer(
            lambda: models.from_run(run, tokenizer.vocab_size), losses.heads_for(run), run, tmp_path / name, strategy
        )
        trainer.prepare(1)
        first.append(trainer.model.get_weights())
    for one, two in zip(*first, strict=True):
        np.testing.assert_array_equal(one, two)
    texts = tf.constant(["Profits rose. 公司利润增长。"])
    assert tokenizer.detokenize(tokenizer.tokenize(texts)).numpy().tolist() == texts.numpy().tolist()
