"""Does a plan hold? Probes of a real corpus, the run that follows them, and both programs as a user runs them."""

import json
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from apps.pretrain import planning, task
from apps.pretrain.probing import Stopwatch, probe, probe_choices
from kerasllm import config, data, training

RUN = """
tokenizer: {vocab_size: 300}
data: {held_out_share: 0.2}
backbone: {num_layers: 1, hidden_dim: 16, num_heads: 2, max_length: 32}
train: {epochs: 2, global_batch: 8, sequence_length: 32, evaluation_rows: 8, log_every: 5}
export: {sequence_length: 32}
"""
WORDS = ["profit", "shares", "market", "company", "report", "growth", "bank", "trade", "price", "order", "plan", "year"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """run.yaml and corpus/, of random sentences."""
    base, rng = tmp_path_factory.mktemp("plan"), random.Random(5)
    (base / "run.yaml").write_text(RUN)
    documents = [
        f"<DOC> {i}\n" + " ".join(" ".join(rng.choices(WORDS, k=9)) + "." for _ in range(9)) for i in range(60)
    ]
    (base / "text.txt").write_text("\n".join(documents))
    data.prepare_corpus([str(base / "text.txt")], base / "corpus", config.load_run(base / "run.yaml"))
    return base


def test_a_probe_measures_what_a_run_then_takes(folder: Path, tmp_path: Path) -> None:
    run, corpus = config.load_run(folder / "run.yaml"), data.open_corpus(folder / "corpus")
    strategy = training.make_strategy("one_device")
    measured = probe(run, corpus, {}, strategy, seconds=0.1)
    assert len(measured.step_s) >= 3
    assert 0 < measured.tokens_per_step <= 8 * 32
    assert min(measured.start_s, measured.evaluation_s, measured.checkpoint_s) > 0
    plan = planning.make_plan(run, [measured], planning.seconds_of(measured, run.train, 6), memory_gb=1e9)
    settings = [line.removeprefix("--set ") for line in planning.set_lines(plan)]
    assert settings == [
        "train.global_batch=8", "train.accumulation=1", "train.steps=6", "train.epochs=null",
    ]  # fmt: skip
    planned = config.load_run(folder / "run.yaml", settings)
    trainer = task.make_trainer(planned, corpus, tmp_path, strategy)
    assert task.fit(trainer, corpus)["step"] == 6
    compared = planning.compare(plan, json.loads((tmp_path / "ledger.json").read_text()))
    assert compared["tokens"]["got"] == sum(
        int((batch["sequence_ids"].numpy() > 0).sum())
        for batch in data.pretraining_batches(corpus.split("train"), planned).take(6)
    )
    assert all(pair["got"] > 0 for pair in compared.values())


def test_choices_that_would_not_fit_into_memory_are_not_tried(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def pretend(run: config.Run, *_: object) -> planning.Probe:
        tried.append((run.train.global_batch, run.train.accumulation))
        rows = run.train.global_batch / run.train.accumulation
        return planning.Probe(*tried[-1], (1.0,), 1.0, 1.0, 1.0, 1.0, peak_memory_gb=before_gb + rows)

    before_gb = 2.0
    monkeypatch.setattr("apps.pretrain.probing.probe", pretend)
    monkeypatch.setattr("apps.pretrain.probing.peak_memory_bytes", lambda: before_gb * 1e9)
    run, corpus = config.load_run(folder / "run.yaml"), data.open_corpus(folder / "corpus")
    probe_choices(run, corpus, {}, training.make_strategy("one_device"), 1.0, memory_gb=12.0)
    assert tried == [(4, 1), (8, 2), (8, 1), (16, 2)]  # 16 rows at once would need 18


def test_steps_that_make_a_graph_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    moments, tracing = iter([0.0, 10.0, 11.0, 19.0, 21.0, 22.0, 24.0]), iter([0, 9, 9, 16, 16, 16, 16])
    trainer, watch = (
        SimpleNamespace(stopped=False, ledger=SimpleNamespace(booked=lambda _: next(tracing))),
        Stopwatch(5.0),
    )
    monkeypatch.setattr("apps.pretrain.probing.time.perf_counter", moments.__next__)
    stopped = []
    for step in range(7):
        watch.before_step(trainer, step)  # type: ignore[arg-type]
        stopped.append(trainer.stopped)
    assert stopped == [False] * 6 + [True]
    assert watch.step_s == [1.0, 2.0, 1.0, 2.0]  # not the first one, and not the third one, which made another graph


@pytest.mark.slow
def test_the_planner_s_lines_can_be_pasted_and_the_run_says_what_became_of_the_plan(folder: Path) -> None:
    def program(*command: str) -> subprocess.CompletedProcess:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done

    flags = ["--config", f"{folder}/run.yaml", "--corpus", f"{folder}/corpus", "--output", f"{folder}/plan.json"]
    planned = program(
        sys.executable, "-m", "apps.pretrain.plan", *flags, "--budget_minutes=600", "--probe_s=1", "--set=seed=3"
    )
    assert "How sure: " in planned.stdout
    command = planned.stdout.split("To train so:\n")[1].replace("WORKDIR", f"{folder}/run").replace("\\\n", " ")
    assert re.search(r"--set seed=3 --set train\.global_batch=\d+", command)
    plan = json.loads((folder / "plan.json").read_text())
    assert f"--set train.steps={plan['settings']['train.steps']} " in command
    plan["settings"]["train.steps"] = 6  # of ten hours' steps, for a test
    (folder / "plan.json").write_text(json.dumps(plan))
    command = re.sub(r"train\.steps=\d+", "train.steps=6", command)
    trained = program(sys.executable, *shlex.split(command)[1:])
    results = json.loads(trained.stdout)
    assert results["step"] == 6
    assert results["plan"]["minutes"]["predicted"] == plan["predicted"]["minutes"]
    assert "predicted" in trained.stderr
    assert "where the time went" in trained.stderr
