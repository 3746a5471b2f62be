"""Where the time goes: each tick of the clock is booked once, and nothing is lost over several processes."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kerasllm import config, training
from kerasllm.errors import TrainingError
from kerasllm.training import loop
from kerasllm.training.flops import ModelFlops
from kerasllm.training.ledger import NANO, Ledger
from kerasllm.training.progress import format_ledger
from kerasllm.training.step import count_tokens


class Clock:
    """Stands where it is set, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> int:
        return round(self.seconds * NANO)


def ticks() -> Iterator[int]:
    """A clock that goes on by one whenever it is read, so that sums over a real run are exact."""
    count = 0
    while True:
        yield count
        count += 1


def numbers(tokens: float = 0.0, slots: float = 0.0, skipped: float = 0.0, **more: float) -> dict[str, float]:
    return {"tokens": tokens, "slots": slots, "skipped": skipped, **more}


def test_time_is_booked_on_the_innermost_entry_and_adds_up() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    clock.seconds = 1  # other: 0 to 1
    with ledger.spending("evaluation"):
        clock.seconds = 3  # evaluation: 1 to 3, and 7 to 8
        with ledger.spending("training"):
            clock.seconds = 7  # training: 3 to 7
        clock.seconds = 8
    clock.seconds = 10  # other: 8 to 10
    summary = ledger.summary()
    assert summary["seconds"] == {
        "training": 4, "input_wait": 0, "tracing": 0, "checkpoint": 0, "evaluation": 3, "other": 3,
    }  # fmt: skip
    assert summary["wall_clock_s"] == 10
    assert summary["shares"]["evaluation"] == 0.3


def test_a_call_that_makes_a_graph_is_tracing_whole_and_its_outer_entry_goes_on() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    with ledger.spending("evaluation"):
        with ledger.spending("evaluation"):
            clock.seconds = 2
            ledger.tracing()
            clock.seconds = 5
        clock.seconds = 6
    assert ledger.summary()["seconds"]["tracing"] == 5
    assert ledger.summary()["seconds"]["evaluation"] == 1


def test_time_is_booked_also_when_something_fails_inside() -> None:
    clock = Clock()
    ledger = Ledger(clock)

    def fail() -> None:
        clock.seconds = 2
        raise StopIteration

    with pytest.raises(StopIteration), ledger.spending("input_wait"):
        fail()
    assert (ledger.entry, ledger.summary()["seconds"]["input_wait"]) == ("other", 2)


def test_training_is_divided_by_the_tokens_of_the_rows() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    with ledger.spending("training"):
        clock.seconds = 8
    ledger.book(0, numbers(tokens=10, slots=20), is_timed=True)
    ledger.book(0, numbers(tokens=20, slots=20), is_timed=True)
    ledger.book(0, numbers(tokens=99, slots=99, skipped=1), is_timed=True)  # taught nothing
    seconds = ledger.summary()["seconds"]
    assert (seconds["useful_tokens"], seconds["padding"]) == (6, 2)  # 30 of 40 slots
    assert "training" not in seconds
    assert ledger.summary()["work"] == {"steps": 2, "tokens": 30, "slots": 40, "flop": 0}


def test_a_step_that_made_a_graph_counts_for_the_run_but_not_for_the_rate() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    ledger.flops, ledger.matrix_product = lambda step: ModelFlops(15.0, {"words": 300.0}), 1000.0
    ledger.book(0, numbers(tokens=30, slots=40, **{"words/targets": 2}), is_timed=False)
    with ledger.spending("training"):
        clock.seconds = 3
    with ledger.spending("input_wait"):
        clock.seconds = 4
    with ledger.spending("checkpoint"):
        clock.seconds = 10
    ledger.book(0, numbers(tokens=30, slots=40, **{"words/targets": 2}), is_timed=True)
    # A step is 30 * 15 + 2 * 300 = 1050 operations; one of them in the 4 seconds of training, two in 10 in all.
    expected = {"tokens_per_s": 7.5, "useful_flops_per_s": 262.5, "matrix_product_share": 0.2625}
    assert ledger.rates() == {"steps_per_s": 0.25, **expected}
    summary = ledger.summary()
    assert summary["while_training"] == expected
    assert summary["whole_run"] == {"tokens_per_s": 6, "useful_flops_per_s": 210, "matrix_product_share": 0.21}
    assert ledger.rates() == {}, "nothing was done since the last look"


def test_a_later_process_goes_on_adding_up_and_a_killed_one_loses_what_it_had_not_written(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.json", Clock()
    killed = Ledger(clock)
    manager = killed.kept(path)
    manager.__enter__()
    with killed.spending("training"):
        clock.seconds = 4
    killed.book(0, numbers(tokens=3, slots=4), is_timed=True)
    killed.write(path)
    clock.seconds = 100  # not written
    second = Ledger(clock)
    with second.kept(path):
        with second.spending("training"):
            clock.seconds = 108
        second.book(0, numbers(tokens=1, slots=1), is_timed=True)
        assert second.rates()["steps_per_s"] == 1 / 8, "rates are of this process"
    summary = json.loads(path.read_text())
    assert (summary["processes"], summary["wall_clock_s"]) == (2, 12)
    assert summary["seconds"]["useful_tokens"] == pytest.approx(12 * 4 / 5)
    assert summary["seconds"]["padding"] == pytest.approx(12 / 5)
    assert summary["work"] == {"steps": 2, "tokens": 4, "slots": 5, "flop": 0}


@pytest.mark.parametrize("text", ["", "[]", '{"format_version": 9}', '{"format_version": 1, "work": {"hours": 1}}'])
def test_a_file_that_is_no_ledger_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "ledger.json").write_text(text)
    with pytest.raises(TrainingError, match=r"ledger\.json is not a ledger .*Remove it"):
        Ledger().kept(tmp_path / "ledger.json").__enter__()


def test_a_real_run_books_every_tick_and_says_so_everywhere(
    tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ticks()
    monkeypatch.setattr(loop, "Ledger", functools.partial(Ledger, clock=clock.__next__))
    trainer = tiny.make_trainer(tmp_path, actions=(training.TensorBoard(),))
    tagger, options = trainer.model_fn, config.Backbone(num_layers=1, hidden_dim=8, num_heads=2)

    def with_backbone() -> Any:
        model = tagger()
        model.__dict__["backbone"] = SimpleNamespace(options=options, vocab_size=tiny.NUM_WORDS)
        return model

    trainer.model_fn = with_backbone
    first = next(clock) + 1
    trainer.fit(tiny.batches_from, 12, tiny.held_out_batches)
    summary = json.loads((tmp_path / "ledger.json").read_text())
    seconds = {entry: round(spent * NANO) for entry, spent in summary["seconds"].items()}
    assert sum(seconds.values()) == round(summary["wall_clock_s"] * NANO) == next(clock) - 1 - first
    assert seconds["input_wait"] == 12, "one tick passes for each batch"
    assert seconds["tracing"] == 2, "one for the step's graph, one for the evaluation's"
    assert seconds["checkpoint"] == 2, "steps 6 and 12"
    tokens = sum(int(tiny.make_batch(step)["sequence_ids"].sum()) for step in range(12))
    assert summary["work"]["tokens"] == tokens
    assert summary["work"]["slots"] == 12 * tiny.ROWS * tiny.LENGTH
    assert summary["work"]["flop"] == trainer.ledger.flops(0).per_token * tokens
    assert summary["timed_work"]["steps"] == 11
    assert summary["matrix_product_flops_per_s"] > 0
    events = EventAccumulator(str(tmp_path / "tensorboard" / "train"), size_guidance={"tensors": 0}).Reload()
    tags = set(events.Tags()["tensors"])
    assert {f"ledger/{entry}" for entry in seconds} <= tags
    assert {"tokens_per_s", "useful_flops_per_s", "matrix_product_share"} <= tags


def test_the_table_at_the_end_has_a_line_for_each_entry_and_the_rates() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    ledger.flops, ledger.matrix_product = lambda step: ModelFlops(3e9, {}), 10e9
    with ledger.spending("training"):
        clock.seconds = 6
    clock.seconds = 8
    ledger.book(0, numbers(tokens=10, slots=20), is_timed=True)
    assert format_ledger(ledger.summary()).splitlines() == [
        "where the time went",
        "  useful tokens         3.0 s   37.5%",
        "  padding               3.0 s   37.5%",
        "  input wait            0.0 s    0.0%",
        "  tracing               0.0 s    0.0%",
        "  checkpoint            0.0 s    0.0%",
        "  evaluation            0.0 s    0.0%",
        "  other                 2.0 s   25.0%",
        "  all                   8.0 s  100.0%",
        "  10 tokens: 1 tokens/s, 2 while training",
        "  3.8 useful GFLOP/s, 5.0 while training: 37.5% and 50.0% of a matrix product's 10 GFLOP/s",
    ]


def test_tokens_are_counted_in_all_texts_of_a_batch_whatever_their_names() -> None:
    query, passage = np.array([[1, 1, 0], [1, 0, 0]]), np.array([[[1, 2], [0, 0]], [[1, 0], [1, 1]]])
    counted = count_tokens({"query_sequence_ids": query, "passage_sequence_ids": passage, "query_token_ids": query})
    assert {name: float(value) for name, value in counted.items()} == {"tokens": 3 + 5, "slots": 6 + 8}
    assert {name: float(value) for name, value in count_tokens({"history": query}).items()} == {"tokens": 0, "slots": 0}


def test_a_run_that_was_stopped_and_started_again_has_one_ledger(tmp_path: Path, tiny: Any) -> None:
    class Stop(training.Action):
        def before_step(self, trainer: Any, step: int) -> None:
            trainer.stopped = step == 4

    tiny.make_trainer(tmp_path, actions=(Stop(),)).fit(tiny.batches_from, 12)
    first = json.loads((tmp_path / "ledger.json").read_text())
    assert (first["processes"], first["work"]["steps"]) == (1, 5)
    tiny.make_trainer(tmp_path).fit(tiny.batches_from, 12)
    both = json.loads((tmp_path / "ledger.json").read_text())
    assert (both["processes"], both["work"]["steps"]) == (2, 12)
    assert both["work"]["tokens"] == sum(int(tiny.make_batch(step)["sequence_ids"].sum()) for step in range(12))
    assert all(both["seconds"][entry] > first["seconds"][entry] for entry in ("tracing", "checkpoint", "other"))
    assert sum(both["seconds"].values()) == pytest.approx(both["wall_clock_s"], rel=1e-9)
