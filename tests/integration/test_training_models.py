"""The real models in the real loop: spread, stopped, resumed, fine-tuned, in bfloat16."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm import config, losses, models, training

VOCAB, ROWS, LENGTH, SLOTS = 60, 6, 12, 3


def make_run(task: str, precision: str = "float32", dropout: float = 0.1, **train: Any) -> config.Run:
    architecture = "gpt" if task == "gpt_pretraining" else "bert"
    return config.make_run(
        {
            "data": {"labels": ["negative", "neutral", "positive"]},
            "backbone": {
                "architecture": architecture, "num_layers": 1, "hidden_dim": 16, "num_heads": 2, "max_length": 16,
                "dropout": dropout, "attention_dropout": dropout,
            },
            "objective": {"task": task, "classifier_dropout": dropout},
            "export": {"sequence_length": LENGTH},
            "optimizer": {"peak_learning_rate": 0.01, "warmup_share": 0.0, "decay": "constant"},
            "train": {
                "steps": 8, "global_batch": ROWS, "sequence_length": LENGTH, "precision": precision, "log_every": 2,
                "evaluate_every": 4, "checkpoint_every": 4, **train,
            },
        }
    )  # fmt: skip


def make_batch(task: str, step: int) -> dict[str, np.ndarray]:
    """A batch that is a pure function of its step, with rows of 3 to 12 real tokens."""
    random = np.random.default_rng([11, step])
    real = np.arange(LENGTH) < random.integers(3, LENGTH + 1, ROWS)[:, None]
    tokens = (random.integers(5, VOCAB, (ROWS, LENGTH)) * real).astype(np.int32)
    batch = {"token_ids": tokens, "sequence_ids": real.astype(np.int32)}
    if task == "gpt_pretraining":
        weights = real.astype(np.float32)
        positions = np.tile(np.arange(LENGTH, dtype=np.int32), (ROWS, 1))
        return {**batch, "position_ids": positions, "labels": np.roll(tokens, -1, 1), "label_weights": weights}
    batch["token_type_ids"] = np.zeros_like(tokens)
    if task == "text_classification":
        labels = random.integers(0, 3, ROWS).astype(np.int32)
        return {**batch, "label_labels": labels, "label_weights": np.ones(ROWS, np.float32)}
    slots = np.tile(np.arange(SLOTS, dtype=np.int32), (ROWS, 1))
    return {
        **batch,
        "position_ids": np.tile(np.arange(LENGTH, dtype=np.int32), (ROWS, 1)),
        "masked_positions": slots,
        "masked_labels": tokens[:, :SLOTS],
        "masked_weights": (random.random((ROWS, SLOTS)) < 0.6).astype(np.float32),
        "pair_positions": np.zeros((ROWS, 1), np.int32),
        "pair_labels": random.integers(0, 2, (ROWS, 1)).astype(np.int32),
        "pair_weights": np.ones((ROWS, 1), np.float32),
    }


def batches_of(task: str) -> Callable[[int], tf.data.Dataset]:
    def batches_from(start: int) -> tf.data.Dataset:
        batches = [make_batch(task, step) for step in range(start, start + 20)]
        return tf.data.Dataset.from_tensor_slices(
            {name: np.stack([one[name] for one in batches]) for name in batches[0]}
        )

    return batches_from


def train(workdir: Path, run: config.Run, replicas: int = 1, **options: Any) -> training.Trainer:
    keras.utils.set_random_seed(4)
    task = run.objective.task
    strategy = training.make_strategy("one_device" if replicas == 1 else "mirrored", replicas)
    trainer = training.Trainer(
        lambda: models.from_run(run, VOCAB), losses.heads_for(run), run, workdir, strategy, **options
    )
    trainer.fit(batches_of(task), run.train.steps or 1, lambda: batches_of(task)(100).take(2))
    return trainer


@pytest.mark.parametrize("task", ["bert_pretraining", pytest.param("gpt_pretraining", marks=pytest.mark.slow)])
def test_replicas_and_slices_give_the_weights_of_one_device(tmp_path: Path, task: str) -> None:
    whole = train(tmp_path / "whole", make_run(task, dropout=0.0, steps=3))
    spread = train(tmp_path / "spread", make_run(task, dropout=0.0, steps=3, accumulation=3), replicas=2)
    for ours, theirs in zip(spread.model.weights, whole.model.weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=2e-5, err_msg=ours.path)
    assert spread.held_out_metrics["loss"] == pytest.approx(whole.held_out_metrics["loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["bert_pretraining", "gpt_pretraining"])
def test_rematerialisation_does_not_change_the_weights_with_dropout_on_replicas_in_slices(
    tmp_path: Path, task: str
) -> None:
    runs = [make_run(task, steps=3, accumulation=3, rematerialize=again) for again in (False, True)]
    plain, again = (train(tmp_path / str(i), run, replicas=2) for i, run in enumerate(runs))
    assert again.model.backbone.rematerialize
    for ours, theirs in zip(again.model.weights, plain.model.weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=2e-5, err_msg=ours.path)


@pytest.mark.parametrize(
    ("task", "precision", "names"),
    [
        ("bert_pretraining", "mixed_bfloat16", {"masked_lm_loss", "masked_lm_perplexity", "next_sentence_accuracy"}),
        ("gpt_pretraining", "mixed_bfloat16", {"causal_lm_loss", "causal_lm_perplexity"}),
        ("text_classification", "float32", {"label_loss", "label_accuracy"}),
    ],
)
def test_every_task_trains_and_reports_its_heads(tmp_path: Path, task: str, precision: str, names: set[str]) -> None:
    trainer = train(tmp_path, make_run(task, precision))
    assert names <= set(trainer.held_out_metrics)
    assert trainer.train_metrics["skipped_steps"] == 0
    assert {variable.dtype for variable in trainer.model.weights} == {"float32"}
    start = models.from_run(trainer.run, VOCAB)
    unmoved = [
        one.path
        for one, two in zip(trainer.model.weights, start.weights, strict=True)
        if np.all(one.numpy() == two.numpy())
    ]
    assert unmoved == []


def test_a_classifier_starts_from_the_backbone_of_a_pretraining_run(tmp_path: Path) -> None:
    source = train(tmp_path / "pretrained", make_run("bert_pretraining"))
    run = make_run("text_classification")
    model = models.from_run(run, VOCAB)
    head = model.heads["label"].weights[0].numpy()
    assert training.load_backbone(model.backbone, tmp_path / "pretrained", "newest") == 8
    for ours, theirs in zip(model.backbone.weights, source.model.backbone.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)
    np.testing.assert_array_equal(model.heads["label"].weights[0].numpy(), head)

    started = []

    def initialize(model: Any) -> None:
        started.append(training.load_backbone(model.backbone, tmp_path / "pretrained", "newest"))

    train(tmp_path / "tuned", run, initialize=initialize)
    train(tmp_path / "tuned", run, initialize=initialize)  # goes on from its own checkpoint
    assert started == [8]


def test_the_projector_shows_the_embeddings_of_a_mirrored_model(tmp_path: Path) -> None:
    words = [f"word{index}" for index in range(VOCAB)]
    action = training.EmbeddingProjector(words, lambda model: model.backbone.word_table)
    actions = (training.TensorBoard(), action)
    trainer = train(tmp_path, make_run("gpt_pretraining", steps=2), replicas=2, actions=actions)
    config = next((tmp_path / "tensorboard").rglob("projector_config.pbtxt"))
    assert list(config.parent.glob("events.*")), "TensorBoard looks for the projector's files beside events only"
    shown = np.loadtxt(config.parent / "tensors.tsv", delimiter="\t")
    np.testing.assert_allclose(shown, trainer.model.backbone.embedding.word_table.numpy(), rtol=1e-5, atol=1e-6)


PROGRAM = """
    import importlib.util, logging, sys
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("kerasllm").setLevel(logging.INFO)
    spec = importlib.util.spec_from_file_location("helpers", {helpers!r})
    helpers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helpers)
    import time
    from kerasllm import training

    class Slow(training.Action):
        def before_step(self, trainer, step):
            time.sleep({pause})

    trainer = helpers.train({workdir!r}, helpers.make_run("bert_pretraining"), actions=(Slow(),))
    print("stopped" if trainer.stopped else "done", flush=True)
"""


def _start(workdir: Path, pause: float) -> subprocess.Popen:
    program = textwrap.dedent(PROGRAM.format(helpers=__file__, workdir=str(workdir), pause=pause))
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )


@pytest.mark.slow
def test_a_process_told_to_end_saves_exits_with_0_and_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    process = _start(tmp_path / "broken", pause=0.5)
    assert process.stderr is not None
    seen = [next(line for line in process.stderr if line.startswith("train"))]
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (0, "stopped\n"), (seen, errors)
    stopped_at = training.find_checkpoint(tmp_path / "broken", "newest").step
    assert 2 <= stopped_at < 8
    output, errors = _start(tmp_path / "broken", pause=0).communicate(timeout=120)
    assert output == "done\n", errors
    output, errors = _start(tmp_path / "unbroken", pause=0).communicate(timeout=120)
    assert output == "done\n", errors
    models_of = []
    for name in ("broken", "unbroken"):
        model = models.from_run(make_run("bert_pretraining"), VOCAB)
        assert training.restore_weights(model, tmp_path / name, "newest") == 8
        models_of.append(model)
    for ours, theirs in zip(*(model.weights for model in models_of), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)


def test_a_head_that_weighs_nothing_leaves_the_rest_trainable(tmp_path):
    # No head reads BERT's pooler then: its gradient is zero, not an error.
    run = make_run("bert_pretraining")
    run = run.model_copy(update={"objective": run.objective.model_copy(update={"next_sentence_weight": 0.0})})
    strategy = training.make_strategy("one_device")
    trainer = training.Trainer(
        lambda: models.from_run(run, VOCAB), losses.heads_for(run), run, tmp_path / "w", strategy
    )
    results = trainer.fit(batches_of("bert_pretraining"), 2)
    assert np.isfinite(results["train"]["masked_lm_loss"])
    assert "next_sentence_loss" not in results["train"]
