"""How much of the machine do forward and backward pass use? Useful FLOP/s as a share of the matrix-product rate.

    python -m benchmarks.flop_share --corpus corpora/mixed --plot flop_share.png

For each precision, width and row length: 4 layers on packed rows of the corpus with dropout, 4,096 tokens a batch, the
loss and all its gradients, no optimizer. By turns with large square matrix products in the same precision; medians.
What is counted as useful stands at kerasllm.training.flops.count_flops. With --profile WIDTH,LENGTH the kinds of
operations of one configuration and their shares of all time spent in operations.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

from absl import flags

from apps.flags import run_program
from benchmarks.pretrain_sizes import define_size_flags, run_of_sizes
from benchmarks.profiles import print_profile
from kerasllm.config import Run

FLAGS = flags.FLAGS
TOKENS = 4096  # of a batch
STEPS = 4  # of a measurement
PRECISIONS = ("float32", "mixed_bfloat16")
# T tokens of a row


def define_flags() -> None:
    """Says on what, which sizes, and where to draw."""
    define_size_flags()
    flags.DEFINE_multi_integer("width", [256, 512, 1024], "Widths to measure; may be repeated.")
    flags.DEFINE_multi_integer("length", [128, 512], "Tokens of a row; may be repeated.")
    flags.DEFINE_string("plot", None, "PNG file to draw.")
    flags.DEFINE_string("profile", None, "WIDTH,LENGTH: which operations of this configuration take how long.")


def main() -> None:
    """Measures one configuration after the other and prints a table."""
    from kerasllm import training

    training.configure_devices(0, FLAGS.num_threads)
    if FLAGS.profile:
        width, length = (int(number) for number in FLAGS.profile.split(","))
        profile(run_of_sizes(hidden_dim=width, sequence_length=length, batch=TOKENS // length))
        return
    print(f"{'precision':<16}{'width':>6}{'T':>6}{'useful GFLOP/s':>16}{'products GFLOP/s':>18}{'share':>8}")
    shares: dict[tuple[str, int], list[float]] = {}
    for precision in PRECISIONS:
        for length in FLAGS.length:
            for width in FLAGS.width:
                run = run_of_sizes(
                    hidden_dim=width, sequence_length=length, batch=TOKENS // length, precision=precision
                )
                useful, products = measure(run)
                shares.setdefault((precision, length), []).append(useful / products)
                print(
                    f"{precision:<16}{width:>6}{length:>6}{useful / 1e9:>16,.0f}{products / 1e9:>18,.0f}"
                    f"{useful / products:>8.1%}",
                    flush=True,
                )
    if FLAGS.plot:
        draw(shares)


def measure(run: Run) -> tuple[float, float]:
    """Medians of useful FLOP/s and of the products' FLOP/s."""
    from kerasllm.training.flops import measure_matrix_product

    differentiate, flop = forward_and_backward(run)
    useful, products = [], []
    for _ in range(FLAGS.rounds):
        start = time.perf_counter()
        for _ in range(STEPS):
            differentiate()
        useful.append(STEPS * flop / (time.perf_counter() - start))
        products.append(measure_matrix_product("/CPU:0", run.train.precision))
    return statistics.median(useful), statistics.median(products)


def forward_and_backward(run: Run) -> tuple[Callable[[], Any], float]:
    """A function that computes the gradients of one batch, called twice already, and its useful operations."""
    import tensorflow as tf

    from kerasllm import data, losses, models
    from kerasllm.training import step
    from kerasllm.training.flops import count_flops

    corpus = data.open_corpus(FLAGS.corpus)
    model, heads = models.from_run(run, corpus.tokenizer.vocab_size), losses.heads_for(run)
    batch = next(iter(data.pretraining_batches(corpus.split("train"), run)))
    targets = {f"{head.name}/targets": head.targets(batch) for head in heads}
    sources = [variable.value for variable in model.trainable_variables]

    @tf.function
    def gradients(batch: dict[str, tf.Tensor], seed: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            outputs = model(step.model_inputs(batch), training=True, dropout_seed=seed)
            loss = step.mean_loss(heads, step.sum_heads(heads, outputs, batch, training=True), targets)
        parts = tape.gradient(loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.convert_to_tensor(part) for part in parts]

    def differentiate() -> list[tf.Tensor]:
        return gradients(batch, tf.constant([1, 2]))

    for _ in range(2):
        differentiate()
    numbers = {name: float(value) for name, value in {**targets, **step.count_tokens(batch)}.items()}
    flops = count_flops(model.backbone.options, corpus.tokenizer.vocab_size, run.train.sequence_length)
    return differentiate, flops.of_training(numbers)


def profile(run: Run) -> None:
    """Prints the kinds of operations that take longest."""
    differentiate, _ = forward_and_backward(run)
    total = print_profile(differentiate, STEPS)
    print(
        f"{run.train.precision}, {run.backbone.hidden_dim} wide, T={run.train.sequence_length}: {total:.3f} s a batch"
    )


def draw(shares: dict[tuple[str, int], list[float]]) -> None:
    """One line for each precision and row length, over the width."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for (precision, length), values in shares.items():
        style = "-" if precision == "float32" else "--"
        axes.plot(FLAGS.width, [100 * value for value in values], style, marker="o", label=f"{precision}, T={length}")
    axes.set(xlabel="width", ylabel="% of the matrix-product rate", xscale="log", ylim=(0, 100), xticks=FLAGS.width)
    axes.set_xticklabels(str(width) for width in FLAGS.width)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(FLAGS.plot, dpi=150)


if __name__ == "__main__":
    define_flags()
    run_program(main)
