"""Do pairs teach a dual encoder and a re-ranker, on one device and on two, from a start to a workdir that loads?"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm import data, losses, models, retrieval, training
from kerasllm import trained as runs
from kerasllm.config import make_run
from kerasllm.errors import ConfigError
from kerasllm.training import distributed
from kerasllm.training.step import EvaluationStep

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnop"]
# The reply to a letter is another one, twice: no word is shared.
PAIRS = data.join_pairs(list("abcdefgh"), [f"{letter} {letter}" for letter in "ijklmnop"])


def run_of(task: str, steps: int = 60, strategy: str = "one_device"):
    return make_run(
        {
            "objective": {"task": task, "pooling": "mean", "classifier_dropout": 0.0},
            "backbone": {"num_layers": 1, "hidden_dim": 32, "num_heads": 2, "max_length": 16, "dropout": 0.0},
            "matching": {"query_length": 8, "passage_length": 8, "hard_negatives": 2, "temperature": 0.1},
            "optimizer": {"peak_learning_rate": 1e-2 if task == "text_matching" else 3e-3},
            "train": {
                "steps": steps,
                "global_batch": 8,
                "sequence_length": 16,
                "strategy": strategy,
                "evaluate_every": steps,
                "checkpoint_every": steps,
            },
            "export": {"sequence_length": 16},
        }
    )


@pytest.fixture
def start(tmp_path):
    """A workdir with a vocabulary and random weights, as a pretraining leaves it."""
    from kerasllm import text

    tokenizer = text.WordPieceTokenizer("\n".join(WORDS).encode())
    run = run_of("text_matching").model_copy(update={"objective": make_run({}).objective})
    keras.utils.set_random_seed(1)
    model = models.from_run(run, tokenizer.vocab_size)
    return runs.save(tmp_path / "start", run, tokenizer, model)


def mined(encoder: runs.Trained) -> data.QueryPassages:
    return retrieval.mine_by_encoder(PAIRS, encoder, 4)


def test_a_tuned_encoder_finds_what_it_was_taught_and_loads(start, tmp_path):
    run = run_of("text_matching")
    before = retrieval.untuned(run, str(start))
    pairs = mined(before)
    results = retrieval.tune(before.run, before.tokenizer, (pairs, pairs), tmp_path / "tuned", str(start))
    assert results["held_out"]["matching_accuracy"] == 1.0
    tuned = runs.load(tmp_path / "tuned")
    index = retrieval.ReplyIndex(tuned, PAIRS.passages)
    found = index.search(tf.constant(PAIRS.queries), 1)["replies"].numpy()[:, 0]
    assert found.tolist() == PAIRS.right.tolist()


@pytest.mark.slow
def test_a_tuned_reranker_puts_the_right_candidate_first(start, tmp_path):
    before = retrieval.untuned(run_of("reranking", steps=150), str(start))
    pairs = mined(retrieval.untuned(run_of("text_matching"), str(start)))
    results = retrieval.tune(before.run, before.tokenizer, (pairs, pairs), tmp_path / "tuned", str(start))
    assert results["held_out"]["reranking_accuracy"] >= 0.6  # by chance 0.33
    tuned = runs.load(tmp_path / "tuned")
    queries = [query for query in PAIRS.queries for _ in PAIRS.passages]
    scores = retrieval.score_pairs(tuned, queries, PAIRS.passages * 8).reshape(8, 8)
    candidates = np.concatenate([pairs.right[:, None], pairs.negatives[:, :2]], axis=1)
    assert (np.take_along_axis(scores, candidates, 1).argmax(axis=1) == 0).mean() >= 0.6


def test_each_of_two_replicas_takes_the_negatives_of_its_own_rows(start):
    trained = retrieval.untuned(run_of("text_matching"), str(start))
    pairs = mined(trained)
    batches = data.matching_batches(pairs, trained.tokenizer, trained.run, training=False)
    heads = losses.heads_for(trained.run)

    def sums(strategy: tf.distribute.Strategy) -> dict[str, float]:
        with strategy.scope():
            model = models.from_run(trained.run, trained.tokenizer.vocab_size)
        for variable, value in zip(model.weights, trained.model.weights, strict=True):
            variable.assign(value)
        step = EvaluationStep(strategy, model, heads)
        numbers = step(distributed(strategy, batches)()).numpy()
        return dict(zip(step.names, numbers.tolist(), strict=True))

    halves = np.split(np.arange(8), 2)
    alone = [
        heads[0].totals(trained.model(batch), batch)
        for rows in halves
        for batch in data.matching_batches(
            pairs.take(rows),
            trained.tokenizer,
            trained.run.model_copy(update={"train": trained.run.train.model_copy(update={"global_batch": 4})}),
            training=False,
        )
    ]
    together = sums(training.make_strategy("mirrored", 2))
    assert together["matching/targets"] == 8
    assert together["matching/loss"] == pytest.approx(sum(float(each["loss"]) for each in alone), rel=1e-4)
    assert sums(training.make_strategy("one_device"))["matching/loss"] > together["matching/loss"]  # more negatives


def test_a_run_of_another_task_is_refused(start, tmp_path):
    with pytest.raises(ConfigError, match="pairs teach text_matching or reranking"):
        retrieval.tune(make_run({}), None, (PAIRS, PAIRS), tmp_path / "tuned", None)
