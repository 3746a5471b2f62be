"""Do layers stay still until their time, and others for ever, and does it cost nothing?"""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import config, data, losses, models, text, training
from kerasllm.errors import ConfigError
from kerasllm.training.by_layer import layer_starts
from kerasllm.training.checkpoints import restore_state
from kerasllm.training.step import TrainStep

RUN = {
    "data": {"labels": ["a", "b"]},
    "objective": {"task": "text_classification"},
    "backbone": {"num_layers": 2, "hidden_dim": 8, "num_heads": 2, "max_length": 8},
    "train": {"steps": 6, "sequence_length": 8},
    "export": {"sequence_length": 8},
}
PLAIN = {"warmup_share": 0.0, "decay": "constant", "peak_learning_rate": 0.01, "weight_decay": 0.1, "epsilon": 1e-12}


class Bench:
    """A classifier of a few blocks, its optimizer and its step."""

    def __init__(self, num_layers: int = 2, **optimizer: Any) -> None:
        backbone = {**RUN["backbone"], "num_layers": num_layers}
        self.run = config.make_run({**RUN, "backbone": backbone, "optimizer": {**PLAIN, **optimizer}})
        strategy = training.make_strategy("one_device")
        self.model = models.from_run(self.run, 20)
        self.optimizer = training.make_optimizer(self.run.optimizer, 6, self.model)
        self.step = TrainStep(strategy, self.model, self.optimizer, losses.heads_for(self.run), 1, None, seed=1)

    def moved(self, step: int) -> dict[str, float]:
        """Largest move of each variable in a step."""
        batch = {
            "token_ids": tf.constant([[2, 5, 6, 3], [2, 7, 8, 3]]),
            "sequence_ids": tf.ones([2, 4], tf.int32),
            "label_labels": tf.constant([0, 1]),
            "label_weights": tf.ones([2]),
        }
        before = {variable.path: variable.numpy() for variable in self.model.variables}
        self.step(batch, step)
        return {one.path: float(np.abs(one.numpy() - before[one.path]).max()) for one in self.model.variables}


def test_layers_start_from_the_top_one_after_another() -> None:
    # 2 blocks: depth 3 above them, 2, 1, and 0 of the embeddings: starts 6 * 0, 1/3, 2/3 and 1.
    model = Bench().model
    starts = dict(zip((one.path for one in model.trainable_variables), layer_starts(model, 6.0), strict=True))
    assert starts["text_classifier/head_label/projection/kernel"] == 0
    assert starts["backbone/block_1/expand/kernel"] == 2
    assert starts["backbone/block_0/expand/kernel"] == 4
    assert starts["backbone/embedding/word_table"] == 6


def test_a_layer_moves_from_its_first_step_on_and_then_as_in_a_first_update() -> None:
    # AdamW's first update is rate x sign of the gradient: 0.01; its decay is 0.001 of the weights (below 0.1 all).
    bench = Bench(num_layers=1, unfreeze_share=1 / 3)  # of 6 steps: the block from step 1, embeddings from 2
    for step in range(3):
        moved = bench.moved(step)
        for start, name in ((0, "head_label"), (1, "block_0"), (2, "word_table")):
            moves = [move for path, move in moved.items() if f"/{name}/" in f"/{path}/" and "key" not in path]
            assert moves, name
            if step < start:
                assert max(moves) == 0.0, (step, name)
            elif step == start:
                assert max(moves) == pytest.approx(0.01, rel=0.02), (step, name)


def test_frozen_variables_stand_still_and_have_no_slots() -> None:
    bench = Bench(frozen=["embedding/word_table", "block_0"])
    names = [variable.path for variable in bench.optimizer.variables]
    assert not [name for name in names if "word_table" in name or "block_0" in name]
    assert [name for name in names if "block_1" in name]
    moved = bench.moved(0)
    still = {path for path, move in moved.items() if move == 0.0}
    assert still == {path for path in moved if "word_table" in path or "/block_0/" in path}


def test_a_frozen_table_has_no_gradient_in_the_graph() -> None:
    def shapes(**optimizer: Any) -> list[tuple[int, ...]]:
        bench = Bench(num_layers=1, **optimizer)
        bench.moved(0)
        (function,) = bench.step.graph.graphs()
        graphs = [function.graph, *(one.graph for one in function.graph._functions.values() if hasattr(one, "graph"))]
        sums = [op for graph in graphs for op in graph.get_operations() if op.type == "UnsortedSegmentSum"]
        return [tuple(op.outputs[0].shape) for op in sums]

    table = (20, 8)
    assert table in shapes()
    assert table not in shapes(frozen=["embedding/word_table"])


def test_each_stage_makes_one_graph_for_rows_of_all_lengths_which_computes_what_two_compute() -> None:
    def rows_of(length: int) -> dict[str, tf.Tensor]:
        ids = tf.random.stateless_uniform([2, length], [length, 1], 4, 20, tf.int32)
        return {
            "token_ids": ids,
            "sequence_ids": tf.ones_like(ids),
            "label_labels": tf.constant([0, 1]),
            "label_weights": tf.ones([2]),
        }

    def losses_of_six_steps(is_told: bool) -> tuple[list[float], int]:
        random.seed(1)  # Keras draws the seeds of new weights from it
        bench = Bench(num_layers=1, unfreeze_share=2 / 3)  # of 6 steps: the block from step 2, embeddings from 4
        if is_told:
            spec = {name: tf.TensorSpec([2, None][: each.shape.rank], each.dtype) for name, each in rows_of(4).items()}
            bench.step.graph.expect(spec)
        rows = [bench.step(rows_of(4 + step % 2), step).numpy() for step in range(6)]
        return [row[bench.step.names.index("loss")] for row in rows], len(bench.step.graph.graphs())

    (surprised, six), (told, three) = losses_of_six_steps(False), losses_of_six_steps(True)
    assert (six, three) == (6, 3)
    np.testing.assert_allclose(told, surprised, atol=1e-6)  # a graph for one length alone rounds otherwise


class StopAfter(training.Action):
    """Ends a run as a signal does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def before_step(self, trainer: training.Trainer, step: int) -> None:
        trainer.stopped = step == self.step - 1


def fit(workdir: Path, *actions: training.Action) -> training.Trainer:
    """Six steps of three stages, with batches of several lengths."""
    tokenizer, texts = text.ByteTokenizer(), ["a", "a longer text", "b", "one that is longer still, by far"] * 4
    train = {**RUN["train"], "sequence_length": 32, "global_batch": 4, "evaluate_every": 3}
    backbone = {**RUN["backbone"], "num_layers": 1, "max_length": 32}
    run = config.make_run({**RUN, "train": train, "backbone": backbone, "optimizer": {"unfreeze_share": 2 / 3}})
    examples = data.LabelledTexts(texts, {"label": [0, 1] * 8}, list(range(16)))

    def batches(step: int) -> tf.data.Dataset:
        return data.labelled_batches(examples, tokenizer, run, training=True, start_step=step)

    widths = [batch["token_ids"].shape[1] for batch in batches(0).take(6)]
    assert len(set(widths)) == len(set(widths[3:])) == 2
    trainer = training.Trainer(
        lambda: models.from_run(run, tokenizer.vocab_size),
        losses.heads_for(run),
        run,
        workdir,
        training.make_strategy("one_device"),
        actions,
    )
    trainer.fit(batches, 6, lambda: data.labelled_batches(examples, tokenizer, run, training=False))
    return trainer


@pytest.mark.slow
def test_a_run_makes_one_graph_a_stage_and_one_to_evaluate_and_goes_on_exactly(tmp_path: Path) -> None:
    unbroken = fit(tmp_path / "unbroken")
    assert len(unbroken.train_step.graph.graphs()) == 3
    assert len(unbroken.evaluation_step.graph.graphs()) == 1
    assert fit(tmp_path / "broken", StopAfter(3)).stopped
    broken = fit(tmp_path / "broken")
    assert len(broken.train_step.graph.graphs()) == 2, "the stages of the last three steps"
    for ours, theirs in zip(broken.model.variables, unbroken.model.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_names_of_no_variable_and_freezing_everything_are_refused() -> None:
    with pytest.raises(ConfigError, match="no variable's path holds 'word_tabel'. Near to it: word_table"):
        Bench(frozen=["word_tabel"])
    with pytest.raises(ConfigError, match="leaves no variable to learn"):
        Bench(frozen=["backbone", "text_classifier"])


def test_a_run_with_frozen_layers_goes_on_from_its_checkpoint_and_gives_its_backbone_away(tmp_path: Path) -> None:
    bench, other, plain = (
        Bench(frozen=["block_0"]),
        Bench(frozen=["block_0"]),
        models.from_run(config.make_run(RUN), 20),
    )
    folder = training.CheckpointFolder(tmp_path / "checkpoints")
    folder.save(1, bench.model, bench.optimizer, bench.run)
    restore_state(folder.newest(), other.model, other.optimizer)
    training.load_backbone(plain.backbone, tmp_path)
    for copy in (other.model, plain):
        for ours, theirs in zip(copy.backbone.weights, bench.model.backbone.weights, strict=True):
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
