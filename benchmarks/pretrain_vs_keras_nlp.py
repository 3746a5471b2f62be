"""Is our pretraining as fast as keras-nlp's `fit`? Both sides on the same rows, by turns, in one run.

    python -m benchmarks.pretrain_vs_keras_nlp --corpus corpora/mine --task bert --precision mixed_bfloat16

BERT with the masked head alone (keras-nlp has no pair head) beside keras_nlp.models.BertMaskedLM, GPT beside
GPT2CausalLM: equal sizes, precision, dropout, rows, masked slots and optimizer (AdamW, global clip). Prints tokens/s of
each round, the medians and their ratio. Neither side uses XLA, which is slower on CPU for both.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from apps.flags import run_program
from kerasllm.config import Run, make_run
from kerasllm.errors import DataError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

FLAGS = flags.FLAGS
Batch = dict[str, np.ndarray]
TakeSteps = Callable[[int], None]
# B rows, T tokens, M masked slots, V vocabulary


def define_flags() -> None:
    """Says where from, how large and how long."""
    flags.DEFINE_string("corpus", None, "Folder that apps.pretrain.prepare wrote.", required=True)
    flags.DEFINE_enum("task", "bert", ["bert", "gpt"], "Masked or causal language modelling.")
    flags.DEFINE_enum("precision", "float32", ["float32", "mixed_bfloat16"], "Of both sides.")
    flags.DEFINE_integer("num_layers", 4, "Transformer blocks.", lower_bound=1)
    flags.DEFINE_integer("hidden_dim", 512, "Width.", lower_bound=8)
    flags.DEFINE_integer("num_heads", 8, "Attention heads.", lower_bound=1)
    flags.DEFINE_integer("sequence_length", 128, "Tokens of a row.", lower_bound=8)
    flags.DEFINE_integer("batch", 32, "Rows of a step.", lower_bound=1)
    flags.DEFINE_integer("vocab_size", 8192, "Rows of the embedding table; at least the corpus's words.")
    flags.DEFINE_integer("rounds", 5, "Measurements of each side.", lower_bound=1)
    flags.DEFINE_integer("steps", 10, "Optimizer steps of a round.", lower_bound=1)
    flags.DEFINE_integer("num_threads", 0, "Threads of one operation; 0: as many as cores.", lower_bound=0)


def main() -> None:
    """Takes rounds by turns and prints both sides."""
    from kerasllm import data, training

    training.configure_devices(0, FLAGS.num_threads)
    run = the_run()
    corpus = data.open_corpus(FLAGS.corpus)
    if corpus.tokenizer.vocab_size > FLAGS.vocab_size:
        raise DataError(
            f"{FLAGS.corpus}: has {corpus.tokenizer.vocab_size} words. Raise --vocab_size to at least that."
        )
    rows = data.pretraining_batches(corpus.split("train"), run, start_step=0)
    batches: list[Batch] = list(itertools.islice(rows.as_numpy_iterator(), FLAGS.steps))
    sides = {"kerasllm": our_side(run, batches), "keras-nlp": their_side(run, batches)}
    for take_steps in sides.values():
        take_steps(2)  # builds the graphs
    report(sides, num_tokens=sum(int((batch["sequence_ids"] > 0).sum()) for batch in batches))


def the_run() -> Run:
    """The configuration of our side; the other side reads its sizes from it too."""
    backbone: dict[str, Any] = {
        "num_layers": FLAGS.num_layers,
        "hidden_dim": FLAGS.hidden_dim,
        "num_heads": FLAGS.num_heads,
        "max_length": FLAGS.sequence_length,
    }
    if FLAGS.task == "gpt":
        backbone |= {"architecture": "gpt", "norm_order": "pre", "norm_epsilon": 1e-5, "activation": "gelu_tanh"}
        backbone |= {"num_token_types": 0}
    return make_run(
        {
            "backbone": backbone,
            "objective": {"task": f"{FLAGS.task}_pretraining", "next_sentence_weight": 0.0},
            "optimizer": {"peak_learning_rate": 1e-4, "warmup_share": 0.0, "decay": "constant"},
            "train": {
                "steps": 1_000_000,
                "global_batch": FLAGS.batch,
                "sequence_length": FLAGS.sequence_length,
                "precision": FLAGS.precision,
            },
            "export": {"sequence_length": FLAGS.sequence_length},
        }
    )


def our_side(run: Run, batches: list[Batch]) -> TakeSteps:
    """Optimizer steps of the training loop, fed by tf.data."""
    import tempfile

    from kerasllm import losses, models, training
    from kerasllm.training import distributed

    strategy = training.make_strategy(run.train.strategy)
    trainer = training.Trainer(
        lambda: models.from_run(run, FLAGS.vocab_size), losses.heads_for(run), run, tempfile.mkdtemp(), strategy
    )
    trainer.prepare(run.train.steps or 1)

    def take_steps(count: int) -> None:
        next_batch = distributed(strategy, endless(batches))
        for step in range(count):
            numbers = trainer.train_step(next_batch(), step)
        assert np.isfinite(numbers.numpy()).all(), dict(zip(trainer.train_step.names, numbers.numpy(), strict=True))

    return take_steps


def their_side(run: Run, batches: list[Batch]) -> TakeSteps:
    """The same number of steps by `fit` of keras-nlp's task."""
    import keras

    model = bert_of_keras_nlp(run) if FLAGS.task == "bert" else gpt_of_keras_nlp(run)
    settings = run.optimizer
    model.compile(
        optimizer=keras.optimizers.AdamW(
            settings.peak_learning_rate,
            weight_decay=settings.weight_decay,
            epsilon=settings.epsilon,
            global_clipnorm=settings.clip_norm,
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()],
        jit_compile=False,
    )
    rows = endless([bert_rows(batch) if FLAGS.task == "bert" else gpt_rows(batch) for batch in batches])
    return lambda count: model.fit(rows, steps_per_epoch=count, verbose=0)


def bert_of_keras_nlp(run: Run) -> "keras.Model":
    """BertMaskedLM with the run's sizes."""
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        num_segments=2, max_sequence_length=run.train.sequence_length, **common_sizes(run)
    )
    return keras_hub.models.BertMaskedLM(backbone, preprocessor=None)


def gpt_of_keras_nlp(run: Run) -> "keras.Model":
    """GPT2CausalLM with the run's sizes."""
    import keras_hub

    backbone = keras_hub.models.GPT2Backbone(max_sequence_length=run.train.sequence_length, **common_sizes(run))
    return keras_hub.models.GPT2CausalLM(backbone, preprocessor=None)


def common_sizes(run: Run) -> dict[str, Any]:
    """What both of keras-nlp's backbones take."""
    return {
        "vocabulary_size": FLAGS.vocab_size,
        "num_layers": run.backbone.num_layers,
        "num_heads": run.backbone.num_heads,
        "hidden_dim": run.backbone.hidden_dim,
        "intermediate_dim": run.backbone.intermediate_dim or 4 * run.backbone.hidden_dim,
        "dropout": run.backbone.dropout,
        "dtype": run.train.precision,
    }


def bert_rows(batch: Batch) -> tuple[Batch, np.ndarray, np.ndarray]:
    """One of our batches in the form that BertMaskedLM takes: inputs, labels [B, M], weights [B, M]."""
    inputs = {
        "token_ids": batch["token_ids"],
        "segment_ids": batch["token_type_ids"],
        "padding_mask": (batch["sequence_ids"] > 0).astype(np.int32),
        "mask_positions": batch["masked_positions"],
    }
    return inputs, batch["masked_labels"], batch["masked_weights"]


def gpt_rows(batch: Batch) -> tuple[Batch, np.ndarray, np.ndarray]:
    """One of our batches in the form that GPT2CausalLM takes: inputs, labels [B, T], weights [B, T]."""
    padding_mask = (batch["sequence_ids"] > 0).astype(np.int32)
    return {"token_ids": batch["token_ids"], "padding_mask": padding_mask}, batch["labels"], batch["label_weights"]


def endless(batches: list[Any]) -> "tf.data.Dataset":
    """The batches over and over, from memory."""
    import tensorflow as tf

    stacked = tf.nest.map_structure(lambda *parts: np.stack(parts), *batches)
    return tf.data.Dataset.from_tensor_slices(stacked).repeat().prefetch(2)


def report(sides: dict[str, TakeSteps], num_tokens: int) -> None:
    """Measures by turns and prints tokens/s; every round runs over the same `num_tokens` real tokens."""
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for round_number in range(FLAGS.rounds):
        order = list(sides) if round_number % 2 == 0 else list(sides)[::-1]  # neither side always goes first
        for name in order:
            start = time.perf_counter()
            sides[name](FLAGS.steps)
            speeds[name].append(num_tokens / (time.perf_counter() - start))
        print(f"round {round_number + 1}  " + "  ".join(f"{name} {speeds[name][-1]:8,.0f} tokens/s" for name in sides))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    print(
        f"{FLAGS.task}, {FLAGS.num_layers} x {FLAGS.hidden_dim}, {FLAGS.num_heads} heads, T={FLAGS.sequence_length}, "
        f"B={FLAGS.batch}, V={FLAGS.vocab_size}, {FLAGS.precision}: medians of {FLAGS.rounds} rounds"
    )
    for name, median in medians.items():
        print(f"  {name:<10}{median:10,.0f} tokens/s")
    print(f"  ratio     {medians['kerasllm'] / medians['keras-nlp']:10.2f}")


if __name__ == "__main__":
    define_flags()
    run_program(main)
