"""Is what is learned from a real token worth as much as in keras-nlp's training? Held-out masked loss of both.

    python -m benchmarks.pretrain_loss --corpus corpora/mixed --input 'heading:DATA/wikitext2/*.txt' --tokens 2000000

Both sides see about the same number of real tokens, in batches of as many rows, with the same optimizer and schedule of
the learning rate over their own steps: kerasllm from packed rows, keras-nlp's `fit` from one paragraph a row, made by
its own preprocessor. keras-nlp takes more steps for it, as its rows are less full. Both are judged on the same held-out
rows and masks, one sequence a row.
"""

import itertools
import math
import tempfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from apps.flags import run_program
from benchmarks.pretrain_sizes import define_size_flags, read_paragraphs, run_of_sizes
from kerasllm.config import Run

if TYPE_CHECKING:
    from kerasllm.data import Corpus

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Says on what, how large and how long."""
    define_size_flags(hidden_dim=256)
    flags.DEFINE_multi_string("input", None, "Text of the corpus, as for apps.pretrain.prepare.", required=True)
    flags.DEFINE_integer("tokens", 2_000_000, "Real tokens that each side sees.", lower_bound=1)
    flags.DEFINE_float("learning_rate", 1e-3, "The highest; up to it over a tenth of the steps, then down to 0.")


def main() -> None:
    """Trains both sides and prints both losses."""
    from kerasllm import data, training

    training.configure_devices(0, FLAGS.num_threads)
    corpus = data.open_corpus(FLAGS.corpus)
    for side in (ours, theirs):
        start = time.perf_counter()
        steps, tokens, loss = side(corpus)
        print(
            f"{'kerasllm' if side is ours else 'keras-nlp'}: {steps} steps, {tokens:,} real tokens, "
            f"{time.perf_counter() - start:.0f} s, held-out masked loss {loss:.4f}, perplexity {math.exp(loss):.1f}",
            flush=True,
        )


def run_of_steps(steps: int) -> Run:
    """The run with a schedule over so many steps."""
    run = run_of_sizes(steps=steps, log_every=200, evaluate_every=10**6, checkpoint_every=10**6, evaluation_rows=2048)
    optimizer = run.optimizer.model_copy(
        update={"peak_learning_rate": FLAGS.learning_rate, "warmup_share": 0.1, "decay": "linear"}
    )
    return run.model_copy(update={"optimizer": optimizer})


def ours(corpus: "Corpus") -> tuple[int, int, float]:
    """Steps, real tokens and loss of kerasllm, trained as apps.pretrain.train does."""
    from apps.pretrain import task
    from kerasllm import data, training

    batches = data.pretraining_batches(corpus.split("train"), run_of_steps(1))
    counts = (int((batch["sequence_ids"] > 0).sum()) for batch in batches.as_numpy_iterator())
    steps, tokens = steps_for(counts)
    run = run_of_steps(steps)
    strategy = training.make_strategy(run.train.strategy)
    trainer = task.make_trainer(run, corpus, tempfile.mkdtemp(), strategy)
    return steps, tokens, task.fit(trainer, corpus)["held_out"]["loss"]


def theirs(corpus: "Corpus") -> tuple[int, int, float]:
    """The same of keras-nlp."""
    from benchmarks.baselines import keras_nlp_lm
    from kerasllm import data
    from kerasllm.training.optimizers import WarmupThenDecay

    run = run_of_steps(1)
    paragraphs = read_paragraphs(FLAGS.input, corpus)
    rows = keras_nlp_lm.masked_paragraphs(paragraphs, corpus.tokenizer, run, repeats=True)
    steps, tokens = steps_for(int(inputs["padding_mask"].sum()) for inputs, _, _ in rows.as_numpy_iterator())
    schedule = WarmupThenDecay(FLAGS.learning_rate, round(0.1 * steps), steps, "linear", 0.0)
    model = keras_nlp_lm.make_model(run, corpus.tokenizer.vocab_size, schedule)
    model.fit(rows, steps_per_epoch=steps, verbose=0)
    total = targets = 0.0
    for batch in data.pretraining_batches(corpus.split("held_out"), run).as_numpy_iterator():
        inputs, labels, weights = keras_nlp_lm.as_rows(batch)
        logits = np.asarray(model.predict_on_batch(inputs), np.float32)
        chosen = np.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
        largest = logits.max(axis=-1)
        losses = largest + np.log(np.exp(logits - largest[..., None]).sum(axis=-1)) - chosen
        total += float((losses * weights).sum())
        targets += float(weights.sum())
    return steps, tokens, total / targets


def steps_for(tokens_of_batches: Iterator[int]) -> tuple[int, int]:
    """The first number of steps that sees --tokens real tokens, and how many these are."""
    for steps, tokens in enumerate(itertools.accumulate(tokens_of_batches), 1):
        if tokens >= FLAGS.tokens:
            return steps, tokens
    raise AssertionError("the batches repeat for ever")


if __name__ == "__main__":
    define_flags()
    run_program(main)
