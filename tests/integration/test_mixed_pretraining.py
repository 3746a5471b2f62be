"""Masked words and inference in one run: over two replicas, stopped and resumed, and fine-tuned from."""

import os
import random
import signal
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from apps.pretrain import task
from kerasllm import config, data, losses, models, training
from kerasllm.errors import ConfigError

WORDS = ["profit", "shares", "market", "company", "report", "growth", "bank", "trade", "price", "order", "plan", "year"]
STEPS = 6


def make_run(**train: Any) -> config.Run:
    return config.make_run(
        {
            "tokenizer": {"vocab_size": 300},
            "data": {"held_out_share": 0.2},
            "backbone": {
                "num_layers": 1, "hidden_dim": 16, "num_heads": 2, "max_length": 32,
                "dropout": 0, "attention_dropout": 0,
            },
            "objective": {"classifier_dropout": 0, "mask_spans": True, "label_smoothing": 0.1},
            "optimizer": {"peak_learning_rate": 0.01, "warmup_share": 0, "decay": "constant"},
            "train": {
                "steps": STEPS, "global_batch": 8, "sequence_length": 32, "evaluation_rows": 8, "log_every": 3,
                "evaluate_every": STEPS, "checkpoint_every": STEPS, **train,
            },
            "mix": {"inference": {"second_text_column": "hypothesis", "labels": ["same", "other"], "share": 0.5}},
            "export": {"sequence_length": 32},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """corpus/, of random sentences, and table/, of pairs that have the first word in common or not."""
    base, rng = tmp_path_factory.mktemp("mixed"), random.Random(5)
    documents = [
        f"<DOC> {i}\n" + " ".join(" ".join(rng.choices(WORDS, k=3)).capitalize() + "." for _ in range(20))
        for i in range(60)
    ]
    (base / "text.txt").write_text("\n".join(documents))
    data.prepare_corpus([str(base / "text.txt")], base / "corpus", make_run())
    (base / "table").mkdir()
    for part in ("train", "validation"):
        rows = ["text\thypothesis\tlabel"]
        for _ in range(40):
            first, second = rng.choice(WORDS), rng.choice(WORDS)
            rows.append(f"{first} year\t{second} plan\t{'same' if first == second else 'other'}")
        (base / "table" / f"{part}.tsv").write_text("\n".join(rows) + "\n")
    return base


class StopAt(training.Action):
    """Sends this process a signal before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def before_step(self, trainer: Any, step: int) -> None:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def train(folder: Path, workdir: Path, replicas: int = 1, accumulation: int = 1, stop: int | None = None) -> Any:
    corpus, run = data.open_corpus(folder / "corpus"), make_run(accumulation=accumulation)
    tables = task.read_tables([f"inference={folder / 'table'}"], run)
    strategy = training.make_strategy("one_device" if replicas == 1 else "mirrored", replicas)
    actions = () if stop is None else (StopAt(stop),)
    heads, initialize = losses.heads_for(run), task.initializer(corpus, run)
    trainer = training.Trainer(lambda: seeded(run, corpus), heads, run, workdir, strategy, actions, initialize)
    return trainer, task.fit(trainer, corpus, tables)


def seeded(run: config.Run, corpus: data.Corpus) -> Any:
    keras.utils.set_random_seed(3)
    return models.from_run(run, corpus.tokenizer.vocab_size)


def weights_of(trainer: Any) -> list[np.ndarray]:
    return [variable.numpy() for variable in trainer.model.variables]


def test_each_head_is_reported_whatever_the_replicas_and_fine_tuning_starts_there(folder: Path, tmp_path: Path) -> None:
    whole, results = train(folder, tmp_path / "whole")
    held_out = results["held_out"]
    heads = held_out["masked_lm_loss"] + held_out["next_sentence_loss"] + held_out["inference_loss"]
    assert held_out["loss"] == pytest.approx(heads, rel=1e-6)
    assert 0 <= held_out["inference_accuracy"] <= 1

    _, spread = train(folder, tmp_path / "spread", replicas=2, accumulation=2)
    for name in ("masked_lm_loss", "next_sentence_loss", "inference_loss"):
        assert spread["held_out"][name] == pytest.approx(held_out[name], rel=1e-4), name

    tree = make_run().model_dump()
    tree |= {"objective": {"task": "text_classification"}, "mix": {}, "data": {"labels": ["a", "b"]}}
    classifier = models.from_run(config.make_run(tree), whole.model.backbone.vocab_size)
    training.load_backbone(classifier.backbone, tmp_path / "whole")
    for ours, theirs in zip(classifier.backbone.weights, whole.model.backbone.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.slow
def test_a_stopped_run_goes_on_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    whole, _ = train(folder, tmp_path / "whole")
    stopped, _ = train(folder, tmp_path / "broken", stop=3)
    assert stopped.stopped
    resumed, _ = train(folder, tmp_path / "broken")
    for ours, theirs in zip(weights_of(resumed), weights_of(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_task_without_its_table_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="mix.inference: no folder is given for it. Give --labelled inference=FOLDER"):
        task.read_tables([], make_run())
    with pytest.raises(ConfigError, match="--labelled inference: expected NAME=FOLDER"):
        task.read_tables(["inference"], make_run())
