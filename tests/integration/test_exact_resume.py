"""Is a run that was killed at any moment, and started again, the unbroken one bit for bit?

A chain of processes trains in one workdir; every one but the last is killed with SIGKILL: before a step, at one of the
file operations of the checkpoints, or after some milliseconds, wherever it is then.
"""

import json
import os
import random
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasllm import config, data, losses, models, training
from kerasllm.training import Action
from tests.integration.processes import Process
from tests.unit.data.conftest import document

THREADS = 2
# The n-th step of the process, the n-th file operation in checkpoints/, or n milliseconds after its first step.
Kill = tuple[str, int]  # ("step", n), ("file", n), ("milliseconds", n) or ("never", 0)


def make_run(task: str, steps: int) -> config.Run:
    """Epochs of six to nine steps, packed rows, accumulation and dropout."""
    is_bert = task == "bert_pretraining"
    return config.make_run(
        {
            "tokenizer": {"vocab_size": 300},
            "data": {"held_out_share": 0.2},
            "backbone": {
                "architecture": "bert" if is_bert else "gpt", "num_layers": 1, "hidden_dim": 32, "num_heads": 2,
                "max_length": 64,
            },
            "objective": {"task": task},
            "export": {"sequence_length": 48},
            "optimizer": {"peak_learning_rate": 1.0e-3},
            "train": {
                "steps": steps, "sequence_length": 64, "global_batch": 8, "accumulation": 2, "pack": is_bert,
                "log_every": 1, "evaluate_every": 8, "evaluation_rows": 8, "checkpoint_every": 3, "keep_newest": 2,
            },
        }
    )  # fmt: skip


class WriteLosses(Action):
    """Each step's loss, in all its digits, as a line of a file, whatever happens to the process later."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(self, trainer: Any, step: int, metrics: Any) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps([step, float(metrics["loss"]).hex()]) + "\n")


class KillItself(Action):
    """SIGKILL at the moment that is asked for."""

    def __init__(self, kill: Kill) -> None:
        self.kind, self.number = kill
        self.steps = 0

    def on_start(self, trainer: Any, step: int) -> None:
        if self.kind == "file":
            operations = iter(range(self.number))
            folder = str(trainer.workdir.checkpoints)

            def watch(event: str, details: tuple[Any, ...]) -> None:
                is_one = event == "open" or event.startswith(("os.", "shutil."))
                if is_one and details and str(details[0]).startswith(folder) and next(operations, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(watch)

    def before_step(self, trainer: Any, step: int) -> None:
        self.steps += 1
        if self.kind == "step" and self.steps == self.number:
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.kind == "milliseconds" and self.steps == 2:  # the first one made the graph
            timer = threading.Timer(self.number / 1000, os.kill, (os.getpid(), signal.SIGKILL))
            timer.daemon = True
            timer.start()


def train(task: str, steps: int, corpus_folder: Path, workdir: Path, kill: Kill) -> tuple[int, list[np.ndarray]]:
    """A run, from wherever it stands, to its end: the steps of an epoch, and weights, slots and counters."""
    training.configure_devices(num_threads=THREADS)
    run, corpus = make_run(task, steps), data.open_corpus(corpus_folder)
    trainer = training.Trainer(
        lambda: models.from_run(run, corpus.tokenizer.vocab_size),
        losses.heads_for(run),
        run,
        workdir,
        training.make_strategy("one_device"),
        [WriteLosses(workdir.with_suffix(".losses")), KillItself(kill)],
    )
    rows = corpus.split("train")
    trainer.fit(
        lambda step: data.pretraining_batches(rows, run, start_step=step),
        steps,
        lambda: data.pretraining_batches(corpus.split("held_out"), run),
    )
    state = [one.numpy() for one in (*trainer.model.variables, *trainer.optimizer.variables)]
    return data.steps_per_epoch(rows, run), state


def losses_of(workdir: Path) -> dict[int, set[str]]:
    """The losses of each step: several, if several processes did it and did not agree."""
    found: dict[int, set[str]] = {}
    for line in workdir.with_suffix(".losses").read_text(encoding="utf-8").splitlines():
        step, loss = json.loads(line)
        found.setdefault(step, set()).add(loss)
    return found


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base, draw = tmp_path_factory.mktemp("resume"), random.Random(5)
    documents = [f"<DOC> {number}\n{document(draw, 'alpha')}" for number in range(90)]
    (base / "text.txt").write_text("\n".join(documents), encoding="utf-8")
    data.prepare_corpus([str(base / "text.txt")], base / "corpus", make_run("bert_pretraining", 1))
    return base / "corpus"


def check(task: str, steps: int, corpus_folder: Path, folder: Path, kills: list[Kill]) -> None:
    with Process(train, task, steps, corpus_folder, folder / "unbroken", ("never", 0)) as process:
        epoch, expected = process.result()
    assert steps > 2 * epoch, "the run is meant to go across epochs"
    for kill in kills:
        with Process(train, task, steps, corpus_folder, folder / "killed", kill) as process:
            outcome = process.outcome()
        came_too_late = kill[0] == "milliseconds" and outcome[0] == "returned"
        assert came_too_late or outcome == ("died", -signal.SIGKILL), outcome
    with Process(train, task, steps, corpus_folder, folder / "killed", ("never", 0)) as process:
        _, state = process.result()
    for ours, theirs in zip(state, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    found = losses_of(folder / "unbroken")
    assert list(found) == list(range(1, steps + 1))
    assert losses_of(folder / "killed") == found


def test_a_run_killed_in_a_step_and_in_a_checkpoint_goes_on_exactly(tmp_path: Path, corpus_folder: Path) -> None:
    check("bert_pretraining", 20, corpus_folder, tmp_path, [("step", 8), ("file", 8)])


@pytest.mark.slow
@pytest.mark.parametrize("task", ["bert_pretraining", "gpt_pretraining"])
def test_a_run_killed_at_ten_random_moments_goes_on_exactly(tmp_path: Path, corpus_folder: Path, task: str) -> None:
    draw = random.Random(f"kills of {task}")
    kills: list[Kill] = [("step", draw.randint(1, 6)) for _ in range(4)]
    kills += [("file", draw.randint(1, 30)) for _ in range(3)]
    draw.shuffle(kills)
    kills += [("milliseconds", draw.randint(0, 300)) for _ in range(3)]  # last, as they may come after the end
    check(task, 60, corpus_folder, tmp_path, kills)
