r"""How many real tokens a second does pretraining learn from, beside keras-nlp and Hugging Face transformers?

    python -m benchmarks.pretrain_speed --corpus corpora/mixed --torch "$(scripts/get_torch)" \
        --input 'heading:DATA/wikitext2/*.txt'

All sides train a model of equal size in equal precision with AdamW, dropout and a clip, by turns, in one run:
  kerasllm               the training step, fed from the shards: packed rows
  keras-nlp, paragraphs  `fit`, fed by its own preprocessor: one paragraph a row (BERT)
  keras-nlp, our rows    `fit`, fed with the rows that kerasllm has, masked before, from memory
  transformers           PyTorch, bfloat16 by autocast, rows cut from concatenated text as in run_mlm.py, run_clm.py
Prints each round, the medians, the fill of each side's rows (share of tokens that is no padding) and the ratios.
The input is the text that the corpus was made of. No side uses a compiler (XLA is slower on CPU).
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from apps.flags import run_program
from benchmarks.baselines.other_process import start_side
from benchmarks.pretrain_sizes import define_size_flags, make_trainer, read_paragraphs, run_of_sizes
from kerasllm.config import Run

if TYPE_CHECKING:
    import tensorflow as tf

    from kerasllm.data import Corpus

FLAGS = flags.FLAGS
TakeSteps = Callable[[int], tuple[float, float]]  # of so many steps the real tokens, and the tokens with padding
OURS = "kerasllm"


def define_flags() -> None:
    """Says on what, beside whom, and how long."""
    define_size_flags()
    flags.DEFINE_multi_string("input", None, "Text of the corpus, as for apps.pretrain.prepare.", required=True)
    flags.DEFINE_string("torch", None, "Interpreter of an environment with PyTorch and transformers.")
    flags.DEFINE_integer("steps", 8, "Optimizer steps of a round.", lower_bound=1)


def main() -> None:
    """Takes rounds by turns and prints all sides."""
    from kerasllm import data, training

    training.configure_devices(0, FLAGS.num_threads)
    run, corpus = run_of_sizes(), data.open_corpus(FLAGS.corpus)
    paragraphs = read_paragraphs(FLAGS.input, corpus)
    sides = {OURS: our_side(run, corpus)}
    if FLAGS.task == "bert":
        sides["keras-nlp, paragraphs"] = paragraphs_of_keras_nlp(run, corpus, paragraphs)
    sides["keras-nlp, our rows"] = our_rows_of_keras_nlp(run, corpus)
    if FLAGS.torch:
        sides["transformers"] = torch_side(run, corpus, paragraphs)
    for take_steps in sides.values():
        take_steps(2)  # makes the graphs
    report(sides, run)


def our_side(run: Run, corpus: "Corpus") -> TakeSteps:
    """Steps of the training loop from the shards on; each call goes on where the last one stopped."""
    from kerasllm import data
    from kerasllm.training import distributed

    trainer = make_trainer(run, corpus)
    trainer.prepare(run.train.steps or 1)
    next_batch = distributed(trainer.strategy, data.pretraining_batches(corpus.split("train"), run))
    steps = itertools.count()

    def take_steps(count: int) -> tuple[float, float]:
        rows = [trainer.train_step(next_batch(), next(steps)) for _ in range(count)]
        numbers = [dict(zip(trainer.train_step.names, row.numpy().tolist(), strict=True)) for row in rows]
        assert not any(one["skipped"] for one in numbers)
        return sum(one["tokens"] for one in numbers), sum(one["slots"] for one in numbers)

    return take_steps


def paragraphs_of_keras_nlp(run: Run, corpus: "Corpus", paragraphs: list[str]) -> TakeSteps:
    """Paragraphs through its preprocessor and `fit`."""
    from benchmarks.baselines import keras_nlp_lm

    some = paragraphs[: FLAGS.steps * FLAGS.batch]
    (sizes,) = keras_nlp_lm.masked_paragraphs(some, corpus.tokenizer, run, repeats=False).batch(FLAGS.steps)
    real = np.asarray(sizes[0]["padding_mask"]).sum(axis=(1, 2))  # of each step
    rows = keras_nlp_lm.masked_paragraphs(some, corpus.tokenizer, run, repeats=True)
    return fit(run, corpus, rows, real.tolist())


def our_rows_of_keras_nlp(run: Run, corpus: "Corpus") -> TakeSteps:
    """Rows made before, from memory, and `fit`."""
    import tensorflow as tf

    from benchmarks.baselines import keras_nlp_lm
    from kerasllm import data

    batches = data.pretraining_batches(corpus.split("train"), run).take(FLAGS.steps).as_numpy_iterator()
    rows = [keras_nlp_lm.as_rows(batch) for batch in batches]
    stacked = tf.nest.map_structure(lambda *parts: np.stack(parts), *rows)
    real = [float(inputs["padding_mask"].sum()) for inputs, _, _ in rows]
    return fit(run, corpus, tf.data.Dataset.from_tensor_slices(stacked).repeat().prefetch(2), real)


def fit(run: Run, corpus: "Corpus", rows: "tf.data.Dataset", real: list[float]) -> TakeSteps:
    """keras-nlp's training on the rows, whose steps have so many real tokens."""
    from benchmarks.baselines import keras_nlp_lm

    model = keras_nlp_lm.make_model(run, corpus.tokenizer.vocab_size)

    def take_steps(count: int) -> tuple[float, float]:
        model.fit(rows, steps_per_epoch=count, verbose=0)
        return sum(real[:count]), count * FLAGS.batch * FLAGS.sequence_length

    return take_steps


def torch_side(run: Run, corpus: "Corpus", paragraphs: list[str]) -> TakeSteps:
    """A process of the other environment, that waits while another side is measured."""
    folder = Path(tempfile.mkdtemp())
    (folder / "text.txt").write_text("\n".join(paragraphs), encoding="utf-8")
    corpus.tokenizer.save(folder)
    settings = {
        "task": FLAGS.task,
        "text": str(folder / "text.txt"),
        "vocabulary": str(folder / "vocab.txt"),
        "vocab_size": corpus.tokenizer.vocab_size,
        "num_layers": FLAGS.num_layers,
        "hidden_dim": FLAGS.hidden_dim,
        "num_heads": FLAGS.num_heads,
        "length": FLAGS.sequence_length,
        "batch": FLAGS.batch,
        "precision": FLAGS.precision,
        "mask_share": run.objective.mask_share,
        "learning_rate": run.optimizer.peak_learning_rate,
    }
    ask = start_side(FLAGS.torch, "torch_lm.py", settings)

    def take_steps(count: int) -> tuple[float, float]:
        tokens = ask(count)
        return tokens, tokens

    return take_steps


def report(sides: dict[str, TakeSteps], run: Run) -> None:
    """Measures by turns and prints real tokens a second."""
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    fills: dict[str, list[float]] = {name: [] for name in sides}
    for round_number in range(FLAGS.rounds):
        order = list(sides) if round_number % 2 == 0 else list(sides)[::-1]  # no side always goes first
        for name in order:
            start = time.perf_counter()
            real, slots = sides[name](FLAGS.steps)
            speeds[name].append(real / (time.perf_counter() - start))
            fills[name].append(real / slots)
        print(
            f"round {round_number + 1}  " + "  ".join(f"{name} {speeds[name][-1]:,.0f}" for name in sides), flush=True
        )
    print(
        f"{FLAGS.task}, {FLAGS.num_layers} x {FLAGS.hidden_dim}, {FLAGS.num_heads} heads, T={FLAGS.sequence_length}, "
        f"B={FLAGS.batch}, {FLAGS.precision}, dropout {run.backbone.dropout}: medians of {FLAGS.rounds} rounds"
    )
    ours = statistics.median(speeds[OURS])
    print(f"{'':<24}{'tokens/s':>10}{'lowest':>10}{'highest':>10}{'fill':>8}{'ours is':>9}")
    for name, values in speeds.items():
        median, fill = statistics.median(values), statistics.mean(fills[name])
        print(f"{name:<24}{median:>10,.0f}{min(values):>10,.0f}{max(values):>10,.0f}{fill:>8.1%}{ours / median:>8.2f}x")


if __name__ == "__main__":
    define_flags()
    run_program(main)
