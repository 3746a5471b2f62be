"""From probes to a plan and back: which choice is taken, how many steps fit, what became of it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from apps.pretrain import planning
from apps.pretrain.planning import Probe
from kerasllm.config import Run, Train, make_run
from kerasllm.errors import ConfigError


def probe(**changes: Any) -> Probe:
    """A step of 2 seconds with 100 tokens; 10 s to start, an evaluation of 4 s, a checkpoint of 1 s."""
    values: dict[str, Any] = {
        "global_batch": 8, "accumulation": 1, "step_s": (2.0, 2.0, 2.0), "tokens_per_step": 100.0, "start_s": 10.0,
        "evaluation_s": 4.0, "checkpoint_s": 1.0, "peak_memory_gb": 1.0,
    }  # fmt: skip
    return Probe(**{**values, **changes})


def run(**train: Any) -> Run:
    return make_run({"train": {"global_batch": 8, "evaluate_every": 10, "checkpoint_every": 4, "steps": 5, **train}})


def test_half_and_twice_the_batch_are_probed_fewest_rows_at_once_first() -> None:
    assert planning.choices(Train(steps=1, global_batch=8), 1) == [(4, 1), (8, 2), (8, 1), (16, 2), (16, 1)]


def test_choices_divide_over_replicas_and_slices() -> None:
    assert planning.choices(Train(steps=1, global_batch=6, accumulation=3), 2) == [(6, 3), (12, 6), (12, 3)]


def test_the_fastest_choice_that_fits_into_memory_is_taken() -> None:
    slow, fast, large = (
        probe(),
        probe(global_batch=16, step_s=(3.0,) * 3, tokens_per_step=200.0),
        probe(global_batch=32, tokens_per_step=400.0, peak_memory_gb=9.0),
    )
    assert planning.choose([slow, fast, large], 8, memory_gb=8.0) is fast
    assert planning.choose([slow, fast, large], 8, memory_gb=9.0) is large


def test_the_configured_batch_and_then_less_memory_win_among_choices_that_are_about_as_fast() -> None:
    twice = probe(global_batch=16, tokens_per_step=104.0)
    whole, sliced = probe(), probe(accumulation=2, tokens_per_step=99.0, peak_memory_gb=0.8)
    assert planning.choose([sliced, whole, twice], 8, memory_gb=8.0) is sliced


def test_when_nothing_fits_into_memory_it_is_said_how_much_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"needs 1\.00 GB, there are 0\.50\. Lower train\.global_batch"):
        planning.choose([probe()], 8, memory_gb=0.5)


def test_a_run_takes_its_start_its_steps_its_evaluations_and_its_checkpoints() -> None:
    # 25 steps: evaluated at 10, 20, 25; saved at 4, 8, 10, 12, 16, 20, 24, 25. 10 + 25 * 2 + 3 * 4 + 8 * 1.
    assert planning.seconds_of(probe(), run().train, 25) == 80


def test_the_steps_that_fit_use_up_the_budget_and_not_more() -> None:
    train = run().train
    assert planning.steps_that_fit(probe(), train, 80.0) == 25
    assert planning.steps_that_fit(probe(), train, 79.9) == 24
    steps = planning.steps_that_fit(probe(), train, 3600.0)
    assert planning.seconds_of(probe(), train, steps) <= 3600 < planning.seconds_of(probe(), train, steps + 1)


def test_a_budget_without_a_single_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="ends before a first step does.* take 17 s"):
        planning.steps_that_fit(probe(), run().train, 16.0)


def test_an_unsteady_probe_is_less_sure_and_none_is_surer_than_five_percent() -> None:
    assert probe().error_share == 0.05
    assert probe(step_s=(1.0, 3.0)).error_share == pytest.approx(1.0)  # 2 * (sqrt(2) / sqrt(2)) / 2
    assert probe(step_s=(2.0,)).error_share == 1.0


def test_a_plan_says_what_it_predicts_and_which_flags_follow_it() -> None:
    plan = planning.make_plan(run(steps=None, epochs=3), [probe()], 80.0, memory_gb=8.0)
    assert planning.set_lines(plan) == [
        "--set train.global_batch=8", "--set train.accumulation=1", "--set train.steps=25", "--set train.epochs=null",
    ]  # fmt: skip
    assert plan["predicted"] == {
        "minutes": pytest.approx(80 / 60), "tokens": 2500, "tokens_per_s": pytest.approx(31.25), "peak_memory_gb": 1.0,
    }  # fmt: skip
    text = planning.format_plan(plan)
    assert "<- chosen" in text
    assert "25 steps: 1.3 minutes, 2,500 tokens, 31 tokens/s all in all, 1.00 GB" in text
    assert "How sure: 1.3 to 1.4 minutes" in text
    assert "start takes 10.0 s, each evaluation 4.0 s, each checkpoint 1.0 s" in text


def test_the_start_is_that_of_the_probe_that_also_started_tensorflow() -> None:
    first, second = probe(start_s=12.0, step_s=(9.0, 9.0)), probe()
    plan = planning.make_plan(run(), [first, second], 80.0, memory_gb=8.0)
    assert plan["costs"] == {"start_s": 12.0, "evaluation_s": 4.0, "checkpoint_s": 1.0}
    assert plan["settings"]["train.steps"] == 24  # 12 + 24 * 2 + 3 * 4 + 7 * 1 = 79; one more takes 82


def test_predicted_stands_beside_got() -> None:
    plan = planning.make_plan(run(), [probe()], 80.0, memory_gb=8.0)
    ledger = {
        "wall_clock_s": 100.0, "work": {"tokens": 2500.0}, "whole_run": {"tokens_per_s": 25.0},
        "peak_memory_bytes": 1_500_000_000,
    }  # fmt: skip
    compared = planning.compare(plan, ledger)
    assert compared["tokens_per_s"] == {"predicted": pytest.approx(31.25), "got": 25.0}
    assert [" ".join(line.split()) for line in planning.format_comparison(compared).splitlines()] == [
        "the plan predicted got",
        "minutes 1.33 1.67 +25.0%",
        "tokens 2,500 2,500 +0.0%",
        "tokens/s 31 25 -20.0%",
        "peak memory, GB 1.00 1.50 +50.0%",
    ]


def test_a_plan_comes_back_from_its_file_and_is_only_for_the_run_it_was_made_for(tmp_path: Path) -> None:
    plan = planning.make_plan(run(), [probe()], 80.0, memory_gb=8.0)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan))
    assert planning.read_plan(path, run(steps=25)) == {
        **plan,
        "probes": [{**dataclasses.asdict(probe()), "step_s": [2.0] * 3}],
    }
    with pytest.raises(ConfigError, match=r"is for train\.steps=25, this run says 24.*--set train\.global_batch=8"):
        planning.read_plan(path, run(steps=24))


@pytest.mark.parametrize("text", [None, "", "[]", '{"format_version": 7, "settings": {}, "predicted": {}}'])
def test_a_file_that_is_no_plan_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "plan.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"plan\.json cannot be read .*Make it with apps\.pretrain\.plan"):
        planning.read_plan(path, run())
