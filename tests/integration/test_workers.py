"""Do several processes train as one? Who writes, what happens when one is lost, and how the run goes on."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import config, training
from kerasllm.training.step import TrainStep
from tests.integration.processes import Process, free_addresses
from tests.unit.data.conftest import document
from tests.unit.training.conftest import TAG, batches_from, build_tagger, held_out_batches

STEPS = 8
WRITES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")  # audit events


def make_run(addresses: list[str]) -> config.Run:
    several = {"strategy": "multi_worker_mirrored"} if addresses else {}
    train = {"steps": STEPS, "global_batch": 12, "log_every": 2, "evaluate_every": 4, "checkpoint_every": 4}
    return config.make_run(
        {
            "train": {**train, **several, "accumulation": 2},
            "optimizer": {"peak_learning_rate": 0.02, "warmup_share": 0.0, "decay": "constant"},
            "cluster": {"workers": addresses},
        }
    )


def train(
    workdir: Path, addresses: list[str], index: int, dropout: float, at_step: dict[int, int] | None = None
) -> dict[str, Any]:
    """One worker's part of a run, or without addresses the whole of it; `at_step`: the signal it gets before a step."""
    run = make_run(addresses)
    strategy = training.make_strategy(run.train.strategy, cluster=run.cluster, worker_index=index)
    written = _watch_writing(workdir)
    trainer = training.Trainer(lambda: build_tagger(dropout), (TAG,), run, workdir, strategy, [training.TensorBoard()])
    threads = _watch_steps(at_step or {})
    results = trainer.fit(batches_from, STEPS, held_out_batches)
    weights = [one.numpy() for one in (*trainer.model.variables, *trainer.optimizer.variables)]
    return {**results, "weights": weights, "is_chief": trainer.is_chief, "written": written, "threads": threads}


def _watch_writing(folder: Path) -> list[str]:
    """A list that grows by each file or folder below `folder` that this process makes, changes or removes."""
    written: list[str] = []

    def watch(event: str, details: tuple[Any, ...]) -> None:
        reads = event == "open" and not (isinstance(details[1], str) and set(details[1]) & set("wax+"))
        if event in WRITES and not reads and str(details[0]).startswith(str(folder)):
            written.append(f"{event} {details[0]}")

    sys.addaudithook(watch)
    return written


def _watch_steps(at_step: dict[int, int]) -> list[int]:
    """Sends this process its signals before the steps; a list that grows by its number of threads before each step."""
    call, threads = TrainStep.__call__, []

    def call_after_signal(self: TrainStep, batch: Any, step: int) -> tf.Tensor:
        threads.append(len(os.listdir("/proc/self/task")))
        if step in at_step:
            os.kill(os.getpid(), at_step[step])
        return call(self, batch, step)

    TrainStep.__call__ = call_after_signal  # type: ignore[method-assign]
    return threads


def in_two_workers(
    workdir: Path, dropout: float = 0.3, at_step: tuple[dict[int, int], dict[int, int]] = ({}, {})
) -> list[tuple[str, Any]]:
    """How each of two workers ended."""
    addresses = free_addresses(2)
    with (
        Process(train, workdir, addresses, 0, dropout, at_step[0]) as chief,
        Process(train, workdir, addresses, 1, dropout, at_step[1]) as other,
    ):
        return [chief.outcome(), other.outcome()]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A run of two workers to its end: its workdir, and what each worker says of it."""
    workdir = tmp_path_factory.mktemp("workers") / "unbroken"
    outcomes = in_two_workers(workdir)
    assert [kind for kind, _ in outcomes] == ["returned", "returned"], outcomes
    return workdir, [results for _, results in outcomes]


def assert_same(ours: list[np.ndarray], theirs: list[np.ndarray], check: Callable[..., None], **how: Any) -> None:
    for one, two in zip(ours, theirs, strict=True):
        check(one, two, **how)


def test_two_workers_end_with_the_same_weights_and_only_the_chief_writes(unbroken: Any) -> None:
    workdir, (chief, other) = unbroken
    assert_same(chief["weights"], other["weights"], np.testing.assert_array_equal)
    assert (chief["is_chief"], other["is_chief"]) == (True, False)
    assert chief["held_out"] == other["held_out"]
    assert max(chief["threads"]) < chief["threads"][2] + 8, "each step leaves threads behind"
    assert any("checkpoints" in line for line in chief["written"])
    assert other["written"] == []
    assert len(list(workdir.rglob("events.out.tfevents.*"))) == 2  # train and held_out, of one process
    assert [one.step for one in training.CheckpointFolder(workdir / "checkpoints").all()][-1] == STEPS


def test_a_killed_worker_ends_the_others_with_our_error_and_all_go_on_exactly(tmp_path: Path, unbroken: Any) -> None:
    chief, other = in_two_workers(tmp_path, at_step=({}, {5: signal.SIGKILL}))
    assert other == ("died", -signal.SIGKILL)
    assert chief[0] == "raised"
    assert "TrainingError: worker 0 of 2 stops, because another worker is lost" in chief[1]
    assert "Start all of them again" in chief[1]
    assert training.find_checkpoint(tmp_path, "newest").step == 4
    outcomes = in_two_workers(tmp_path)
    assert [kind for kind, _ in outcomes] == ["returned", "returned"], outcomes
    assert_same(outcomes[0][1]["weights"], unbroken[1][0]["weights"], np.testing.assert_array_equal)


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_all_of_them_at_one_step_and_the_state_is_kept(
    tmp_path: Path, unbroken: Any
) -> None:
    outcomes = in_two_workers(tmp_path, at_step=({}, {2: signal.SIGTERM}))
    assert [kind for kind, _ in outcomes] == ["returned", "returned"], outcomes
    assert [(results["step"], results["stopped"]) for _, results in outcomes] == [(4, True), (4, True)]
    outcomes = in_two_workers(tmp_path)
    assert_same(outcomes[1][1]["weights"], unbroken[1][0]["weights"], np.testing.assert_array_equal)


@pytest.mark.slow
def test_a_frozen_worker_ends_the_others_as_a_killed_one_does(tmp_path: Path) -> None:
    addresses = free_addresses(2)
    with (
        Process(train, tmp_path, addresses, 0, 0.3) as chief,
        Process(train, tmp_path, addresses, 1, 0.3, {5: signal.SIGSTOP}),
    ):
        kind, error = chief.outcome()
    assert kind == "raised"
    assert "TrainingError: worker 0 of 2 stops, because another worker is lost" in error


@pytest.mark.slow
def test_another_number_of_workers_goes_on_with_the_same_records_when_the_chief_is_lost(tmp_path: Path) -> None:
    chief, other = in_two_workers(tmp_path / "broken", 0.0, ({5: signal.SIGKILL}, {}))
    assert chief == ("died", -signal.SIGKILL)
    assert "TrainingError: worker 1 of 2 stops, because another worker is lost" in other[1]
    with Process(train, tmp_path / "broken", [], 0, 0.0) as alone:
        ours = alone.result()
    with Process(train, tmp_path / "whole", [], 0, 0.0) as whole:
        theirs = whole.result()
    assert_same(ours["weights"], theirs["weights"], np.testing.assert_allclose, atol=1e-5)


@pytest.mark.slow
def test_workers_that_do_not_see_the_same_folder_say_so(tmp_path: Path, unbroken: Any) -> None:
    addresses = free_addresses(2)
    with (
        Process(train, unbroken[0], addresses, 0, 0.3) as chief,
        Process(train, tmp_path / "elsewhere", addresses, 1, 0.3) as other,
    ):
        outcomes = [chief.outcome(), other.outcome()]
    for number, step in ((0, STEPS), (1, 0)):
        assert f"this worker would go on from step {step}, another one from another step" in outcomes[number][1]


@pytest.mark.slow
def test_the_program_trains_with_two_processes_and_ends_when_one_is_killed(tmp_path: Path) -> None:
    draw = random.Random(5)
    (tmp_path / "text.txt").write_text("\n".join(f"<DOC> {one}\n{document(draw, 'alpha')}" for one in range(80)))
    settings = [
        *("tokenizer.vocab_size=300", "data.held_out_share=0.2", "train.epochs=null", "train.steps=400"),
        *("train.sequence_length=16", "train.global_batch=4", "train.log_every=1", "train.checkpoint_every=20"),
        *("backbone.num_layers=1", "backbone.hidden_dim=16", "backbone.num_heads=2", "train.evaluation_rows=4"),
    ]
    flags = [f"--set={setting}" for setting in settings]
    corpus = tmp_path / "corpus"
    prepare = ["apps.pretrain.prepare", f"--input=doc_marker:{tmp_path}/text.txt", f"--output={corpus}", *flags]
    subprocess.run([sys.executable, "-m", *prepare], check=True, capture_output=True)
    flags += ["--set=train.strategy=multi_worker_mirrored", f"--set=cluster.workers=[{', '.join(free_addresses(2))}]"]
    train = [sys.executable, "-m", "apps.pretrain.train", f"--corpus={corpus}", f"--workdir={tmp_path / 'run'}", *flags]
    first, second = (
        subprocess.Popen(
            [*train, f"--worker_index={index}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for index in (0, 1)
    )
    try:
        assert second.stderr is not None
        next(line for line in second.stderr if "train " in line)  # both are training
        second.kill()
        _, errors = first.communicate(timeout=120)
    finally:
        first.kill()
        second.communicate()
    assert first.returncode == 1, errors[-3000:]
    assert "error: worker 0 of 2 stops, because another worker is lost" in errors
